// SPDX-License-Identifier: Apache-2.0
// adamw: one update of parameters and moments on flat memory. Every operation
// rounds once, in the order written, so that all levels agree:
//   g = gradient * norm[1]; p = p * (1 - lr * wd)
//   m = b1 * m + (1 - b1) * g; v = b2 * v + ((1 - b2) * g) * g
//   p = p - (lr / c1) * (m / (sqrt(v / c2) + eps))
// 1 - b1 and 1 - b2 are hyper[10] and hyper[11] where these are not 0: in f32,
// 1 - 0.999 has lost four digits.
//
// Constraints  hyper as docs/design/training.md says. Scratch  none. Source
// Loshchilov and Hutter 2019.
#include "runtime/kernels/Simd.h"
#include "runtime/kernels/TrainingKernelArgs.h"

namespace llmrt::LLMRT_LEVEL {
namespace {

/// One value for all elements each.
struct Step {
  float factor, kept, beta1, rest1, beta2, rest2, rate, correction2, epsilon;
};

struct Lanes {
  Vec param, moment1, moment2;
};

LLMRT_INLINE void update(const Step& s, Vec gradient, Lanes& e) {
  Vec g = gradient * splat(s.factor);
  e.moment1 = splat(s.beta1) * e.moment1 + splat(s.rest1) * g;
  e.moment2 = splat(s.beta2) * e.moment2 + (splat(s.rest2) * g) * g;
  Vec root = squareRoot(e.moment2 / splat(s.correction2));
  Vec step = e.moment1 / (root + splat(s.epsilon));
  e.param = e.param * splat(s.kept) - splat(s.rate) * step;
}

Step stepOf(const AdamwArgs& a) {
  const float* h = a.hyper;
  Step s;
  s.factor = a.norm[1];
  s.kept = a.decay ? 1.0f - h[0] * h[4] : 1.0f;
  s.beta1 = h[1];
  s.beta2 = h[2];
  s.rest1 = h[10] != 0.0f ? h[10] : 1.0f - h[1];
  s.rest2 = h[11] != 0.0f ? h[11] : 1.0f - h[2];
  s.rate = h[0] / h[5];
  s.correction2 = h[6];
  s.epsilon = h[3];
  return s;
}

} // namespace

void adamw(const uint64_t* words, const LlmrtTile* tile, void*) {
  const auto a = readArgs<AdamwArgs>(words);
  if (a.norm[2] == 0.0f)
    return;
  const Step step = stepOf(a);
  const int64_t end =
      least(least(tile->rowEnd, a.blocks) * a.blockElements, a.elements);
  int64_t i = tile->rowBegin * a.blockElements;
  for (; i + kLanes <= end; i += kLanes) {
    Lanes e{load(a.param + i), load(a.moment1 + i), load(a.moment2 + i)};
    update(step, load(a.gradient + i), e);
    store(a.param + i, e.param);
    store(a.moment1 + i, e.moment1);
    store(a.moment2 + i, e.moment2);
  }
  for (; i < end; ++i) {
    Lanes e{splat(a.param[i]), splat(a.moment1[i]), splat(a.moment2[i])};
    update(step, splat(a.gradient[i]), e);
    storePart(a.param + i, e.param, 1);
    storePart(a.moment1 + i, e.moment1, 1);
    storePart(a.moment2 + i, e.moment2, 1);
  }
}

} // namespace llmrt::LLMRT_LEVEL
