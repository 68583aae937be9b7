// SPDX-License-Identifier: Apache-2.0
// Which workspace formula belongs to which kernel of Kernels.def. The runtime
// reserves by it, and the compiler writes the bound into the plan.
#pragma once

#include "runtime/kernels/Scratch.h"

#include <string_view>

namespace llmrt {

/// Scratch bytes of one call by one thread with these words.
using ScratchFormula = int64_t (*)(const uint64_t* words);

/// Returns the formula of a hand-tuned kernel; always 0 for one that needs
/// none.
inline ScratchFormula scratchFormulaOf(std::string_view kernel) {
  if (kernel == "linear")
    return linearScratchBytes;
  if (kernel == "attention")
    return attentionScratchBytes;
  if (kernel == "attention_rows")
    return attentionRowsScratchBytes;
  if (kernel == "attention_gradient")
    return attentionGradientScratchBytes;
  if (kernel == "linear_input_gradient")
    return inputGradientScratchBytes;
  if (kernel == "linear_weight_gradient")
    return weightGradientScratchBytes;
  if (kernel == "rope_append")
    return ropeAppendScratchBytes;
  if (kernel == "sample")
    return sampleScratchBytes;
  return [](const uint64_t*) -> int64_t { return 0; };
}

} // namespace llmrt
