// SPDX-License-Identifier: Apache-2.0
// add_to on CUDA: out += x on flat f32 memory, kCudaFlatElements a block.
//
// Constraints  x and out do not overlap.    Scratch  none.
#include "runtime/kernels/cuda/Training.cuh"

LLMRT_CUDA_ENTRY(add_to, 256) {
  using namespace llmrt::cuda;
  constexpr int64_t blockElements = 1024;
  const auto& a = argsOf<llmrt::AddToArgs>(args);
  const LlmrtTile tile = blockTile(rows, cols, rowTile, colTile);
  const int64_t end =
      least(least(tile.rowEnd, a.blocks) * blockElements, a.elements);
  float* out = a.out;
  const float* x = a.x;
  walkFlat(
      tile.rowBegin * blockElements, end, isAligned16(out) && isAligned16(x),
      [&](int64_t i) {
        float sum[4], more[4];
        loadFour(out + i, sum);
        loadFour(x + i, more);
        for (int j = 0; j < 4; ++j)
          sum[j] += more[j];
        storeFour(sum, out + i);
      },
      [&](int64_t i) { out[i] += x[i]; });
}
