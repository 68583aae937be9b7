// SPDX-License-Identifier: Apache-2.0
// The cuda device: one GPU through the CUDA runtime library. Both streams are
// CUDA streams, so that commands are only enqueued here; calls of communicators
// enqueue themselves. The first command that cannot be enqueued is what
// synchronize() returns, and ends what is enqueued.
#include "runtime/base/Error.h"
#include "runtime/device/ComparedMemory.h"
#include "runtime/device/Device.h"
#include "runtime/device/cuda/ChooseCudaCode.h"
#include "runtime/device/cuda/CudaError.h"
#include "runtime/device/cuda/CudaKernels.h"
#include "runtime/device/cuda/CudaMemory.h"
#include "runtime/device/cuda/CudaProducts.h"
#include "runtime/kernels/cuda/Constants.h"
#include "runtime/kernels/cuda/LibraryProducts.h"

#include <unordered_map>
#include <utility>
#include <vector>

namespace llmrt {
namespace {

constexpr int kLowestLevel = 80;

/// Returns the number of the GPU's architecture, or what keeps it from being
/// used.
absl::StatusOr<int> findGpu(int gpu) {
  int driver = 0;
  if (cudaDriverGetVersion(&driver) != cudaSuccess || driver == 0)
    return cudaUnsupported("there is no NVIDIA driver");
  if (driver / 1000 < CUDART_VERSION / 1000)
    return cudaUnsupported(absl::StrCat(
        "the driver is for CUDA ", driver / 1000, ".", driver % 1000 / 10));
  int count = 0;
  const cudaError_t counted = cudaGetDeviceCount(&count);
  if (counted != cudaSuccess)
    return cudaUnsupported(
        absl::StrCat("the driver says: ", cudaGetErrorString(counted)));
  if (gpu >= count)
    return cudaUnsupported(
        absl::StrCat("GPU ", gpu, " is wanted, and there are ", count));
  int major = 0, minor = 0;
  LLMRT_RETURN_IF_ERROR(cudaStatus(
      cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, gpu),
      "asking for the architecture"));
  LLMRT_RETURN_IF_ERROR(cudaStatus(
      cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, gpu),
      "asking for the architecture"));
  const int level = 10 * major + minor;
  if (level < kLowestLevel)
    return cudaUnsupported(absl::StrCat("the GPU is sm_", level));
  return level;
}

class CudaDevice final : public Device {
public:
  CudaDevice(int gpu, int level)
      : gpu_(gpu), level_(level), kernels_(gpu, level) {}

  ~CudaDevice() override {
    (void)use();
    (void)synchronize();
    forgetGraphs();
    for (cudaEvent_t event : {fork_, join_})
      if (event)
        (void)cudaEventDestroy(event);
    for (cudaEvent_t event : events_)
      (void)cudaEventDestroy(event);
    for (cudaStream_t stream : streams_)
      if (stream)
        (void)cudaStreamDestroy(stream);
  }

  absl::Status prepare(const std::string& tuningCache) {
    LLMRT_RETURN_IF_ERROR(use());
    for (cudaStream_t& stream : streams_)
      LLMRT_RETURN_IF_ERROR(
          cudaStatus(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking),
                     "making a stream"));
    for (cudaEvent_t* event : {&fork_, &join_})
      LLMRT_RETURN_IF_ERROR(
          cudaStatus(cudaEventCreateWithFlags(event, cudaEventDisableTiming),
                     "making an event"));
    LLMRT_ASSIGN_OR_RETURN(
        products_,
        CudaProducts::create(gpu_, tuningCache, at(Stream::Compute)));
    return reserveScratch(0);
  }

  const char* name() const override { return "cuda"; }

  int codeLevel() const override { return level_; }

  // On cuda results depend on the GPU anyway.
  void limitCodeLevel(int) override {}

  bool sharesHostMemory() const override { return false; }

  absl::StatusOr<void*> allocate(MemorySpace space, MemoryClass memoryClass,
                                 int64_t sizeBytes) override {
    LLMRT_RETURN_IF_ERROR(use());
    return memory_.allocate(space, memoryClass, sizeBytes, streams_[0]);
  }

  void release(void* memory) override {
    if (!memory)
      return;
    fail(use());
    kernels_.forgetLaunches();
    forgetGraphs();
    memory_.release(memory);
  }

  absl::StatusOr<std::unique_ptr<GuardedMemory>>
  allocateGuarded(int64_t sizeBytes) override {
    LLMRT_ASSIGN_OR_RETURN(std::unique_ptr<ComparedMemory> memory,
                           ComparedMemory::create(*this, sizeBytes));
    return memory;
  }

  void countBytes(MemoryClass memoryClass, int64_t sizeBytes) override {
    memory_.count(memoryClass, sizeBytes);
  }

  BytesByClass bytesByClass() const override { return memory_.bytes(); }

  absl::StatusOr<int>
  chooseCode(absl::Span<const CodeOption> options) const override {
    return chooseCudaCode(options, level_);
  }

  absl::StatusOr<CodeId> loadCode(absl::Span<const uint8_t> image) override {
    LLMRT_RETURN_IF_ERROR(use());
    LLMRT_ASSIGN_OR_RETURN(CodeId code, kernels_.loadCode(image));
    memory_.count(MemoryClass::Code, image.size());
    return code;
  }

  absl::StatusOr<KernelId> findKernel(CodeId code,
                                      absl::string_view symbol) override {
    return kernels_.findKernel(code, symbol);
  }

  absl::StatusOr<KernelId> findHandTunedKernel(absl::string_view name,
                                               int version) override {
    return kernels_.findHandTunedKernel(name, version);
  }

  // There are no slots on cuda.
  uint64_t kernelAddress(KernelId) const override { return 0; }

  int64_t scratchBytes(KernelId kernel, const uint64_t* words) const override {
    return kernels_.scratchBytes(kernel, words);
  }

  absl::Status reserveScratch(int64_t sizeBytes) override {
    if (scratch_ && sizeBytes <= scratchBytes_)
      return absl::OkStatus();
    LLMRT_RETURN_IF_ERROR(synchronize());
    LLMRT_ASSIGN_OR_RETURN(void* scratch,
                           allocate(MemorySpace::Device, MemoryClass::Library,
                                    kCudaCounterBytes + sizeBytes));
    forgetGraphs();
    memory_.release(scratch_);
    scratch_ = static_cast<uint8_t*>(scratch);
    scratchBytes_ = sizeBytes;
    return absl::OkStatus();
  }

  void launch(const DeviceLaunch& launch) override {
    const bool followsKernel = followsKernel_;
    if (!enqueues())
      return;
    absl::StatusOr<bool> isDone = launchByLibrary(launch);
    if (!isDone.ok())
      return fail(isDone.status());
    if (*isDone)
      return;
    absl::StatusOr<const PreparedLaunch*> prepared = kernels_.prepare(launch);
    if (!prepared.ok())
      return fail(prepared.status());
    PreparedLaunch p = **prepared;
    p.mayBeginEarly = p.mayBeginEarly && followsKernel;
    if (p.before)
      fail(enqueueKernel(*p.before, launch.arguments));
    fail(enqueueKernel(p, launch.arguments));
    followsKernel_ = true;
  }

  void copy(Stream stream, void* to, const void* from,
            int64_t sizeBytes) override {
    if (enqueues() && sizeBytes > 0)
      fail(cudaStatus(
          cudaMemcpyAsync(to, from, sizeBytes, cudaMemcpyDefault, at(stream)),
          "copying"));
  }

  // The library repeats bytes only. A pattern of four grows by copies of
  // itself.
  void fill(Stream stream, void* to, uint32_t pattern,
            int64_t sizeBytes) override {
    if (!enqueues() || sizeBytes < 4)
      return;
    if (pattern == (pattern & 0xFF) * 0x01010101u)
      return fail(
          cudaStatus(cudaMemsetAsync(to, pattern & 0xFF, sizeBytes, at(stream)),
                     "filling"));
    if (isCapturing_)
      return fail(makeError(ErrorCode::DeviceFailed,
                            "a fill of several bytes cannot be captured",
                            "run it with --graphs=off, and please report it"));
    auto* bytes = static_cast<uint8_t*>(to);
    copy(stream, bytes, &pattern, 4);
    for (int64_t done = 4; done < sizeBytes; done *= 2)
      copy(stream, bytes + done, bytes, std::min(done, sizeBytes - done));
  }

  void call(Stream, StreamCall& work) override {
    if (enqueues())
      fail(work.run());
  }

  void* nativeStream(Stream stream) const override { return at(stream); }

  EventId createEvent() override {
    events_.push_back(nullptr);
    fail(use());
    fail(cudaStatus(
        cudaEventCreateWithFlags(&events_.back(), cudaEventDisableTiming),
        "making an event"));
    return static_cast<EventId>(events_.size() - 1);
  }

  void record(EventId event, Stream stream) override {
    if (enqueues())
      fail(cudaStatus(
          cudaEventRecord(events_[static_cast<int>(event)], at(stream)),
          "recording an event"));
  }

  void wait(Stream stream, EventId event) override {
    if (enqueues())
      fail(cudaStatus(
          cudaStreamWaitEvent(at(stream), events_[static_cast<int>(event)], 0),
          "waiting for an event"));
  }

  bool canCapture() const override { return true; }

  // Both streams are part of it from the begin. Other threads may allocate
  // meanwhile: only this one is held to what can be captured.
  void beginCapture() override {
    if (!enqueues())
      return;
    fail(cudaStatus(cudaStreamBeginCapture(at(Stream::Compute),
                                           cudaStreamCaptureModeThreadLocal),
                    "beginning a graph"));
    setCapturing(status_.ok());
    if (isCapturing_)
      fail(putBehind(Stream::Communication, Stream::Compute, fork_));
  }

  // Whatever has failed, the capture must end.
  GraphId endCapture() override {
    const auto id = static_cast<GraphId>(numGraphs_++);
    if (!isCapturing_)
      return id;
    setCapturing(false);
    followsKernel_ = false; // what was captured has not run
    fail(use());
    fail(putBehind(Stream::Compute, Stream::Communication, join_));
    cudaGraph_t graph = nullptr;
    fail(cudaStatus(cudaStreamEndCapture(at(Stream::Compute), &graph),
                    "capturing a graph"));
    cudaGraphExec_t executable = nullptr;
    if (status_.ok())
      fail(cudaStatus(cudaGraphInstantiate(&executable, graph, 0),
                      "preparing a graph"));
    if (status_.ok())
      graphs_[id] = executable;
    if (graph)
      (void)cudaGraphDestroy(graph);
    (void)cudaGetLastError(); // the failure is told by status_
    return id;
  }

  void replay(GraphId graph) override {
    if (!enqueues())
      return;
    auto found = graphs_.find(graph);
    if (found == graphs_.end())
      return fail(makeError(ErrorCode::DeviceFailed,
                            "a graph is gone that is to run",
                            "run it with --graphs=off, and please report it"));
    fail(cudaStatus(cudaGraphLaunch(found->second, at(Stream::Compute)),
                    "launching a graph"));
  }

  bool holdsGraph(GraphId graph) const override {
    return graphs_.count(graph) > 0;
  }

  void dropGraph(GraphId graph) override {
    auto found = graphs_.find(graph);
    if (found == graphs_.end())
      return;
    (void)cudaGraphExecDestroy(found->second);
    graphs_.erase(found);
  }

  absl::Status synchronize() override {
    fail(use());
    for (cudaStream_t stream : streams_)
      if (stream)
        fail(cudaStatus(cudaStreamSynchronize(stream), "running the commands"));
    return std::exchange(status_, absl::OkStatus());
  }

  // Streams wait for each other on the GPU.
  double waitSeconds() const override { return 0; }

private:
  /// `p.mayBeginEarly`: what was enqueued last is a kernel too.
  absl::Status enqueueKernel(PreparedLaunch p, const uint64_t* arguments) {
    uint8_t* scratch = scratch_ + kCudaCounterBytes;
    void* parameters[] = {&arguments, &p.rows,    &p.cols,
                          &p.rowTile, &p.colTile, &scratch};
    cudaLaunchConfig_t config = {};
    config.gridDim = p.grid;
    config.blockDim = dim3(p.threads, 1, 1);
    config.dynamicSmemBytes = p.sharedBytes;
    config.stream = at(Stream::Compute);
    // Weights of the next product are on their way while this one ends. Only
    // behind a kernel: other commands may write weights.
    cudaLaunchAttribute early = {};
    early.id = cudaLaunchAttributeProgrammaticStreamSerialization;
    early.val.programmaticStreamSerializationAllowed = 1;
    config.attrs = &early;
    config.numAttrs = p.mayBeginEarly ? 1 : 0;
    return cudaStatus(
        cudaLaunchKernelExC(&config, reinterpret_cast<const void*>(p.kernel),
                            parameters),
        "launching a kernel");
  }

  /// Multiplies by cuBLASLt. Returns false if that does not take the launch.
  absl::StatusOr<bool> launchByLibrary(const DeviceLaunch& launch) {
    const CudaKernelInfo* info = kernels_.infoOf(launch.kernel);
    uint8_t* scratch = scratch_ + kCudaCounterBytes;
    std::optional<LibraryLaunch> products;
    if (info)
      products =
          libraryLaunch(info->name, launch.hostArguments, launch.rows, scratch);
    if (!products)
      return false;
    LLMRT_ASSIGN_OR_RETURN(MatrixProducts * library, products_->start());
    if (!library)
      return false;
    const LibraryFactors& factors = products->factors;
    const MatrixProducts::Place place = {scratch + factors.scratchBytes,
                                         kCudaProductWorkspaceBytes,
                                         at(Stream::Compute)};
    if (products->accumulates() && !isCapturing_ &&
        !knowsAll(*library, *products))
      LLMRT_RETURN_IF_ERROR(
          cudaStatus(cudaMemsetAsync(scratch, 0, factors.scratchBytes,
                                     at(Stream::Compute)),
                     "clearing factors"));
    LLMRT_ASSIGN_OR_RETURN(bool isThere,
                           prepareAll(*library, *products, scratch, place));
    if (!isThere)
      return false;
    if (factors.rounding) {
      LLMRT_ASSIGN_OR_RETURN(PreparedLaunch rounding,
                             kernels_.prepareForm(*factors.rounding));
      LLMRT_RETURN_IF_ERROR(enqueueKernel(rounding, launch.arguments));
    }
    LLMRT_RETURN_IF_ERROR(multiplyAll(*library, *products, place));
    return true;
  }

  absl::Status use() {
    return cudaStatus(cudaSetDevice(gpu_), "choosing the GPU");
  }

  /// True if commands are still enqueued; the calling thread then uses this
  /// GPU.
  bool enqueues() {
    followsKernel_ = false;
    if (status_.ok())
      fail(use());
    return status_.ok();
  }

  void fail(const absl::Status& status) {
    if (status_.ok())
      status_ = status;
  }

  absl::Status putBehind(Stream stream, Stream other, cudaEvent_t event) {
    LLMRT_RETURN_IF_ERROR(cudaStatus(cudaEventRecord(event, at(other)),
                                     "joining the streams of a graph"));
    return cudaStatus(cudaStreamWaitEvent(at(stream), event, 0),
                      "joining the streams of a graph");
  }

  void setCapturing(bool isCapturing) {
    isCapturing_ = isCapturing;
    if (products_)
      products_->setCapturing(isCapturing);
  }

  void forgetGraphs() {
    for (const auto& [id, executable] : graphs_)
      (void)cudaGraphExecDestroy(executable);
    graphs_.clear();
  }

  cudaStream_t at(Stream stream) const {
    return streams_[static_cast<int>(stream)];
  }

  int gpu_;
  int level_;
  absl::Status status_;        // the first error since the last synchronize()
  bool followsKernel_ = false; // what was enqueued last is a kernel
  cudaStream_t streams_[kNumStreams] = {};
  CudaMemory memory_;
  CudaKernels kernels_;
  std::unique_ptr<CudaProducts> products_;      // null: there is no cuBLASLt
  std::vector<cudaEvent_t> events_;             // by EventId
  cudaEvent_t fork_ = nullptr, join_ = nullptr; // of a capture
  bool isCapturing_ = false;
  std::unordered_map<GraphId, cudaGraphExec_t> graphs_;
  int32_t numGraphs_ = 0;      // that were captured
  uint8_t* scratch_ = nullptr; // counters, then what launches use
  int64_t scratchBytes_ = 0;   // behind the counters
};

} // namespace

absl::StatusOr<std::unique_ptr<Device>>
createCudaDevice(const CudaDeviceOptions& options) {
  LLMRT_ASSIGN_OR_RETURN(int level, findGpu(options.gpu));
  auto device = std::make_unique<CudaDevice>(options.gpu, level);
  LLMRT_RETURN_IF_ERROR(device->prepare(options.tuningCache));
  return device;
}

} // namespace llmrt
