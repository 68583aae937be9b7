// SPDX-License-Identifier: Apache-2.0
// The cpu device. The compute stream is the calling thread: a launch returns
// when the kernel is done. The communication stream is a thread. So an event
// recorded on the compute stream has always happened, and one recorded on the
// communication stream is the number of calls before it.
#include "runtime/base/Error.h"
#include "runtime/device/Device.h"
#include "runtime/device/cpu/CodeImage.h"
#include "runtime/device/cpu/CommunicationThread.h"
#include "runtime/device/cpu/CpuMemory.h"
#include "runtime/device/cpu/GuardedPages.h"
#include "runtime/device/cpu/ThreadPool.h"
#include "runtime/kernels/KernelRegistry.h"

#include <algorithm>
#include <chrono>
#include <cstring>
#include <string>
#include <vector>

namespace llmrt {
namespace {

/// Adds the time until its end to a sum of seconds.
class WaitTimer {
public:
  explicit WaitTimer(double& seconds) : seconds_(seconds) {}

  ~WaitTimer() {
    std::chrono::duration<double> elapsed =
        std::chrono::steady_clock::now() - begin_;
    seconds_ += elapsed.count();
  }

private:
  double& seconds_;
  std::chrono::steady_clock::time_point begin_ =
      std::chrono::steady_clock::now();
};

/// A host copy or fill on the communication stream. Owned by the device until
/// the stream is synchronised.
class MoveCall final : public StreamCall {
public:
  MoveCall(void* to, const void* from, uint32_t pattern, int64_t sizeBytes)
      : to_(to), from_(from), pattern_(pattern), sizeBytes_(sizeBytes) {}

  absl::Status run() override {
    if (from_)
      std::memmove(to_, from_, sizeBytes_);
    else
      std::fill_n(static_cast<uint32_t*>(to_), sizeBytes_ / 4, pattern_);
    return absl::OkStatus();
  }

private:
  void* to_;
  const void* from_;
  uint32_t pattern_;
  int64_t sizeBytes_;
};

class CpuDevice final : public Device {
public:
  explicit CpuDevice(const CpuDeviceOptions& options)
      : level_(detectCpuLevel()), pool_({.numThreads = options.numThreads,
                                         .pinThreads = options.pinThreads,
                                         .firstCpu = options.firstCpu}) {}

  ~CpuDevice() override { (void)synchronize(); }

  const char* name() const override { return "cpu"; }

  int codeLevel() const override { return static_cast<int>(level_); }

  void limitCodeLevel(int level) override {
    level_ = std::min(level_, static_cast<CpuLevel>(level));
  }

  bool sharesHostMemory() const override { return true; }

  absl::StatusOr<int>
  chooseCode(absl::Span<const CodeOption> options) const override {
    int best = -1, lowest = INT32_MAX;
    for (size_t i = 0; i < options.size(); ++i) {
      lowest = std::min(lowest, options[i].level);
      if (options[i].level <= codeLevel() &&
          (best < 0 || options[i].level > options[best].level))
        best = static_cast<int>(i);
    }
    if (best >= 0)
      return best;
    auto levelName = [](int level) {
      return std::string(cpuLevelName(static_cast<CpuLevel>(level)));
    };
    return makeError(ErrorCode::CpuTooOld,
                     absl::StrCat("the plan has code for ", levelName(lowest),
                                  " and better, the ranks have ",
                                  levelName(codeLevel())),
                     "compile for this machine, or unset LLMRT_CPU_LEVEL");
  }

  absl::StatusOr<void*> allocate(MemorySpace space, MemoryClass memoryClass,
                                 int64_t sizeBytes) override {
    return memory_.allocate(space, memoryClass, sizeBytes);
  }

  void release(void* memory) override { memory_.release(memory); }

  // Not counted: most of its pages are never there.
  absl::StatusOr<std::unique_ptr<GuardedMemory>>
  allocateGuarded(int64_t sizeBytes) override {
    LLMRT_ASSIGN_OR_RETURN(std::unique_ptr<GuardedPages> pages,
                           GuardedPages::create(sizeBytes));
    return pages;
  }

  void countBytes(MemoryClass memoryClass, int64_t sizeBytes) override {
    memory_.count(memoryClass, sizeBytes);
  }

  BytesByClass bytesByClass() const override { return memory_.bytes(); }

  absl::StatusOr<CodeId> loadCode(absl::Span<const uint8_t> image) override {
    LLMRT_ASSIGN_OR_RETURN(CodeImage code, CodeImage::load(image));
    code_.push_back(std::move(code));
    memory_.count(MemoryClass::Code, image.size());
    return static_cast<CodeId>(code_.size() - 1);
  }

  absl::StatusOr<KernelId> findKernel(CodeId code,
                                      absl::string_view symbol) override {
    void* address =
        code_[static_cast<int>(code)].find(std::string(symbol).c_str());
    if (!address)
      return makeError(
          ErrorCode::KernelMissing,
          absl::StrCat("the code in the plan has no kernel ", symbol),
          "compile the plan again");
    return addKernel({reinterpret_cast<LlmrtKernelFn>(address), nullptr});
  }

  absl::StatusOr<KernelId> findHandTunedKernel(absl::string_view name,
                                               int version) override {
    const KernelInfo* info =
        llmrt::findKernel(std::string_view(name.data(), name.size()), version);
    if (!info)
      return makeError(
          ErrorCode::KernelMissing,
          absl::StrCat("there is no kernel ", name, " version ", version),
          "compile the plan again with this version's llmc");
    return addKernel({info->function(level_), info});
  }

  uint64_t kernelAddress(KernelId kernel) const override {
    return reinterpret_cast<uint64_t>(at(kernel).function);
  }

  int64_t scratchBytes(KernelId kernel, const uint64_t* words) const override {
    return at(kernel).info ? at(kernel).info->scratchBytes(words) : 0;
  }

  absl::Status reserveScratch(int64_t bytesPerThread) override {
    bytesPerThread = (bytesPerThread + 63) / 64 * 64;
    if (bytesPerThread <= scratchBytesPerThread_)
      return absl::OkStatus();
    LLMRT_ASSIGN_OR_RETURN(
        void* scratch,
        memory_.allocate(MemorySpace::Device, MemoryClass::Library,
                         bytesPerThread * pool_.numThreads()));
    pool_.useScratch(scratch, bytesPerThread);
    memory_.release(scratch_);
    scratch_ = scratch;
    scratchBytesPerThread_ = bytesPerThread;
    return absl::OkStatus();
  }

  void launch(const DeviceLaunch& launch) override {
    if (!status_.ok())
      return;
    pool_.run({launch.rows, launch.cols, launch.rowTile, launch.colTile},
              at(launch.kernel).function, launch.arguments,
              launch.scratchBytes);
  }

  void copy(Stream stream, void* to, const void* from,
            int64_t sizeBytes) override {
    move(stream, MoveCall(to, from, 0, sizeBytes));
  }

  void fill(Stream stream, void* to, uint32_t pattern,
            int64_t sizeBytes) override {
    move(stream, MoveCall(to, nullptr, pattern, sizeBytes));
  }

  void call(Stream stream, StreamCall& work) override {
    if (stream == Stream::Communication)
      return communication_.enqueue(work);
    if (!status_.ok())
      return;
    WaitTimer timer(waitSeconds_);
    // Inline saves two thread switches; behind others, the one order is kept.
    if (communication_.isDone(communication_.numEnqueued()) &&
        !communication_.hasFailed()) {
      status_ = work.run();
      return;
    }
    communication_.enqueue(work);
    finish(communication_.numEnqueued());
  }

  EventId createEvent() override {
    events_.push_back(0);
    return static_cast<EventId>(events_.size() - 1);
  }

  void record(EventId event, Stream stream) override {
    // What the compute stream did is done, as is everything before the last
    // ticket that somebody waited for.
    events_[static_cast<int>(event)] = stream == Stream::Communication
                                           ? communication_.numEnqueued()
                                           : finishedTicket_;
  }

  void wait(Stream stream, EventId event) override {
    uint32_t ticket = events_[static_cast<int>(event)];
    if (stream == Stream::Communication || !status_.ok())
      return; // in order with itself, and behind all that was computed
    if (communication_.isDone(ticket) && !communication_.hasFailed())
      return;
    WaitTimer timer(waitSeconds_);
    finish(ticket);
  }

  absl::Status synchronize() override {
    {
      WaitTimer timer(waitSeconds_);
      finish(communication_.numEnqueued());
    }
    moves_.clear();
    (void)communication_.takeStatus();
    return std::exchange(status_, absl::OkStatus());
  }

  double waitSeconds() const override { return waitSeconds_; }

private:
  struct Kernel {
    LlmrtKernelFn function;
    const KernelInfo* info; // null: generated
  };

  absl::StatusOr<KernelId> addKernel(Kernel kernel) {
    kernels_.push_back(kernel);
    return static_cast<KernelId>(kernels_.size() - 1);
  }

  const Kernel& at(KernelId kernel) const {
    return kernels_[static_cast<int>(kernel)];
  }

  void move(Stream stream, MoveCall call) {
    if (stream == Stream::Communication) {
      moves_.push_back(std::make_unique<MoveCall>(call));
      communication_.enqueue(*moves_.back());
    } else if (status_.ok()) {
      status_ = call.run();
    }
  }

  void finish(uint32_t ticket) {
    communication_.waitFor(ticket);
    finishedTicket_ = ticket;
    if (communication_.hasFailed() && status_.ok()) {
      communication_.waitFor(communication_.numEnqueued());
      status_ = communication_.takeStatus();
    }
  }

  CpuLevel level_;
  ThreadPool pool_;
  CpuMemory memory_;
  std::vector<CodeImage> code_;
  std::vector<Kernel> kernels_;
  std::vector<uint32_t> events_; // by EventId: the calls that come before it
  std::vector<std::unique_ptr<MoveCall>> moves_;
  void* scratch_ = nullptr;
  int64_t scratchBytesPerThread_ = 0;
  uint32_t finishedTicket_ = 0;
  double waitSeconds_ = 0;
  absl::Status status_;               // of the compute stream
  CommunicationThread communication_; // ends before what its calls use
};

} // namespace

std::unique_ptr<Device> createCpuDevice(const CpuDeviceOptions& options) {
  return std::make_unique<CpuDevice>(options);
}

} // namespace llmrt
