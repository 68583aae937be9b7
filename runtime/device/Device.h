// SPDX-License-Identifier: Apache-2.0
// What a plan needs of a device: memory by class, copies, streams, events, code
// and launches. It knows nothing of plans, and one device belongs to one rank.
// `cpu` is a real back-end and the oracle for others. Commands are enqueued by
// one thread.
#pragma once

#include "runtime/device/GuardedMemory.h"
#include "runtime/kernels/KernelAbi.h"

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"

#include <array>
#include <cstdint>
#include <memory>
#include <string>

namespace llmrt {

/// Values of fb::MemorySpace and fb::MemoryClass (plan.fbs).
enum class MemorySpace : int8_t { Device = 0, PinnedHost = 1, File = 2 };
enum class MemoryClass : int8_t {
  Parameters = 0,
  GatheredParameters = 1,
  Caches = 2,
  Activations = 3,
  Communication = 4,
  Workspace = 5,
  Inputs = 6,
  Outputs = 7,
  Constants = 8,
  Gradients = 9,
  Optimizer = 10,
  Code = 11,
  Library = 12
};
inline constexpr int kNumMemoryClasses = 13;

/// Returns "parameters", "gathered parameters", ...
absl::string_view memoryClassName(MemoryClass memoryClass);

using BytesByClass = std::array<int64_t, kNumMemoryClasses>;

/// Streams run their commands in order and beside each other. Values are stored
/// in plans.
enum class Stream : int8_t { Compute = 0, Communication = 1 };
inline constexpr int kNumStreams = 2;

/// A loaded code object, an event, a kernel: numbers that the device hands out.
enum class CodeId : int32_t {};
enum class EventId : int32_t {};
enum class KernelId : int32_t {};
/// Commands that were captured, to be enqueued together.
enum class GraphId : int32_t {};

/// One launch: a kernel over a grid of rows x columns.
struct DeviceLaunch {
  KernelId kernel;
  const uint64_t*
      arguments; // device memory: words, word 0 is the number of rows
  const uint64_t* hostArguments; // the same words, for the host
  int64_t rows;
  int64_t cols;
  int64_t rowTile; // 0: all rows
  int64_t colTile;
  int64_t scratchBytes; // at most what reserveScratch() was given
};

/// A code object of a plan: what it is for.
struct CodeOption {
  absl::string_view target; // "cpu", "cuda", "cuda-ptx"
  int level;
};

/// Work that a stream runs between its commands: a collective. Where the host
/// does it, it runs when its turn comes; where it only enqueues
/// (nativeStream()), at once, on the calling thread. The object outlives its
/// run.
class StreamCall {
public:
  virtual ~StreamCall() = default;
  virtual absl::Status run() = 0;
};

class Device {
public:
  virtual ~Device() = default;

  /// Returns "cpu" or "cuda": the `target` of the plans it runs.
  virtual const char* name() const = 0;
  /// Returns the best level of the code objects it runs: a CpuLevel, or the
  /// number of the GPU's architecture.
  virtual int codeLevel() const = 0;
  /// Lowers it to what all ranks have, where results depend on it (cpu); before
  /// kernels are found.
  virtual void limitCodeLevel(int level) = 0;

  /// True if the host reads and writes device memory as its own.
  virtual bool sharesHostMemory() const = 0;

  // Memory.
  /// Returns `sizeBytes` of zeroed memory, aligned to a page at least; null for
  /// 0 bytes. Errors  OutOfMemory; DeviceUnsupported for a space it does not
  /// have.
  virtual absl::StatusOr<void*>
  allocate(MemorySpace space, MemoryClass memoryClass, int64_t sizeBytes) = 0;
  virtual void release(void* memory) = 0;
  /// Returns closed memory for the check of lifetimes, in no class.
  /// Errors  OutOfMemory; those of the device.
  virtual absl::StatusOr<std::unique_ptr<GuardedMemory>>
  allocateGuarded(int64_t sizeBytes) = 0;
  /// Counts bytes that a library holds (negative: holds no longer).
  virtual void countBytes(MemoryClass memoryClass, int64_t sizeBytes) = 0;
  virtual BytesByClass bytesByClass() const = 0;

  // Code.
  /// Returns which of a plan's code objects it runs best.
  /// Errors  CpuTooOld or DeviceUnsupported if it runs none: what is needed,
  /// what is
  ///         there.
  virtual absl::StatusOr<int>
  chooseCode(absl::Span<const CodeOption> options) const = 0;
  /// Loads a code object. Errors  CodeNotLoadable.
  virtual absl::StatusOr<CodeId> loadCode(absl::Span<const uint8_t> image) = 0;
  /// Returns a kernel of a code object. Errors  KernelMissing.
  virtual absl::StatusOr<KernelId> findKernel(CodeId code,
                                              absl::string_view symbol) = 0;
  /// Returns a kernel of Kernels.def. Errors  KernelMissing.
  virtual absl::StatusOr<KernelId> findHandTunedKernel(absl::string_view name,
                                                       int version) = 0;
  /// Returns what another kernel calls it by: the value of a SlotKernel word.
  virtual uint64_t kernelAddress(KernelId kernel) const = 0;
  /// Returns the scratch of one launch with these words; 0 for a generated
  /// kernel.
  virtual int64_t scratchBytes(KernelId kernel,
                               const uint64_t* words) const = 0;
  /// Makes room for launches with this much scratch: of every thread on cpu, of
  /// the whole launch on cuda.
  virtual absl::Status reserveScratch(int64_t sizeBytes) = 0;

  // Commands, enqueued in the order of these calls. After a command failed, the
  // later ones of its stream do nothing.
  virtual void launch(const DeviceLaunch& launch) = 0; // on the compute stream
  virtual void copy(Stream stream, void* to, const void* from,
                    int64_t sizeBytes) = 0;
  /// Repeats a 4-byte pattern.
  virtual void fill(Stream stream, void* to, uint32_t pattern,
                    int64_t sizeBytes) = 0;
  /// Calls of all streams run one at a time, in the order of these calls.
  virtual void call(Stream stream, StreamCall& work) = 0;

  /// Returns the device's own handle of a stream (a cudaStream_t), for calls
  /// that enqueue on it (CollectiveTag::stream); null where they run on the
  /// host.
  virtual void* nativeStream(Stream stream) const { return nullptr; }

  // Order between streams.
  virtual EventId createEvent() = 0;
  virtual void record(EventId event, Stream stream) = 0;
  virtual void wait(Stream stream, EventId event) = 0;

  // Graphs: commands of both streams that are enqueued again by one call.
  /// True if commands can be captured.
  virtual bool canCapture() const { return false; }

  /// From here to endCapture() commands are kept and do not run. Meanwhile
  /// nothing is allocated, released or waited for; copies take only pinned
  /// memory of the host, and events are waited for only behind a record in the
  /// same capture. The communication stream begins behind the compute stream
  /// and is joined by it at the end.
  virtual void beginCapture() {}

  /// Returns the graph. If a command could not be captured the device does not
  /// hold it, and the error is what synchronize() returns.
  virtual GraphId endCapture() { return GraphId{-1}; }

  /// Enqueues a graph on the compute stream. Its copies read what then is in
  /// memory of the host.
  virtual void replay(GraphId graph) {}

  /// False once memory that a graph may use was released or moved, or it was
  /// dropped.
  virtual bool holdsGraph(GraphId graph) const { return false; }

  virtual void dropGraph(GraphId graph) {}

  /// Waits until everything enqueued has run, and returns the first error since
  /// the last synchronize().
  virtual absl::Status synchronize() = 0;
  /// Returns the seconds that the calling thread waited for the communication
  /// stream or ran its calls itself, since creation.
  virtual double waitSeconds() const = 0;
};

struct CpuDeviceOptions {
  int numThreads = 1;
  bool pinThreads = false;
  int firstCpu = 0;
};

/// Makes the cpu device. Its compute stream is the calling thread with a thread
/// pool; its communication stream is a thread of its own, started on first use.
std::unique_ptr<Device> createCpuDevice(const CpuDeviceOptions& options);

struct CudaDeviceOptions {
  int gpu = 0; // as the CUDA library numbers them
  // Which algorithm of cuBLASLt is the fastest for which product: the file
  // where it is kept. "": for this run only.
  std::string tuningCache = {};
};

/// Makes the cuda device of one GPU.
/// Errors  DeviceUnsupported if this program has no CUDA in it, or the machine
/// no driver
///         or no GPU that fits: what is needed, what is there. OutOfMemory;
///         DeviceFailed.
absl::StatusOr<std::unique_ptr<Device>>
createCudaDevice(const CudaDeviceOptions& options);

} // namespace llmrt
