// SPDX-License-Identifier: Apache-2.0
#include "tools/llmc/PlanCounters.h"

#include "tools/llmc/StepReport.h"

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>

namespace llmc {
namespace {

Counter countFile(const OpenPlan& open) {
  Counter counter{"plan_bytes", open.sizeBytes(), {}};
  int64_t rest = open.sizeBytes();
  for (const fb::CodeObject* code : listOf(open.plan().code())) {
    int64_t bytes = code->image()->size();
    counter.contributors[absl::StrCat("code for ", nameOfCode(*code))] += bytes;
    rest -= bytes;
  }
  counter.contributors["tables and commands"] = rest;
  return counter;
}

Counter countCode(const fb::Plan& plan) {
  Counter counter{"code_bytes", 0, {}};
  for (const fb::CodeObject* code : listOf(plan.code())) {
    counter.value += code->image()->size();
    counter.contributors[nameOfCode(*code)] += code->image()->size();
  }
  return counter;
}

Counter countKernels(const fb::Plan& plan) {
  Counter counter{"kernels", 0, {}};
  for (const fb::Kernel* kernel : listOf(plan.kernels())) {
    ++counter.value;
    ++counter.contributors[absl::StrCat(nameOf(kernel->kind()), " ",
                                        textOf(kernel->name()))];
  }
  return counter;
}

Counter countParameters(const fb::Plan& plan) {
  Counter counter{"parameters", 0, {}};
  if (plan.model())
    counter.value = plan.model()->num_parameters();
  return counter;
}

/// Bytes of one class on a stage by buffer: of persistent buffers all, of those
/// that come and go the largest one of a kind.
Contributors buffersOfClass(const fb::Stage& stage,
                            fb::MemoryClass memoryClass) {
  Contributors buffers;
  for (const fb::Buffer* buffer : listOf(stage.buffers())) {
    if (buffer->memory_class() != memoryClass)
      continue;
    int64_t& amount = buffers[groupName(textOf(buffer->name()))];
    amount = isPersistent(memoryClass) ? amount + buffer->size_bytes()
                                       : std::max(amount, buffer->size_bytes());
  }
  return buffers;
}

void countMemory(const fb::Plan& plan, std::vector<Counter>& counters) {
  Counter total{"memory_bytes.total", -1, {}};
  std::map<fb::MemoryClass, Counter> classes;
  int stageNumber = 0;
  for (const fb::Stage* stage : listOf(plan.stages())) {
    int64_t arenaBytes = 0;
    for (const fb::Arena* arena : listOf(stage->arenas()))
      arenaBytes += arena->size_bytes();
    bool isLargest = arenaBytes > total.value;
    if (isLargest) {
      total.value = arenaBytes;
      total.contributors.clear();
    }
    for (const fb::MemoryRow* row : listOf(plan.memory())) {
      if (row->stage() != stageNumber)
        continue;
      std::string name = nameOf(row->memory_class());
      if (isLargest && !isOutside(row->memory_class()))
        total.contributors[name] += row->size_bytes();
      auto [found, isNew] = classes.try_emplace(row->memory_class());
      Counter& counter = found->second;
      counter.name = absl::StrCat("memory_bytes.", name);
      if (!isNew && row->size_bytes() <= counter.value)
        continue;
      counter.value = row->size_bytes();
      counter.contributors = buffersOfClass(*stage, row->memory_class());
    }
    ++stageNumber;
  }
  total.value = std::max<int64_t>(total.value, 0);
  counters.push_back(total);
  for (auto& [memoryClass, counter] : classes)
    counters.push_back(counter);
}

std::string launchName(const fb::Plan& plan, const fb::Command& command) {
  std::string kernel = textOf(plan.kernels()->Get(command.kernel())->name());
  std::string op = groupName(originOf(plan, command).op);
  return op.empty() ? kernel : absl::StrCat(kernel, " for ", op);
}

std::string collectiveName(const fb::Plan& plan, const fb::Command& command) {
  Origin origin = originOf(plan, command);
  return absl::StrCat(
      nameOf(command.kind()), " over ", axesText(plan, command.axes()), " by ",
      origin.pass.empty() ? "no pass" : origin.pass, " for ",
      groupName(origin.subject.empty() ? origin.op : origin.subject));
}

int64_t touchedBytes(const fb::Stage& stage, const fb::Command& command) {
  int64_t bytes = 0;
  for (int buffer : buffersOf(command))
    bytes += stage.buffers()->Get(buffer)->size_bytes();
  return bytes;
}

/// Values come from the plan's cost table, contributors from its commands.
void countEntry(const fb::Plan& plan, int entry,
                std::vector<Counter>& counters) {
  std::string prefix = absl::StrCat("entries.", nameOfEntry(plan, entry), ".");
  Counter launches{prefix + "launches", 0, {}}, flops{prefix + "flops", 0, {}},
      touched{prefix + "touched_bytes", 0, {}};
  std::vector<Counter> sent;
  for (const fb::Axis* axis : listOf(plan.axes()))
    sent.push_back(
        {absl::StrCat(prefix, "sent_bytes.", textOf(axis->name())), 0, {}});
  for (const fb::CostRow* row : listOf(plan.costs())) {
    if (row->entry() != entry)
      continue;
    launches.value += row->launches();
    flops.value += std::llround(row->flops());
    touched.value += std::llround(row->bytes_touched());
    for (size_t axis = 0; axis < sent.size(); ++axis)
      sent[axis].value += row->axis_bytes()->Get(axis);
  }
  for (const StageProgram& program : programsOf(plan)) {
    if (program.program->entry() != entry)
      continue;
    for (const fb::Command* command : listOf(program.program->commands())) {
      if (Sent part = sentBy(plan, *command); part.axis >= 0)
        sent[part.axis].contributors[collectiveName(plan, *command)] +=
            part.bytes;
      if (command->kind() != fb::CommandKind::Launch)
        continue;
      std::string name = launchName(plan, *command);
      ++launches.contributors[name];
      touched.contributors[name] += touchedBytes(*program.holder, *command);
      if (double count = flopsOf(plan, *program.program, *command); count > 0)
        flops.contributors[name] += std::llround(count);
    }
  }
  counters.push_back(launches);
  counters.push_back(flops);
  counters.push_back(touched);
  counters.insert(counters.end(), sent.begin(), sent.end());
}

using NamedAmount = std::pair<std::string, int64_t>;

std::vector<NamedAmount> largestFirst(const Contributors& contributors) {
  std::vector<NamedAmount> sorted(contributors.begin(), contributors.end());
  std::stable_sort(sorted.begin(), sorted.end(),
                   [](const NamedAmount& a, const NamedAmount& b) {
                     return std::abs(a.second) > std::abs(b.second);
                   });
  return sorted;
}

int64_t amountIn(const Contributors& contributors, const std::string& name) {
  auto found = contributors.find(name);
  return found == contributors.end() ? 0 : found->second;
}

} // namespace

std::vector<Counter> countPlan(const OpenPlan& open) {
  const fb::Plan& plan = open.plan();
  std::vector<Counter> counters = {countFile(open), countCode(plan),
                                   countKernels(plan), countParameters(plan)};
  countMemory(plan, counters);
  int numEntries = static_cast<int>(listOf(plan.entries()).size());
  for (int entry = 0; entry < numEntries; ++entry)
    countEntry(plan, entry, counters);
  return counters;
}

bool isBytes(absl::string_view counterName) {
  return absl::StrContains(counterName, "_bytes");
}

std::string amountText(absl::string_view counterName, int64_t amount) {
  return isBytes(counterName) ? bytesText(amount) : absl::StrCat(amount);
}

std::string changeText(absl::string_view counterName, int64_t before,
                       int64_t after) {
  int64_t change = after - before;
  std::vector<std::string> notes;
  if (isBytes(counterName) && std::abs(change) >= 1024)
    notes.push_back((change > 0 ? "+" : "") + shortBytes(change));
  if (before != 0)
    notes.push_back(absl::StrFormat("%+.1f %%", 100.0 * change / before));
  std::string text = absl::StrFormat("%+d", change);
  if (notes.empty())
    return text;
  absl::StrAppend(&text, " (", notes[0], notes.size() > 1 ? ", " : "",
                  notes.size() > 1 ? notes[1] : "", ")");
  return text;
}

std::vector<std::string> changesOf(absl::string_view counterName,
                                   const Contributors& before,
                                   const Contributors& after,
                                   size_t mostLines) {
  Contributors changes;
  for (const Contributors* side : {&before, &after})
    for (const auto& [name, amount] : *side)
      if (int64_t change = amountIn(after, name) - amountIn(before, name))
        changes[name] = change;
  std::vector<std::string> lines;
  for (const auto& [name, change] : largestFirst(changes)) {
    if (lines.size() == mostLines) {
      lines.push_back(
          absl::StrCat("and ", changes.size() - mostLines, " more"));
      break;
    }
    int64_t old = amountIn(before, name), now = amountIn(after, name);
    lines.push_back(absl::StrCat(name, ": ", amountText(counterName, old),
                                 " -> ", amountText(counterName, now)));
  }
  return lines;
}

std::vector<std::string> largestOf(const Counter& counter, size_t mostLines) {
  std::vector<std::string> lines;
  for (const auto& [name, amount] : largestFirst(counter.contributors)) {
    if (lines.size() == mostLines)
      break;
    lines.push_back(absl::StrCat(name, ": ", amountText(counter.name, amount)));
  }
  return lines;
}

} // namespace llmc
