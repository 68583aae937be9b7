// SPDX-License-Identifier: Apache-2.0
// llmc explain memory: the memory table, the largest buffers, and for training
// what papers predict.
#include "tools/llmc/PlanViews.h"
#include "tools/llmc/TrainingMemory.h"

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"

#include <algorithm>
#include <map>

namespace llmc {
namespace {

constexpr size_t kMostBuffers = 10;

} // namespace

std::string lifetimeText(const fb::Plan& plan, const fb::Stage& stage,
                         int buffer) {
  if (isPersistent(stage.buffers()->Get(buffer)->memory_class()))
    return "always";
  std::vector<std::string> spans;
  for (const StageProgram& program : programsOf(plan)) {
    if (program.holder != &stage)
      continue;
    const std::vector<Access> uses = accessesOf(plan, program)[buffer];
    if (!uses.empty())
      spans.push_back(absl::StrCat("commands ", uses.front().command, " to ",
                                   uses.back().command, " of ",
                                   program.entry.empty() ? "the program that "
                                                           "runs once"
                                                         : program.entry));
  }
  return spans.empty() ? "never used" : absl::StrJoin(spans, ", ");
}

std::string explainMemory(const fb::Plan& plan) {
  std::string text = memoryTable(plan);
  text += "\nA class marked peak holds buffers that come and go: its bytes are "
          "the part of the\narena that they ever cover, and classes share "
          "that part.\n";
  int stageNumber = 0;
  for (const fb::Stage* stage : listOf(plan.stages())) {
    auto buffers = listOf(stage->buffers());
    std::vector<int> order(buffers.size());
    for (size_t i = 0; i < order.size(); ++i)
      order[i] = static_cast<int>(i);
    std::stable_sort(order.begin(), order.end(), [&](int a, int b) {
      return buffers[a]->size_bytes() > buffers[b]->size_bytes();
    });
    order.resize(std::min(order.size(), kMostBuffers));
    absl::StrAppend(&text, "\nlargest buffers of stage ", stageNumber++, "\n");
    std::map<int, const fb::Parameter*> parameters;
    for (const fb::Parameter* parameter : listOf(stage->parameters()))
      parameters[parameter->buffer()] = parameter;
    for (int i : order) {
      absl::StrAppendFormat(
          &text, "  %12s  %-20s %s\n", shortBytes(buffers[i]->size_bytes()),
          nameOf(buffers[i]->memory_class()), textOf(buffers[i]->name()));
      if (auto found = parameters.find(i); found != parameters.end())
        absl::StrAppend(&text, "                ",
                        parameterText(plan, *found->second), "\n");
      else
        absl::StrAppend(&text, "                alive: ",
                        lifetimeText(plan, *stage, i), "\n");
    }
  }
  return text + trainingMemoryText(plan);
}

} // namespace llmc
