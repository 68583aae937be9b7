// SPDX-License-Identifier: Apache-2.0
// attention_gradient: first version, plain loops. Scratch  none.
#include "runtime/kernels/Simd.h"
#include "runtime/kernels/TrainingKernelArgs.h"

namespace llmrt::LLMRT_LEVEL {
void attention_gradient(const uint64_t* words, const LlmrtTile* tile, void*) {
  const auto a = readArgs<AttentionGradientArgs>(words);
  const bool narrow = a.dtype != static_cast<int64_t>(DType::F32);
  auto rounded = [&](float x) {
    BF16 b;
    narrowTo(x, &b);
    return narrow ? widen(b) : x;
  };
  for (int64_t s = tile->rowBegin; s < least(tile->rowEnd, a.sequences); ++s)
    for (int64_t kv = tile->colBegin; kv < least(tile->colEnd, a.KV); ++kv) {
      const int64_t base = s * a.R;
      for (int64_t r = base; r < base + a.R; ++r)
        for (int64_t d = 0; d < a.D; ++d)
          a.dk[r * a.lddk + kv * a.D + d] = a.dv[r * a.lddv + kv * a.D + d] = 0;
      for (int64_t h = 0; h < a.H; ++h) {
        if (least((h + a.headOffset) / a.group, a.KV - 1) != kv)
          continue;
        for (int64_t r = base; r < base + a.R; ++r) {
          const float* q = a.q + r * a.ldq + h * a.D;
          const float* dout = a.dout + r * a.lddo + h * a.D;
          float* dq = a.dq + r * a.lddq + h * a.D;
          float delta = 0;
          for (int64_t d = 0; d < a.D; ++d) {
            dq[d] = 0;
            delta += dout[d] * a.out[r * a.ldo + h * a.D + d];
          }
          int64_t first = base + (a.starts ? a.starts[r] : 0);
          if (a.window > 0)
            first = greatest(first, r - a.window + 1);
          for (int64_t t = first; t <= r; ++t) {
            const float* k = a.k + t * a.ldk + kv * a.D;
            const float* v = a.v + t * a.ldv + kv * a.D;
            float x = 0, dp = 0;
            for (int64_t d = 0; d < a.D; ++d) {
              x += q[d] * rounded(k[d]);
              dp += dout[d] * rounded(v[d]);
            }
            x *= static_cast<float>(a.scale);
            float slope = 1;
            if (a.softcap != 0) {
              float turned = static_cast<float>(__builtin_tanh(x / a.softcap));
              slope = 1 - turned * turned;
              x = static_cast<float>(a.softcap) * turned;
            }
            float p =
                static_cast<float>(__builtin_exp(x - a.logSum[r * a.H + h]));
            float ds = p * (dp - delta) * slope * static_cast<float>(a.scale);
            for (int64_t d = 0; d < a.D; ++d) {
              dq[d] += ds * rounded(k[d]);
              a.dk[t * a.lddk + kv * a.D + d] += ds * q[d];
              a.dv[t * a.lddv + kv * a.D + d] += p * dout[d];
            }
          }
        }
      }
    }
}

} // namespace llmrt::LLMRT_LEVEL
