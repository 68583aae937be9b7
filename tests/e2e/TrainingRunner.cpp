// SPDX-License-Identifier: Apache-2.0
#include "tests/e2e/TrainingRunner.h"

#include "runtime/base/Error.h"
#include "runtime/base/MappedFile.h"
#include "runtime/executor/Executor.h"
#include "runtime/executor/LogicalTensors.h"
#include "runtime/plan/Mesh.h"
#include "tests/e2e/PlanRunner.h"

#include "absl/strings/str_cat.h"

#include <atomic>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <map>
#include <mutex>
#include <thread>

namespace llmrt {
namespace {

/// What rank `dataRank` of `dataRanks` gives the step for one input.
std::vector<int32_t> partOf(const std::vector<int32_t>& all, int64_t dataRank,
                            int64_t dataRanks) {
  int64_t run = all.size() / dataRanks;
  return {all.begin() + dataRank * run, all.begin() + (dataRank + 1) * run};
}

void fillHyper(const testing::TrainingFixture& fixture, int step,
               float* hyper) {
  const testing::TrainingOptimizer& o = fixture.optimizer;
  std::fill_n(hyper, 16, 0.0f);
  const double values[] = {o.learningRate,
                           o.beta1,
                           o.beta2,
                           o.epsilon,
                           o.weightDecay,
                           1 - std::pow(o.beta1, step + 1),
                           1 - std::pow(o.beta2, step + 1),
                           o.clip,
                           fixture.dpo.beta,
                           fixture.dpo.labelSmoothing,
                           1 - o.beta1,
                           1 - o.beta2};
  std::copy(std::begin(values), std::end(values), hyper);
}

/// First moments of all ranks, by checkpoint name, before they are turned.
class Moments {
public:
  /// Adds what one rank has to write.
  absl::Status add(const LogicalTensors& tensors) {
    std::lock_guard<std::mutex> lock(mutex_);
    return tensors.write([&](int number, const LogicalBox& box,
                             const float* values, int64_t rowStride) {
      const LogicalTensor& tensor = tensors.tensors()[number];
      if (tensor.role != LogicalRole::Moment1)
        return absl::OkStatus();
      const fb::Parameter& p = *tensor.source;
      Whole& whole =
          wholes_[p.source() && p.source()->size() > 0 ? p.source()->str()
                                                       : tensor.parameter];
      whole.isTurned = p.transposed();
      whole.numCols = tensor.shape.back();
      int64_t numRows = tensor.shape.size() == 1 ? 1 : tensor.shape[0];
      int64_t begin = std::max<int64_t>(p.source_row_begin(), 0);
      if (tensor.shape.size() == 1) // rows of a vector are its elements
        return whole.put(begin + box.colBegin, begin + whole.numCols, box,
                         values, rowStride);
      return whole.put((begin + box.rowBegin) * whole.numCols + box.colBegin,
                       (begin + numRows) * whole.numCols, box, values,
                       rowStride);
    });
  }

  testing::GradientsByName inCheckpointLayout() const {
    testing::GradientsByName all;
    for (const auto& [name, whole] : wholes_) {
      std::vector<float>& values = all[name] = whole.values;
      int64_t numRows = values.size() / whole.numCols;
      for (int64_t r = 0; whole.isTurned && r < numRows; ++r)
        for (int64_t c = 0; c < whole.numCols; ++c)
          values[c * numRows + r] = whole.values[r * whole.numCols + c];
    }
    return all;
  }

private:
  struct Whole {
    std::vector<float> values;
    int64_t numCols = 1;
    bool isTurned = false;

    absl::Status put(int64_t at, int64_t end, const LogicalBox& box,
                     const float* from, int64_t rowStride) {
      values.resize(std::max<size_t>(values.size(), end), NAN);
      for (int64_t r = 0; r < box.numRows; ++r)
        std::copy_n(from + r * rowStride, box.numCols,
                    values.data() + at + r * numCols);
      return absl::OkStatus();
    }
  };

  std::mutex mutex_;
  std::map<std::string, Whole> wholes_;
};

/// The tensors of a rank that holds all of each, as a checkpoint keeps them.
class SavedTensors {
public:
  absl::Status save(const LogicalTensors& tensors) {
    values_.clear();
    for (const LogicalTensor& tensor : tensors.tensors()) {
      int64_t size = 1;
      for (int64_t dim : tensor.shape)
        size *= dim;
      values_.emplace_back(size, NAN);
    }
    return tensors.write([&](int number, const LogicalBox& box,
                             const float* values, int64_t rowStride) {
      const int64_t cols = tensors.tensors()[number].shape.back();
      for (int64_t r = 0; r < box.numRows; ++r)
        std::copy_n(values + r * rowStride, box.numCols,
                    &values_[number][(box.rowBegin + r) * cols + box.colBegin]);
      return absl::OkStatus();
    });
  }

  absl::Status load(LogicalTensors& tensors) const {
    return tensors.read([&](int number, const LogicalBox& box, float* values,
                            int64_t rowStride) {
      const int64_t cols = tensors.tensors()[number].shape.back();
      for (int64_t r = 0; r < box.numRows; ++r)
        std::copy_n(&values_[number][(box.rowBegin + r) * cols + box.colBegin],
                    box.numCols, values + r * rowStride);
      return absl::OkStatus();
    });
  }

private:
  std::vector<std::vector<float>> values_; // by tensor
};

/// One rank of a run.
class RankRun {
public:
  RankRun(const fb::Plan& plan, const testing::TrainingFixture& fixture,
          Executor& executor)
      : fixture_(fixture), executor_(executor) {
    for (unsigned i = 0; i < plan.axes()->size(); ++i)
      if (plan.axes()->Get(i)->name()->string_view() == "dp") {
        dataRank_ = executor.coordinates()[i];
        dataRanks_ = plan.axes()->Get(i)->size();
      }
  }

  /// The reference's row losses of each step, of plans that want them.
  absl::Status computeReference(int numSteps) {
    LLMRT_RETURN_IF_ERROR(
        executor_.reloadWeights({{"model", fixture_.dpo.reference}}));
    for (int step = 0; step < numSteps; ++step) {
      fillInputs(step);
      LLMRT_RETURN_IF_ERROR(executor_.executeEvaluation(nullptr));
      auto rows = executor_.stepOutput("row_loss");
      reference_.emplace_back(rows.begin(), rows.end());
    }
    return executor_.reloadWeights({{"model", fixture_.checkpoint}});
  }

  absl::Status runStep(int step, TrainingResult& result) {
    fillInputs(step);
    LLMRT_RETURN_IF_ERROR(executor_.executeEvaluation(nullptr));
    double evaluated = number("loss");
    LLMRT_RETURN_IF_ERROR(executor_.executeStep(nullptr));
    if (evaluated != number("loss"))
      return absl::InternalError("the evaluation has another loss");
    result.losses.push_back(evaluated);
    result.norms.push_back(number("norm"));
    if (executor_.stepOutput("loss").size() > sizeof(float)) {
      result.chosenRewards.push_back(number("loss", 1) / number("loss", 5));
      result.rejectedRewards.push_back(number("loss", 2) / number("loss", 5));
    }
    return absl::OkStatus();
  }

private:
  void fillInputs(int step) {
    const testing::TrainingBatch& batch = fixture_.batches[step];
    auto give = [&](absl::string_view name, const std::vector<int32_t>& all) {
      std::vector<int32_t> part = partOf(all, dataRank_, dataRanks_);
      absl::Span<uint8_t> input = executor_.stepInput(name);
      if (input.size() == part.size() * sizeof(int32_t))
        std::memcpy(input.data(), part.data(), input.size());
    };
    give("ids", batch.ids);
    give("positions", batch.positions);
    give("starts", batch.starts);
    give("labels", batch.labels);
    if (auto hyper = executor_.stepInput("hyper"); !hyper.empty())
      fillHyper(fixture_, step, reinterpret_cast<float*>(hyper.data()));
    absl::Span<uint8_t> losses = executor_.stepInput("reference_loss");
    if (!losses.empty() && step < static_cast<int>(reference_.size()))
      std::copy(reference_[step].begin(), reference_[step].end(),
                losses.begin());
  }

  double number(absl::string_view name, size_t index = 0) const {
    auto bytes = executor_.stepOutput(name);
    return bytes.size() <= index * sizeof(float)
               ? NAN
               : reinterpret_cast<const float*>(bytes.data())[index];
  }

  const testing::TrainingFixture& fixture_;
  Executor& executor_;
  int64_t dataRank_ = 0, dataRanks_ = 1;
  std::vector<std::vector<uint8_t>> reference_; // by step
};

absl::Status runTwice(const fb::Plan& plan, Executor& executor, RankRun& run,
                      int step, TrainingResult& result) {
  LogicalTensors tensors = LogicalTensors::create(plan, executor);
  SavedTensors saved;
  LLMRT_RETURN_IF_ERROR(saved.save(tensors));
  TrainingResult first;
  LLMRT_RETURN_IF_ERROR(run.runStep(step, first));
  LLMRT_RETURN_IF_ERROR(saved.load(tensors));
  LLMRT_RETURN_IF_ERROR(run.runStep(step, result));
  if (first.losses.back() != result.losses.back() ||
      first.norms.back() != result.norms.back())
    return absl::InternalError("the repeated step has other bits");
  return absl::OkStatus();
}

absl::Status runRank(const fb::Plan& plan, Fabric& fabric,
                     const testing::TrainingFixture& fixture,
                     const TrainingRequest& request, Moments& moments,
                     TrainingResult& result) {
  ExecutorOptions options;
  options.numThreads = request.numThreads;
  options.weights = {{"model", fixture.checkpoint}};
  if (!fixture.dpo.reference.empty())
    options.weights.push_back({"reference", fixture.dpo.reference});
  options.checkMemory = request.checkMemory;
  options.usesGraphs = request.usesGraphs;
  options.tuningCache = request.tuningCache;
  auto created =
      request.device
          ? Executor::create(
                plan, fabric, options,
                request.device(*plan.stages()->Get(stageOfCoordinates(
                    plan, coordinatesOfRank(plan, fabric.rank())))))
          : Executor::create(plan, fabric, options);
  LLMRT_ASSIGN_OR_RETURN(auto executor, std::move(created));
  LLMRT_RETURN_IF_ERROR(executor->initialise());
  RankRun run(plan, fixture, *executor);
  if (plan.options()->str().find("precompute") != std::string::npos)
    LLMRT_RETURN_IF_ERROR(run.computeReference(request.numSteps));
  for (int step = 0; step < request.numSteps; ++step)
    LLMRT_RETURN_IF_ERROR(request.repeatSteps
                              ? runTwice(plan, *executor, run, step, result)
                              : run.runStep(step, result));
  if (request.checkMemory)
    LLMRT_RETURN_IF_ERROR(
        checkTouchedMemory(*executor, /*knowsZeros=*/!request.device));
  if (request.readMoments)
    return moments.add(LogicalTensors::create(plan, *executor));
  return absl::OkStatus();
}

} // namespace

std::vector<std::string>
trainingOptions(const testing::TrainingFixture& fixture,
                std::vector<std::string> more) {
  const testing::TrainingBatch& first = fixture.batches.front();
  more.emplace_back("--mode=train");
  more.push_back(absl::StrCat("--batch=", first.numSequences));
  more.push_back(absl::StrCat("--seq=", first.numRows));
  more.push_back(absl::StrCat("--objective=", fixture.objective));
  return more;
}

testing::TrainingFixture oneLabelAStep(const std::string& checkpoint,
                                       const std::vector<int32_t>& tokens,
                                       const std::vector<int64_t>& rows,
                                       int64_t numSequences) {
  testing::TrainingFixture fixture;
  fixture.objective = "sft";
  fixture.checkpoint = checkpoint;
  fixture.optimizer = {.learningRate = 0,
                       .beta1 = 0.9,
                       .beta2 = 0.95,
                       .epsilon = 1e-8,
                       .weightDecay = 0,
                       .clip = 0};
  const int64_t numRows = tokens.size();
  for (int64_t row : rows) {
    testing::TrainingBatch batch{.numSequences = numSequences,
                                 .numRows = numRows};
    for (int64_t i = 0; i < numSequences * numRows; ++i) {
      batch.ids.push_back(tokens[i % numRows]);
      batch.positions.push_back(i % numRows);
      batch.starts.push_back(0);
      batch.labels.push_back(-100);
    }
    batch.labels[row % numSequences * numRows + row] = tokens[row + 1];
    fixture.batches.push_back(batch);
  }
  return fixture;
}

absl::StatusOr<TrainingResult>
runTraining(const testing::TrainingFixture& fixture,
            const TrainingRequest& request) {
  static std::atomic<int> number = 0;
  std::string path = request.plan;
  if (path.empty()) {
    path = temporaryPath(absl::StrCat("training", number++, ".fb"));
    LLMRT_RETURN_IF_ERROR(compilePlan(
        fixture.checkpoint, path, trainingOptions(fixture, request.options)));
  }
  LLMRT_ASSIGN_OR_RETURN(auto file, MappedFile::open(path));
  LLMRT_ASSIGN_OR_RETURN(const fb::Plan* read, readPlan(file.bytes()));
  const fb::Plan& plan = *read;
  int numRanks = llmrt::numRanks(plan);
  const FabricOptions fabricOptions = {
      .timeoutSeconds = 60, .threadsPerRank = 1, .link = request.link};
  std::vector<std::unique_ptr<Fabric>> fabrics;
  if (request.fabrics) {
    LLMRT_ASSIGN_OR_RETURN(fabrics, request.fabrics(plan, fabricOptions));
  } else {
    fabrics = createLocalFabrics(numRanks, fabricOptions);
  }
  std::vector<TrainingResult> results(numRanks);
  std::vector<absl::Status> statuses(numRanks);
  Moments moments;
  std::vector<std::thread> threads;
  threads.reserve(numRanks);
  for (int r = 0; r < numRanks; ++r)
    threads.emplace_back([&, r] {
      statuses[r] =
          runRank(plan, *fabrics[r], fixture, request, moments, results[r]);
      if (!statuses[r].ok())
        fabrics[r]->abort(statuses[r]);
    });
  for (std::thread& thread : threads)
    thread.join();
  for (const absl::Status& status : statuses)
    if (!status.ok())
      return status;
  if (request.plan.empty())
    std::filesystem::remove(path);
  // Every rank has the same norm and loss.
  for (const TrainingResult& result : results)
    if (result.losses != results[0].losses || result.norms != results[0].norms)
      return absl::InternalError("ranks disagree about the loss or the norm");
  results[0].moments = moments.inCheckpointLayout();
  return results[0];
}

std::string caseName(std::string fixture,
                     const std::vector<std::string>& options) {
  std::string name = std::move(fixture);
  for (const std::string& option : options)
    name += option;
  std::erase_if(name, [](char c) { return c == '-'; });
  for (char& c : name)
    if (!std::isalnum(c))
      c = '_';
  return name;
}

} // namespace llmrt
