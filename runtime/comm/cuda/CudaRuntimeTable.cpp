// SPDX-License-Identifier: Apache-2.0
// The table over the CUDA runtime, which is linked statically and finds the
// driver by itself: a program with it starts on machines without a GPU.
#include "runtime/comm/cuda/CudaTable.h"

#include "runtime/base/Error.h"
#include "runtime/comm/cuda/CommKernels.h"

#include <cstring>
#include <cuda_runtime_api.h>

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
  table.errorText = errorText;
  return table;
}

} // namespace llmrt
