// SPDX-License-Identifier: Apache-2.0
#include "tools/llmc/StepReport.h"

#include "compiler/schedule/Simulate.h"

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"

#include <algorithm>

namespace llmc {
namespace {

constexpr size_t kStagesInARow = 3;

const fb::CostRow* costOf(const fb::Plan& plan, int stage, int entry) {
  for (const fb::CostRow* row : listOf(plan.costs()))
    if (row->stage() == stage && row->entry() == entry)
      return row;
  return nullptr;
}

// ---- The schedule, as the simulation takes it ----

/// An entry "forward.chunk1" is segment "forward" of virtual stage 1; without
/// virtual stages it is "forward".
struct Segment {
  std::string name;
  int chunk = 0;
};

Segment segmentOf(const fb::Plan& plan, int entry) {
  constexpr absl::string_view kChunk = ".chunk";
  Segment segment{nameOfEntry(plan, entry)};
  size_t at = segment.name.find(kChunk.data());
  if (at == std::string::npos)
    return segment;
  (void)absl::SimpleAtoi(segment.name.substr(at + kChunk.size()),
                         &segment.chunk);
  segment.name.resize(at);
  return segment;
}

bool isTransferEntry(const std::string& name) {
  return name.rfind("send_", 0) == 0 || name.rfind("receive_", 0) == 0;
}

/// The stage at the other end of a send or receive segment.
int peerOf(const fb::Stage& stage, int entry) {
  for (const fb::Program* program : listOf(stage.programs()))
    if (program->entry() == entry)
      for (const fb::Command* command : listOf(program->commands()))
        if (command->peer() >= 0)
          return command->peer();
  return -1;
}

schedule::ActionKind kindOf(const std::string& entry) {
  if (isTransferEntry(entry))
    return entry[0] == 's' ? schedule::ActionKind::Send
                           : schedule::ActionKind::Recv;
  if (entry == "forward")
    return schedule::ActionKind::Forward;
  if (entry == "backward_input")
    return schedule::ActionKind::BackwardInput;
  if (entry == "backward_weight")
    return schedule::ActionKind::BackwardWeight;
  return schedule::ActionKind::Backward;
}

schedule::Action actionOf(const fb::Plan& plan, const fb::Stage& stage,
                          const fb::Action& from) {
  auto [entry, chunk] = segmentOf(plan, from.entry());
  schedule::Action action;
  action.kind = kindOf(entry);
  action.chunk = chunk;
  action.microBatch = from.micro_batch();
  auto slot = [&](fb::SlotKind kind) {
    auto all = listOf(from.slots());
    size_t i =
        static_cast<size_t>(kind) - static_cast<size_t>(fb::SlotKind::Saved);
    return i < all.size() ? all[i] : -1;
  };
  action.savedSlot = slot(fb::SlotKind::Saved);
  action.deferredSlot = slot(fb::SlotKind::Deferred);
  action.activationSlot = slot(fb::SlotKind::ReceivedActivation);
  action.gradientSlot = slot(fb::SlotKind::ReceivedGradient);
  action.sendSlot = std::max(slot(fb::SlotKind::SentActivation),
                             slot(fb::SlotKind::SentGradient));
  if (schedule::isTransfer(action.kind)) {
    action.isGradient = entry.find("gradient") != std::string::npos;
    action.peer = peerOf(stage, from.entry());
  }
  return action;
}

schedule::Schedule scheduleOf(const fb::Plan& plan) {
  schedule::Schedule schedule;
  schedule.stages = static_cast<int>(listOf(plan.stages()).size());
  schedule.microBatches = plan.micro_batches();
  for (const fb::Stage* stage : listOf(plan.stages())) {
    auto& list = schedule.actions.emplace_back();
    for (const fb::Action* action : listOf(stage->schedule()))
      if (action->micro_batch() >= 0) // not once a step
        list.push_back(actionOf(plan, *stage, *action));
    for (const schedule::Action& action : list)
      schedule.virtualStages =
          std::max(schedule.virtualStages, action.chunk + 1);
  }
  return schedule;
}

/// Times of the segments of every chunk of every stage: their FLOPs.
schedule::StepCosts costsOf(const fb::Plan& plan,
                            const schedule::Schedule& schedule) {
  schedule::StepCosts costs;
  costs.segments.assign(schedule.stages * schedule.virtualStages, {0, 0, 0});
  for (const fb::CostRow* row : listOf(plan.costs())) {
    auto [name, chunk] = segmentOf(plan, row->entry());
    if (chunk >= schedule.virtualStages)
      continue;
    schedule::SegmentTimes& times =
        costs.segments[chunk * schedule.stages + row->stage()];
    if (name == "forward")
      times.forward = row->flops();
    if (name == "backward" || name == "backward_input")
      times.backwardInput = row->flops();
    if (name == "backward_weight")
      times.backwardWeight = row->flops();
  }
  return costs;
}

// ---- Tables ----

/// Stages with equal numbers are one column or line.
template <typename Number>
std::vector<std::vector<int>>
groupStages(const std::vector<std::vector<Number>>& numbers) {
  std::vector<std::vector<int>> groups;
  for (int stage = 0; stage < static_cast<int>(numbers.size()); ++stage) {
    auto same = std::find_if(groups.begin(), groups.end(),
                             [&](const std::vector<int>& group) {
                               return numbers[group.front()] == numbers[stage];
                             });
    if (same == groups.end())
      same = groups.insert(groups.end(), std::vector<int>());
    same->push_back(stage);
  }
  return groups;
}

std::string stagesText(const fb::Plan& plan, const std::vector<int>& stages) {
  constexpr size_t kMostLetters = 12;
  std::vector<int> ranks;
  for (int stage : stages)
    for (int rank : ranksOfStage(plan, stage))
      ranks.push_back(rank);
  std::sort(ranks.begin(), ranks.end());
  std::string list = ranksText(ranks);
  list = list.size() > kMostLetters
             ? absl::StrCat(ranks.size(), " ranks")
             : absl::StrCat(ranks.size() == 1 ? "rank " : "ranks ", list);
  return absl::StrCat(stages.size() == 1 ? "stage " : "stages ",
                      ranksText(stages), " (", list, ")");
}

struct MemoryLine {
  std::string name;
  std::vector<int64_t> bytes; // by stage
};

std::vector<MemoryLine> memoryLines(const fb::Plan& plan) {
  std::vector<MemoryLine> lines;
  int numStages = static_cast<int>(listOf(plan.stages()).size());
  auto add = [&](const std::string& name, auto bytesOfStage) {
    MemoryLine& line = lines.emplace_back();
    line.name = name;
    for (int stage = 0; stage < numStages; ++stage)
      line.bytes.push_back(bytesOfStage(stage));
  };
  for (bool outside : {false, true}) {
    for (fb::MemoryClass memoryClass : reportedClasses(plan))
      if (isOutside(memoryClass) == outside)
        add(nameOf(memoryClass) + (outside ? ", besides" : ""),
            [&](int stage) { return classBytes(plan, stage, memoryClass); });
    if (!outside)
      add("arena, all together",
          [&](int stage) { return arenaBytes(plan, stage); });
  }
  return lines;
}

std::string memoryReport(const fb::Plan& plan) {
  std::vector<MemoryLine> memory = memoryLines(plan);
  std::vector<std::vector<int64_t>> bytes(listOf(plan.stages()).size());
  for (const MemoryLine& line : memory)
    for (size_t stage = 0; stage < bytes.size(); ++stage)
      bytes[stage].push_back(line.bytes[stage]);
  auto groups = groupStages(bytes);
  std::string text;
  for (size_t begin = 0; begin < groups.size(); begin += kStagesInARow) {
    size_t end = std::min(groups.size(), begin + kStagesInARow);
    absl::StrAppendFormat(&text, "%-20s", "bytes of a rank");
    for (size_t g = begin; g < end; ++g)
      absl::StrAppendFormat(&text, "  %25s", stagesText(plan, groups[g]));
    for (const MemoryLine& line : memory) {
      absl::StrAppendFormat(&text, "\n%-20s", line.name);
      for (size_t g = begin; g < end; ++g) {
        int64_t amount = line.bytes[groups[g].front()];
        absl::StrAppendFormat(&text, "  %14d %10s", amount, shortBytes(amount));
      }
    }
    text += "\n";
  }
  return text;
}

std::string sentLine(const std::string& name,
                     const std::vector<int64_t>& bytes) {
  std::string text = absl::StrFormat("%-34s", name);
  for (int64_t amount : bytes)
    absl::StrAppendFormat(&text, "  %14d %10s", amount, shortBytes(amount));
  return text + "\n";
}

std::string sentReport(const fb::Plan& plan) {
  bool isTraining = textOf(plan.mode()) == "train";
  std::string text = absl::StrFormat(
      "%-34s", isTraining ? "bytes that a rank sends in a step"
                          : "bytes that a rank sends in a call");
  for (const fb::Axis* axis : listOf(plan.axes()))
    absl::StrAppendFormat(
        &text, "  %25s",
        absl::StrCat("along ", textOf(axis->name()), "=", axis->size()));
  text += "\n";
  std::vector<std::vector<int64_t>> sent;
  for (const StageStep& step : stepsOfStages(plan))
    sent.push_back(step.sentBytes);
  for (const std::vector<int>& group : groupStages(sent))
    text += sentLine(stagesText(plan, group), sent[group.front()]);
  if (isTraining)
    return text;
  for (const fb::CostRow* row : listOf(plan.costs()))
    text += sentLine(absl::StrCat(nameOfEntry(plan, row->entry()), ", ",
                                  stagesText(plan, {row->stage()})),
                     listOf(row->axis_bytes()));
  return text;
}

std::string bubbleReport(const fb::Plan& plan) {
  if (listOf(plan.stages()).size() < 2 || textOf(plan.mode()) != "train")
    return "";
  auto bubble = bubbleFraction(plan);
  if (!bubble.ok())
    return absl::StrCat("bubble fraction: ", bubble.status().message(), "\n");
  return absl::StrFormat(
      "bubble fraction %.4f of %d micro-batches, by simulation; assumed: a "
      "segment takes time as its FLOPs,\ntransfers, collectives, prologue and "
      "optimizer take none\n",
      *bubble, plan.micro_batches());
}

} // namespace

std::vector<StageStep> stepsOfStages(const fb::Plan& plan) {
  std::vector<StageStep> steps;
  if (textOf(plan.mode()) != "train")
    return steps;
  int number = 0;
  for (const fb::Stage* stage : listOf(plan.stages())) {
    StageStep& step = steps.emplace_back();
    step.sentBytes.assign(listOf(plan.axes()).size(), 0);
    for (const fb::Action* action : listOf(stage->schedule())) {
      const fb::CostRow* cost = costOf(plan, number, action->entry());
      if (!cost)
        continue;
      step.flops += cost->flops();
      for (size_t axis = 0; axis < step.sentBytes.size(); ++axis)
        step.sentBytes[axis] += cost->axis_bytes()->Get(axis);
    }
    ++number;
  }
  return steps;
}

absl::StatusOr<double> bubbleFraction(const fb::Plan& plan) {
  if (listOf(plan.stages()).size() < 2)
    return 0;
  schedule::Schedule schedule = scheduleOf(plan);
  auto timeline = schedule::simulate(schedule, costsOf(plan, schedule));
  if (!timeline.ok())
    return timeline.status();
  return timeline->bubbleFraction;
}

std::vector<fb::MemoryClass> reportedClasses(const fb::Plan& plan) {
  std::vector<fb::MemoryClass> classes = {
      fb::MemoryClass::Parameters,         fb::MemoryClass::Gradients,
      fb::MemoryClass::Optimizer,          fb::MemoryClass::Activations,
      fb::MemoryClass::GatheredParameters, fb::MemoryClass::Communication,
      fb::MemoryClass::Workspace};
  for (const fb::MemoryRow* row : listOf(plan.memory()))
    if (std::find(classes.begin(), classes.end(), row->memory_class()) ==
        classes.end())
      classes.push_back(row->memory_class());
  return classes;
}

bool isOutside(fb::MemoryClass memoryClass) {
  return memoryClass == fb::MemoryClass::Code ||
         memoryClass == fb::MemoryClass::Library;
}

int64_t classBytes(const fb::Plan& plan, int stage,
                   fb::MemoryClass memoryClass) {
  for (const fb::MemoryRow* row : listOf(plan.memory()))
    if (row->stage() == stage && row->memory_class() == memoryClass)
      return row->size_bytes();
  return 0;
}

int64_t arenaBytes(const fb::Plan& plan, int stage) {
  int64_t bytes = 0;
  for (const fb::Arena* arena : listOf(plan.stages()->Get(stage)->arenas()))
    bytes += arena->size_bytes();
  return bytes;
}

std::string compileReport(const fb::Plan& plan) {
  int numRanks = llmrt::numRanks(plan);
  std::string text =
      absl::StrCat(textOf(plan.mode()), " in ", nameOf(plan.compute_dtype()),
                   " on ", numRanks, numRanks == 1 ? " rank" : " ranks",
                   ", mesh ", meshText(plan), "\n", memoryReport(plan));
  if (numRanks > 1)
    text += sentReport(plan);
  return text + bubbleReport(plan);
}

} // namespace llmc
