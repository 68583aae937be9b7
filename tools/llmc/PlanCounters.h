// SPDX-License-Identifier: Apache-2.0
// The static counters of a plan under stable names, and what each consists of.
// diff and check compare them; inspect prints them. Measured numbers are not
// here (llmrt bench).
//
//   plan_bytes, code_bytes, kernels, parameters
//   memory_bytes.total             arena of one rank, the largest of all stages
//   memory_bytes.CLASS             of one rank, the largest of all stages
//   entries.ENTRY.launches, .flops, .touched_bytes, .sent_bytes.AXIS
//                                  of one rank of each stage, added over stages
#pragma once

#include "tools/llmc/PlanReport.h"

#include <cstdint>
#include <map>
#include <string>
#include <vector>

namespace llmc {

/// Amounts by what they belong to: "linear for layers.*/layer.mlp.up_proj".
using Contributors = std::map<std::string, int64_t>;

struct Counter {
  std::string name;
  int64_t value = 0;
  Contributors contributors;
};

/// All counters, in the order of the list above.
std::vector<Counter> countPlan(const OpenPlan& open);

/// True if a counter is a number of bytes.
bool isBytes(absl::string_view counterName);

/// "1536 (1.5 KiB)" or "151".
std::string amountText(absl::string_view counterName, int64_t amount);

/// "+512 (+0.5 KiB, +50.0 %)".
std::string changeText(absl::string_view counterName, int64_t before,
                       int64_t after);

/// One line for each contributor that changed, the largest first, at most
/// `mostLines` of them.
std::vector<std::string> changesOf(absl::string_view counterName,
                                   const Contributors& before,
                                   const Contributors& after, size_t mostLines);

/// One line for each of the largest contributors.
std::vector<std::string> largestOf(const Counter& counter, size_t mostLines);

} // namespace llmc
