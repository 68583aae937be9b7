// SPDX-License-Identifier: Apache-2.0
// A ladder is one option with the values to try, each needing less memory than
// the one before and costing more: the first that fits is the one to name.
#include "tools/llmc/FittingChanges.h"

#include "tools/llmc/StepReport.h"

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "absl/strings/substitute.h"

#include <algorithm>
#include <cmath>
#include <optional>
#include <tuple>

namespace llmc {
namespace {

constexpr size_t kEnough = 3; // changes, before more ranks are tried
constexpr int64_t kLeastTokens = 16;

enum class Kind { Time, Result, Ranks };

struct Rung {
  std::string value;
  std::string consequence; // what no counter of a plan shows
};

struct Ladder {
  Kind kind;
  std::string option;
  std::vector<Rung> rungs;
};

/// A value of an option instead of the given one.
struct Change {
  std::string option;
  Rung rung;
};

/// The plan that some changes give.
struct Trial {
  std::vector<Change> changes;
  std::vector<uint8_t> payload;

  const fb::Plan& plan() const { return *fb::GetPlan(payload.data()); }

  int64_t bytes() const { return arenaBytes(plan(), largestStage(plan())); }
};

// ---- What can be changed ----

int64_t axisSize(const fb::Plan& plan, absl::string_view name) {
  for (const fb::Axis* axis : listOf(plan.axes()))
    if (textOf(axis->name()) == name)
      return axis->size();
  return 1;
}

/// The choices after the present one.
Ladder choices(Kind kind, const std::string& option, const std::string& now,
               const std::vector<Rung>& inOrder) {
  auto found =
      std::find_if(inOrder.begin(), inOrder.end(),
                   [&](const Rung& rung) { return rung.value == now; });
  if (found == inOrder.end())
    return {kind, option, {}};
  return {kind, option, {found + 1, inOrder.end()}};
}

/// Half, a quarter, ... `consequence` names the value as $0.
Ladder halves(Kind kind, const std::string& option, int64_t now, int64_t least,
              const std::string& consequence) {
  Ladder ladder{kind, option, {}};
  for (int64_t value = now / 2; value >= least; value /= 2)
    ladder.rungs.push_back(
        {absl::StrCat(value), absl::Substitute(consequence, value)});
  return ladder;
}

/// Divisors of `whole` that are multiples of `unit`, ascending.
std::vector<int64_t> divisors(int64_t whole, int64_t unit) {
  std::vector<int64_t> all;
  for (int64_t part = unit; part <= whole; part += unit)
    if (whole % part == 0)
      all.push_back(part);
  return all;
}

/// Twice, four and eight times the ranks along an axis.
Ladder moreRanks(const fb::Plan& plan, absl::string_view name) {
  Ladder ladder{Kind::Ranks, "mesh", {}};
  for (int64_t factor : {2, 4, 8}) {
    std::vector<std::string> axes;
    for (const fb::Axis* axis : listOf(plan.axes()))
      axes.push_back(absl::StrCat(
          textOf(axis->name()), "=",
          axis->size() * (textOf(axis->name()) == name ? factor : 1)));
    ladder.rungs.push_back(
        {absl::StrJoin(axes, ","),
         absl::StrCat(llmrt::numRanks(plan) * factor, " ranks instead of ",
                      llmrt::numRanks(plan))});
  }
  return ladder;
}

std::vector<Ladder> trainingLadders(const fb::Plan& plan,
                                    const CommandLine& line) {
  int64_t dp = axisSize(plan, "dp"), parts = plan.micro_batches();
  std::vector<Ladder> ladders;
  if (axisSize(plan, "pp") > 1 && line.schedule != "1f1b")
    ladders.push_back({Kind::Time, "schedule", {{"1f1b", ""}}});
  if (dp > 1)
    ladders.push_back(choices(Kind::Time, "zero", absl::StrCat(line.zero),
                              {{"0", ""}, {"1", ""}, {"2", ""}, {"3", ""}}));
  ladders.push_back(choices(Kind::Time, "recompute", line.recompute,
                            {{"none", ""},
                             {"selective", "norms and activations again"},
                             {"full", "each layer forward again"}}));
  Ladder microbatches{Kind::Time, "microbatches", {}};
  for (int64_t count : divisors(plan.batch() / dp, 1))
    if (count > parts)
      microbatches.rungs.push_back(
          {absl::StrCat(count),
           absl::StrCat("micro-batches of ", plan.batch() / dp / count,
                        " instead of ", plan.batch() / dp / parts,
                        " sequences")});
  ladders.push_back(microbatches);
  Ladder batch{Kind::Result, "batch", {}};
  for (int64_t count : divisors(plan.batch(), dp * parts))
    if (count < plan.batch())
      batch.rungs.insert(
          batch.rungs.begin(),
          {absl::StrCat(count), absl::StrCat("steps of ", count, " instead of ",
                                             plan.batch(), " sequences")});
  ladders.push_back(batch);
  ladders.push_back(halves(Kind::Result, "seq", plan.cache_tokens(),
                           kLeastTokens, "sequences of $0 tokens"));
  return ladders;
}

std::vector<Ladder> inferenceLadders(const fb::Plan& plan,
                                     const CommandLine& line) {
  std::vector<Ladder> ladders;
  if (axisSize(plan, "dp") > 1 && line.zero == 0)
    ladders.push_back({Kind::Time, "zero", {{"3", ""}}});
  ladders.push_back(halves(Kind::Time, "chunk",
                           std::min(line.chunk, plan.cache_tokens()),
                           kLeastTokens, "prefill in chunks of $0 rows"));
  ladders.push_back(
      halves(Kind::Result, "batch", plan.batch(), 1, "a batch of $0"));
  ladders.push_back(halves(Kind::Result, "seq", plan.cache_tokens(),
                           kLeastTokens, "a cache of $0 tokens"));
  ladders.push_back(choices(Kind::Result, "weights-format", line.weightsFormat,
                            {{"dense", ""},
                             {"q8_0", "weights rounded to 8 bits"},
                             {"q4_0", "weights rounded to 4 bits"}}));
  return ladders;
}

std::vector<Ladder> laddersOf(const fb::Plan& plan, const CommandLine& line) {
  std::vector<Ladder> ladders = line.mode == "train"
                                    ? trainingLadders(plan, line)
                                    : inferenceLadders(plan, line);
  if (axisSize(plan, "tp") > 1 && line.noSequenceParallel)
    ladders.push_back({Kind::Time, "sequence-parallel", {{"true", ""}}});
  ladders.push_back(
      choices(Kind::Result, "dtype", line.dtype,
              {{"f32", ""}, {"bf16", "weights rounded to bf16"}}));
  for (const char* axis : {"tp", "pp", "dp"})
    ladders.push_back(moreRanks(plan, axis));
  return ladders;
}

CommandLine changed(CommandLine line, const std::string& option,
                    const std::string& value) {
  auto number = [&] {
    int64_t parsed = 0;
    (void)absl::SimpleAtoi(value, &parsed);
    return parsed;
  };
  line.given.insert(option);
  if (option == "schedule")
    line.schedule = value;
  else if (option == "zero")
    line.zero = number();
  else if (option == "recompute")
    line.recompute = value;
  else if (option == "microbatches")
    line.microbatches = number();
  else if (option == "batch")
    line.batch = number();
  else if (option == "seq")
    line.seq = number();
  else if (option == "chunk")
    line.chunk = number();
  else if (option == "dtype")
    line.dtype = value;
  else if (option == "weights-format")
    line.weightsFormat = value;
  else if (option == "sequence-parallel")
    line.noSequenceParallel = false;
  else
    line.mesh = value;
  return line;
}

// ---- What it would need and cost ----

struct Price {
  double flops = 0; // of the busiest rank
  int64_t sentBytes = 0;
  double bubble = 0;

  /// In FLOPs: idle time counts as work.
  double time() const { return flops / std::max(1 - bubble, 1e-3); }
};

/// Of a step; of inference, of a call of each entry.
Price priceOf(const fb::Plan& plan) {
  Price price;
  price.bubble = bubbleFraction(plan).value_or(0);
  for (const StageStep& step : stepsOfStages(plan)) {
    int64_t sent = 0;
    for (int64_t bytes : step.sentBytes)
      sent += bytes;
    price.flops = std::max(price.flops, step.flops);
    price.sentBytes = std::max(price.sentBytes, sent);
  }
  if (textOf(plan.mode()) == "train")
    return price;
  for (const fb::CostRow* row : listOf(plan.costs())) {
    price.flops += row->flops();
    for (int64_t bytes : listOf(row->axis_bytes()))
      price.sentBytes += bytes;
  }
  return price;
}

std::string priceText(const Trial& trial, const Price& before, Kind kind) {
  Price now = priceOf(trial.plan());
  bool isTraining = textOf(trial.plan().mode()) == "train";
  std::vector<std::string> parts;
  for (const Change& change : trial.changes)
    if (!change.rung.consequence.empty())
      parts.push_back(change.rung.consequence);
  // Other ranks or another batch do another amount of work: the rest of the
  // price would compare different steps.
  if (kind == Kind::Time && isTraining && now.flops > before.flops)
    parts.push_back(before.flops > 0
                        ? absl::StrFormat("%.1f %% more FLOPs",
                                          100 * (now.flops / before.flops - 1))
                        : "more FLOPs");
  if (kind != Kind::Result && now.sentBytes > before.sentBytes)
    parts.push_back(absl::StrCat("a rank sends ",
                                 shortBytes(now.sentBytes - before.sentBytes),
                                 isTraining ? " more in a step" : " more"));
  if (kind != Kind::Result && std::abs(now.bubble - before.bubble) > 5e-5)
    parts.push_back(absl::StrFormat("bubble %.4f instead of %.4f", now.bubble,
                                    before.bubble));
  return parts.empty() ? "no cost in FLOPs or bytes sent"
                       : absl::StrJoin(parts, ", ");
}

class Search {
public:
  Search(const fb::Plan& plan, int64_t limitBytes, const CommandLine& line,
         const TrialCompiler& compile)
      : ladders_(laddersOf(plan, line)), limitBytes_(limitBytes), line_(line),
        compile_(compile), before_(priceOf(plan)),
        startBytes_(arenaBytes(plan, largestStage(plan))) {}

  std::vector<FittingChange> run() {
    climbEach(Kind::Time);
    if (found_.empty())
      climbTogether({Kind::Time});
    climbEach(Kind::Result);
    if (found_.size() < kEnough)
      climbEach(Kind::Ranks);
    if (found_.empty())
      climbTogether({Kind::Time, Kind::Result, Kind::Ranks});
    std::stable_sort(found_.begin(), found_.end(),
                     [](const Found& a, const Found& b) {
                       return std::tie(a.kind, a.time, a.sentBytes) <
                              std::tie(b.kind, b.time, b.sentBytes);
                     });
    std::vector<FittingChange> changes;
    for (const Found& found : found_)
      changes.push_back(found.change);
    return changes;
  }

private:
  struct Found {
    FittingChange change;
    Kind kind;
    double time;
    int64_t sentBytes;
  };

  /// Nothing if the changes are an error, as where a mesh does not fit the
  /// model.
  std::optional<Trial> tryChanges(std::vector<Change> changes) const {
    CommandLine line = line_;
    for (const Change& change : changes)
      line = changed(line, change.option, change.rung.value);
    auto payload = compile_(line);
    if (!payload.ok())
      return std::nullopt;
    return Trial{std::move(changes), *std::move(payload)};
  }

  bool fits(const std::optional<Trial>& trial) const {
    return trial && trial->bytes() <= limitBytes_;
  }

  void add(const Trial& trial, Kind kind) {
    std::string options = absl::StrJoin(
        trial.changes, " ", [](std::string* out, const Change& change) {
          absl::StrAppend(out, "--", change.option, "=", change.rung.value);
        });
    Price price = priceOf(trial.plan());
    found_.push_back({{options, trial.bytes(), priceText(trial, before_, kind)},
                      kind,
                      price.time(),
                      price.sentBytes});
  }

  /// One option at a time.
  void climbEach(Kind kind) {
    for (const Ladder& ladder : ladders_) {
      if (ladder.kind != kind)
        continue;
      for (const Rung& rung : ladder.rungs) {
        auto trial = tryChanges({{ladder.option, rung}});
        if (!fits(trial))
          continue;
        add(*trial, kind);
        break;
      }
    }
  }

  /// Several options, in order of their cost, each as far as it helps; then
  /// without those that the later ones made needless.
  void climbTogether(const std::vector<Kind>& kinds) {
    Trial best;
    int64_t bytes = startBytes_;
    for (Kind kind : kinds)
      for (const Ladder& ladder : ladders_) {
        const std::vector<Change> base = best.changes;
        for (const Rung& rung : ladder.rungs) {
          if (ladder.kind != kind || bytes <= limitBytes_)
            break;
          std::vector<Change> changes = base;
          changes.push_back({ladder.option, rung});
          auto trial = tryChanges(std::move(changes));
          if (!trial || trial->bytes() >= bytes)
            continue;
          bytes = trial->bytes();
          best = *std::move(trial);
          if (bytes <= limitBytes_)
            return add(withoutNeedless(std::move(best)), kind);
        }
      }
  }

  Trial withoutNeedless(Trial trial) const {
    for (size_t i = 0; i < trial.changes.size();) {
      std::vector<Change> fewer = trial.changes;
      fewer.erase(fewer.begin() + static_cast<int64_t>(i));
      auto smaller = tryChanges(std::move(fewer));
      if (fits(smaller))
        trial = *std::move(smaller);
      else
        ++i;
    }
    return trial;
  }

  std::vector<Ladder> ladders_;
  int64_t limitBytes_;
  const CommandLine& line_;
  const TrialCompiler& compile_;
  Price before_;
  int64_t startBytes_ = 0;
  std::vector<Found> found_;
};

} // namespace

int largestStage(const fb::Plan& plan) {
  int largest = 0;
  for (int stage = 1; stage < static_cast<int>(listOf(plan.stages()).size());
       ++stage)
    if (arenaBytes(plan, stage) > arenaBytes(plan, largest))
      largest = stage;
  return largest;
}

std::vector<FittingChange> fittingChanges(const fb::Plan& plan,
                                          int64_t limitBytes,
                                          const CommandLine& line,
                                          const TrialCompiler& compile) {
  return Search(plan, limitBytes, line, compile).run();
}

} // namespace llmc
