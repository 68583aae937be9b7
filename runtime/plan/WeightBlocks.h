// SPDX-License-Identifier: Apache-2.0
// Layouts of parameters that are rows of blocks: elements that share a factor.
#pragma once

#include "runtime/plan/plan_generated.h"

namespace llmrt {

inline bool isLayoutOfBlocks(fb::WeightLayout layout) {
  return layout == fb::WeightLayout::Q8_0 || layout == fb::WeightLayout::Q4_0;
}

} // namespace llmrt
