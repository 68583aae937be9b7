// SPDX-License-Identifier: Apache-2.0
#include "tests/plan/PlanBuilder.h"

#include "runtime/kernels/KernelAbi.h"
#include "runtime/plan/KernelSignatures.h"

#include <bit>

namespace llmrt::test {

PlanBytes finishPlan(const fb::PlanT& plan) {
  ::flatbuffers::FlatBufferBuilder builder;
  fb::FinishPlanBuffer(builder, fb::CreatePlan(builder, &plan));
  return wrapPlan({builder.GetBufferPointer(), builder.GetSize()});
}

namespace {

fb::WordT word(fb::WordKind kind, int index, int64_t value) {
  fb::WordT w;
  w.kind = kind;
  w.index = index;
  w.value = value;
  return w;
}

} // namespace

fb::WordT integer(int64_t value) {
  return word(fb::WordKind::Integer, -1, value);
}

fb::WordT real(double value) {
  return word(fb::WordKind::Real, -1, std::bit_cast<int64_t>(value));
}

fb::WordT address(int buffer, int64_t offset) {
  return word(fb::WordKind::Address, buffer, offset);
}

fb::WordT rows(int64_t factor) { return word(fb::WordKind::Rows, -1, factor); }

fb::WordT sequences(int64_t factor) {
  return word(fb::WordKind::Sequences, -1, factor);
}

fb::WordT rowsShard(int axis, int64_t factor) {
  return word(fb::WordKind::RowsShard, axis, factor);
}

fb::WordT byCoordinate(int axis, std::vector<int64_t> v) {
  fb::WordT w = word(fb::WordKind::Coordinate, -1, 0);
  w.by_coordinate = values(axis, std::move(v));
  return w;
}

std::unique_ptr<fb::ByCoordinateT> values(int axis, std::vector<int64_t> v) {
  auto value = std::make_unique<fb::ByCoordinateT>();
  value->axis = axis;
  value->values = std::move(v);
  return value;
}

PlanBuilder::PlanBuilder(std::vector<std::pair<std::string, int>> axes) {
  plan.schema_version = kPlanSchemaVersion;
  plan.producer = "PlanBuilder";
  plan.mode = "infer";
  plan.target = "cpu";
  int stages = 1;
  for (auto& [name, size] : axes) {
    auto axis = std::make_unique<fb::AxisT>();
    axis->name = name;
    axis->size = size;
    plan.axes.push_back(std::move(axis));
    if (name == "pp")
      stages = size;
  }
  for (int i = 0; i < stages; ++i) {
    auto stage = std::make_unique<fb::StageT>();
    stage->arenas.push_back(std::make_unique<fb::ArenaT>());
    plan.stages.push_back(std::move(stage));
  }
  auto provenance = std::make_unique<fb::ProvenanceT>();
  provenance->op = "layers.0.test";
  provenance->pass = "by-hand";
  provenance->subject = "layers.0.weight";
  plan.provenance.push_back(std::move(provenance));
}

int PlanBuilder::entry(const std::string& name, int64_t sequences,
                       int64_t rowsPerSequence) {
  auto entry = std::make_unique<fb::EntryT>();
  entry->name = name;
  entry->sequences = sequences;
  entry->rows_per_sequence = rowsPerSequence;
  entry->pages_per_sequence = 1;
  int number = plan.entries.size();
  plan.entries.push_back(std::move(entry));
  for (auto& stage : plan.stages) {
    auto program = std::make_unique<fb::ProgramT>();
    program->entry = number;
    stage->programs.push_back(std::move(program));
  }
  return number;
}

int PlanBuilder::kernel(const std::string& name, int64_t rowTile,
                        int64_t colTile) {
  auto kernel = std::make_unique<fb::KernelT>();
  kernel->kind = fb::KernelKind::HandTuned;
  kernel->name = name;
  kernel->version = newestKernelVersion(name);
  kernel->row_tile = rowTile;
  kernel->col_tile = colTile;
  plan.kernels.push_back(std::move(kernel));
  return plan.kernels.size() - 1;
}

int PlanBuilder::buffer(const std::string& name, fb::MemoryClass memoryClass,
                        int64_t sizeBytes) {
  auto buffer = std::make_unique<fb::BufferT>();
  fb::ArenaT& arena = *stage().arenas[0];
  buffer->name = name;
  buffer->memory_class = memoryClass;
  buffer->offset = arena.size_bytes;
  buffer->size_bytes = sizeBytes;
  arena.size_bytes +=
      (sizeBytes + kBufferAlignment - 1) / kBufferAlignment * kBufferAlignment;
  stage().buffers.push_back(std::move(buffer));
  return stage().buffers.size() - 1;
}

fb::ParameterT& PlanBuilder::parameter(const std::string& name,
                                       std::vector<int64_t> shape, int buffer,
                                       fb::ElementType dtype) {
  auto parameter = std::make_unique<fb::ParameterT>();
  parameter->name = name;
  parameter->global_shape = shape;
  parameter->local_shape = shape;
  parameter->buffer = buffer;
  parameter->dtype = dtype;
  parameter->init = fb::InitKind::Normal;
  parameter->init_std = 1.0;
  stage().parameters.push_back(std::move(parameter));
  return *stage().parameters.back();
}

fb::EntryBuffersT&
PlanBuilder::buffersOf(std::vector<std::unique_ptr<fb::EntryBuffersT>>& all,
                       int entry) {
  for (auto& buffers : all)
    if (buffers->entry == entry)
      return *buffers;
  all.push_back(std::make_unique<fb::EntryBuffersT>());
  all.back()->entry = entry;
  return *all.back();
}

namespace {

void addNamed(fb::EntryBuffersT& buffers, const std::string& name, int buffer,
              fb::ElementType dtype, std::vector<int64_t> shape) {
  auto named = std::make_unique<fb::NamedBufferT>();
  named->name = name;
  named->buffer = buffer;
  named->dtype = dtype;
  named->shape = std::move(shape);
  buffers.buffers.push_back(std::move(named));
}

} // namespace

void PlanBuilder::input(int entry, const std::string& name, int buffer,
                        fb::ElementType dtype, std::vector<int64_t> shape) {
  addNamed(buffersOf(stage().inputs, entry), name, buffer, dtype,
           std::move(shape));
}

void PlanBuilder::output(int entry, const std::string& name, int buffer,
                         fb::ElementType dtype, std::vector<int64_t> shape) {
  addNamed(buffersOf(stage().outputs, entry), name, buffer, dtype,
           std::move(shape));
}

fb::ProgramT& PlanBuilder::program(int entry) {
  if (entry >= 0)
    return *stage().programs[entry];
  if (!stage().initialise) {
    stage().initialise = std::make_unique<fb::ProgramT>();
    stage().initialise->entry = -1;
  }
  return *stage().initialise;
}

fb::CommandT& PlanBuilder::add(int entry, fb::CommandKind kind, int stream) {
  auto command = std::make_unique<fb::CommandT>();
  command->kind = kind;
  command->stream = stream;
  command->provenance = 0;
  program(entry).commands.push_back(std::move(command));
  return *program(entry).commands.back();
}

fb::CommandT& PlanBuilder::launch(int entry, int kernel,
                                  std::vector<fb::WordT> words,
                                  fb::WordT gridRows, int64_t gridCols) {
  fb::CommandT& command = add(entry, fb::CommandKind::Launch, 0);
  command.kernel = kernel;
  for (fb::WordT& w : words)
    command.words.push_back(std::make_unique<fb::WordT>(std::move(w)));
  command.grid_rows = std::make_unique<fb::WordT>(std::move(gridRows));
  command.grid_cols = gridCols;
  return command;
}

fb::CommandT& PlanBuilder::collective(int entry, fb::CommandKind kind,
                                      std::vector<int> axes, int send, int recv,
                                      int64_t bytes, int stream) {
  fb::CommandT& command = add(entry, kind, stream);
  command.axes = std::move(axes);
  command.send_buffer = send;
  command.recv_buffer = recv;
  command.bytes = bytes;
  return command;
}

fb::CommandT& PlanBuilder::copy(int entry, int from, int to, int64_t bytes,
                                int stream) {
  fb::CommandT& command = add(entry, fb::CommandKind::Copy, stream);
  command.send_buffer = from;
  command.recv_buffer = to;
  command.bytes = bytes;
  return command;
}

void PlanBuilder::record(int entry, int event, int stream) {
  add(entry, fb::CommandKind::RecordEvent, stream).event = event;
  program(entry).num_events = std::max(program(entry).num_events, event + 1);
}

void PlanBuilder::wait(int entry, int event, int stream) {
  add(entry, fb::CommandKind::WaitEvent, stream).event = event;
  program(entry).num_events = std::max(program(entry).num_events, event + 1);
}

PlanBuilder tinyModel() {
  constexpr int64_t V = 7;
  constexpr int64_t C = 5;
  constexpr int64_t R = 3;
  using enum fb::ElementType;
  PlanBuilder b;
  int embedding = b.kernel("embedding", 1, 0);
  int linear = b.kernel("linear", 0, 64);
  int prefill = b.entry("prefill", 1, R);
  int decode = b.entry("decode", 1, 1);
  int ids = b.buffer("ids", fb::MemoryClass::Inputs, R * 4);
  int table = b.buffer("embed", fb::MemoryClass::Parameters, V * C * 4);
  int head = b.buffer("head", fb::MemoryClass::Parameters, 32 * C * 4);
  int x = b.buffer("x", fb::MemoryClass::Activations, R * C * 4);
  int logits = b.buffer("logits", fb::MemoryClass::Outputs, R * V * 4);
  b.parameter("embed.weight", {V, C}, table);
  b.parameter("head.weight", {V, C}, head).layout = fb::WeightLayout::Panel;
  for (int entry : {prefill, decode}) {
    int64_t entryRows = entry == prefill ? R : 1;
    b.plan.entries[entry]->all_rows = true;
    b.input(entry, "ids", ids, I32, {1, entryRows});
    b.output(entry, "logits", logits, F32, {entryRows, V});
    std::vector<fb::WordT> words;
    words.push_back(rows());
    words.push_back(address(ids));
    words.push_back(address(table));
    words.push_back(address(x));
    for (int64_t value : {C, int64_t{0}, V, int64_t{0}, int64_t{0}})
      words.push_back(integer(value));
    b.launch(entry, embedding, std::move(words), rows(), C);
    words.clear();
    words.push_back(rows());
    words.push_back(address(x));
    for (int64_t value : {C, C, int64_t{0}, int64_t{1}, int64_t{0}, int64_t{1}})
      words.push_back(integer(value)); // ldx K dtype layout zip count
    words.push_back(address(head));
    words.push_back(address(logits));
    words.push_back(integer(V));
    words.push_back(integer(V));
    while (words.size() < 31)
      words.push_back(integer(0));
    b.launch(entry, linear, std::move(words), rows(), V);
  }
  return b;
}

} // namespace llmrt::test
