// SPDX-License-Identifier: Apache-2.0
// Private to the cuda device: loaded code, and how each launch of a plan looks.
// A launch is worked out once and found again by its argument block.
#pragma once

#include "runtime/device/Device.h"
#include "runtime/kernels/cuda/CudaKernelRegistry.h"

#include <cuda_runtime_api.h>
#include <map>
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

namespace llmrt {

/// Everything about a launch but its arguments.
struct PreparedLaunch {
  cudaKernel_t kernel;
  int64_t rows; // the grid's, as kernels see it
  int64_t cols;
  int64_t rowTile;
  int64_t colTile;
  dim3 grid;
  int threads;
  int64_t sharedBytes;
  bool mayBeginEarly;                                     // CudaLaunchShape
  std::shared_ptr<const PreparedLaunch> before = nullptr; // comes first
};

class CudaKernels {
public:
  CudaKernels(int gpu, int level)
      : gpu_(gpu), level_(level), features_(cudaFeaturesOf(level)) {}

  CudaKernels(const CudaKernels&) = delete;
  CudaKernels& operator=(const CudaKernels&) = delete;
  ~CudaKernels();

  // As in Device.
  absl::StatusOr<CodeId> loadCode(absl::Span<const uint8_t> image);
  absl::StatusOr<KernelId> findKernel(CodeId code, absl::string_view symbol);
  absl::StatusOr<KernelId> findHandTunedKernel(absl::string_view name,
                                               int version);
  int64_t scratchBytes(KernelId kernel, const uint64_t* words) const;

  /// Returns a hand-tuned kernel's row of Kernels.def; null for a generated
  /// one.
  const CudaKernelInfo* infoOf(KernelId kernel) const {
    return kernels_[static_cast<int>(kernel)].info;
  }

  /// Returns how to launch a form.
  absl::StatusOr<PreparedLaunch> prepareForm(const CudaLaunchShape& shape);

  /// Returns how to launch. Valid until the next call.
  absl::StatusOr<const PreparedLaunch*> prepare(const DeviceLaunch& launch);

  /// Forgets launches: argument blocks are about to go.
  void forgetLaunches() { launches_.clear(); }

private:
  struct Kernel {
    cudaKernel_t function;      // generated; else null
    const CudaKernelInfo* info; // hand-tuned; else null
  };

  struct KnownLaunch {
    int64_t rows; // that were asked for
    int64_t cols;
    PreparedLaunch launch;
  };

  absl::StatusOr<cudaKernel_t> findForm(const CudaLaunchShape& shape);
  absl::StatusOr<PreparedLaunch> prepareHandTuned(const CudaKernelInfo& info,
                                                  const DeviceLaunch& launch);
  static absl::StatusOr<PreparedLaunch>
  prepareGenerated(cudaKernel_t function, const DeviceLaunch& launch);

  int gpu_;
  int level_;
  CudaFeatures features_;
  std::vector<cudaLibrary_t>
      libraries_;               // by CodeId, and those of hand-tuned kernels
  std::vector<Kernel> kernels_; // by KernelId
  std::map<std::string, cudaLibrary_t, std::less<>>
      files_; // of hand-tuned kernels
  std::map<std::string, cudaKernel_t, std::less<>> forms_;
  std::unordered_map<const uint64_t*, KnownLaunch> launches_;
};

} // namespace llmrt
