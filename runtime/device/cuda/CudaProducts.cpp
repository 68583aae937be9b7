// SPDX-License-Identifier: Apache-2.0
#include "runtime/device/cuda/CudaProducts.h"

#include "runtime/base/Error.h"
#include "runtime/device/cuda/CudaError.h"

namespace llmrt {

CudaProducts::CudaProducts(TuningCache cache, std::string gpu,
                           cudaStream_t stream)
    : table_(std::async(std::launch::async, findLtTable)),
      cache_(std::move(cache)), gpu_(std::move(gpu)), stream_(stream) {}

absl::StatusOr<std::unique_ptr<CudaProducts>>
CudaProducts::create(int gpu, const std::string& tuningCache,
                     cudaStream_t stream) {
  LLMRT_ASSIGN_OR_RETURN(TuningCache cache, TuningCache::open(tuningCache));
  cudaDeviceProp properties = {};
  LLMRT_RETURN_IF_ERROR(cudaStatus(cudaGetDeviceProperties(&properties, gpu),
                                   "asking for the GPU's name"));
  return std::unique_ptr<CudaProducts>(
      new CudaProducts(std::move(cache), properties.name, stream));
}

CudaProducts::~CudaProducts() {
  for (cudaEvent_t event : {begin_, end_})
    if (event)
      (void)cudaEventDestroy(event);
}

absl::StatusOr<MatrixProducts*> CudaProducts::start() {
  if (!table_.valid())
    return products_.get();
  LLMRT_ASSIGN_OR_RETURN(std::optional<LtTable> table, table_.get());
  if (!table)
    return nullptr;
  for (cudaEvent_t* event : {&begin_, &end_})
    LLMRT_RETURN_IF_ERROR(
        cudaStatus(cudaEventCreate(event), "making an event"));
  LLMRT_ASSIGN_OR_RETURN(products_,
                         MatrixProducts::create(*table, std::move(cache_),
                                                std::move(gpu_), *this));
  return products_.get();
}

absl::StatusOr<double>
CudaProducts::secondsOf(absl::FunctionRef<absl::Status()> work) {
  LLMRT_RETURN_IF_ERROR(
      cudaStatus(cudaEventRecord(begin_, stream_), "timing a product"));
  LLMRT_RETURN_IF_ERROR(work());
  LLMRT_RETURN_IF_ERROR(
      cudaStatus(cudaEventRecord(end_, stream_), "timing a product"));
  LLMRT_RETURN_IF_ERROR(
      cudaStatus(cudaEventSynchronize(end_), "timing a product"));
  float milliseconds = 0;
  LLMRT_RETURN_IF_ERROR(cudaStatus(
      cudaEventElapsedTime(&milliseconds, begin_, end_), "timing a product"));
  return milliseconds * 1e-3;
}

} // namespace llmrt
