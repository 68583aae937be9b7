// SPDX-License-Identifier: Apache-2.0
// Writes heads into a page of a key/value cache: the step that `kv_append` and
// `rope_append` share. For kernel sources only.
#pragma once

#include "runtime/kernels/KernelArgs.h"
#include "runtime/kernels/Simd.h"

namespace llmrt::LLMRT_LEVEL {

/// Returns where the page of `position` begins, for one key/value head.
template <typename T>
inline T* pageHead(const void* cache, const int32_t* blockTable, int64_t pages,
                   int64_t sequence, int64_t position, int64_t KV, int64_t D,
                   int64_t head) {
  int64_t page = blockTable[sequence * pages + position / kPageTokens];
  return static_cast<T*>(const_cast<void*>(cache)) +
         (page * KV + head) * kPageTokens * D;
}

/// Returns how many rows from `row` on lie one position after the other in one
/// page of one sequence; 0 if the row is without work.
inline int64_t appendRun(const int32_t* positions, int64_t row, int64_t rowEnd,
                         int64_t R) {
  if (positions[row] < 0)
    return 0;
  int64_t room = kPageTokens - positions[row] % kPageTokens;
  int64_t limit = least(row + room, least(rowEnd, (row / R + 1) * R));
  int64_t next = row + 1;
  while (next < limit && positions[next] == positions[next - 1] + 1)
    ++next;
  return next - row;
}

/// Keys lie transposed, [D, kPageTokens]: writes several tokens for each
/// element of D.
template <typename T>
inline void writeKeys(const float* x, int64_t ldx, int64_t tokens, int64_t D,
                      int64_t slot, T* page) {
  for (int64_t d = 0; d < D; ++d)
    for (int64_t t = 0; t < tokens; ++t)
      narrowTo(x[t * ldx + d], page + d * kPageTokens + slot + t);
}

template <typename T>
inline void writeValues(const float* x, int64_t ldx, int64_t tokens, int64_t D,
                        int64_t slot, T* page) {
  for (int64_t t = 0; t < tokens; ++t)
    for (int64_t d = 0; d < D; ++d)
      narrowTo(x[t * ldx + d], page + (slot + t) * D + d);
}

} // namespace llmrt::LLMRT_LEVEL
