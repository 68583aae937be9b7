// SPDX-License-Identifier: Apache-2.0
// embedding on CUDA: one block copies one row of the table, 16 bytes at a time.
//
// Constraints  dtype f32 or bf16; layout RowMajor.    Scratch  none.
#include "runtime/kernels/cuda/Cuda.cuh"

namespace llmrt::cuda {

template <typename W>
__device__ void gatherRow(const W* from, float* out, int64_t C) {
  constexpr int V = kVector<W>;
  int64_t begin = 0;
  if (isAligned16(from) && isAligned16(out)) {
    begin = C / V * V;
    for (int64_t c = threadIdx.x * V; c < begin; c += blockDim.x * V) {
      float values[V];
      widenVector(load16(from + c), from, values);
      for (int i = 0; i < V; i += 4)
        *reinterpret_cast<float4*>(out + c + i) =
            make_float4(values[i], values[i + 1], values[i + 2], values[i + 3]);
    }
  }
  for (int64_t c = begin + threadIdx.x; c < C; c += blockDim.x)
    out[c] = widen(from[c]);
}

} // namespace llmrt::cuda

LLMRT_CUDA_ENTRY(embedding, 256) {
  using namespace llmrt::cuda;
  const auto& a = argsOf<llmrt::EmbeddingArgs>(args);
  const int64_t row = blockTile(rows, cols, rowTile, colTile).rowBegin;
  if (row >= a.rows)
    return;
  const int64_t C = a.C;
  float* out = a.out + row * C;
  const int64_t id = a.ids[row] - a.vocabBegin;
  if (a.ids[row] < 0 || id < 0 || id >= a.vocabCount) {
    for (int64_t c = threadIdx.x; c < C; c += blockDim.x)
      out[c] = 0.0f;
    return;
  }
  if (isBf16(a.dtype))
    gatherRow(static_cast<const BF16*>(a.table) + id * C, out, C);
  else
    gatherRow(static_cast<const float*>(a.table) + id * C, out, C);
}
