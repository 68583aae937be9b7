// SPDX-License-Identifier: Apache-2.0
// The f32 factors of `linear` and of its gradients, rounded to bf16 (nearest
// even) into the scratch, for a library that multiplies them. A thread rounds 8
// elements. What is padding of a gradient becomes 0, so that the library's
// products are 0 there.
//
// Constraints  those of LibraryProducts.cpp.
#include "runtime/kernels/cuda/FusedProductArgs.h"
#include "runtime/kernels/cuda/RoundedFactors.h"
#include "runtime/kernels/cuda/Training.cuh"

namespace llmrt::cuda {

/// Rounds elements [col, col + 8) of a row of x [rows, ld]; those from `valid`
/// on are 0.
__device__ inline uint4 roundEight(const float* x, int64_t valid, int64_t col) {
  float first[4], second[4];
  if (col + 8 <= valid && isAligned16(x + col)) {
    widenVector(load16(x + col), x, first);
    widenVector(load16(x + col + 4), x, second);
  } else {
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      first[i] = col + i < valid ? x[col + i] : 0.0f;
      second[i] = col + 4 + i < valid ? x[col + 4 + i] : 0.0f;
    }
  }
  return make_uint4(packBf16(first[0], first[1]), packBf16(first[2], first[3]),
                    packBf16(second[0], second[1]),
                    packBf16(second[2], second[3]));
}

/// The block's part of a factor of `cols` columns, whose columns begin at
/// `begin` in the grid.
__device__ inline void roundTile(const float* x, int64_t ld, int64_t cols,
                                 int64_t valid, const LlmrtTile& tile,
                                 int64_t begin, uint8_t* to) {
  const int64_t col =
      tile.colBegin - begin + static_cast<int64_t>(threadIdx.x) * 8;
  const int64_t stride = factorStride(cols);
  if (col < stride)
    *reinterpret_cast<uint4*>(to + (tile.rowBegin * stride + col) * 2) =
        roundEight(x + tile.rowBegin * ld, valid, col);
}

} // namespace llmrt::cuda

LLMRT_CUDA_ENTRY(linear_round, 256) {
  using namespace llmrt::cuda;
  const auto& a = argsOf<llmrt::LinearArgs>(args);
  const LlmrtTile tile = blockTile(rows, cols, rowTile, colTile);
  if (tile.rowBegin < a.rows)
    roundTile(a.x, a.ldx, a.K, a.K, tile, 0, scratch);
}

LLMRT_CUDA_ENTRY(fused_linear_round, 256) {
  using namespace llmrt::cuda;
  const auto& a = argsOf<llmrt::NormedRows>(args);
  const LlmrtTile tile = blockTile(rows, cols, rowTile, colTile);
  if (tile.rowBegin < a.rows)
    roundTile(a.x, a.ldx, a.K, a.K, tile, 0, scratch);
}

LLMRT_CUDA_ENTRY(linear_input_gradient_round, 256) {
  using namespace llmrt::cuda;
  const auto& a = argsOf<llmrt::LinearInputGradientArgs>(args);
  const LlmrtTile tile = blockTile(rows, cols, rowTile, colTile);
  if (tile.rowBegin < a.rows)
    roundTile(a.dy, a.lddy, a.N, a.N, tile, 0, scratch);
}

LLMRT_CUDA_ENTRY(linear_weight_gradient_round, 256) {
  using namespace llmrt::cuda;
  const auto& a = argsOf<llmrt::LinearWeightGradientArgs>(args);
  const LlmrtTile tile = blockTile(rows, cols, rowTile, colTile);
  const int64_t begin = roundUp(a.N, colTile); // of x in the grid
  if (tile.colBegin < begin)
    roundTile(a.dy, a.lddy, a.N, least(a.validN, a.N), tile, 0, scratch);
  else
    roundTile(a.x, a.ldx, a.K, least(a.validK, a.K), tile, begin,
              scratch + llmrt::factorBytes(a.rows, a.N));
}
