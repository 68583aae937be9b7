// SPDX-License-Identifier: Apache-2.0
// The table over the CUDA runtime, which is linked statically and finds the
// driver by itself: a program with it starts on machines without a GPU.
#include "runtime/comm/cuda/CudaTable.h"

#include "runtime/base/Error.h"
#include "runtime/comm/cuda/CommKernels.h"

#include <cstring>
#include <cuda_runtime_api.h>
#include <fstream>
#include <string>
#include <unistd.h>

namespace llmrt {
namespace {

cudaStream_t streamOf(void* stream) {
  return static_cast<cudaStream_t>(stream);
}

cudaEvent_t eventOf(void* event) { return static_cast<cudaEvent_t>(event); }

/// Makes `device` current for `work`, which returns a cudaError_t.
template <typename Work>
int onDevice(int device, Work work) {
  cudaError_t error = cudaSetDevice(device);
  return error == cudaSuccess ? static_cast<int>(work()) : error;
}

int streamCreate(int device, void** stream) {
  return onDevice(device, [&] {
    cudaStream_t made = nullptr;
    // Not ordered with the legacy stream, and first where streams compete.
    int lowest = 0, highest = 0;
    cudaError_t error = cudaDeviceGetStreamPriorityRange(&lowest, &highest);
    if (error == cudaSuccess)
      error =
          cudaStreamCreateWithPriority(&made, cudaStreamNonBlocking, highest);
    *stream = made;
    return error;
  });
}

int streamDestroy(int device, void* stream) {
  return onDevice(device, [&] { return cudaStreamDestroy(streamOf(stream)); });
}

int streamQuery(int device, void* stream) {
  return onDevice(device, [&] { return cudaStreamQuery(streamOf(stream)); });
}

int captureId(int device, void* stream, uint64_t* id) {
  return onDevice(device, [&] {
    cudaStreamCaptureStatus status = cudaStreamCaptureStatusNone;
    unsigned long long number = 0;
    cudaError_t error =
        cudaStreamGetCaptureInfo(streamOf(stream), &status, &number);
    *id = status == cudaStreamCaptureStatusActive ? number : 0;
    return error;
  });
}

int eventCreate(int device, void** event) {
  return onDevice(device, [&] {
    cudaEvent_t made = nullptr;
    cudaError_t error = cudaEventCreateWithFlags(&made, cudaEventDisableTiming);
    *event = made;
    return error;
  });
}

int eventDestroy(int device, void* event) {
  return onDevice(device, [&] { return cudaEventDestroy(eventOf(event)); });
}

int eventRecord(int device, void* event, void* stream) {
  return onDevice(device, [&] {
    return cudaEventRecord(eventOf(event), streamOf(stream));
  });
}

int streamWaitEvent(int device, void* stream, void* event) {
  return onDevice(device, [&] {
    return cudaStreamWaitEvent(streamOf(stream), eventOf(event), 0);
  });
}

int allocatePinned(int device, void** memory, int64_t sizeBytes) {
  return onDevice(device, [&] {
    cudaError_t error = cudaHostAlloc(
        memory, sizeBytes, cudaHostAllocPortable | cudaHostAllocMapped);
    if (error == cudaSuccess)
      std::memset(*memory, 0, sizeBytes);
    return error;
  });
}

int freePinned(int device, void* memory) {
  return onDevice(device, [&] { return cudaFreeHost(memory); });
}

int allocateDevice(int device, void** memory, int64_t sizeBytes) {
  return onDevice(device, [&] {
    cudaError_t error = cudaMalloc(memory, sizeBytes);
    if (error == cudaSuccess)
      error = cudaMemset(*memory, 0, sizeBytes);
    // The fill is asynchronous, and other streams do not wait for it.
    return error == cudaSuccess ? cudaStreamSynchronize(nullptr) : error;
  });
}

int freeDevice(int device, void* memory) {
  return onDevice(device, [&] { return cudaFree(memory); });
}

int copy(int device, void* stream, void* to, const void* from,
         int64_t sizeBytes) {
  return onDevice(device, [&] {
    return cudaMemcpyAsync(to, from, sizeBytes, cudaMemcpyDefault,
                           streamOf(stream));
  });
}

int mark(int device, void* stream, uint64_t* word, uint32_t* count,
         uint32_t number) {
  return onDevice(device,
                  [&] { return launchMark(stream, word, count, number); });
}

int addInRankOrder(int device, void* stream, void* out,
                   const void* const* blocks, int numBlocks,
                   int64_t numElements, DType dtype) {
  return onDevice(device, [&] {
    return launchAddInRankOrder(stream, out, blocks, numBlocks, numElements,
                                dtype == DType::BF16);
  });
}

/// This start of this host.
void nameHost(uint8_t (&name)[64]) {
  char text[sizeof(name)] = {};
  (void)gethostname(text, sizeof(text) / 2);
  std::ifstream boot("/proc/sys/kernel/random/boot_id");
  std::string id;
  boot >> id;
  std::strncat(text, id.c_str(), sizeof(text) - std::strlen(text) - 1);
  std::memcpy(name, text, sizeof(name));
}

int shareMemory(int device, void* memory, CudaTable::SharedMemory* shared) {
  return onDevice(device, [&] {
    *shared = {};
    nameHost(shared->host);
    shared->process = getpid();
    shared->device = device;
    shared->address = reinterpret_cast<uint64_t>(memory);
    cudaIpcMemHandle_t handle;
    static_assert(sizeof(handle) == sizeof(shared->handle));
    const cudaError_t error = cudaIpcGetMemHandle(&handle, memory);
    (void)cudaGetLastError(); // what cannot be shared is no failure of the run
    std::memcpy(shared->handle, &handle, sizeof(handle));
    return error;
  });
}

/// Memory of this process is reached by its own address, which the library
/// would not open.
cudaError_t enablePeer(int device, int peer) {
  int reaches = 0;
  cudaError_t error = cudaDeviceCanAccessPeer(&reaches, device, peer);
  if (error != cudaSuccess)
    return error;
  if (!reaches)
    return cudaErrorPeerAccessUnsupported;
  error = cudaDeviceEnablePeerAccess(peer, 0);
  if (error != cudaErrorPeerAccessAlreadyEnabled)
    return error;
  (void)cudaGetLastError();
  return cudaSuccess;
}

int openShared(int device, const CudaTable::SharedMemory* shared,
               void** memory) {
  return onDevice(device, [&] {
    uint8_t host[sizeof(shared->host)];
    nameHost(host);
    if (std::memcmp(host, shared->host, sizeof(host)) != 0)
      return cudaErrorPeerAccessUnsupported;
    if (shared->process == getpid()) {
      *memory = reinterpret_cast<void*>(shared->address);
      return shared->device == device
                 ? cudaSuccess
                 : enablePeer(device, static_cast<int>(shared->device));
    }
    cudaIpcMemHandle_t handle;
    std::memcpy(&handle, shared->handle, sizeof(handle));
    const cudaError_t error =
        cudaIpcOpenMemHandle(memory, handle, cudaIpcMemLazyEnablePeerAccess);
    (void)cudaGetLastError(); // what cannot be opened is no failure of the run
    return error;
  });
}

/// Of memory of this process there is nothing to close.
int closeShared(int device, void* memory) {
  return onDevice(device, [&] {
    const cudaError_t error = cudaIpcCloseMemHandle(memory);
    (void)cudaGetLastError();
    return error;
  });
}

int sumOverPeers(int device, void* stream, const PeerSumCall& call) {
  return onDevice(device, [&] { return launchSumOverPeers(stream, call); });
}

const char* errorText(int code) {
  return cudaGetErrorString(static_cast<cudaError_t>(code));
}

} // namespace

absl::StatusOr<CudaTable> loadCudaTable(int device) {
  int numDevices = 0;
  cudaError_t error = cudaGetDeviceCount(&numDevices);
  if (error != cudaSuccess)
    return makeError(
        ErrorCode::DeviceUnsupported,
        absl::StrCat("no GPU can be used: ", cudaGetErrorString(error)),
        "start on a host with an NVIDIA GPU and a driver for "
        "CUDA 13");
  if (device >= numDevices)
    return makeError(
        ErrorCode::DeviceUnsupported,
        absl::StrCat("GPU ", device, " is needed, this host has ", numDevices),
        "start one process for each GPU of the host");
  CudaTable table;
  table.device = device;
  table.streamCreate = streamCreate;
  table.streamDestroy = streamDestroy;
  table.streamQuery = streamQuery;
  table.captureId = captureId;
  table.eventCreate = eventCreate;
  table.eventDestroy = eventDestroy;
  table.eventRecord = eventRecord;
  table.streamWaitEvent = streamWaitEvent;
  table.allocatePinned = allocatePinned;
  table.freePinned = freePinned;
  table.allocateDevice = allocateDevice;
  table.freeDevice = freeDevice;
  table.copy = copy;
  table.mark = mark;
  table.addInRankOrder = addInRankOrder;
  table.shareMemory = shareMemory;
  table.openShared = openShared;
  table.closeShared = closeShared;
  table.sumOverPeers = sumOverPeers;
  table.errorText = errorText;
  return table;
}

} // namespace llmrt
