// SPDX-License-Identifier: Apache-2.0
// cross_entropy_gradient on CUDA: one block writes weight * (softmax - onehot)
// of one row. A thread reads its columns before it writes them, so out may be
// logits.
//
// Constraints  out may be logits (then ldo = ldl); V <= columns <= ldo.
// Scratch  none.
#include "runtime/kernels/cuda/Training.cuh"

LLMRT_CUDA_ENTRY(cross_entropy_gradient, 256) {
  using namespace llmrt::cuda;
  const auto& a = argsOf<llmrt::CrossEntropyGradientArgs>(args);
  const int64_t row = blockTile(rows, cols, rowTile, colTile).rowBegin;
  if (row >= a.rows)
    return;
  const float* x = a.logits + row * a.ldl;
  float* out = a.out + row * a.ldo;
  const float weight = a.weights[row], logSum = a.logSum[row];
  const int64_t end = weight == 0.0f ? 0 : a.V;
  // Labels below 0 are no column.
  const int64_t label = a.labels[row] < 0 ? -1 : a.labels[row] - a.vocabBegin;
  auto gradient = [&](float logit, int64_t c) {
    return weight * (expOf(logit - logSum) - (c == label ? 1.0f : 0.0f));
  };
  walkFlat(
      0, end, isAligned16(x) && isAligned16(out),
      [&](int64_t c) {
        float four[4];
        loadFour(x + c, four);
#pragma unroll
        for (int j = 0; j < 4; ++j)
          four[j] = gradient(four[j], c + j);
        storeFour(four, out + c);
      },
      [&](int64_t c) { out[c] = gradient(x[c], c); });
  for (int64_t c = end + threadIdx.x; c < a.columns; c += blockDim.x)
    out[c] = 0.0f;
}
