// SPDX-License-Identifier: Apache-2.0
// Prepare, initialise, execute. A rank that fails aborts the fabric.
#include "runtime/executor/Executor.h"

#include "runtime/base/Error.h"
#include "runtime/executor/CreateDevice.h"
#include "runtime/executor/EntryCalls.h"
#include "runtime/executor/HostCopies.h"
#include "runtime/executor/LoadKernels.h"
#include "runtime/executor/LoadWeights.h"
#include "runtime/executor/MemoryBounds.h"
#include "runtime/executor/NamedBuffers.h"
#include "runtime/executor/Program.h"
#include "runtime/executor/Rank.h"
#include "runtime/executor/ReportMemory.h"
#include "runtime/executor/StepCalls.h"
#include "runtime/executor/Stopwatch.h"
#include "runtime/plan/TrainingEntries.h"

#include <algorithm>
#include <map>
#include <numeric>
#include <optional>

namespace llmrt {
namespace {

absl::string_view viewOf(const ::flatbuffers::String* text) {
  return text ? absl::string_view(text->data(), text->size())
              : absl::string_view();
}

class PlanExecutor final : public Executor {
public:
  PlanExecutor(const fb::Plan& plan, Fabric& fabric,
               const ExecutorOptions& options, std::unique_ptr<Device> device)
      : options_(options), device_(std::move(device)),
        rank_{plan,
              *plan.stages()->Get(stageOfCoordinates(
                  plan, coordinatesOfRank(plan, fabric.rank()))),
              fabric,
              *device_,
              coordinatesOfRank(plan, fabric.rank()),
              {},
              {},
              {},
              FlightRecorder(fabric.rank()),
              FlightRecorder(fabric.rank()),
              0,
              nullptr,
              options.keepTimeline ? std::make_unique<Timeline>() : nullptr} {}

  ~PlanExecutor() override { (void)device_->synchronize(); }

  absl::Status prepare() {
    LLMRT_RETURN_IF_ERROR(agreeOnCodeLevel());
    LLMRT_ASSIGN_OR_RETURN(
        rank_.communicators,
        Communicators::create(rank_.plan, rank_.fabric, rank_.coordinates));
    device_->countBytes(MemoryClass::Communication,
                        rank_.communicators.reservedBytes());
    LLMRT_ASSIGN_OR_RETURN(rank_.kernels, loadKernels(rank_.plan, *device_));
    LLMRT_RETURN_IF_ERROR(allocateArenas());
    if (!device_->sharesHostMemory()) {
      copies_ = std::make_unique<HostCopies>(rank_);
      LLMRT_RETURN_IF_ERROR(copies_->prepare());
    }
    LLMRT_RETURN_IF_ERROR(preparePrograms());
    return checkMemoryBounds(rank_, stage(), options_.numThreads);
  }

  absl::Status initialise() override {
    calls_.forgetGraphs();
    steps_.forgetGraphs();
    return abortOnError([&]() -> absl::Status {
      LLMRT_RETURN_IF_ERROR(loadWeights(rank_, options_));
      if (rank_.checked)
        rank_.checked->beginCall();
      if (initialise_)
        initialise_->enqueue(0);
      return endCall();
    }());
  }

  int findEntry(absl::string_view name) const override {
    for (unsigned i = 0; i < rank_.plan.entries()->size(); ++i)
      if (viewOf(rank_.plan.entries()->Get(i)->name()) == name)
        return i;
    return -1;
  }

  absl::Span<uint8_t> input(int entry, absl::string_view name) override {
    absl::Span<uint8_t> place = find(rank_.stage.inputs(), entry, name);
    if (!copies_ || place.empty())
      return place;
    return {
        copies_->input(findNamed(rank_.stage.inputs(), entry, name)->buffer()),
        place.size()};
  }

  absl::Span<const uint8_t> output(int entry,
                                   absl::string_view name) const override {
    absl::Span<const uint8_t> place = find(rank_.stage.outputs(), entry, name);
    if (!copies_ || place.empty())
      return place;
    return fetched(entry,
                   findNamed(rank_.stage.outputs(), entry, name)->buffer(),
                   place.size());
  }

  absl::Status execute(int entry, int64_t validRows,
                       ExecuteStatistics* statistics) override {
    if (!calls_.has(entry))
      return absl::InvalidArgumentError(absl::StrCat("no entry ", entry));
    const fb::Entry* e = rank_.plan.entries()->Get(entry);
    int64_t rows = e->sequences() * e->rows_per_sequence();
    if (validRows < 0 || validRows > rows)
      return absl::InvalidArgumentError(
          absl::StrCat(validRows, " valid rows of ", rows));
    LLMRT_RETURN_IF_ERROR(abortOnError(outputStatus_));
    auto begin = std::chrono::steady_clock::now();
    absl::Status status =
        runCall(statistics, [&] { return calls_.enqueue(entry, validRows); });
    addEntry(entry, validRows, begin, calls_.lastCall(entry));
    return status;
  }

  absl::Status executeStep(ExecuteStatistics* statistics) override {
    if (steps_.isEmpty())
      return makeError(ErrorCode::Unsupported,
                       "the plan holds no training step",
                       "compile with --mode=train");
    return runSteps(statistics, [&] { return steps_.enqueueStep(); });
  }

  absl::Status executeEvaluation(ExecuteStatistics* statistics) override {
    if (steps_.isEmpty())
      return makeError(ErrorCode::Unsupported,
                       "the plan holds no training step",
                       "compile with --mode=train");
    if (findEntry("loss") < 0)
      return makeError(ErrorCode::EvaluationUnavailable,
                       "the plan has no entry 'loss'",
                       "compile the model again with this version of llmc");
    return runSteps(statistics, [&] { return steps_.enqueueEvaluation(); });
  }

  absl::Status
  reloadWeights(const std::vector<WeightLocation>& weights) override {
    options_.weights = weights;
    return initialise();
  }

  absl::Span<uint8_t> stepInput(absl::string_view name) override {
    const int buffer = findInStep(rank_.stage.inputs(), name);
    if (buffer < 0)
      return {};
    absl::Span<uint8_t> place = wholeBuffer(buffer);
    if (!copies_)
      return place;
    return {copies_->input(buffer), place.size()};
  }

  absl::Span<const uint8_t> stepOutput(absl::string_view name) const override {
    int buffer = findInStep(rank_.stage.outputs(), name);
    if (rank_.stage.states())
      for (const fb::State* state : *rank_.stage.states())
        if (viewOf(state->name()) == name)
          buffer = state->buffer();
    if (buffer < 0)
      return {};
    return copies_ ? fetched(HostCopies::kStep, buffer, rank_.sizeBytes(buffer))
                   : wholeBuffer(buffer);
  }

  absl::Span<uint8_t> parameterMemory(int parameter) override {
    return wholeBuffer(rank_.stage.parameters()->Get(parameter)->buffer());
  }

  absl::Span<uint8_t> stateMemory(int state) override {
    return wholeBuffer(rank_.stage.states()->Get(state)->buffer());
  }

  bool sharesHostMemory() const override { return device_->sharesHostMemory(); }

  absl::Status readMemory(absl::Span<const uint8_t> from,
                          uint8_t* to) override {
    device_->copy(Stream::Compute, to, from.data(), from.size());
    return abortOnError(device_->synchronize());
  }

  absl::Status writeMemory(const uint8_t* from,
                           absl::Span<uint8_t> to) override {
    device_->copy(Stream::Compute, to.data(), from, to.size());
    return abortOnError(device_->synchronize());
  }

  int stage() const override {
    return stageOfCoordinates(rank_.plan, rank_.coordinates);
  }

  absl::Span<const int> coordinates() const override {
    return rank_.coordinates;
  }

  std::string recorderDump() const override {
    return absl::StrCat("kernels\n", rank_.computeRecorder.dump(),
                        "communication\n", rank_.communicationRecorder.dump(),
                        rank_.fabric.streamProgress());
  }

  MemoryReport memory() const override { return reportMemory(rank_, stage()); }

  std::unique_ptr<Timeline> takeTimeline() override {
    return std::move(rank_.timeline);
  }

private:
  void addEntry(int entry, int64_t validRows,
                std::chrono::steady_clock::time_point begin,
                const char* how = "") {
    if (rank_.timeline)
      rank_.timeline->add({TimelineRow::Entries, /*isWait=*/false,
                           rank_.plan.entries()->Get(entry)->name()->c_str(),
                           how, "", validRows, begin,
                           std::chrono::steady_clock::now()});
  }

  absl::Status runSteps(ExecuteStatistics* statistics,
                        absl::FunctionRef<int64_t()> enqueue) {
    LLMRT_RETURN_IF_ERROR(abortOnError(outputStatus_));
    return runCall(statistics, enqueue);
  }

  /// Runs what `enqueue` enqueues; it returns the number of commands.
  absl::Status runCall(ExecuteStatistics* statistics,
                       absl::FunctionRef<int64_t()> enqueue) {
    Stopwatch watch(rank_);
    if (rank_.checked)
      rank_.checked->beginCall();
    int64_t commands = enqueue();
    absl::Status status = abortOnError(endCall());
    if (!status.ok() && copies_)
      copies_->beginCall(); // nothing that was fetched is there
    LLMRT_RETURN_IF_ERROR(status);
    if (statistics)
      *statistics = watch.read(commands);
    return absl::OkStatus();
  }

  absl::Status abortOnError(absl::Status status) {
    if (!status.ok())
      rank_.fabric.abort(status);
    return status;
  }

  /// Waits for all that was enqueued, and says whether it kept to its memory.
  absl::Status endCall() {
    absl::Status status = device_->synchronize();
    if (rank_.checked && !rank_.checked->status().ok())
      status = rank_.checked->status();
    // What failed on a stream is known to the fabric alone, and explains what
    // the device says.
    if (device_->nativeStream(Stream::Compute))
      LLMRT_RETURN_IF_ERROR(rank_.fabric.abortStatus());
    LLMRT_RETURN_IF_ERROR(status);
    return rank_.checked ? rank_.checked->endCall() : absl::OkStatus();
  }

  absl::Status agreeOnCodeLevel();
  absl::Status allocateArenas();
  absl::Status preparePrograms();

  absl::Span<uint8_t> wholeBuffer(int buffer) const {
    return {rank_.address(buffer),
            static_cast<size_t>(rank_.sizeBytes(buffer))};
  }

  /// The host's copy of an output that is complete; empty, and an error of the
  /// next call, if it cannot be had.
  absl::Span<const uint8_t> fetched(int entry, int buffer,
                                    size_t sizeBytes) const {
    absl::StatusOr<const uint8_t*> copy = copies_->output(entry, buffer);
    if (!copy.ok()) {
      outputStatus_ = copy.status();
      return {};
    }
    return {*copy, sizeBytes};
  }

  absl::Span<uint8_t> find(const EntryBuffersList* all, int entry,
                           absl::string_view name) const;

  ExecutorOptions options_;
  std::unique_ptr<Device> device_;
  Rank rank_;
  std::unique_ptr<HostCopies> copies_; // null: the host shares the memory
  mutable absl::Status outputStatus_;  // of output(), which cannot return it
  std::unique_ptr<Program> initialise_;
  EntryCalls calls_{rank_};
  StepCalls steps_{rank_};
};

// Kernels of different levels give different bits, so all ranks take the
// lowest.
absl::Status PlanExecutor::agreeOnCodeLevel() {
  if (rank_.fabric.size() == 1 || !device_->sharesHostMemory())
    return absl::OkStatus();
  std::vector<int> everyone(rank_.fabric.size());
  std::iota(everyone.begin(), everyone.end(), 0);
  LLMRT_ASSIGN_OR_RETURN(std::unique_ptr<Communicator> world,
                         rank_.fabric.createCommunicator(everyone));
  int64_t mine = device_->codeLevel();
  std::vector<int64_t> levels(everyone.size());
  CollectiveTag tag{-1, "AllGather", "the CPU level", "prepare"};
  LLMRT_RETURN_IF_ERROR(
      world->allGather(&mine, levels.data(), sizeof(mine), tag));
  device_->limitCodeLevel(*std::min_element(levels.begin(), levels.end()));
  return absl::OkStatus();
}

absl::Status PlanExecutor::allocateArenas() {
  if (options_.checkMemory) {
    LLMRT_ASSIGN_OR_RETURN(
        rank_.checked,
        CheckedMemory::create(rank_.plan, rank_.stage, rank_.coordinates,
                              rank_.fabric.rank(), *device_));
    return absl::OkStatus();
  }
  for (unsigned i = 0; rank_.stage.arenas() && i < rank_.stage.arenas()->size();
       ++i) {
    const fb::Arena* arena = rank_.stage.arenas()->Get(i);
    // The arena holds buffers of many classes; its own class is what is left of
    // it.
    LLMRT_ASSIGN_OR_RETURN(
        void* memory,
        device_->allocate(static_cast<MemorySpace>(arena->space()),
                          MemoryClass::Workspace, arena->size_bytes()));
    rank_.arenas[static_cast<int>(arena->space())] =
        static_cast<uint8_t*>(memory);
  }
  return absl::OkStatus();
}

absl::Status PlanExecutor::preparePrograms() {
  if (rank_.stage.initialise()) {
    LLMRT_ASSIGN_OR_RETURN(
        initialise_,
        Program::create(*rank_.stage.initialise(), nullptr, rank_));
  }
  if (rank_.stage.schedule() && rank_.stage.schedule()->size() > 0)
    return steps_.prepare(copies_.get(), options_.usesGraphs);
  return calls_.prepare(copies_.get(), options_.usesGraphs);
}

absl::Span<uint8_t> PlanExecutor::find(const EntryBuffersList* all, int entry,
                                       absl::string_view name) const {
  const fb::NamedBuffer* named = findNamed(all, entry, name);
  if (!named)
    return {};
  int64_t sizeBytes = dtypeBytes(static_cast<DType>(named->dtype()));
  if (named->shape())
    for (int64_t dim : *named->shape())
      sizeBytes *= dim;
  return {rank_.address(named->buffer()), static_cast<size_t>(sizeBytes)};
}

} // namespace

absl::StatusOr<std::unique_ptr<Executor>>
Executor::create(const fb::Plan& plan, Fabric& fabric,
                 const ExecutorOptions& options) {
  auto device = createDevice(plan, options);
  if (device.ok())
    return create(plan, fabric, options, *std::move(device));
  fabric.abort(device.status());
  return device.status();
}

absl::StatusOr<std::unique_ptr<Executor>>
Executor::create(const fb::Plan& plan, Fabric& fabric,
                 const ExecutorOptions& options,
                 std::unique_ptr<Device> device) {
  absl::Status status = checkMesh(plan, fabric);
  if (status.ok())
    status = checkDevice(fabric, *device);
  if (status.ok()) {
    auto executor = std::make_unique<PlanExecutor>(plan, fabric, options,
                                                   std::move(device));
    status = executor->prepare();
    if (status.ok())
      return executor;
  }
  fabric.abort(status);
  return status;
}

} // namespace llmrt
