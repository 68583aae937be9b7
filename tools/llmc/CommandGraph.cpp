// SPDX-License-Identifier: Apache-2.0
// Parameters, caches and constants are not drawn: every layer has its own, and
// they would hide how data flow. Events are drawn as edges from record to wait.
#include "tools/llmc/PlanViews.h"

#include "runtime/base/Error.h"

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

#include <map>
#include <set>

namespace llmc {
namespace {

std::string inQuotes(absl::string_view text) {
  std::string result = "\"";
  for (char c : text) {
    if (c == '"' || c == '\\')
      result += '\\';
    // A dot file is text: a name with other bytes is shown without them.
    result += static_cast<unsigned char>(c) < 0x20 ? ' ' : c;
  }
  return result + "\"";
}

bool flows(const fb::Buffer& buffer) {
  switch (buffer.memory_class()) {
  case fb::MemoryClass::Parameters:
  case fb::MemoryClass::Caches:
  case fb::MemoryClass::Constants:
    return false;
  default:
    return true;
  }
}

class GraphWriter {
public:
  GraphWriter(const fb::Plan& plan, const StageProgram& program)
      : plan_(plan), program_(program),
        commands_(listOf(program.program->commands())) {}

  std::string write() {
    absl::StrAppend(&text_, "  subgraph cluster_", program_.stage,
                    " {\n    label=\"stage ", program_.stage, ", ranks ",
                    ranksText(ranksOfStage(plan_, program_.stage)), "\"\n");
    for (size_t i = 0; i < commands_.size(); ++i)
      addNode(i);
    text_ += "  }\n";
    addDataEdges();
    addEventEdges();
    return text_;
  }

private:
  std::string node(int64_t command) const {
    return absl::StrCat("s", program_.stage, "c", command);
  }

  void addNode(size_t number) {
    const fb::Command& command = *commands_[number];
    std::string label, style = "shape=box";
    switch (command.kind()) {
    case fb::CommandKind::RecordEvent:
    case fb::CommandKind::WaitEvent:
      label = absl::StrCat(nameOf(command.kind()), " ", command.event());
      style = "shape=plaintext";
      break;
    case fb::CommandKind::Launch:
      label = textOf(plan_.kernels()->Get(command.kernel())->name());
      break;
    default:
      label = absl::StrCat(nameOf(command.kind()), " ",
                           axesText(plan_, command.axes()), " ",
                           shortBytes(command.bytes()));
      style = "shape=box, style=filled, fillcolor=lightblue";
    }
    Origin origin = originOf(plan_, command);
    std::string quotedLabel = inQuotes(absl::StrCat(number, " ", label));
    // "\n" is dot's line break, so it is added after quoting.
    if (!origin.op.empty()) {
      std::string op = inQuotes(origin.op);
      quotedLabel.pop_back();
      absl::StrAppend(&quotedLabel, "\\n", op.substr(1));
    }
    absl::StrAppend(&text_, "    ", node(number), " [", style,
                    ", label=", quotedLabel, "]\n");
  }

  void addDataEdges() {
    std::vector<std::vector<Access>> accesses = accessesOf(plan_, program_);
    for (size_t buffer = 0; buffer < accesses.size(); ++buffer) {
      if (!flows(*program_.holder->buffers()->Get(buffer)))
        continue;
      int writer = -1;
      for (const Access& access : accesses[buffer]) {
        bool isEdge = access.isRead && writer >= 0 && writer != access.command;
        if (isEdge && edges_.insert({writer, access.command}).second)
          absl::StrAppend(
              &text_, "  ", node(writer), " -> ", node(access.command),
              " [tooltip=", inQuotes(nameOfBuffer(*program_.holder, buffer)),
              "]\n");
        if (access.isWrite)
          writer = access.command;
      }
    }
  }

  void addEventEdges() {
    std::map<int, int64_t> recorded;
    for (size_t i = 0; i < commands_.size(); ++i) {
      int event = commands_[i]->event();
      if (commands_[i]->kind() == fb::CommandKind::RecordEvent)
        recorded[event] = i;
      else if (commands_[i]->kind() == fb::CommandKind::WaitEvent)
        absl::StrAppend(&text_, "  ", node(recorded[event]), " -> ", node(i),
                        " [style=dashed]\n");
    }
  }

  const fb::Plan& plan_;
  const StageProgram& program_;
  std::vector<const fb::Command*> commands_;
  std::set<std::pair<int, int>> edges_;
  std::string text_;
};

} // namespace

absl::StatusOr<std::string> commandGraph(const fb::Plan& plan,
                                         const std::string& entry) {
  std::vector<std::string> names;
  for (const fb::Entry* one : listOf(plan.entries()))
    names.push_back(textOf(one->name()));
  std::string wanted = entry.empty() ? names.front() : entry;
  if (std::find(names.begin(), names.end(), wanted) == names.end())
    return llmrt::makeError(
        llmrt::ErrorCode::NameUnknown,
        absl::StrCat("the plan has no entry '", entry, "'"),
        absl::StrCat("it has ", absl::StrJoin(names, ", ")));
  std::string text = absl::StrCat("digraph ", inQuotes(wanted),
                                  " {\n  node [fontname=monospace]\n");
  for (const StageProgram& program : programsOf(plan))
    if (program.entry == wanted)
      text += GraphWriter(plan, program).write();
  return text + "}\n";
}

} // namespace llmc
