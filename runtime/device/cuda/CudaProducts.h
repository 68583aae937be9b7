// SPDX-License-Identifier: Apache-2.0
// Private to the cuda device: cuBLASLt on its compute stream, if it is there.
#pragma once

#include "runtime/device/cublaslt/LibraryLaunch.h"

#include <cuda_runtime_api.h>
#include <future>
#include <memory>

namespace llmrt {

class CudaProducts final : private StreamTimer {
public:
  /// Begins to load the library beside the calling thread: it is large. Errors
  /// those of TuningCache::open().
  static absl::StatusOr<std::unique_ptr<CudaProducts>>
  create(int gpu, const std::string& tuningCache, cudaStream_t stream);
  ~CudaProducts() override;

  /// Algorithms are not timed while commands are captured.
  void setCapturing(bool isCapturing) { isCapturing_ = isCapturing; }

  /// Returns the library's products; null if it is not used. Errors  those of
  /// findLtTable() and LtTable::toStatus().
  absl::StatusOr<MatrixProducts*> start();

private:
  CudaProducts(TuningCache cache, std::string gpu, cudaStream_t stream);

  bool canMeasure() const override { return !isCapturing_; }

  absl::StatusOr<double>
  secondsOf(absl::FunctionRef<absl::Status()> work) override;

  std::future<absl::StatusOr<std::optional<LtTable>>> table_; // until start()
  TuningCache cache_;                                         // until start()
  std::string gpu_;                                           // until start()
  cudaStream_t stream_;
  cudaEvent_t begin_ = nullptr, end_ = nullptr;
  bool isCapturing_ = false;
  std::unique_ptr<MatrixProducts> products_;
};

} // namespace llmrt
