// SPDX-License-Identifier: Apache-2.0
// The plan as text, one line for each thing in it. diff compares these lines.
#include "tools/llmc/PlanViews.h"

#include "runtime/plan/KernelSignatures.h"

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"

#include <cstring>

namespace llmc {
namespace {

std::string bufferText(const fb::Stage& stage, int buffer) {
  return absl::StrCat("%", buffer, " ", nameOfBuffer(stage, buffer));
}

std::string coordinateText(const fb::Plan& plan,
                           const fb::ByCoordinate* value) {
  std::string values = absl::StrJoin(listOf(value->values()), ", ");
  if (value->axis() < 0)
    return values;
  return absl::StrCat("by ", textOf(plan.axes()->Get(value->axis())->name()),
                      " {", values, "}");
}

std::string timesText(absl::string_view what, int64_t factor) {
  return factor == 1 ? std::string(what) : absl::StrCat(what, "*", factor);
}

std::string wordText(const fb::Plan& plan, const fb::Stage& stage,
                     const fb::Word& word) {
  switch (word.kind()) {
  case fb::WordKind::Integer:
    return absl::StrCat(word.value());
  case fb::WordKind::Real: {
    double real;
    int64_t bits = word.value();
    std::memcpy(&real, &bits, sizeof real);
    return absl::StrFormat("%.9g", real);
  }
  case fb::WordKind::Address: {
    std::string text = bufferText(stage, word.index());
    return word.value() == 0 ? text : absl::StrCat(text, "+", word.value());
  }
  case fb::WordKind::Coordinate:
    return coordinateText(plan, word.by_coordinate());
  case fb::WordKind::Rows:
    return timesText("rows", word.value());
  case fb::WordKind::Sequences:
    return timesText("sequences", word.value());
  case fb::WordKind::RowsShard:
    return timesText(
        absl::StrCat("rows_of(", textOf(plan.axes()->Get(word.index())->name()),
                     ")"),
        word.value());
  case fb::WordKind::SlotKernel:
    return absl::StrCat("slot", word.index());
  case fb::WordKind::SlotWords:
    return absl::StrCat("words_of_slot", word.index());
  }
  return "?";
}

/// Words of a launch or slot; with their names for a hand-tuned kernel.
std::string wordsText(const fb::Plan& plan, const fb::Stage& stage,
                      const fb::Kernel& kernel,
                      const std::vector<const fb::Word*>& words) {
  const llmrt::KernelSignature* signature =
      kernel.kind() == fb::KernelKind::HandTuned
          ? llmrt::findKernelSignature(textOf(kernel.name()), kernel.version())
          : nullptr;
  std::vector<std::string> texts;
  for (size_t i = 0; i < words.size(); ++i) {
    std::string text = wordText(plan, stage, *words[i]);
    bool isNamed = signature && i < signature->words.size();
    texts.push_back(isNamed ? absl::StrCat(signature->words[i], "=", text)
                            : text);
  }
  return absl::StrCat("(", absl::StrJoin(texts, ", "), ")");
}

std::string launchText(const fb::Plan& plan, const fb::Stage& stage,
                       const fb::Command& command) {
  const fb::Kernel& kernel = *plan.kernels()->Get(command.kernel());
  return absl::StrCat("launch ", textOf(kernel.name()), " grid ",
                      wordText(plan, stage, *command.grid_rows()), " x ",
                      command.grid_cols(), " ",
                      wordsText(plan, stage, kernel, listOf(command.words())));
}

std::string transferText(const fb::Plan& plan, const fb::Stage& stage,
                         const fb::Command& command) {
  std::string text = nameOf(command.kind());
  if (isCollective(command))
    absl::StrAppend(&text, " over ", axesText(plan, command.axes()));
  absl::StrAppend(&text, " ", command.bytes(), " bytes ",
                  nameOf(command.dtype()));
  if (command.send_buffer() >= 0)
    absl::StrAppend(&text, " from ", bufferText(stage, command.send_buffer()));
  if (command.send_offset())
    absl::StrAppend(&text, " at ", coordinateText(plan, command.send_offset()));
  if (command.recv_buffer() >= 0)
    absl::StrAppend(&text, " to ", bufferText(stage, command.recv_buffer()));
  for (auto [name, value] : {std::pair{"root", command.root()},
                             {"peer", command.peer()},
                             {"recv_peer", command.recv_peer()}})
    if (value >= 0)
      absl::StrAppend(&text, " ", name, " ", value);
  return text;
}

void addParameters(const fb::Plan& plan, const fb::Stage& stage,
                   std::string& text) {
  for (const fb::Parameter* parameter : listOf(stage.parameters()))
    absl::StrAppend(&text, "  parameter ", textOf(parameter->name()), " in %",
                    parameter->buffer(), ": ", parameterText(plan, *parameter),
                    "\n");
  for (const fb::Cache* cache : listOf(stage.caches()))
    absl::StrAppend(&text, "  cache ", textOf(cache->name()), " in %",
                    cache->buffer(), ": ", cache->pages(), " pages of ",
                    cache->page_bytes(), " bytes\n");
}

void addBuffers(const fb::Stage& stage, std::string& text) {
  for (const fb::Arena* arena : listOf(stage.arenas()))
    absl::StrAppend(&text, "  arena in ", nameOf(arena->space()), " of ",
                    arena->size_bytes(), " bytes\n");
  int number = 0;
  for (const fb::Buffer* buffer : listOf(stage.buffers()))
    absl::StrAppend(
        &text, "  buffer %", number++, " ", textOf(buffer->name()), ": ",
        nameOf(buffer->memory_class()), " in ", nameOf(buffer->space()), " at ",
        buffer->offset(), ", ", buffer->size_bytes(), " bytes",
        buffer->padding_bytes() > 0
            ? absl::StrCat(", ", buffer->padding_bytes(), " of them padding")
            : "",
        "\n");
}

void addEntryBuffers(
    const fb::Plan& plan, const char* direction,
    const ::flatbuffers::Vector<::flatbuffers::Offset<fb::EntryBuffers>>* all,
    std::string& text) {
  for (const fb::EntryBuffers* list : listOf(all))
    for (const fb::NamedBuffer* named : listOf(list->buffers()))
      absl::StrAppend(
          &text, "  ", direction, " ", nameOfEntry(plan, list->entry()), ".",
          textOf(named->name()), " in %", named->buffer(), ": ",
          nameOf(named->dtype()), " ", shapeText(named->shape()), "\n");
}

void addProgram(const fb::Plan& plan, const StageProgram& program,
                std::string& text) {
  auto commands = listOf(program.program->commands());
  absl::StrAppend(&text, "  program ",
                  program.entry.empty() ? "(once, after loading)"
                                        : program.entry,
                  ": ", commands.size(), " commands, ",
                  program.program->num_events(), " events\n");
  for (size_t i = 0; i < commands.size(); ++i) {
    absl::StrAppendFormat(&text, "    %04d stream %d  %s\n", i,
                          commands[i]->stream(),
                          commandText(plan, *program.holder, *commands[i]));
    for (const std::string& slot :
         slotTexts(plan, *program.holder, *commands[i]))
      absl::StrAppend(&text, "           ", slot, "\n");
  }
}

std::string originText(const Origin& origin) {
  std::string text;
  if (!origin.op.empty())
    absl::StrAppend(&text, "  ; ", origin.op);
  if (!origin.pass.empty())
    absl::StrAppend(&text, text.empty() ? "  ;" : ",", " put there by ",
                    origin.pass);
  if (!origin.subject.empty())
    absl::StrAppend(&text, text.empty() ? "  ;" : "", " for ", origin.subject);
  return text;
}

} // namespace

std::string parameterText(const fb::Plan& plan,
                          const fb::Parameter& parameter) {
  std::string text = absl::StrCat(
      nameOf(parameter.dtype()), " ", shapeText(parameter.global_shape()),
      ", a rank holds ", shapeText(parameter.local_shape()), " ",
      nameOf(parameter.layout()));
  for (const fb::BoxDim* dim : listOf(parameter.box()))
    absl::StrAppend(&text, ", dimension ", dim->dim(), " from ",
                    coordinateText(plan, dim->offset()), " count ",
                    coordinateText(plan, dim->count()));
  if (!listOf(parameter.shard_axes()).empty())
    absl::StrAppend(&text, ", one run of ", parameter.shard_bytes(),
                    " bytes of it: sharded over ",
                    axesText(plan, parameter.shard_axes()));
  if (std::string source = textOf(parameter.source()); !source.empty())
    absl::StrAppend(&text, ", from tensor ", source);
  if (parameter.source_row_begin() >= 0)
    absl::StrAppend(&text, " rows ", parameter.source_row_begin(), " to ",
                    parameter.source_row_end());
  if (parameter.transposed())
    text += ", transposed";
  if (std::string set = textOf(parameter.weight_set()); set != "model")
    absl::StrAppend(&text, ", weight set ", set);
  if (parameter.init() == fb::InitKind::Normal)
    absl::StrAppend(
        &text, absl::StrFormat(", initially normal(%g)", parameter.init_std()));
  else if (parameter.init() != fb::InitKind::None)
    absl::StrAppend(&text, ", initially ", nameOf(parameter.init()));
  return text;
}

std::string commandText(const fb::Plan& plan, const fb::Stage& stage,
                        const fb::Command& command) {
  std::string text;
  switch (command.kind()) {
  case fb::CommandKind::Launch:
    text = launchText(plan, stage, command);
    break;
  case fb::CommandKind::RecordEvent:
  case fb::CommandKind::WaitEvent:
    text = absl::StrCat(nameOf(command.kind()), " ", command.event());
    break;
  default:
    text = transferText(plan, stage, command);
  }
  return text + originText(originOf(plan, command));
}

std::vector<std::string> slotTexts(const fb::Plan& plan, const fb::Stage& stage,
                                   const fb::Command& command) {
  std::vector<std::string> texts;
  for (const fb::Slot* slot : listOf(command.slots())) {
    const fb::Kernel& kernel = *plan.kernels()->Get(slot->kernel());
    texts.push_back(
        absl::StrCat("slot", texts.size(), " ", textOf(kernel.name()), " ",
                     wordsText(plan, stage, kernel, listOf(slot->words()))));
  }
  return texts;
}

std::string disassemble(const fb::Plan& plan) {
  std::string text =
      absl::StrCat("plan ", textOf(plan.mode()), " for ", textOf(plan.target()),
                   " in ", nameOf(plan.compute_dtype()), ", mesh ",
                   meshText(plan), "\noptions ", textOf(plan.options()), "\n");
  int number = 0;
  for (const fb::Kernel* kernel : listOf(plan.kernels()))
    absl::StrAppend(&text, "kernel ", number++, " ", textOf(kernel->name()),
                    ": ", nameOf(kernel->kind()), " version ",
                    kernel->version(), ", tile ", kernel->row_tile(), " x ",
                    kernel->col_tile(), ", scratch ", kernel->scratch_bytes(),
                    "\n");
  for (const fb::CodeObject* code : listOf(plan.code()))
    absl::StrAppend(&text, "code ", nameOfCode(*code), ": ",
                    code->image()->size(), " bytes\n");
  for (const fb::Entry* entry : listOf(plan.entries()))
    absl::StrAppend(&text, "entry ", textOf(entry->name()), ": ",
                    entry->sequences(), " sequences x ",
                    entry->rows_per_sequence(), " rows, ",
                    entry->pages_per_sequence(), " pages each\n");
  std::vector<StageProgram> programs = programsOf(plan);
  int stageNumber = 0;
  for (const fb::Stage* stage : listOf(plan.stages())) {
    absl::StrAppend(&text, "stage ", stageNumber, " of ranks ",
                    ranksText(ranksOfStage(plan, stageNumber)), "\n");
    addParameters(plan, *stage, text);
    addBuffers(*stage, text);
    addEntryBuffers(plan, "input", stage->inputs(), text);
    addEntryBuffers(plan, "output", stage->outputs(), text);
    for (const StageProgram& program : programs)
      if (program.stage == stageNumber)
        addProgram(plan, program, text);
    ++stageNumber;
  }
  return text;
}

} // namespace llmc
