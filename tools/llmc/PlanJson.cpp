// SPDX-License-Identifier: Apache-2.0
// Keys are stable: a key may be added, never renamed (docs/reference/llmc.md).
#include "tools/llmc/PlanCounters.h"
#include "tools/llmc/PlanViews.h"
#include "tools/llmc/StepReport.h"

#include "runtime/plan/KernelSignatures.h"

#include "absl/strings/str_format.h"
#include "nlohmann/json.hpp"

#include <cstring>

namespace llmc {
namespace {

using Json = nlohmann::ordered_json;

Json byCoordinateJson(const fb::Plan& plan, const fb::ByCoordinate* value) {
  if (!value)
    return nullptr;
  Json axis = value->axis() < 0
                  ? Json(nullptr)
                  : Json(textOf(plan.axes()->Get(value->axis())->name()));
  return {{"axis", axis}, {"values", listOf(value->values())}};
}

Json axisNames(const fb::Plan& plan,
               const ::flatbuffers::Vector<int32_t>* axes) {
  Json names = Json::array();
  for (int axis : listOf(axes))
    names.push_back(textOf(plan.axes()->Get(axis)->name()));
  return names;
}

Json wordJson(const fb::Plan& plan, const fb::Stage& stage,
              const fb::Word& word, const std::string& name) {
  Json json = Json::object();
  if (!name.empty())
    json["name"] = name;
  json["kind"] = snakeCase(fb::EnumNameWordKind(word.kind()));
  switch (word.kind()) {
  case fb::WordKind::Real: {
    double real;
    int64_t bits = word.value();
    std::memcpy(&real, &bits, sizeof real);
    json["value"] = real;
    break;
  }
  case fb::WordKind::Address:
    json["buffer"] = word.index();
    json["buffer_name"] = nameOfBuffer(stage, word.index());
    json["offset"] = word.value();
    break;
  case fb::WordKind::Coordinate:
    json["by_coordinate"] = byCoordinateJson(plan, word.by_coordinate());
    break;
  case fb::WordKind::RowsShard:
    json["axis"] = textOf(plan.axes()->Get(word.index())->name());
    json["value"] = word.value();
    break;
  case fb::WordKind::SlotKernel:
  case fb::WordKind::SlotWords:
    json["slot"] = word.index();
    break;
  default:
    json["value"] = word.value();
  }
  return json;
}

Json wordsJson(
    const fb::Plan& plan, const fb::Stage& stage, const fb::Kernel& kernel,
    const ::flatbuffers::Vector<::flatbuffers::Offset<fb::Word>>* words) {
  const llmrt::KernelSignature* signature =
      kernel.kind() == fb::KernelKind::HandTuned
          ? llmrt::findKernelSignature(textOf(kernel.name()), kernel.version())
          : nullptr;
  Json list = Json::array();
  for (const fb::Word* word : listOf(words)) {
    bool isNamed = signature && list.size() < signature->words.size();
    list.push_back(
        wordJson(plan, stage, *word,
                 isNamed ? std::string(signature->words[list.size()]) : ""));
  }
  return list;
}

void addLaunch(const fb::Plan& plan, const StageProgram& program,
               const fb::Command& command, Json& json) {
  const fb::Kernel& kernel = *plan.kernels()->Get(command.kernel());
  json["kernel"] = textOf(kernel.name());
  json["grid_rows"] = wordJson(plan, *program.holder, *command.grid_rows(), "");
  json["grid_columns"] = command.grid_cols();
  json["flops"] = flopsOf(plan, *program.program, command);
  json["words"] = wordsJson(plan, *program.holder, kernel, command.words());
  json["slots"] = Json::array();
  for (const fb::Slot* slot : listOf(command.slots())) {
    const fb::Kernel& called = *plan.kernels()->Get(slot->kernel());
    json["slots"].push_back(
        {{"kernel", textOf(called.name())},
         {"words", wordsJson(plan, *program.holder, called, slot->words())}});
  }
}

void addTransfer(const fb::Plan& plan, const fb::Stage& stage,
                 const fb::Command& command, Json& json) {
  if (isCollective(command)) {
    json["axes"] = axisNames(plan, command.axes());
    json["sent_bytes"] = sentBy(plan, command).bytes;
  }
  json["bytes"] = command.bytes();
  json["dtype"] = nameOf(command.dtype());
  for (auto [key, buffer] : {std::pair{"send", command.send_buffer()},
                             {"receive", command.recv_buffer()}})
    if (buffer >= 0) {
      json[std::string(key) + "_buffer"] = buffer;
      json[std::string(key) + "_buffer_name"] = nameOfBuffer(stage, buffer);
    }
  if (command.send_offset())
    json["send_offset"] = byCoordinateJson(plan, command.send_offset());
  for (auto [key, value] : {std::pair{"root", command.root()},
                            {"peer", command.peer()},
                            {"receive_peer", command.recv_peer()}})
    if (value >= 0)
      json[key] = value;
}

Json commandJson(const fb::Plan& plan, const StageProgram& program,
                 const fb::Command& command, int index) {
  Origin origin = originOf(plan, command);
  Json json = {{"index", index},
               {"kind", nameOf(command.kind())},
               {"stream", command.stream()},
               {"op", origin.op},
               {"pass", origin.pass},
               {"subject", origin.subject}};
  if (command.kind() == fb::CommandKind::Launch)
    addLaunch(plan, program, command, json);
  else if (command.event() >= 0)
    json["event"] = command.event();
  else
    addTransfer(plan, *program.holder, command, json);
  return json;
}

Json parameterJson(const fb::Plan& plan, const fb::Parameter& parameter) {
  Json box = Json::array();
  for (const fb::BoxDim* dim : listOf(parameter.box()))
    box.push_back({{"dimension", dim->dim()},
                   {"offset", byCoordinateJson(plan, dim->offset())},
                   {"count", byCoordinateJson(plan, dim->count())}});
  Json json = {{"name", textOf(parameter.name())},
               {"source", textOf(parameter.source())},
               {"weight_set", textOf(parameter.weight_set())},
               {"transposed", parameter.transposed()},
               {"source_row_begin", parameter.source_row_begin()},
               {"source_row_end", parameter.source_row_end()},
               {"dtype", nameOf(parameter.dtype())},
               {"shape", listOf(parameter.global_shape())},
               {"local_shape", listOf(parameter.local_shape())},
               {"box", box},
               {"layout", nameOf(parameter.layout())},
               {"buffer", parameter.buffer()},
               {"shard_axes", axisNames(plan, parameter.shard_axes())},
               {"shard_bytes", parameter.shard_bytes()},
               {"init", nameOf(parameter.init())}};
  if (parameter.init() == fb::InitKind::Normal)
    json["init_std"] = parameter.init_std();
  return json;
}

Json buffersJson(const fb::Stage& stage) {
  Json list = Json::array();
  for (const fb::Buffer* buffer : listOf(stage.buffers()))
    list.push_back(
        {{"index", list.size()},
         {"name", textOf(buffer->name())},
         {"space", nameOf(buffer->space())},
         {"class", nameOf(buffer->memory_class())},
         {"offset", buffer->offset()},
         {"bytes", buffer->size_bytes()},
         {"padding_bytes", buffer->padding_bytes()},
         {"slot_kind", snakeCase(fb::EnumNameSlotKind(buffer->slot_kind()))},
         {"slots", buffer->slots()}});
  return list;
}

Json entryBuffersJson(
    const fb::Plan& plan,
    const ::flatbuffers::Vector<::flatbuffers::Offset<fb::EntryBuffers>>* all) {
  Json list = Json::array();
  for (const fb::EntryBuffers* of : listOf(all))
    for (const fb::NamedBuffer* named : listOf(of->buffers()))
      list.push_back({{"entry", nameOfEntry(plan, of->entry())},
                      {"name", textOf(named->name())},
                      {"buffer", named->buffer()},
                      {"dtype", nameOf(named->dtype())},
                      {"shape", listOf(named->shape())}});
  return list;
}

Json stageJson(const fb::Plan& plan, const fb::Stage& stage, int number) {
  Json json = {{"stage", number}, {"ranks", ranksOfStage(plan, number)}};
  json["arenas"] = Json::array();
  for (const fb::Arena* arena : listOf(stage.arenas()))
    json["arenas"].push_back(
        {{"space", nameOf(arena->space())}, {"bytes", arena->size_bytes()}});
  json["parameters"] = Json::array();
  for (const fb::Parameter* parameter : listOf(stage.parameters()))
    json["parameters"].push_back(parameterJson(plan, *parameter));
  json["caches"] = Json::array();
  for (const fb::Cache* cache : listOf(stage.caches()))
    json["caches"].push_back({{"name", textOf(cache->name())},
                              {"buffer", cache->buffer()},
                              {"pages", cache->pages()},
                              {"page_bytes", cache->page_bytes()}});
  json["buffers"] = buffersJson(stage);
  json["inputs"] = entryBuffersJson(plan, stage.inputs());
  json["outputs"] = entryBuffersJson(plan, stage.outputs());
  json["programs"] = Json::array();
  for (const StageProgram& program : programsOf(plan)) {
    if (program.stage != number)
      continue;
    Json commands = Json::array();
    for (const fb::Command* command : listOf(program.program->commands()))
      commands.push_back(commandJson(plan, program, *command,
                                     static_cast<int>(commands.size())));
    json["programs"].push_back({{"entry", program.entry},
                                {"events", program.program->num_events()},
                                {"commands", commands}});
  }
  return json;
}

Json modelJson(const fb::ModelCard* model) {
  if (!model)
    return nullptr;
  return {{"family", textOf(model->family())},
          {"vocab_size", model->vocab_size()},
          {"context_length", model->context_length()},
          {"source", textOf(model->source())},
          {"tokenizer", textOf(model->tokenizer())},
          {"chat_template", textOf(model->chat_template())},
          {"num_parameters", model->num_parameters()},
          {"digest", absl::StrFormat("%016x", model->digest())}};
}

Json memoryJson(const fb::Plan& plan) {
  Json list = Json::array();
  for (const fb::MemoryRow* row : listOf(plan.memory()))
    list.push_back({{"stage", row->stage()},
                    {"class", nameOf(row->memory_class())},
                    {"bytes", row->size_bytes()},
                    {"padding_bytes", row->padding_bytes()},
                    {"peak", row->peak()}});
  return list;
}

Json costsJson(const fb::Plan& plan) {
  Json list = Json::array();
  for (const fb::CostRow* row : listOf(plan.costs())) {
    Json sent = Json::object();
    int axis = 0;
    for (int64_t bytes : listOf(row->axis_bytes()))
      sent[textOf(plan.axes()->Get(axis++)->name())] = bytes;
    list.push_back({{"stage", row->stage()},
                    {"entry", nameOfEntry(plan, row->entry())},
                    {"launches", row->launches()},
                    {"flops", row->flops()},
                    {"touched_bytes", row->bytes_touched()},
                    {"sent_bytes", sent}});
  }
  return list;
}

Json stepJson(const fb::Plan& plan) {
  std::vector<StageStep> steps = stepsOfStages(plan);
  if (steps.empty())
    return nullptr;
  auto bubble = bubbleFraction(plan);
  Json json = {{"bubble_fraction", bubble.ok() ? Json(*bubble) : Json(nullptr)},
               {"stages", Json::array()}};
  for (const StageStep& step : steps) {
    Json sent = Json::object();
    for (size_t axis = 0; axis < step.sentBytes.size(); ++axis)
      sent[textOf(plan.axes()->Get(axis)->name())] = step.sentBytes[axis];
    json["stages"].push_back({{"stage", json["stages"].size()},
                              {"flops", step.flops},
                              {"sent_bytes", sent}});
  }
  return json;
}

} // namespace

std::string planJson(const OpenPlan& open) {
  const fb::Plan& plan = open.plan();
  Json json = {{"kind", "plan"},
               {"schema_version", plan.schema_version()},
               {"producer", textOf(plan.producer())},
               {"mode", textOf(plan.mode())},
               {"target", textOf(plan.target())},
               {"compute_dtype", nameOf(plan.compute_dtype())},
               {"machine", textOf(plan.machine())},
               {"options", textOf(plan.options())},
               {"batch", plan.batch()},
               {"cache_tokens", plan.cache_tokens()},
               {"ranks", llmrt::numRanks(plan)}};
  json["model"] = modelJson(plan.model());
  json["mesh"] = Json::array();
  for (const fb::Axis* axis : listOf(plan.axes()))
    json["mesh"].push_back(
        {{"axis", textOf(axis->name())}, {"ranks", axis->size()}});
  json["counters"] = Json::object();
  for (const Counter& counter : countPlan(open))
    json["counters"][counter.name] = counter.value;
  json["entries"] = Json::array();
  for (const fb::Entry* entry : listOf(plan.entries()))
    json["entries"].push_back(
        {{"name", textOf(entry->name())},
         {"sequences", entry->sequences()},
         {"rows_per_sequence", entry->rows_per_sequence()},
         {"pages_per_sequence", entry->pages_per_sequence()},
         {"all_rows", entry->all_rows()}});
  json["kernels"] = Json::array();
  for (const fb::Kernel* kernel : listOf(plan.kernels()))
    json["kernels"].push_back({{"name", textOf(kernel->name())},
                               {"kind", nameOf(kernel->kind())},
                               {"version", kernel->version()},
                               {"row_tile", kernel->row_tile()},
                               {"column_tile", kernel->col_tile()},
                               {"scratch_bytes", kernel->scratch_bytes()}});
  json["code"] = Json::array();
  for (const fb::CodeObject* code : listOf(plan.code()))
    json["code"].push_back({{"target", textOf(code->target())},
                            {"level", nameOfCodeLevel(*code)},
                            {"bytes", code->image()->size()}});
  json["memory"] = memoryJson(plan);
  json["costs"] = costsJson(plan);
  json["step"] = stepJson(plan);
  json["stages"] = Json::array();
  int number = 0;
  for (const fb::Stage* stage : listOf(plan.stages()))
    json["stages"].push_back(stageJson(plan, *stage, number++));
  return json.dump(1, ' ', false, Json::error_handler_t::replace) + "\n";
}

} // namespace llmc
