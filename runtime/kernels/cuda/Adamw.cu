// SPDX-License-Identifier: Apache-2.0
// adamw on CUDA: one update of parameters and moments on flat memory, in one
// pass of 16-byte accesses. Every operation rounds once, in the order of the
// cpu kernel, so that both have the same bits.
//
// Constraints  hyper as docs/design/training.md says.    Scratch  none.
// Source  Loshchilov and Hutter 2019.
#include "runtime/kernels/cuda/Training.cuh"

namespace llmrt::cuda {
namespace {

/// One value for all elements each.
struct Step {
  float factor, kept, beta1, rest1, beta2, rest2, rate, correction2, epsilon;
};

__device__ inline Step stepOf(const AdamwArgs& a) {
  const float* h = a.hyper;
  Step s;
  s.factor = a.norm[1];
  s.kept = a.decay ? added(1.0f, -multiplied(h[0], h[4])) : 1.0f;
  s.beta1 = h[1];
  s.beta2 = h[2];
  s.rest1 = h[10] != 0.0f ? h[10] : 1.0f - h[1];
  s.rest2 = h[11] != 0.0f ? h[11] : 1.0f - h[2];
  s.rate = h[0] / h[5];
  s.correction2 = h[6];
  s.epsilon = h[3];
  return s;
}

__device__ inline void update(const Step& s, float gradient, float& param,
                              float& moment1, float& moment2) {
  const float g = multiplied(gradient, s.factor);
  moment1 = added(multiplied(s.beta1, moment1), multiplied(s.rest1, g));
  moment2 = added(multiplied(s.beta2, moment2),
                  multiplied(multiplied(s.rest2, g), g));
  const float root = sqrtf(moment2 / s.correction2);
  const float step = moment1 / added(root, s.epsilon);
  param = added(multiplied(param, s.kept), -multiplied(s.rate, step));
}

} // namespace
} // namespace llmrt::cuda

LLMRT_CUDA_ENTRY(adamw, 256) {
  using namespace llmrt::cuda;
  const auto& a = argsOf<llmrt::AdamwArgs>(args);
  if (a.norm[2] == 0.0f)
    return;
  const Step step = stepOf(a);
  const int64_t begin =
      blockTile(rows, cols, rowTile, colTile).rowBegin * kFlatElements;
  const int64_t end = least(begin + kFlatElements,
                            least(a.blocks * a.blockElements, a.elements));
  float *param = a.param, *moment1 = a.moment1, *moment2 = a.moment2;
  const float* gradient = a.gradient;
  const bool vectors = isAligned16(param) && isAligned16(moment1) &&
                       isAligned16(moment2) && isAligned16(gradient);
  walkFlat(
      begin, end, vectors,
      [&](int64_t i) {
        float p[4], g[4], m[4], v[4];
        loadFour(param + i, p);
        loadFour(gradient + i, g);
        loadFour(moment1 + i, m);
        loadFour(moment2 + i, v);
        for (int j = 0; j < 4; ++j)
          update(step, g[j], p[j], m[j], v[j]);
        storeFour(p, param + i);
        storeFour(m, moment1 + i);
        storeFour(v, moment2 + i);
      },
      [&](int64_t i) {
        update(step, gradient[i], param[i], moment1[i], moment2[i]);
      });
}
