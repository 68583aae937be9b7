// SPDX-License-Identifier: Apache-2.0
// llmc explain: where bytes are, who communicates and why, and everything about
// one op or tensor. Names are those of the plan: ops of its provenance,
// buffers, parameters.
#include "runtime/base/Error.h"
#include "runtime/base/NearestName.h"
#include "tools/llmc/Commands.h"
#include "tools/llmc/PlanCounters.h"
#include "tools/llmc/PlanViews.h"

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"

#include <algorithm>
#include <map>
#include <set>
#include <tuple>

namespace llmc {
namespace {

using llmrt::ErrorCode;
using llmrt::makeError;

constexpr size_t kMostMatches = 24;

std::string placeOf(const StageProgram& program) {
  return absl::StrCat("stage ", program.stage, " ",
                      program.entry.empty() ? "once" : program.entry);
}

std::string commandLine(const fb::Plan& plan, const StageProgram& program,
                        int number) {
  return absl::StrFormat(
      "%04d %s", number,
      commandText(plan, *program.holder,
                  *program.program->commands()->Get(number)));
}

std::string explainCommunication(const fb::Plan& plan) {
  std::string groups, list;
  for (const StageProgram& program : programsOf(plan)) {
    // (pass, kind, axes) to count and bytes, largest pass first by name.
    std::map<std::tuple<std::string, std::string, std::string>,
             std::pair<int64_t, int64_t>>
        counted;
    int number = -1;
    for (const fb::Command* command : listOf(program.program->commands())) {
      ++number;
      if (!isCollective(*command))
        continue;
      int64_t bytes = sentBy(plan, *command).bytes;
      auto& group =
          counted[{originOf(plan, *command).pass, nameOf(command->kind()),
                   axesText(plan, command->axes())}];
      ++group.first;
      group.second += bytes;
      absl::StrAppend(
          &list, placeOf(program), " ", commandLine(plan, program, number),
          bytes > 0 ? absl::StrCat(" (sends ", bytes, " bytes)") : "", "\n");
    }
    for (const auto& [key, group] : counted)
      absl::StrAppendFormat(&groups, "%-20s %-26s %-16s %-8s %6d %16d %12s\n",
                            placeOf(program), std::get<0>(key),
                            std::get<1>(key), std::get<2>(key), group.first,
                            group.second, shortBytes(group.second));
  }
  if (groups.empty())
    return "this plan does not communicate: mesh " + meshText(plan) + "\n";
  return absl::StrFormat("%-20s %-26s %-16s %-8s %6s %16s\n", "where", "pass",
                         "kind", "axes", "count", "bytes sent") +
         groups + "\nbytes sent are those of one rank of the stage\n\n" + list;
}

/// Names that contain `wanted`; only the equal one if there is one.
std::vector<std::string> matching(const std::set<std::string>& names,
                                  const std::string& wanted) {
  if (names.count(wanted))
    return {wanted};
  std::vector<std::string> found;
  for (const std::string& name : names)
    if (absl::StrContains(name, wanted))
      found.push_back(name);
  return found;
}

void addOp(const fb::Plan& plan, const std::string& op, std::string& text) {
  absl::StrAppend(&text, "op ", op, "\n");
  for (const StageProgram& program : programsOf(plan)) {
    int number = -1;
    for (const fb::Command* command : listOf(program.program->commands())) {
      ++number;
      Origin origin = originOf(plan, *command);
      bool isEvent = command->kind() == fb::CommandKind::RecordEvent ||
                     command->kind() == fb::CommandKind::WaitEvent;
      if (isEvent || (origin.op != op && origin.subject != op))
        continue;
      absl::StrAppend(&text, "  ", placeOf(program), " ",
                      commandLine(plan, program, number), "\n");
      for (const std::string& slot : slotTexts(plan, *program.holder, *command))
        absl::StrAppend(&text, "    ", slot, "\n");
    }
  }
}

void addBufferUses(const fb::Plan& plan, const fb::Stage& stage, int buffer,
                   std::string& text) {
  for (const StageProgram& program : programsOf(plan)) {
    if (program.holder != &stage)
      continue;
    const std::vector<Access> uses = accessesOf(plan, program)[buffer];
    for (const Access& access : uses)
      absl::StrAppend(&text, "  ",
                      access.isWrite
                          ? (access.isRead ? "changed by " : "written by ")
                          : "read by    ",
                      placeOf(program), " ",
                      commandLine(plan, program, access.command), "\n");
  }
}

void addBuffer(const fb::Plan& plan, const std::string& name,
               std::string& text) {
  int stageNumber = 0;
  for (const fb::Stage* stage : listOf(plan.stages())) {
    int number = -1;
    for (const fb::Buffer* buffer : listOf(stage->buffers())) {
      ++number;
      if (textOf(buffer->name()) != name)
        continue;
      absl::StrAppend(&text, "tensor ", name, "\n  on ranks ",
                      ranksText(ranksOfStage(plan, stageNumber)), ": ",
                      nameOf(buffer->memory_class()), " in ",
                      nameOf(buffer->space()), " at ", buffer->offset(), ", ",
                      bytesText(buffer->size_bytes()), " bytes, ",
                      buffer->padding_bytes(), " of them padding\n");
      for (const fb::Parameter* parameter : listOf(stage->parameters()))
        if (parameter->buffer() == number)
          absl::StrAppend(&text, "  parameter ", textOf(parameter->name()),
                          ": ", parameterText(plan, *parameter), "\n");
      absl::StrAppend(&text, "  alive: ", lifetimeText(plan, *stage, number),
                      "\n");
      addBufferUses(plan, *stage, number, text);
    }
    ++stageNumber;
  }
}

absl::StatusOr<std::string> explainName(const fb::Plan& plan,
                                        const std::string& wanted) {
  std::set<std::string> ops, buffers;
  for (const fb::Provenance* origin : listOf(plan.provenance()))
    if (std::string op = textOf(origin->op()); !op.empty())
      ops.insert(op);
  for (const fb::Stage* stage : listOf(plan.stages()))
    for (const fb::Buffer* buffer : listOf(stage->buffers()))
      buffers.insert(textOf(buffer->name()));
  std::vector<std::string> foundOps = matching(ops, wanted),
                           foundBuffers = matching(buffers, wanted);
  if (foundOps.empty() && foundBuffers.empty()) {
    // Whole names and their parts, so that a slip in a part is found too.
    std::vector<std::string> names = {"memory", "communication"};
    for (const std::set<std::string>* all : {&ops, &buffers})
      for (const std::string& name : *all) {
        names.push_back(name);
        for (absl::string_view part :
             absl::StrSplit(name, absl::ByAnyChar("./")))
          names.emplace_back(part);
      }
    std::string near = llmrt::nearestName(wanted, names);
    return makeError(
        ErrorCode::NameUnknown,
        absl::StrCat("no op or tensor of the plan is called '", wanted, "'"),
        near.empty() ? "see llmc inspect --output=disassembly"
                     : absl::StrCat("did you mean '", near, "'"));
  }
  std::string text;
  size_t left = kMostMatches;
  for (const std::string& op : foundOps) {
    if (left == 0)
      break;
    --left;
    addOp(plan, op, text);
  }
  for (const std::string& buffer : foundBuffers) {
    if (left == 0)
      break;
    --left;
    addBuffer(plan, buffer, text);
  }
  size_t found = foundOps.size() + foundBuffers.size();
  if (found > kMostMatches)
    absl::StrAppend(&text, "and ", found - kMostMatches,
                    " more: give more of the name\n");
  return text;
}

} // namespace

int runExplain(const CommandLine& line) {
  if (line.positional.size() != 2)
    return fail(makeError(ErrorCode::BadOptionValue,
                          "llmc explain needs a plan and memory, "
                          "communication or a name",
                          "as in llmc explain plan.fb memory"));
  auto open = OpenPlan::open(line.positional[0]);
  if (!open.ok())
    return fail(open.status());
  const std::string& what = line.positional[1];
  if (what.empty())
    return fail(makeError(ErrorCode::BadOptionValue, "an empty name",
                          "give memory, communication or a name"));
  absl::StatusOr<std::string> text;
  if (what == "memory")
    text = explainMemory(open->plan());
  else if (what == "communication")
    text = explainCommunication(open->plan());
  else
    text = explainName(open->plan(), what);
  if (!text.ok())
    return fail(text.status());
  absl::Status status = writeResult("", *text);
  return status.ok() ? 0 : fail(status);
}

} // namespace llmc
