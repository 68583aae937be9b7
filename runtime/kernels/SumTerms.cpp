// SPDX-License-Identifier: Apache-2.0
// sum_terms: a sum of doubles by a fixed tree, for the norm.
//
// Constraints  count < 2^62. Scratch  none.
#include "runtime/kernels/SumTree.h"
#include "runtime/kernels/TrainingKernelArgs.h"

namespace llmrt::LLMRT_LEVEL {

void sum_terms(const uint64_t* words, const LlmrtTile* tile, void*) {
  const auto a = readArgs<SumTermsArgs>(words);
  if (tile->rowBegin == 0)
    a.out[a.index] = sumTree(a.terms, a.count);
}

} // namespace llmrt::LLMRT_LEVEL
