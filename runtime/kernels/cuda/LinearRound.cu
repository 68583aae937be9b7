// SPDX-License-Identifier: Apache-2.0
// The x of `linear`, rounded to bf16 (nearest even) into the scratch as
// [rows, K], for a library that multiplies it. A thread rounds 8 elements.
//
// Constraints  K % 8 == 0; x and its rows at multiples of 16 bytes.
#include "runtime/kernels/cuda/Cuda.cuh"

LLMRT_CUDA_ENTRY(linear_round, 256) {
  using namespace llmrt::cuda;
  const auto& a = argsOf<llmrt::LinearArgs>(args);
  const LlmrtTile tile = blockTile(rows, cols, rowTile, colTile);
  const int64_t row = tile.rowBegin;
  const int64_t k = tile.colBegin + static_cast<int64_t>(threadIdx.x) * 8;
  if (row >= a.rows || k >= a.K)
    return;
  const float* x = a.x + row * a.ldx + k;
  float first[4], second[4];
  widenVector(load16(x), x, first);
  widenVector(load16(x + 4), x, second);
  *reinterpret_cast<uint4*>(scratch + (row * a.K + k) * 2) = make_uint4(
      packBf16(first[0], first[1]), packBf16(first[2], first[3]),
      packBf16(second[0], second[1]), packBf16(second[2], second[3]));
}
