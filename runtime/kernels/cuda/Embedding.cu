// SPDX-License-Identifier: Apache-2.0
// embedding on CUDA: one block copies one row of the table, 16 bytes at a time
// (of blocks an element a thread).
//
// Constraints  dtype f32, bf16 or q8_0 (WeightFormat); layout RowMajor; blocks:
// C a multiple of 32.    Scratch  none.
#include "runtime/kernels/cuda/Cuda.cuh"
#include "runtime/kernels/cuda/FusedProductArgs.h"

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

/// Row `id` of a table of numRows rows in q8_0.
__device__ inline void gatherBlocks(const void* table, int64_t id,
                                    int64_t numRows, float* out, int64_t C) {
  const auto* elements = static_cast<const int8_t*>(table);
  const auto* factors =
      reinterpret_cast<const uint16_t*>(elements + numRows * C);
  for (int64_t e = id * C + threadIdx.x; e < (id + 1) * C; e += blockDim.x)
    out[e - id * C] = static_cast<float>(elements[e]) *
                      floatOfHalf(factors[e / kBlockElements]);
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
  if (a.dtype == static_cast<int64_t>(llmrt::WeightFormat::Q8_0))
    gatherBlocks(a.table, id, a.vocabCount, out, C);
  else if (isBf16(a.dtype))
    gatherRow(static_cast<const BF16*>(a.table) + id * C, out, C);
  else
    gatherRow(static_cast<const float*>(a.table) + id * C, out, C);
}
