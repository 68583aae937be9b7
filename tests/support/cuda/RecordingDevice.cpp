// SPDX-License-Identifier: Apache-2.0
// A device without a GPU that does what a stream would and writes it down. More
// than 500 lines: one class, whose calls share the record and the capture.
#include "tests/support/cuda/RecordingDevice.h"

#include "runtime/base/Error.h"
#include "runtime/device/ComparedMemory.h"
#include "runtime/device/cuda/ChooseCudaCode.h"
#include "runtime/kernels/cuda/Constants.h"
#include "runtime/kernels/cuda/CudaKernelRegistry.h"
#include "tests/support/cuda/EmulatedKernels.h"
#include "tests/support/cuda/EmulatedProducts.h"

#include <algorithm>
#include <cstring>
#include <deque>
#include <functional>
#include <map>
#include <optional>
#include <sys/mman.h>

namespace llmrt::test {
namespace {

constexpr int kLevel = 90;
constexpr int64_t kPageBytes = 4096;
constexpr int kPoison = 0xFF; // as floats and bf16: NaN

/// Something that a stream will do.
struct Operation {
  std::function<absl::Status()> run;
  int records = -1; // event
  int waits = -1;   // event
  int64_t ticket = 0;
  int64_t call = -1; // number among the calls of all streams
};

struct Event {
  int64_t enqueued = 0; // records of it
  int64_t done = 0;
  bool isCaptured = false; // by the last record
};

/// Commands of both streams that wait to run, and where they stand.
struct Work {
  std::deque<Operation> queues[kNumStreams];
  std::vector<Event> events;
  bool isValid = true; // of a capture: nothing forbidden was done
};

class Recorder final : public RecordingDevice {
public:
  explicit Recorder(const RecordingOptions& options) : options_(options) {}

  ~Recorder() override {
    for (const auto& [memory, block] : blocks_)
      munmap(memory, block.mappedBytes);
  }

  std::vector<RecordedCommand> takeCommands() override {
    return std::exchange(commands_, {});
  }

  const char* name() const override { return "cuda"; }

  int codeLevel() const override { return kLevel; }

  void limitCodeLevel(int) override {}

  bool sharesHostMemory() const override { return options_.sharesHostMemory; }

  absl::StatusOr<void*> allocate(MemorySpace space, MemoryClass memoryClass,
                                 int64_t sizeBytes) override {
    LLMRT_RETURN_IF_ERROR(refuseInCapture("an allocation"));
    if (sizeBytes == 0)
      return nullptr;
    const int64_t mappedBytes =
        (sizeBytes + kPageBytes - 1) / kPageBytes * kPageBytes;
    void* memory = mmap(nullptr, mappedBytes,
                        space == MemorySpace::Device && !sharesHostMemory()
                            ? PROT_NONE
                            : PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    blocks_[memory] = {space, memoryClass, sizeBytes, mappedBytes};
    if (space == MemorySpace::Device && !arena_)
      arena_ = static_cast<uint8_t*>(memory);
    countBytes(memoryClass, sizeBytes);
    return memory;
  }

  void release(void* memory) override {
    fail(refuseInCapture("a release"));
    auto found = blocks_.find(memory);
    if (found == blocks_.end())
      return;
    graphs_.clear();
    countBytes(found->second.memoryClass, -found->second.sizeBytes);
    munmap(memory, found->second.mappedBytes);
    blocks_.erase(found);
  }

  // As CudaDevice. No arena is left to poison: the check does that itself.
  absl::StatusOr<std::unique_ptr<GuardedMemory>>
  allocateGuarded(int64_t sizeBytes) override {
    options_.poisoned.clear();
    LLMRT_ASSIGN_OR_RETURN(std::unique_ptr<ComparedMemory> memory,
                           ComparedMemory::create(*this, sizeBytes));
    return memory;
  }

  void countBytes(MemoryClass memoryClass, int64_t sizeBytes) override {
    bytes_[static_cast<int>(memoryClass)] += sizeBytes;
  }

  BytesByClass bytesByClass() const override { return bytes_; }

  absl::StatusOr<int>
  chooseCode(absl::Span<const CodeOption> options) const override {
    return chooseCudaCode(options, kLevel);
  }

  absl::StatusOr<CodeId> loadCode(absl::Span<const uint8_t> image) override {
    countBytes(MemoryClass::Code, image.size());
    return CodeId{0};
  }

  absl::StatusOr<KernelId> findKernel(CodeId,
                                      absl::string_view symbol) override {
    kernels_.push_back({std::string(symbol), nullptr});
    return static_cast<KernelId>(kernels_.size() - 1);
  }

  absl::StatusOr<KernelId> findHandTunedKernel(absl::string_view name,
                                               int version) override {
    const std::string_view view(name.data(), name.size());
    const CudaKernelInfo* info = findCudaKernel(view);
    if (!info || info->version != version)
      return makeError(ErrorCode::KernelMissing,
                       absl::StrCat("no cuda kernel ", name), "");
    kernels_.push_back({std::string(name), info});
    return static_cast<KernelId>(kernels_.size() - 1);
  }

  uint64_t kernelAddress(KernelId) const override { return 0; }

  int64_t scratchBytes(KernelId kernel, const uint64_t* words) const override {
    const Kernel& k = kernels_[static_cast<int>(kernel)];
    return k.info ? cudaScratchBytes(k.info->name, words) : 0;
  }

  absl::Status reserveScratch(int64_t sizeBytes) override {
    const int64_t held = kCudaCounterBytes + sizeBytes;
    if (held > heldScratchBytes_) {
      LLMRT_RETURN_IF_ERROR(refuseInCapture("an allocation"));
      countBytes(MemoryClass::Library, held - heldScratchBytes_);
      graphs_.clear();
    }
    heldScratchBytes_ = std::max(heldScratchBytes_, held);
    return absl::OkStatus();
  }

  void launch(const DeviceLaunch& launch) override {
    const Kernel& kernel = kernels_[static_cast<int>(launch.kernel)];
    RecordedCommand command{CommandKind::Launch};
    command.kernel = kernel.name;
    command.arguments = launch.arguments;
    command.rows = launch.rows;
    if (capture_ && options_.failsInCapture)
      fail(deviceError("this launch cannot be captured"));
    if (launch.scratchBytes + kCudaCounterBytes > heldScratchBytes_)
      fail(absl::InternalError("a launch needs more scratch than is reserved"));
    if (kernel.info)
      launchHandTuned(*kernel.info, launch, command);
    else
      launchGenerated(kernel.name, launch, command);
    hasLaunches_ = true;
    note(command);
  }

  void copy(Stream stream, void* to, const void* from,
            int64_t sizeBytes) override {
    RecordedCommand command{CommandKind::Copy, stream};
    command.to = placeOf(to);
    command.from = placeOf(from);
    command.sizeBytes = sizeBytes;
    command.target = to;
    note(command);
    // Ordinary memory is read when the copy is enqueued, pinned memory when it
    // runs.
    if (capture_ && (command.from == Place::Host || command.to == Place::Host))
      return fail(refuseInCapture("a copy of ordinary memory"));
    if (command.from == Place::Host) {
      const auto* bytes = static_cast<const uint8_t*>(from);
      std::vector<uint8_t> staged(bytes, bytes + sizeBytes);
      return enqueue(stream, [to, staged = std::move(staged)] {
        std::memcpy(to, staged.data(), staged.size());
        return absl::OkStatus();
      });
    }
    enqueue(stream, [to, from, sizeBytes] {
      std::memmove(to, from, sizeBytes);
      return absl::OkStatus();
    });
  }

  void fill(Stream stream, void* to, uint32_t pattern,
            int64_t sizeBytes) override {
    RecordedCommand command{CommandKind::Fill, stream};
    command.to = placeOf(to);
    command.sizeBytes = sizeBytes;
    note(command);
    // As CudaDevice: the library repeats bytes.
    if (capture_ && pattern != (pattern & 0xFF) * 0x01010101u)
      return fail(refuseInCapture("a fill of several bytes"));
    enqueue(stream, [to, pattern, sizeBytes] {
      std::fill_n(static_cast<uint32_t*>(to), sizeBytes / 4, pattern);
      return absl::OkStatus();
    });
  }

  void call(Stream stream, StreamCall& work) override {
    note({CommandKind::Call, stream});
    if (!sharesHostMemory()) {
      if (status_.ok())
        fail(work.run());
      return;
    }
    enqueue(stream, [&work] { return work.run(); });
    work_.queues[static_cast<int>(stream)].back().call = numCalls_++;
  }

  void* nativeStream(Stream stream) const override {
    return sharesHostMemory()
               ? nullptr
               : const_cast<char*>(&handles_[static_cast<int>(stream)]);
  }

  EventId createEvent() override {
    work_.events.push_back({});
    return static_cast<EventId>(work_.events.size() - 1);
  }

  void record(EventId event, Stream stream) override {
    const int number = static_cast<int>(event);
    RecordedCommand command{CommandKind::Record, stream};
    command.event = number;
    note(command);
    Operation operation;
    operation.records = number;
    work_.events[number].isCaptured = capture_.has_value();
    operation.ticket = ++current().events[number].enqueued;
    current().queues[static_cast<int>(stream)].push_back(std::move(operation));
  }

  void wait(Stream stream, EventId event) override {
    const int number = static_cast<int>(event);
    RecordedCommand command{CommandKind::Wait, stream};
    command.event = number;
    note(command);
    Operation operation;
    operation.waits = number;
    operation.ticket = current().events[number].enqueued;
    // CUDA: cudaErrorStreamCaptureIsolation.
    if (work_.events[number].isCaptured != capture_.has_value() ||
        (capture_ && operation.ticket == 0)) {
      invalidate();
      return fail(deviceError("an event crosses the border of a capture"));
    }
    current().queues[static_cast<int>(stream)].push_back(std::move(operation));
  }

  bool canCapture() const override { return !sharesHostMemory(); }

  void beginCapture() override {
    commands_.push_back({CommandKind::BeginCapture});
    if (capture_)
      return fail(deviceError("a capture in a capture"));
    capture_.emplace();
    capture_->events.resize(work_.events.size());
  }

  GraphId endCapture() override {
    commands_.push_back({CommandKind::EndCapture});
    const auto id = static_cast<GraphId>(numGraphs_++);
    if (capture_->isValid && status_.ok())
      graphs_[id] = std::make_shared<Work>(*std::move(capture_));
    else
      fail(deviceError("the capture is not valid"));
    capture_.reset();
    return id;
  }

  // One command of the compute stream: inside, both streams begin behind what
  // that has done, and it goes on when both are done.
  void replay(GraphId graph) override {
    note({CommandKind::Replay});
    if (!holdsGraph(graph))
      return fail(deviceError("a graph is gone that is to run"));
    if (capture_)
      return fail(deviceError("a replay in a capture"));
    hasLaunches_ = true;
    enqueue(Stream::Compute, [this, kept = graphs_.at(graph)] {
      Work work = *kept;
      drain(work);
      return absl::OkStatus();
    });
  }

  bool holdsGraph(GraphId graph) const override {
    return graphs_.count(graph) > 0;
  }

  void dropGraph(GraphId graph) override { graphs_.erase(graph); }

  absl::Status synchronize() override {
    commands_.push_back({CommandKind::Synchronize});
    LLMRT_RETURN_IF_ERROR(refuseInCapture("a synchronisation"));
    if (!hasLaunches_ && isIdle(work_))
      return std::exchange(status_, absl::OkStatus());
    setAccess(PROT_READ | PROT_WRITE);
    if (std::exchange(hasLaunches_, false))
      for (const ArenaBytes& bytes : options_.poisoned)
        std::memset(arena_ + bytes.begin, kPoison, bytes.sizeBytes);
    drain(work_);
    if (!sharesHostMemory())
      setAccess(PROT_NONE);
    return std::exchange(status_, absl::OkStatus());
  }

  double waitSeconds() const override { return 0; }

private:
  struct Block {
    MemorySpace space;
    MemoryClass memoryClass;
    int64_t sizeBytes;
    int64_t mappedBytes;
  };

  struct Kernel {
    std::string name;
    const CudaKernelInfo* info; // null: generated
  };

  void launchHandTuned(const CudaKernelInfo& info, const DeviceLaunch& launch,
                       RecordedCommand& command) {
    auto shape = cudaLaunchShape(info, launch.hostArguments, launch.rows,
                                 launch.cols, options_.features);
    if (!shape.ok())
      return fail(shape.status());
    if (options_.hasCublasLt) {
      absl::StatusOr<bool> isByLibrary =
          products_.launch(info.name, launch, capture_.has_value(),
                           heldScratchBytes_ - kCudaCounterBytes);
      if (!isByLibrary.ok())
        return fail(isByLibrary.status());
      command.isByLibrary = *isByLibrary;
      if (*isByLibrary)
        return;
    }
    command.form = shape->symbol;
    command.blocks = shape->rowTiles() * shape->colTiles();
    command.parts = shape->parts;
    command.threads = shape->threads;
    const uint64_t* arguments = launch.arguments;
    const int64_t rows = launch.rows, cols = launch.cols;
    enqueue(Stream::Compute,
            [&info, arguments, rows, cols,
             features = options_.features]() -> absl::Status {
              std::string error = emulation::runCudaKernel(
                  info.name, arguments, rows, cols, features);
              return error.empty() ? absl::OkStatus()
                                   : absl::InternalError(error);
            });
  }

  void launchGenerated(const std::string& symbol, const DeviceLaunch& launch,
                       RecordedCommand& command) {
    auto tiles = [](int64_t extent, int64_t tile) {
      return tile > 0 ? (extent + tile - 1) / tile : 1;
    };
    command.blocks =
        tiles(launch.rows, launch.rowTile) * tiles(launch.cols, launch.colTile);
    if (!options_.generated)
      return;
    enqueue(Stream::Compute,
            [this, symbol, words = launch.arguments,
             numBlocks = command.blocks]() -> absl::Status {
              std::string error = options_.generated(symbol, words, numBlocks);
              return error.empty() ? absl::OkStatus()
                                   : absl::InternalError(error);
            });
  }

  void enqueue(Stream stream, std::function<absl::Status()> run) {
    Operation operation;
    operation.run = std::move(run);
    current().queues[static_cast<int>(stream)].push_back(std::move(operation));
  }

  /// What commands are added to.
  Work& current() { return capture_ ? *capture_ : work_; }

  void note(RecordedCommand command) {
    command.isCaptured = capture_.has_value();
    if (options_.observe)
      options_.observe(command);
    commands_.push_back(std::move(command));
  }

  static absl::Status deviceError(const std::string& what) {
    return makeError(ErrorCode::DeviceFailed, what, "");
  }

  /// As CUDA: what cannot be captured also spoils the capture.
  absl::Status refuseInCapture(const std::string& what) {
    if (!capture_)
      return absl::OkStatus();
    invalidate();
    return deviceError(what + " during a capture");
  }

  void invalidate() {
    if (capture_)
      capture_->isValid = false;
  }

  static bool isIdle(const Work& work) {
    return std::all_of(std::begin(work.queues), std::end(work.queues),
                       [](const auto& queue) { return queue.empty(); });
  }

  // Runs all that can run.
  void drain(Work& work) {
    const Stream other = options_.first == Stream::Compute
                             ? Stream::Communication
                             : Stream::Compute;
    while (step(options_.first, work) || step(other, work)) {
    }
    for (auto& queue : work.queues)
      if (!queue.empty()) {
        fail(absl::InternalError("a stream waits for ever"));
        queue.clear();
      }
  }

  // Runs the next operation of a stream; false if there is none that can.
  bool step(Stream stream, Work& work) {
    std::deque<Operation>& queue = work.queues[static_cast<int>(stream)];
    if (queue.empty())
      return false;
    Operation& next = queue.front();
    if (next.waits >= 0 && work.events[next.waits].done < next.ticket)
      return false;
    if (next.call >= 0 && next.call != numCallsDone_)
      return false;
    if (next.call >= 0)
      ++numCallsDone_;
    if (next.records >= 0)
      work.events[next.records].done = next.ticket;
    if (next.run && status_.ok())
      fail(next.run());
    queue.pop_front();
    return true;
  }

  void setAccess(int protection) {
    for (const auto& [memory, block] : blocks_)
      if (block.space == MemorySpace::Device)
        mprotect(memory, block.mappedBytes, protection);
  }

  Place placeOf(const void* address) const {
    auto next = blocks_.upper_bound(const_cast<void*>(address));
    if (next == blocks_.begin())
      return Place::Host;
    const auto& [memory, block] = *std::prev(next);
    if (static_cast<const uint8_t*>(address) >=
        static_cast<uint8_t*>(memory) + block.mappedBytes)
      return Place::Host;
    return block.space == MemorySpace::Device ? Place::Device : Place::Pinned;
  }

  void fail(const absl::Status& status) {
    if (status_.ok())
      status_ = status;
  }

  RecordingOptions options_;
  EmulatedProducts products_{options_.tuningCache,
                             [this](std::function<absl::Status()> work) {
                               enqueue(Stream::Compute, std::move(work));
                             }};
  std::vector<RecordedCommand> commands_;
  std::map<void*, Block> blocks_;
  BytesByClass bytes_{};
  std::vector<Kernel> kernels_;
  Work work_;
  std::optional<Work> capture_; // while commands are captured
  std::map<GraphId, std::shared_ptr<const Work>> graphs_;
  int32_t numGraphs_ = 0; // that were captured
  char handles_[kNumStreams] = {};
  uint8_t* arena_ = nullptr; // the first block of device memory
  bool hasLaunches_ = false; // since synchronize()
  int64_t numCalls_ = 0, numCallsDone_ = 0;
  int64_t heldScratchBytes_ = 0; // with the counters
  absl::Status status_;
};

} // namespace

std::unique_ptr<RecordingDevice>
createRecordingDevice(const RecordingOptions& options) {
  return std::make_unique<Recorder>(options);
}

} // namespace llmrt::test
