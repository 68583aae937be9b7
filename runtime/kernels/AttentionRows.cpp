// SPDX-License-Identifier: Apache-2.0
// attention_rows: first version, plain loops. Scratch  none.
#include "runtime/kernels/Simd.h"
#include "runtime/kernels/TrainingKernelArgs.h"

namespace llmrt::LLMRT_LEVEL {
void attention_rows(const uint64_t* words, const LlmrtTile* tile, void*) {
  const auto a = readArgs<AttentionRowsArgs>(words);
  const bool narrow = a.dtype != static_cast<int64_t>(DType::F32);
  auto rounded = [&](float x) {
    BF16 b;
    narrowTo(x, &b);
    return narrow ? widen(b) : x;
  };
  for (int64_t r = tile->rowBegin; r < least(tile->rowEnd, a.rows); ++r)
    for (int64_t h = tile->colBegin; h < least(tile->colEnd, a.H); ++h) {
      int64_t base = r / a.R * a.R,
              kv = least((h + a.headOffset) / a.group, a.KV - 1);
      int64_t first = base + (a.starts ? a.starts[r] : 0);
      if (a.window > 0)
        first = greatest(first, r - a.window + 1);
      auto score = [&](int64_t t) {
        float sum = 0.0f;
        for (int64_t d = 0; d < a.D; ++d)
          sum += a.q[r * a.ldq + h * a.D + d] *
                 rounded(a.k[t * a.ldk + kv * a.D + d]);
        sum *= static_cast<float>(a.scale);
        if (a.softcap != 0)
          sum = static_cast<float>(a.softcap * __builtin_tanh(sum / a.softcap));
        return sum;
      };
      float m = -__builtin_inff();
      for (int64_t t = first; t <= r; ++t)
        if (score(t) > m)
          m = score(t);
      float* out = a.out + r * a.ldo + h * a.D;
      for (int64_t d = 0; d < a.D; ++d)
        out[d] = 0;
      double l = 0;
      for (int64_t t = first; t <= r; ++t) {
        float p = static_cast<float>(__builtin_exp(score(t) - m));
        l += p;
        for (int64_t d = 0; d < a.D; ++d)
          out[d] += p * rounded(a.v[t * a.ldv + kv * a.D + d]);
      }
      for (int64_t d = 0; d < a.D; ++d)
        out[d] /= static_cast<float>(l);
      a.logSum[r * a.H + h] = static_cast<float>(m + __builtin_log(l));
    }
}

} // namespace llmrt::LLMRT_LEVEL
