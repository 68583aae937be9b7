// SPDX-License-Identifier: Apache-2.0
#include "tests/e2e/CudaParity.h"

#include "tests/support/WrongElements.h"

#include "absl/strings/str_cat.h"
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

namespace llmrt {
namespace {

// The bound for float32: of the largest logit.
constexpr double kFloat32Bound = 1e-5;

constexpr int kNumTokens = 33;
constexpr int kChunk = 24;       // rows enough for the kernels of many rows
constexpr int kPrefill = 29;     // a whole chunk and a part of one
constexpr int kSequence = 80;    // a page and a part of one; a whole text of 70
constexpr int kReplayChunk = 17; // the fewest rows that cuBLASLt multiplies

// With bf16 weights and caches both plans round those alike, and a GPU also
// rounds what its tensor cores multiply, by at most 2^-9 of itself (8 bits of
// significand): in each layer the inputs of the four products, queries and
// probabilities, and the input of the head. Caches hold bf16 keys and values
// of inputs that differ, so each may move by a step of 2^-8: as four more.
//
// With weights in blocks the cpu plan rounds nothing: a GPU rounds keys and
// values once, and where rows are many the weights that it multiplies, too.
const double kMostRounding = std::ldexp(1.0, -9);

double numRoundings(const CudaCase& c) {
  return *c.weightsFormat ? 12.0 * c.numLayers + 2 : 10.0 * c.numLayers + 1;
}

// First order: the roundings of a path add up.
double mostError(const CudaCase& c) { return numRoundings(c) * kMostRounding; }

bool isFloat32(const CudaCase& c) { return std::string(c.dtype) == "f32"; }

// Independent roundings add up as squares, of the root mean square logit; a
// softmax of scores of a few units doubles them (Bf16Test.cpp).
double typicalError(const CudaCase& c) {
  return 2 * std::sqrt(numRoundings(c) / 3) * kMostRounding;
}

double rootMeanSquareError(const Logits& a, const Logits& reference) {
  double error = 0, scale = 0;
  for (size_t r = 0; r < reference.size(); ++r)
    for (size_t c = 0; c < reference[r].size(); ++c) {
      error += std::pow(double(a[r][c]) - reference[r][c], 2);
      scale += std::pow(double(reference[r][c]), 2);
    }
  return std::sqrt(error / scale);
}

std::vector<float> inOneRow(const Logits& rows) {
  std::vector<float> all;
  for (const std::vector<float>& row : rows)
    all.insert(all.end(), row.begin(), row.end());
  return all;
}

std::string describeWrongLogits(const Logits& a, const Logits& reference) {
  return test::describeWrong(inOneRow(a), inOneRow(reference),
                             reference.empty() ? 0 : reference[0].size());
}

/// True if no error within the bound makes another logit the largest.
bool isClear(const Logits& logits, size_t row, double bound) {
  double scale = 0;
  for (const std::vector<float>& r : logits)
    for (float x : r)
      scale = std::max(scale, std::abs(double(x)));
  std::vector<float> sorted = logits[row];
  std::partial_sort(sorted.begin(), sorted.begin() + 2, sorted.end(),
                    std::greater<float>());
  return sorted[0] - sorted[1] > 2 * bound * scale;
}

/// One run of both plans.
class Comparison {
public:
  Comparison(const CudaCase& c, const std::string& cpuPlan,
             const CudaRunner& runCuda)
      : case_(c), cpuPlan_(cpuPlan), runCuda_(runCuda) {}

  void expectSame(RunRequest request, const char* what) {
    SCOPED_TRACE(what);
    request.plan = cpuPlan_;
    absl::StatusOr<RunResult> cpu = runPlan(request);
    ASSERT_TRUE(cpu.ok()) << cpu.status();
    absl::StatusOr<RunResult> cuda = runCuda_(request);
    ASSERT_TRUE(cuda.ok()) << cuda.status();
    expectClose(cuda->logits, cpu->logits, what);
    ASSERT_EQ(cuda->sampled.size(), cpu->sampled.size());
    for (size_t i = 0; i < cpu->sampled.size(); ++i)
      if (isFloat32(case_) || isClear(cpu->logits, i, mostLogitError(case_))) {
        EXPECT_EQ(cuda->sampled[i], cpu->sampled[i]) << "row " << i;
      }
    if (request.score && isFloat32(case_))
      expectFixture(cuda->logits);
  }

private:
  void expectClose(const Logits& cuda, const Logits& cpu, const char* what) {
    const double error = relativeError(cuda, cpu);
    note(what, error);
    EXPECT_LT(error, mostLogitError(case_)) << describeWrongLogits(cuda, cpu);
    if (!isFloat32(case_)) {
      EXPECT_LT(rootMeanSquareError(cuda, cpu), typicalError(case_))
          << describeWrongLogits(cuda, cpu);
    }
  }

  // PyTorch's in float64.
  void expectFixture(const Logits& scores) {
    Logits reference = readLogits(case_.folder() + "/logits.npy");
    ASSERT_GE(reference.size(), scores.size());
    reference.resize(scores.size());
    const double error = relativeError(scores, reference);
    note("fixture", error);
    EXPECT_LT(error, kFloat32Bound) << describeWrongLogits(scores, reference);
  }

  static void note(const char* what, double error) {
    char text[32];
    std::snprintf(text, sizeof text, "%.3g", error);
    testing::Test::RecordProperty(what, text);
  }

  const CudaCase& case_;
  std::string cpuPlan_;
  const CudaRunner& runCuda_;
};

} // namespace

std::string CudaCase::name() const {
  std::string name = std::string(fixture) + "_" + dtype;
  if (*weightsFormat)
    name += std::string("_in_") + weightsFormat;
  std::replace(name.begin(), name.end(), '-', '_');
  std::string ranks = mesh;
  std::erase_if(ranks, [](char c) { return !std::isalnum(c); });
  return ranks.empty() ? name : name + "_" + ranks;
}

std::vector<std::string> CudaCase::compileOptions(bool isCuda) const {
  const bool isInBlocks = *weightsFormat != 0;
  std::vector<std::string> options = {
      "--seq=" + std::to_string(kSequence), "--chunk=" + std::to_string(kChunk),
      std::string("--dtype=") + (isInBlocks && !isCuda ? "f32" : dtype)};
  options.emplace_back(*mesh ? mesh : "--batch=2");
  if (isInBlocks && isCuda)
    options.push_back(std::string("--weights-format=") + weightsFormat);
  return options;
}

std::string CudaCase::model() const {
  const std::string folder = fixture;
  return folder.ends_with("-gguf") ? folder + "/model.gguf" : folder;
}

std::string CudaCase::modelPath() const {
  return environment("LLMC_SOURCE_DIR") + "/tests/fixtures/" + model();
}

std::string CudaCase::folder() const {
  return environment("LLMC_SOURCE_DIR") + "/tests/fixtures/" + fixture;
}

void PrintTo(const CudaCase& c, std::ostream* os) { *os << c.name(); }

const std::vector<CudaCase>& cudaCases() {
  static const std::vector<CudaCase> kCases = {
      {"llama2", 3, "f32"},
      {"llama3", 3, "f32"},
      {"llama-9q3kv", 3, "f32"},
      {"mistral", 3, "f32"},
      {"qwen2", 5, "f32"},
      {"qwen3", 3, "f32"},
      {"gemma2", 3, "f32"},
      {"gemma3", 5, "f32"},
      {"gpt2", 3, "f32"},
      {"llama-9q3kv", 3, "bf16"},
      {"llama3", 3, "bf16"},
      {"qwen2", 5, "bf16"},
      {"qwen3", 3, "bf16"},
      {"gemma2", 3, "bf16"},
      {"gemma3", 5, "bf16"},
      {"gpt2", 3, "bf16"},
      {"llama-quantized-gguf", 3, "f32"}, // read, and kept dense
  };
  return kCases;
}

const std::vector<CudaCase>& cudaBlockCases() {
  static const std::vector<CudaCase> kCases = {
      {"qwen3-q8_0-gguf", 2, "f32", "", "q8_0"},
      {"qwen3-q8_0-gguf", 2, "bf16", "", "q8_0"},
      {"qwen3-q8_0-gguf", 2, "f32", "--mesh=tp=2", "q8_0"},
      {"qwen3-q8_0-gguf", 2, "f32", "--mesh=pp=2", "q8_0"},
      {"qwen2-q4_0-gguf", 2, "f32", "", "q4_0"},
      {"qwen2-q4_0-gguf", 2, "bf16", "", "q4_0"},
      {"qwen2-q4_0-gguf", 2, "f32", "--mesh=tp=2", "q4_0"},
      {"qwen2-q4_0-gguf", 2, "f32", "--mesh=dp=2", "q4_0"},
  };
  return kCases;
}

const std::vector<CudaCase>& cudaMeshCases() {
  static const std::vector<CudaCase> kCases = {
      {"llama-9q3kv", 3, "f32", "--mesh=tp=2"},
      {"llama-9q3kv", 3, "f32", "--mesh=tp=3"},
      {"llama-9q3kv", 3, "f32", "--mesh=pp=2"},
      {"llama-9q3kv", 3, "f32", "--mesh=dp=2 --zero=3"},
      {"llama-9q3kv", 3, "f32", "--mesh=dp=2,tp=2"},
      {"llama-9q3kv", 3, "f32", "--mesh=pp=2,tp=2"},
      {"gpt2", 3, "f32", "--mesh=tp=3"},
      {"qwen2", 5, "f32", "--mesh=pp=2,tp=2"},
      {"gemma3", 5, "f32", "--mesh=dp=2,pp=2 --zero=3"},
      {"llama-9q3kv", 3, "bf16", "--mesh=pp=2"},
      {"llama-9q3kv", 3, "bf16", "--mesh=tp=2"},
      {"llama-9q3kv", 3, "bf16", "--mesh=dp=2,tp=2"},
  };
  return kCases;
}

double mostLogitError(const CudaCase& c) {
  return isFloat32(c) ? kFloat32Bound : mostError(c);
}

std::string describeOtherLogits(const Logits& first, const Logits& second) {
  if (first.size() != second.size())
    return absl::StrCat(first.size(), " rows and ", second.size());
  for (size_t r = 0; r < first.size(); ++r) {
    const auto bytesOf = [](const std::vector<float>& row) {
      return absl::MakeConstSpan(reinterpret_cast<const uint8_t*>(row.data()),
                                 row.size() * sizeof(float));
    };
    if (first[r].size() != second[r].size())
      return absl::StrCat("row ", r, ": ", first[r].size(), " logits and ",
                          second[r].size());
    const std::string bits =
        test::describeOtherBits(bytesOf(first[r]), bytesOf(second[r]));
    if (!bits.empty())
      return absl::StrCat("row ", r, " of ", first.size(), ": ", bits);
  }
  return "";
}

void expectLogitsOfCpu(const CudaCase& c, const std::string& cpuPlan,
                       const CudaRunner& runCuda) {
  Comparison comparison(c, cpuPlan, runCuda);
  RunRequest request;
  request.weights = c.modelPath();
  request.tokens = readTokens(c.folder() + "/tokens.json", "tokens");
  ASSERT_GT(request.tokens.size(), size_t(kNumTokens));
  request.tokens.resize(kNumTokens);
  RunRequest decoding = request;
  decoding.prefill = kPrefill;
  decoding.greedy = isFloat32(c) ? 3 : 0; // else it may go other ways
  comparison.expectSame(decoding, "prefill_decode");
  if (*c.mesh)
    return;
  decoding.greedy = 0;
  decoding.chunk = 7; // valid rows are a part of the grid, in every call
  decoding.slot = 1;
  decoding.hasCompanions = true;
  comparison.expectSame(decoding, "second_sequence");
  request.score = true;
  comparison.expectSame(request, "score");
}

const std::vector<CudaCase>& cudaReplayCases() {
  static const std::vector<CudaCase> kCases = {{"llama3", 3, "bf16"},
                                               {"gemma3", 5, "bf16"}};
  return kCases;
}

void expectReplaysOfProducts(const CudaCase& c, const std::string& cpuPlan,
                             const CudaRunner& runCuda) {
  RunRequest request;
  request.weights = c.modelPath();
  request.tokens = readTokens(c.folder() + "/tokens.json", "tokens");
  request.tokens.resize(request.tokens.size() / kReplayChunk * kReplayChunk);
  request.score = true;
  request.chunk = kReplayChunk;
  Comparison(c, cpuPlan, runCuda).expectSame(request, "replayed");
  request.keepTimeline = true;
  absl::StatusOr<RunResult> graphs = runCuda(request);
  ASSERT_TRUE(graphs.ok()) << graphs.status();
  EXPECT_EQ(graphs->calls,
            (std::vector<std::string>{"eager: first of its kind", "captured",
                                      "replayed", "replayed"}));
  request.usesGraphs = false;
  absl::StatusOr<RunResult> commands = runCuda(request);
  ASSERT_TRUE(commands.ok()) << commands.status();
  EXPECT_EQ(commands->calls,
            std::vector<std::string>(4, "eager: graphs are off"));
  EXPECT_EQ(describeOtherLogits(commands->logits, graphs->logits), "");
}

} // namespace llmrt
