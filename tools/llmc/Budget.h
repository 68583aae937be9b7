// SPDX-License-Identifier: Apache-2.0
// A budget file: the most that some counters of a plan may be, and (optional,
// written by `llmc check --update`) what they consisted of then.
// docs/reference/llmc.md has the format; every number is optional.
//
//   { "plan_bytes": 160000,
//     "memory_bytes": { "total": 1732608, "caches": 1048576 },
//     "entries": { "decode": { "launches": 35, "sent_bytes": { "tp": 2560 } }
//     }, "contributors": { "entries.decode.launches": { "linear for ...": 4 } }
//     }
#pragma once

#include "tools/llmc/PlanCounters.h"

#include "absl/status/statusor.h"

#include <map>
#include <string>

namespace llmc {

struct Budget {
  /// Limits by counter name.
  std::map<std::string, int64_t> limits;
  /// What counters consisted of when the budget was written; may be empty.
  std::map<std::string, Contributors> contributors;
};

/// Reads a budget for a plan that has `counters`. `path` is for messages.
/// Errors  BudgetMalformed (not JSON, unknown key, not a whole number; names
/// the key),
///         BudgetOfAnotherPlan (an entry or axis that the plan lacks).
absl::StatusOr<Budget> parseBudget(absl::string_view text,
                                   const std::string& path,
                                   const std::vector<Counter>& counters);

/// The budget that the plan meets exactly.
std::string writeBudget(const std::vector<Counter>& counters);

} // namespace llmc
