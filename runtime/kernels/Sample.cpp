// SPDX-License-Identifier: Apache-2.0
// sample: the next token of each sequence, from its logits, on the device.
//
// positions [S] are those of the rows that the logits belong to.
// Scratch  that of sampleToken().
#include "runtime/kernels/KernelArgs.h"
#include "runtime/kernels/SampleToken.h"
#include "runtime/kernels/Simd.h"

namespace llmrt::LLMRT_LEVEL {

void sample(const uint64_t* words, const LlmrtTile* tile, void* scratch) {
  const auto a = readArgs<SampleArgs>(words);
  for (int64_t s = tile->rowBegin; s < least(tile->rowEnd, a.S); ++s)
    a.out[s] =
        sampleToken({a.logits + s * a.V, a.V, a.temperature[s], a.topK[s],
                     a.topP[s], a.seed[s], a.sequenceId[s], a.positions[s]},
                    scratch);
}

} // namespace llmrt::LLMRT_LEVEL
