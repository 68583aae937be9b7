// SPDX-License-Identifier: Apache-2.0
// rope_table on CUDA: one block fills one position, in double, rounded once.
//
// Constraints  rotary even; kind 0 plain, 1 linear, 2 llama3.    Scratch  none.
// Source  Su et al. 2021 (RoFormer); Llama 3.1's scaling of low frequencies.
#include "runtime/kernels/cuda/Cuda.cuh"

namespace llmrt::cuda {

// Returns the angle between two neighbouring positions for pair i.
__device__ double frequency(const RopeTableArgs& a, int64_t i) {
  const double plain = pow(a.theta, -2.0 * static_cast<double>(i) /
                                        static_cast<double>(a.rotary));
  if (a.kind == 0)
    return plain;
  if (a.kind == 1)
    return plain / a.factor;
  const double turns = a.originalContext * plain / 6.283185307179586476925;
  if (turns < a.lowFreqFactor)
    return plain / a.factor;
  if (turns > a.highFreqFactor)
    return plain;
  const double smooth =
      (turns - a.lowFreqFactor) / (a.highFreqFactor - a.lowFreqFactor);
  return (1.0 - smooth) * plain / a.factor + smooth * plain;
}

} // namespace llmrt::cuda

LLMRT_CUDA_ENTRY(rope_table, 128) {
  using namespace llmrt::cuda;
  const auto& a = argsOf<llmrt::RopeTableArgs>(args);
  const int64_t position = blockTile(rows, cols, rowTile, colTile).rowBegin;
  if (position >= a.positions)
    return;
  const int64_t half = a.rotary / 2;
  float* out = a.table + position * 2 * half;
  for (int64_t i = threadIdx.x; i < half; i += blockDim.x) {
    const double angle = static_cast<double>(position) * frequency(a, i);
    out[i] = static_cast<float>(cos(angle));
    out[half + i] = static_cast<float>(sin(angle));
  }
}
