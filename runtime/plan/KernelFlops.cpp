// SPDX-License-Identifier: Apache-2.0
#include "runtime/plan/KernelFlops.h"

#include "absl/strings/str_cat.h"

#include <algorithm>

namespace llmrt {
namespace {

/// Keys that the rows of a sequence of R rows see together: row i sees i + 1,
/// at most `window` (0: no limit).
double keysSeen(double R, double window) {
  double most = window > 0 ? std::min(window, R) : R;
  return most * (most + 1) / 2 + (R - most) * most;
}

} // namespace

double kernelFlops(absl::string_view kernel, const LaunchRows& launch,
                   absl::FunctionRef<int64_t(absl::string_view)> word) {
  auto number = [&](absl::string_view name) {
    return static_cast<double>(word(name));
  };
  double rows = static_cast<double>(launch.rows);
  if (kernel == "linear") {
    double outputs = 0;
    for (int i = 0; i < static_cast<int>(word("count")); ++i)
      outputs += number(absl::StrCat("N", i));
    return 2 * rows * number("K") * outputs;
  }
  if (kernel == "fused_linear")
    return 2 * rows * number("K") * number("N") * number("count");
  if (kernel == "linear_quantized")
    return 2 * rows * number("K") * number("N");
  if (kernel == "linear_rope_append")
    return 2 * rows * number("K") * number("D") *
           (number("H") + 2 * number("KV"));
  // Rows of its grid are activations; those of the other one are outputs.
  if (kernel == "linear_input_gradient")
    return 2 * rows * number("N") * number("K");
  if (kernel == "linear_weight_gradient")
    return 2 * number("rows") * number("N") * number("K");
  // Two products, queries by keys and weights by values.
  if (kernel == "attention")
    return 4 * rows * number("H") * number("D") *
           static_cast<double>(launch.cacheTokens);
  if (kernel == "attention_rows")
    return 4 * rows / number("R") * keysSeen(number("R"), number("window")) *
           number("H") * number("D");
  // Five: scores again, and the gradients of weights, values, queries, keys.
  // Rows of its grid are sequences.
  if (kernel == "attention_gradient")
    return 10 * rows * keysSeen(number("R"), number("window")) * number("H") *
           number("D");
  return 0;
}

} // namespace llmrt
