// SPDX-License-Identifier: Apache-2.0
// What makes the random inputs of tests new ones: 0, as on every build, or the
// seed of a run on a GPU.
#pragma once

#include <cstdint>

namespace llmrt::testing {

/// Added to the seeds that tests name.
inline uint32_t& runSeed() {
  static uint32_t seed = 0;
  return seed;
}

} // namespace llmrt::testing
