// SPDX-License-Identifier: Apache-2.0
#include "tests/support/TrainingFixture.h"

#include "runtime/base/Error.h"
#include "runtime/io/Dequantize.h"
#include "runtime/io/WeightSource.h"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>

namespace llmrt::testing {
namespace {

using nlohmann::json;

/// Returns the folder of fixtures, with a slash, or nothing.
std::string fixtureFolder() {
  const char* source = std::getenv("LLMC_SOURCE_DIR");
  return source ? std::string(source) + "/tests/fixtures/" : "";
}

absl::StatusOr<std::vector<TrainingBatch>>
readBatches(const std::string& path) {
  LLMRT_ASSIGN_OR_RETURN(auto source, WeightSource::open(path));
  std::vector<TrainingBatch> batches;
  const std::pair<const char*, std::vector<int32_t> TrainingBatch::*>
      kInputs[] = {{"ids", &TrainingBatch::ids},
                   {"positions", &TrainingBatch::positions},
                   {"starts", &TrainingBatch::starts},
                   {"labels", &TrainingBatch::labels}};
  for (const auto& [name, input] : kInputs) {
    LLMRT_ASSIGN_OR_RETURN(const SourceTensor* tensor, source->require(name));
    if (tensor->type != SourceType::I16 || tensor->shape.size() != 3)
      return absl::InvalidArgumentError(
          absl::StrCat(path, ": ", name, " is not int16 of three dimensions"));
    batches.resize(tensor->shape[0]);
    int64_t numElements = tensor->shape[1] * tensor->shape[2];
    for (size_t step = 0; step < batches.size(); ++step) {
      TrainingBatch& batch = batches[step];
      batch.numSequences = tensor->shape[1];
      batch.numRows = tensor->shape[2];
      std::vector<int16_t> narrow(numElements);
      std::memcpy(narrow.data(),
                  tensor->bytes.data() + step * numElements * sizeof(int16_t),
                  numElements * sizeof(int16_t));
      (batch.*input).assign(narrow.begin(), narrow.end());
    }
  }
  return batches;
}

absl::StatusOr<GradientsByName> readGradients(const std::string& path) {
  LLMRT_ASSIGN_OR_RETURN(auto source, WeightSource::open(path));
  GradientsByName gradients;
  for (const SourceTensor& tensor : source->tensors()) {
    std::vector<float>& values = gradients[tensor.name];
    values.resize(tensor.numElements());
    LLMRT_RETURN_IF_ERROR(
        readElements(tensor, 0, values.size(), values.data()));
  }
  return gradients;
}

PairReport readPairs(const json& report) {
  PairReport pairs;
  report.at("pair_losses").get_to(pairs.losses);
  report.at("chosen_rewards").get_to(pairs.chosenRewards);
  report.at("rejected_rewards").get_to(pairs.rejectedRewards);
  report.at("chosen_log_probabilities").get_to(pairs.chosenLogProbabilities);
  report.at("rejected_log_probabilities")
      .get_to(pairs.rejectedLogProbabilities);
  report.at("reference_chosen_log_probabilities")
      .get_to(pairs.referenceChosenLogProbabilities);
  report.at("reference_rejected_log_probabilities")
      .get_to(pairs.referenceRejectedLogProbabilities);
  return pairs;
}

void readSettings(const json& record, TrainingFixture& fixture) {
  record.at("objective").get_to(fixture.objective);
  fixture.checkpoint =
      fixtureFolder() + record.at("checkpoint").get<std::string>();
  const json& optimizer = record.at("optimizer");
  optimizer.at("learning_rate").get_to(fixture.optimizer.learningRate);
  optimizer.at("beta1").get_to(fixture.optimizer.beta1);
  optimizer.at("beta2").get_to(fixture.optimizer.beta2);
  optimizer.at("epsilon").get_to(fixture.optimizer.epsilon);
  optimizer.at("weight_decay").get_to(fixture.optimizer.weightDecay);
  optimizer.at("clip").get_to(fixture.optimizer.clip);
  if (fixture.objective != "dpo")
    return;
  fixture.dpo.reference =
      fixtureFolder() + record.at("reference").get<std::string>();
  record.at("loss").get_to(fixture.dpo.loss);
  record.at("beta").get_to(fixture.dpo.beta);
  record.at("label_smoothing").get_to(fixture.dpo.labelSmoothing);
}

/// All but what lies in other files.
TrainingFixture readRecord(const json& record) {
  TrainingFixture fixture;
  readSettings(record, fixture);
  record.at("counted_tokens").get_to(fixture.countedTokens);
  record.at("losses").get_to(fixture.losses);
  record.at("norms").get_to(fixture.norms);
  record.at("gradient_norms").get_to(fixture.gradientNorms);
  if (record.contains("reports"))
    for (const json& report : record["reports"])
      fixture.pairs.push_back(readPairs(report));
  return fixture;
}

double squaredNorm(const std::vector<float>& values) {
  double sum = 0;
  for (float x : values)
    sum += static_cast<double>(x) * x;
  return sum;
}

double squaredDistance(const std::vector<float>& a,
                       const std::vector<float>& b) {
  double sum = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    double difference = static_cast<double>(a[i]) - b[i];
    sum += difference * difference;
  }
  return sum;
}

} // namespace

absl::StatusOr<TrainingFixture> readTrainingFixture(absl::string_view name) {
  if (fixtureFolder().empty())
    return absl::FailedPreconditionError("LLMC_SOURCE_DIR is not set");
  std::string path = absl::StrCat(fixtureFolder(), "training/", name);
  std::string folder = path.substr(0, path.rfind('/') + 1);
  std::ifstream file(path + ".json");
  json record = json::parse(file, nullptr, /*allow_exceptions=*/false);
  TrainingFixture fixture;
  try {
    fixture = readRecord(record);
    fixture.name = std::string(name);
    LLMRT_ASSIGN_OR_RETURN(
        fixture.batches,
        readBatches(folder + record.at("batches").get<std::string>()));
    if (record.contains("gradients")) {
      LLMRT_ASSIGN_OR_RETURN(
          fixture.gradients,
          readGradients(folder + record.at("gradients").get<std::string>()));
    }
  } catch (const json::exception& error) {
    return absl::InvalidArgumentError(
        absl::StrCat(path, ".json: ", error.what()));
  }
  size_t numSteps = fixture.batches.size();
  if (fixture.losses.size() != numSteps || fixture.norms.size() != numSteps ||
      fixture.countedTokens.size() != numSteps)
    return absl::InvalidArgumentError(
        absl::StrCat(path, ".json: not ", numSteps, " steps"));
  return fixture;
}

std::vector<std::string> trainingFixtureNames() {
  std::vector<std::string> names;
  std::error_code error;
  for (const auto& folder : std::filesystem::directory_iterator(
           fixtureFolder() + "training", error)) {
    if (!folder.is_directory())
      continue;
    for (const auto& file : std::filesystem::directory_iterator(folder))
      if (file.path().extension() == ".json" &&
          file.path().filename() != "config.json")
        names.push_back(folder.path().filename().string() + "/" +
                        file.path().stem().string());
  }
  std::sort(names.begin(), names.end());
  return names;
}

absl::StatusOr<GradientError> worstGradient(const GradientsByName& reference,
                                            const GradientsByName& gradients) {
  for (const auto& [name, values] : gradients)
    if (!reference.count(name))
      return absl::InvalidArgumentError(
          absl::StrCat("no such parameter: ", name));
  double squares = 0;
  for (const auto& [name, values] : reference)
    squares += squaredNorm(values);
  GradientError worst;
  for (const auto& [name, values] : reference) {
    auto found = gradients.find(name);
    if (found == gradients.end() || found->second.size() != values.size())
      return absl::InvalidArgumentError(
          absl::StrCat("no gradient of ", values.size(), " values: ", name));
    double scale =
        std::max(std::sqrt(squaredNorm(values)), 1e-3 * std::sqrt(squares));
    double error = std::sqrt(squaredDistance(values, found->second)) / scale;
    if (std::isnan(error))
      return GradientError{name, error};
    if (worst.name.empty() || error > worst.error)
      worst = {name, error};
  }
  return worst;
}

} // namespace llmrt::testing
