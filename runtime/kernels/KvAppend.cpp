// SPDX-License-Identifier: Apache-2.0
// kv_append: writes keys or values of new tokens into their pages of the cache.
//
// Constraints  dtype f32 or bf16 (rounded to nearest even); no two rows of one
// sequence at one position; rows at position -1 write nothing.    Scratch none.
#include "runtime/kernels/CacheWrite.h"

namespace llmrt::LLMRT_LEVEL {
namespace {

template <typename T>
void append(const KvAppendArgs& a, int64_t row, int64_t rowEnd,
            int64_t headBegin, int64_t headEnd) {
  while (row < rowEnd) {
    int64_t tokens = appendRun(a.positions, row, rowEnd, a.R);
    int64_t position = a.positions[row];
    for (int64_t h = headBegin; h < headEnd && tokens > 0; ++h) {
      T* page = pageHead<T>(a.cache, a.blockTable, a.pages, row / a.R, position,
                            a.KV, a.D, h);
      const float* x = a.x + row * a.ldx + h * a.D;
      if (a.kind == 0)
        writeKeys(x, a.ldx, tokens, a.D, position % kPageTokens, page);
      else
        writeValues(x, a.ldx, tokens, a.D, position % kPageTokens, page);
    }
    row += greatest(tokens, 1);
  }
}

} // namespace

void kv_append(const uint64_t* words, const LlmrtTile* tile, void*) {
  const auto a = readArgs<KvAppendArgs>(words);
  int64_t rowEnd = least(tile->rowEnd, a.rows);
  int64_t headEnd = least(tile->colEnd, a.KV);
  if (a.dtype == static_cast<int64_t>(DType::F32))
    return append<float>(a, tile->rowBegin, rowEnd, tile->colBegin, headEnd);
  append<BF16>(a, tile->rowBegin, rowEnd, tile->colBegin, headEnd);
}

} // namespace llmrt::LLMRT_LEVEL
