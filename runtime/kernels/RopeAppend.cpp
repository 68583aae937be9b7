// SPDX-License-Identifier: Apache-2.0
// rope_append: turns queries and keys and writes keys and values to the cache,
// in one walk over the rows. The same bits as rope, rope and kv_append twice.
//
// Constraints  those of rope and kv_append; qOut may be q; k and v are not
// written. Scratch  one page of one head: kPageTokens * D f32.
#include "runtime/kernels/CacheWrite.h"
#include "runtime/kernels/RotateHead.h"

namespace llmrt::LLMRT_LEVEL {
namespace {

template <typename T>
void appendHead(const RopeAppendArgs& a, int64_t row, int64_t tokens, int64_t h,
                float* turned) {
  int64_t position = a.positions[row];
  int64_t slot = position % kPageTokens;
  for (int64_t t = 0; t < tokens; ++t)
    rotateHead(a.k + (row + t) * a.ldk + h * a.D, a.table, position + t, a.D,
               a.rotary, a.style, turned + t * a.D);
  writeKeys(turned, a.D, tokens, a.D, slot,
            pageHead<T>(a.keyCache, a.blockTable, a.pages, row / a.R, position,
                        a.KV, a.D, h));
  writeValues(a.v + row * a.ldv + h * a.D, a.ldv, tokens, a.D, slot,
              pageHead<T>(a.valueCache, a.blockTable, a.pages, row / a.R,
                          position, a.KV, a.D, h));
}

template <typename T>
void append(const RopeAppendArgs& a, int64_t row, int64_t rowEnd,
            int64_t headBegin, int64_t headEnd, float* turned) {
  while (row < rowEnd) {
    int64_t tokens = appendRun(a.positions, row, rowEnd, a.R);
    for (int64_t h = headBegin; h < headEnd && tokens > 0; ++h)
      appendHead<T>(a, row, tokens, h, turned);
    row += greatest(tokens, 1);
  }
}

} // namespace

void rope_append(const uint64_t* words, const LlmrtTile* tile, void* scratch) {
  const auto a = readArgs<RopeAppendArgs>(words);
  int64_t rowEnd = least(tile->rowEnd, a.rows);
  for (int64_t r = tile->rowBegin; r < rowEnd; ++r)
    for (int64_t h = tile->colBegin; h < least(tile->colEnd, a.H); ++h)
      rotateHead(a.q + r * a.ldq + h * a.D, a.table, a.positions[r], a.D,
                 a.rotary, a.style, a.qOut + r * a.ldo + h * a.D);
  int64_t headBegin = greatest(tile->colBegin - a.H, 0);
  int64_t headEnd = least(tile->colEnd - a.H, a.KV);
  float* turned = static_cast<float*>(scratch);
  if (a.dtype == static_cast<int64_t>(DType::F32))
    return append<float>(a, tile->rowBegin, rowEnd, headBegin, headEnd, turned);
  append<BF16>(a, tile->rowBegin, rowEnd, headBegin, headEnd, turned);
}

} // namespace llmrt::LLMRT_LEVEL
