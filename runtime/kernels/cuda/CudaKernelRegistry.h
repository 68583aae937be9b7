// SPDX-License-Identifier: Apache-2.0
// The CUDA forms of the hand-tuned kernels: which there are, and how a launch
// of one looks, as pure functions of its words. Needs no CUDA: the compiler,
// the device and the tests without a GPU read it. A kernel may have several
// forms, of which a launch's number of rows and its words choose one; plans
// know only the kernel.
#pragma once

#include "runtime/kernels/KernelAbi.h"

#include "absl/status/statusor.h"

#include <memory>
#include <string>
#include <string_view>

namespace llmrt {

/// The most rows that the forms of `linear` for few rows multiply.
inline constexpr int64_t kCudaLinearFewRows = 16;

/// What a GPU has beyond the oldest one there is code for (sm_80), as far as
/// forms of kernels depend on it.
struct CudaFeatures {
  bool hasWgmma = false;       // products of warpgroups: sm_90a
  bool hasEarlyLaunch = false; // programmatic launches: sm_90 and later
};

/// The variables of the environment that take a feature away if they are "off".
inline constexpr const char* kCudaWgmmaVariable = "LLMRT_CUDA_WGMMA";
inline constexpr const char* kCudaEarlyLaunchVariable =
    "LLMRT_CUDA_EARLY_LAUNCH";

/// Returns the features of a GPU of this level (90: compute capability 9.0),
/// without those that the environment takes away.
CudaFeatures cudaFeaturesOf(int level);

/// One row of Kernels.def.
struct CudaKernelInfo {
  std::string_view name;
  int64_t version;
  int64_t rowTile; // 0: the whole extent
  int64_t colTile;
  int threads;
};

/// Returns the kernel, or null if it has no CUDA form.
const CudaKernelInfo* findCudaKernel(std::string_view name);

/// A launch: rows / rowTile x cols / colTile blocks (each rounded up; a tile of
/// 0 is the whole extent) by `parts` (gridDim.y) of them.
struct CudaLaunchShape {
  std::string file;   // the kernel's source without its ending
  std::string symbol; // in it
  int64_t rows;
  int64_t cols;
  int64_t rowTile;
  int64_t colTile;
  int parts;
  int threads;
  int64_t sharedBytes;  // dynamic
  int64_t scratchBytes; // of the whole launch
  /// Reads nothing but its words and weights, and writes nothing, before it has
  /// waited for the launch before it (griddepcontrol.wait): may be launched
  /// programmatically behind a launch that writes neither. Never true on a GPU
  /// without CudaFeatures::hasEarlyLaunch.
  bool mayBeginEarly = false;
  /// A launch that comes first, with the same words and scratch.
  std::shared_ptr<const CudaLaunchShape> before = nullptr;

  int64_t rowTiles() const {
    return rowTile > 0 ? (rows + rowTile - 1) / rowTile : 1;
  }

  int64_t colTiles() const {
    return colTile > 0 ? (cols + colTile - 1) / colTile : 1;
  }
};

/// Returns how to launch a kernel with these words on a grid of rows x cols, on
/// a GPU with these features.
/// Errors  KernelMissing for words that no form takes.
absl::StatusOr<CudaLaunchShape> cudaLaunchShape(const CudaKernelInfo& kernel,
                                                const uint64_t* words,
                                                int64_t rows, int64_t cols,
                                                CudaFeatures features = {});

/// Returns the most scratch of launches with these words and at most words[0]
/// rows.
int64_t cudaScratchBytes(std::string_view kernel, const uint64_t* words);

} // namespace llmrt
