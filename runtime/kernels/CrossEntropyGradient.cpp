// SPDX-License-Identifier: Apache-2.0
// cross_entropy_gradient: weight * (softmax - onehot) of each row.
//
// Constraints  out may be logits (then ldo = ldl); V <= columns <= ldo.
// Scratch  none.
#include "runtime/kernels/TrainingKernelArgs.h"
#include "runtime/kernels/VectorMath.h"

namespace llmrt::LLMRT_LEVEL {

void cross_entropy_gradient(const uint64_t* words, const LlmrtTile* tile,
                            void*) {
  const auto a = readArgs<CrossEntropyGradientArgs>(words);
  for (int64_t r = tile->rowBegin; r < least(tile->rowEnd, a.rows); ++r) {
    const float* x = a.logits + r * a.ldl;
    float* out = a.out + r * a.ldo;
    const float weight = a.weights[r];
    const int64_t end = weight == 0.0f ? 0 : a.V;
    const int64_t label = a.labels[r] - a.vocabBegin;
    const bool isHere = a.labels[r] >= 0 && label >= 0 && label < end;
    const float logit = isHere ? x[label] : 0.0f; // out may be logits
    const Vec logSum = splat(a.logSum[r]);
    int64_t c = 0;
    for (; c + kLanes <= end; c += kLanes)
      store(out + c, splat(weight) * expVec(load(x + c) - logSum));
    if (c < end) {
      float lanes[kLanes] = {};
      for (int64_t i = c; i < end; ++i)
        lanes[i - c] = x[i];
      storePart(out + c, splat(weight) * expVec(load(lanes) - logSum), end - c);
    }
    for (c = end; c < a.columns; ++c)
      out[c] = 0.0f;
    if (isHere) {
      float p[kLanes];
      store(p, expVec(splat(logit) - logSum));
      out[label] = weight * (p[0] - 1.0f);
    }
  }
}

} // namespace llmrt::LLMRT_LEVEL
