// SPDX-License-Identifier: Apache-2.0
// llmc diff: what changed from one plan to another, in numbers and in what they
// consist of. Plans that count the same but are not the same bytes differ too:
// the first line of their disassemblies that differs is shown.
#include "runtime/base/Error.h"
#include "tools/llmc/Commands.h"
#include "tools/llmc/PlanCounters.h"
#include "tools/llmc/PlanViews.h"

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_split.h"

#include <algorithm>
#include <map>

namespace llmc {
namespace {

constexpr size_t kMostReasons = 12;

/// What the plans are for, where it differs.
std::string describeSettings(const fb::Plan& a, const fb::Plan& b) {
  std::string text;
  auto compare = [&](const char* name, const std::string& before,
                     const std::string& after) {
    if (before != after)
      absl::StrAppend(&text, name, ": ", before, " -> ", after, "\n");
  };
  compare("producer", textOf(a.producer()), textOf(b.producer()));
  compare("mode", textOf(a.mode()), textOf(b.mode()));
  compare("target", textOf(a.target()), textOf(b.target()));
  compare("mesh", meshText(a), meshText(b));
  compare("options", textOf(a.options()), textOf(b.options()));
  return text;
}

std::string compareCounters(const std::vector<Counter>& before,
                            const std::vector<Counter>& after) {
  std::map<std::string, std::pair<const Counter*, const Counter*>> byName;
  std::vector<std::string> order;
  static const Counter kNone;
  auto add = [&](const std::vector<Counter>& counters, bool isAfter) {
    for (const Counter& counter : counters) {
      auto [found, isNew] =
          byName.try_emplace(counter.name, std::pair{&kNone, &kNone});
      (isAfter ? found->second.second : found->second.first) = &counter;
      if (isNew)
        order.push_back(counter.name);
    }
  };
  add(before, false);
  add(after, true);
  std::string text;
  for (const std::string& name : order) {
    auto [a, b] = byName[name];
    std::vector<std::string> reasons =
        changesOf(name, a->contributors, b->contributors, kMostReasons);
    if (a->value == b->value && reasons.empty())
      continue;
    absl::StrAppend(&text, name, ": ", amountText(name, a->value), " -> ",
                    amountText(name, b->value), "  ",
                    changeText(name, a->value, b->value), "\n");
    for (const std::string& reason : reasons)
      absl::StrAppend(&text, "    ", reason, "\n");
  }
  return text;
}

std::string firstDifferentLine(const fb::Plan& a, const fb::Plan& b) {
  std::string textA = disassemble(a), textB = disassemble(b);
  std::vector<absl::string_view> linesA = absl::StrSplit(textA, '\n'),
                                 linesB = absl::StrSplit(textB, '\n');
  auto [lineA, lineB] =
      std::mismatch(linesA.begin(), linesA.end(), linesB.begin(), linesB.end());
  if (lineA == linesA.end() && lineB == linesB.end())
    return "the disassemblies are equal: machine code or tables differ\n";
  auto lineOf = [](const auto& lines, auto at) {
    return at == lines.end() ? absl::string_view("(end)") : *at;
  };
  return absl::StrCat("first difference in the disassemblies, line ",
                      lineA - linesA.begin() + 1, "\n- ", lineOf(linesA, lineA),
                      "\n+ ", lineOf(linesB, lineB), "\n");
}

} // namespace

int runDiff(const CommandLine& line) {
  if (line.positional.size() != 2)
    return fail(llmrt::makeError(llmrt::ErrorCode::BadOptionValue,
                                 "llmc diff needs two plans",
                                 "as in llmc diff before.fb after.fb"),
                kTrouble);
  auto a = OpenPlan::open(line.positional[0]);
  if (!a.ok())
    return fail(a.status(), kTrouble);
  auto b = OpenPlan::open(line.positional[1]);
  if (!b.ok())
    return fail(b.status(), kTrouble);
  if (a->bytes() == b->bytes())
    return 0;
  std::string text = describeSettings(a->plan(), b->plan()) +
                     compareCounters(countPlan(*a), countPlan(*b));
  if (text.empty())
    text = "the counters are equal, the plans are not\n";
  text += firstDifferentLine(a->plan(), b->plan());
  absl::Status status = writeResult("", text);
  return status.ok() ? 1 : fail(status, kTrouble);
}

} // namespace llmc
