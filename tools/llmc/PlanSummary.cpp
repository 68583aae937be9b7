// SPDX-License-Identifier: Apache-2.0
#include "tools/llmc/PlanCounters.h"
#include "tools/llmc/PlanViews.h"

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

#include <map>

namespace llmc {
namespace {

void addLine(std::string& text, absl::string_view name,
             absl::string_view value) {
  absl::StrAppendFormat(&text, "%-12s %s\n", name, value);
}

std::string entryTable(const fb::Plan& plan) {
  std::string text =
      absl::StrFormat("%-10s %9s %9s %9s  %s\n", "entry", "sequences",
                      "rows each", "pages", "logits");
  for (const fb::Entry* entry : listOf(plan.entries()))
    absl::StrAppendFormat(
        &text, "%-10s %9d %9d %9d  %s\n", textOf(entry->name()),
        entry->sequences(), entry->rows_per_sequence(),
        entry->pages_per_sequence(),
        entry->all_rows() ? "every row" : "last row of each sequence");
  return text;
}

std::string kernelTable(const fb::Plan& plan) {
  // Launches and slots of one rank of each stage, over all programs.
  std::map<int, std::pair<int64_t, int64_t>> uses;
  for (const StageProgram& program : programsOf(plan))
    for (const fb::Command* command : listOf(program.program->commands())) {
      if (command->kind() != fb::CommandKind::Launch)
        continue;
      ++uses[command->kernel()].first;
      for (const fb::Slot* slot : listOf(command->slots()))
        ++uses[slot->kernel()].second;
    }
  std::string text = absl::StrFormat("%-28s %-12s %8s %8s\n", "kernel", "kind",
                                     "launches", "in slots");
  int number = 0;
  for (const fb::Kernel* kernel : listOf(plan.kernels())) {
    auto [launches, slots] = uses[number++];
    std::string kind = nameOf(kernel->kind());
    if (kernel->kind() == fb::KernelKind::HandTuned)
      absl::StrAppend(&kind, " ", kernel->version());
    absl::StrAppendFormat(&text, "%-28s %-12s %8d %8d\n",
                          textOf(kernel->name()), kind, launches, slots);
  }
  return text;
}

std::string costTable(const fb::Plan& plan) {
  std::string text = absl::StrFormat("%-10s %5s %8s %12s %12s", "entry",
                                     "stage", "launches", "FLOPs", "touched");
  for (const fb::Axis* axis : listOf(plan.axes()))
    absl::StrAppendFormat(&text, " %12s", "sent " + textOf(axis->name()));
  text += "\n";
  for (const fb::CostRow* row : listOf(plan.costs())) {
    absl::StrAppendFormat(
        &text, "%-10s %5d %8d %12.4g %12s", nameOfEntry(plan, row->entry()),
        row->stage(), row->launches(), row->flops(),
        shortBytes(static_cast<int64_t>(row->bytes_touched())));
    for (int64_t bytes : listOf(row->axis_bytes()))
      absl::StrAppendFormat(&text, " %12s", shortBytes(bytes));
    text += "\n";
  }
  return text;
}

std::string codeTable(const fb::Plan& plan) {
  std::string text;
  for (const fb::CodeObject* code : listOf(plan.code()))
    absl::StrAppend(&text, "code         ", nameOfCode(*code), ": ",
                    bytesText(code->image()->size()), " bytes\n");
  return text;
}

} // namespace

std::string memoryTable(const fb::Plan& plan) {
  std::string text;
  int stageNumber = 0;
  for (const fb::Stage* stage : listOf(plan.stages())) {
    std::vector<int> ranks = ranksOfStage(plan, stageNumber);
    absl::StrAppend(&text, "each rank of stage ", stageNumber, " (",
                    ranks.size() == 1 ? "rank " : "ranks ", ranksText(ranks),
                    ")\n");
    absl::StrAppendFormat(&text, "  %-20s %16s %12s %16s\n", "class", "bytes",
                          "", "padding");
    for (const fb::MemoryRow* row : listOf(plan.memory())) {
      if (row->stage() != stageNumber)
        continue;
      absl::StrAppendFormat(&text, "  %-20s %16d %12s %16d%s\n",
                            nameOf(row->memory_class()), row->size_bytes(),
                            shortBytes(row->size_bytes()), row->padding_bytes(),
                            row->peak() ? "  peak" : "");
    }
    for (const fb::Arena* arena : listOf(stage->arenas()))
      absl::StrAppendFormat(
          &text, "  %-20s %16d %12s\n", "arena in " + nameOf(arena->space()),
          arena->size_bytes(), shortBytes(arena->size_bytes()));
    ++stageNumber;
  }
  return text;
}

std::string summarisePlan(const OpenPlan& open) {
  const fb::Plan& plan = open.plan();
  std::string text;
  addLine(text, "plan",
          absl::StrCat(bytesText(open.sizeBytes()), " bytes, schema ",
                       plan.schema_version(), ", by ",
                       textOf(plan.producer())));
  if (const fb::ModelCard* model = plan.model()) {
    addLine(text, "model",
            absl::StrCat(textOf(model->family()), ", ", model->num_parameters(),
                         " parameters, vocabulary ", model->vocab_size(),
                         ", context ", model->context_length()));
    for (auto [name, value] : {std::pair{"weights", model->source()},
                               {"tokenizer", model->tokenizer()},
                               {"chat", model->chat_template()}})
      if (std::string given = textOf(value); !given.empty())
        addLine(text, name, given);
  }
  addLine(text, "for",
          absl::StrCat(textOf(plan.mode()), " on ", textOf(plan.target()),
                       " in ", nameOf(plan.compute_dtype()), ", machine ",
                       textOf(plan.machine())));
  addLine(text, "mesh",
          absl::StrCat(meshText(plan), ": ", llmrt::numRanks(plan),
                       llmrt::numRanks(plan) == 1 ? " rank" : " ranks"));
  addLine(text, "cache",
          absl::StrCat(plan.cache_tokens(), " tokens of ", plan.batch(),
                       plan.batch() == 1 ? " sequence" : " sequences"));
  addLine(text, "options", textOf(plan.options()));
  absl::StrAppend(&text, codeTable(plan), "\n", entryTable(plan), "\n",
                  memoryTable(plan), "\n", kernelTable(plan), "\n",
                  "one rank, all rows valid\n", costTable(plan));
  return text;
}

} // namespace llmc
