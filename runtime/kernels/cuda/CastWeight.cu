// SPDX-License-Identifier: Apache-2.0
// cast_weight on CUDA: the bf16 copy of an f32 weight, flat.
//
// Constraints  layout RowMajor.    Scratch  none.
#include "runtime/kernels/cuda/Training.cuh"

LLMRT_CUDA_ENTRY(cast_weight, 256) {
  using namespace llmrt::cuda;
  const auto& a = argsOf<llmrt::CastWeightArgs>(args);
  const int64_t begin =
      blockTile(rows, cols, rowTile, colTile).rowBegin * kFlatElements;
  const int64_t end = least(begin + kFlatElements, a.panels * a.K);
  const float* from = a.from;
  BF16* to = static_cast<BF16*>(a.to);
  walkFlat(
      begin, end, isAligned16(from) && isAligned16(to),
      [&](int64_t i) {
        float x[4];
        loadFour(from + i, x);
        *reinterpret_cast<uint2*>(to + i) =
            make_uint2(packBf16(x[0], x[1]), packBf16(x[2], x[3]));
      },
      [&](int64_t i) { narrowTo(from[i], to + i); });
}
