// SPDX-License-Identifier: Apache-2.0
// zero: clears memory, in blocks so that threads share it.
//
// Constraints  none. Scratch  none.
#include "runtime/kernels/Simd.h"
#include "runtime/kernels/TrainingKernelArgs.h"

namespace llmrt::LLMRT_LEVEL {

void zero(const uint64_t* words, const LlmrtTile* tile, void*) {
  constexpr int64_t blockBytes = 4096;
  const auto a = readArgs<ZeroArgs>(words);
  const int64_t begin = tile->rowBegin * blockBytes;
  const int64_t end =
      least(least(tile->rowEnd, a.blocks) * blockBytes, a.sizeBytes);
  if (begin < end)
    __builtin_memset(static_cast<char*>(a.out) + begin, 0, end - begin);
}

} // namespace llmrt::LLMRT_LEVEL
