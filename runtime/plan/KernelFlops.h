// SPDX-License-Identifier: Apache-2.0
// FLOPs of one launch of a hand-tuned kernel, from its argument words: the only
// place where work is counted, for the cost table that the compiler writes and
// for the tools that read a plan.
#pragma once

#include "absl/functional/function_ref.h"
#include "absl/strings/string_view.h"

#include <cstdint>

namespace llmrt {

/// The block of rows that a launch runs over.
struct LaunchRows {
  int64_t rows = 0;        // of the grid, all of them valid
  int64_t cacheTokens = 0; // of one sequence's cache; the cache is full
};

/// Multiplications and additions of a matrix product or of attention; 0 for
/// every other kernel. `word` gives an integer argument by its name in
/// Kernels.def. Attention counts the keys that a row sees: the whole cache, or
/// in training those of a sequence that is one document.
double kernelFlops(absl::string_view kernel, const LaunchRows& launch,
                   absl::FunctionRef<int64_t(absl::string_view)> word);

} // namespace llmrt
