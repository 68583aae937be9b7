// SPDX-License-Identifier: Apache-2.0
// llmc check: the static counters of a plan against a budget file. What grew is
// named, with what it consists of; --update writes the budget that the plan
// meets exactly.
#include "runtime/base/Error.h"
#include "runtime/io/OutputPaths.h"
#include "tools/llmc/Budget.h"
#include "tools/llmc/Commands.h"

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"

namespace llmc {
namespace {

using llmrt::ErrorCode;
using llmrt::makeError;

constexpr size_t kMostReasons = 8;

struct Verdict {
  std::string text;
  std::vector<std::string> grown;
};

std::string explainGrowth(const Counter& counter, const Budget& budget,
                          int64_t limit) {
  std::string text =
      absl::StrCat(counter.name, ": ", amountText(counter.name, counter.value),
                   ", budget ", amountText(counter.name, limit), "  ",
                   changeText(counter.name, limit, counter.value), "\n");
  auto before = budget.contributors.find(counter.name);
  std::vector<std::string> reasons;
  if (before != budget.contributors.end())
    reasons = changesOf(counter.name, before->second, counter.contributors,
                        kMostReasons);
  if (!reasons.empty()) {
    text += "  since the budget was written:\n";
  } else {
    reasons = largestOf(counter, kMostReasons);
    text += "  consists mostly of:\n";
  }
  for (const std::string& reason : reasons)
    absl::StrAppend(&text, "    ", reason, "\n");
  return text;
}

Verdict judge(const std::vector<Counter>& counters, const Budget& budget) {
  Verdict verdict;
  const Counter* closest = nullptr;
  double closestShare = -1;
  for (const Counter& counter : counters) {
    auto limit = budget.limits.find(counter.name);
    if (limit == budget.limits.end())
      continue;
    if (counter.value > limit->second) {
      verdict.grown.push_back(
          absl::StrCat(counter.name, " by ",
                       changeText(counter.name, limit->second, counter.value)));
      verdict.text += explainGrowth(counter, budget, limit->second);
      continue;
    }
    double share = limit->second == 0
                       ? 0
                       : static_cast<double>(counter.value) / limit->second;
    if (share > closestShare) {
      closestShare = share;
      closest = &counter;
    }
  }
  absl::StrAppend(&verdict.text, budget.limits.size() - verdict.grown.size(),
                  " of ", budget.limits.size(), " counters within budget");
  if (verdict.grown.empty() && closest)
    absl::StrAppendFormat(&verdict.text, "; closest: %s at %.1f %%",
                          closest->name, 100 * closestShare);
  verdict.text += "\n";
  return verdict;
}

absl::StatusOr<std::string> readText(const std::string& path) {
  LLMRT_ASSIGN_OR_RETURN(auto file, llmrt::MappedFile::open(path));
  return std::string(file.bytes().begin(), file.bytes().end());
}

} // namespace

int runCheck(const CommandLine& line) {
  if (line.positional.size() != 1 || line.budget.empty())
    return fail(makeError(ErrorCode::BadOptionValue,
                          "llmc check needs one plan and --budget",
                          "as in llmc check plan.fb --budget=budget.json"),
                kTrouble);
  auto open = OpenPlan::open(line.positional.front());
  if (!open.ok())
    return fail(open.status(), kTrouble);
  std::vector<Counter> counters = countPlan(*open);
  if (line.updateBudget) {
    absl::Status paths =
        llmrt::checkOutputPaths({{"--budget", line.budget}}, line.positional);
    if (!paths.ok())
      return fail(paths, kTrouble);
    absl::Status written = writeResult(line.budget, writeBudget(counters));
    return written.ok() ? 0 : fail(written, kTrouble);
  }
  auto text = readText(line.budget);
  if (!text.ok())
    return fail(text.status(), kTrouble);
  auto budget = parseBudget(*text, line.budget, counters);
  if (!budget.ok())
    return fail(budget.status(), kTrouble);
  if (budget->limits.empty())
    return fail(makeError(ErrorCode::BudgetMalformed,
                          absl::StrCat(line.budget, ": it limits nothing"),
                          "write one with --update"),
                kTrouble);
  Verdict verdict = judge(counters, *budget);
  absl::Status written = writeResult("", verdict.text);
  if (!written.ok())
    return fail(written, kTrouble);
  if (verdict.grown.empty())
    return 0;
  return fail(
      makeError(ErrorCode::BudgetExceeded,
                absl::StrCat(line.positional.front(), " exceeds ", line.budget,
                             ": ", absl::StrJoin(verdict.grown, ", ")),
                "make the plan smaller, or accept it with --update"));
}

} // namespace llmc
