// SPDX-License-Identifier: Apache-2.0
#include "runtime/kernels/cuda/LibraryLinear.h"

namespace llmrt {
namespace {

constexpr int64_t kScratchAlignBytes = 256;
constexpr int kThreads = 256;
constexpr int64_t kElementsPerThread = 8; // 16 bytes of bf16

// What no address can change: known when the plan is made.
bool isOfLibrary(const LinearArgs& a, int64_t rows) {
  return rows > kCudaLinearFewRows &&
         a.dtype == static_cast<int64_t>(DType::BF16) &&
         a.layout == static_cast<int64_t>(WeightLayout::RowMajor) &&
         a.K % kElementsPerThread == 0;
}

bool isAligned16(const void* address) {
  return reinterpret_cast<uintptr_t>(address) % 16 == 0;
}

} // namespace

int64_t roundedRowsBytes(const LinearArgs& a, int64_t rows) {
  const int64_t sizeBytes = rows * a.K * 2;
  return (sizeBytes + kScratchAlignBytes - 1) / kScratchAlignBytes *
         kScratchAlignBytes;
}

int64_t libraryLinearScratchBytes(const LinearArgs& a) {
  return isOfLibrary(a, a.rows)
             ? roundedRowsBytes(a, a.rows) + kCudaProductWorkspaceBytes
             : 0;
}

bool suitsLibrary(const LinearArgs& a, int64_t rows) {
  if (!isOfLibrary(a, rows) || a.prologue || !isAligned16(a.x) ||
      a.ldx % 4 != 0)
    return false;
  for (int64_t j = 0; j < a.count; ++j) {
    const auto& weight = a.weights[j];
    if (weight.epilogue || !isAligned16(weight.w) || !isAligned16(weight.y) ||
        weight.ldy % 4 != 0)
      return false;
  }
  return true;
}

CudaLaunchShape roundRowsShape(const LinearArgs& a, int64_t rows) {
  return {"LinearRound",
          "linear_round",
          rows,
          a.K,
          1,
          kThreads * kElementsPerThread,
          1,
          kThreads,
          0,
          roundedRowsBytes(a, rows)};
}

} // namespace llmrt
