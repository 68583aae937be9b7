// SPDX-License-Identifier: Apache-2.0
// cast_weight: the bf16 copy of an f32 weight, which the products of a step
// read. A bf16 panel is two f32 panels side by side.
//
// Constraints  panels padded as WeightLayout says; outputs that only the bf16
// panel has are zeros. Scratch  none.
#include "runtime/kernels/Simd.h"
#include "runtime/kernels/TrainingKernelArgs.h"

namespace llmrt::LLMRT_LEVEL {
namespace {

constexpr int64_t kFrom = kPanelBytes / 4;
constexpr int64_t kTo = kPanelBytes / 2;

void castLine(const float* __restrict from, int64_t count,
              BF16* __restrict to) {
  for (int64_t i = 0; i < count; ++i)
    narrowTo(from[i], to + i);
}

} // namespace

void cast_weight(const uint64_t* words, const LlmrtTile* tile, void*) {
  const auto a = readArgs<CastWeightArgs>(words);
  const int64_t end = least(tile->rowEnd, a.panels);
  BF16* to = static_cast<BF16*>(a.to);
  if (a.layout == static_cast<int64_t>(WeightLayout::RowMajor)) {
    const int64_t begin = tile->rowBegin * a.K;
    if (tile->rowBegin < end)
      castLine(a.from + begin, (end - tile->rowBegin) * a.K, to + begin);
    return;
  }
  for (int64_t panel = tile->rowBegin; panel < end; ++panel)
    for (int64_t half = 0; half < 2; ++half) {
      const int64_t source = 2 * panel + half;
      const float* from = a.from + source * a.K * kFrom;
      BF16* line = to + panel * a.K * kTo + half * kFrom;
      for (int64_t k = 0; k < a.K; ++k)
        if (source * kFrom < a.N)
          castLine(from + k * kFrom, kFrom, line + k * kTo);
        else
          __builtin_memset(line + k * kTo, 0, kFrom * sizeof(BF16));
    }
}

} // namespace llmrt::LLMRT_LEVEL
