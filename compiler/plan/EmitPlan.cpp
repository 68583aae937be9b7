// SPDX-License-Identifier: Apache-2.0
// Writes plan.fbs tables from `plan` ops, one function per table. It decides
// nothing: what is not in the IR is not in the plan. Over 500 lines because it
// has one function per table of the schema.
#include "compiler/plan/EmitPlan.h"

#include "compiler/codegen/CpuCodegen.h"
#include "compiler/codegen/CudaCodegen.h"
#include "compiler/codegen/LowerLinalgToGpu.h"
#include "compiler/passes/Buckets.h"
#include "compiler/passes/KernelTile.h"
#include "compiler/passes/Options.h"
#include "compiler/passes/TrainingForward.h"
#include "compiler/plan/Counters.h"
#include "compiler/plan/OutsideMemory.h"
#include "compiler/target/Target.h"
#include "dialects/plan/Plan.h"
#include "runtime/plan/PlanFile.h"

#include "llvm/ADT/StringMap.h"
#include "llvm/ADT/StringSwitch.h"

#include <map>

using namespace mlir;
namespace fb = llmrt::fb;

namespace llmc {
namespace {

constexpr const char* kProducer = "llmc 0.1.0";

fb::MemoryClass memoryClass(StringRef name) {
  return llvm::StringSwitch<fb::MemoryClass>(name)
      .Case("parameters", fb::MemoryClass::Parameters)
      .Case("gathered_parameters", fb::MemoryClass::GatheredParameters)
      .Case("caches", fb::MemoryClass::Caches)
      .Case("activations", fb::MemoryClass::Activations)
      .Case("communication", fb::MemoryClass::Communication)
      .Case("workspace", fb::MemoryClass::Workspace)
      .Case("inputs", fb::MemoryClass::Inputs)
      .Case("outputs", fb::MemoryClass::Outputs)
      .Case("constants", fb::MemoryClass::Constants)
      .Case("gradients", fb::MemoryClass::Gradients)
      .Case("optimizer", fb::MemoryClass::Optimizer)
      .Default(fb::MemoryClass::Workspace);
}

fb::WeightLayout weightLayout(StringRef name) {
  return llvm::StringSwitch<fb::WeightLayout>(name)
      .Case("panel", fb::WeightLayout::Panel)
      .Case("q8_0", fb::WeightLayout::Q8_0)
      .Case("q4_0", fb::WeightLayout::Q4_0)
      .Default(fb::WeightLayout::RowMajor);
}

fb::ElementType elementType(Type type) {
  if (type.isBF16())
    return fb::ElementType::BF16;
  if (type.isF16())
    return fb::ElementType::F16;
  if (type.isInteger(32))
    return fb::ElementType::I32;
  if (type.isInteger(64))
    return fb::ElementType::I64;
  if (type.isF64())
    return fb::ElementType::F64;
  if (type.isInteger(8))
    return fb::ElementType::U8;
  return fb::ElementType::F32;
}

fb::CommandKind commandKind(StringRef name) {
  return llvm::StringSwitch<fb::CommandKind>(name)
      .Case("all_gather", fb::CommandKind::AllGather)
      .Case("reduce_scatter", fb::CommandKind::ReduceScatter)
      .Case("all_reduce", fb::CommandKind::AllReduce)
      .Case("all_to_all", fb::CommandKind::AllToAll)
      .Case("broadcast", fb::CommandKind::Broadcast)
      .Case("send", fb::CommandKind::Send)
      .Case("recv", fb::CommandKind::Recv)
      .Case("copy", fb::CommandKind::Copy)
      .Default(fb::CommandKind::Exchange);
}

class Emitter {
public:
  Emitter(ModuleOp module, PlanCode code)
      : module_(module), planCode_(code), symbols_(module) {}

  FailureOr<std::vector<uint8_t>> emit() {
    if (auto mesh = module_.getOps<dist::MeshOp>(); !mesh.empty())
      for (auto [name, n] :
           llvm::zip((*mesh.begin()).getAxes(), (*mesh.begin()).getSizes())) {
        axes_.push_back(cast<StringAttr>(name).str());
        axisSizes_.push_back(n);
      }
    for (auto kernel : module_.getOps<plan::KernelOp>())
      kernelIndex_[kernel.getSymName()] = kernelIndex_.size();
    for (auto entry : module_.getOps<plan::EntryOp>())
      entryIndex_[entry.getSymName().drop_front(6)] = entryIndex_.size();
    Options options = Options::read(module_);
    auto target = parseTarget(options.target);
    if (!target.ok())
      return module_.emitError(std::string(target.status().message()));
    target_ = *std::move(target);
    auto code = generateCode();
    if (failed(code))
      return failure();
    auto kernels = emitKernels();
    auto entries = emitEntries();
    std::vector<flatbuffers::Offset<fb::Stage>> stages;
    for (auto stage : module_.getOps<plan::StageOp>())
      stages.push_back(emitStage(stage));
    auto stagesOffset = b_.CreateVector(stages);
    std::vector<flatbuffers::Offset<fb::Axis>> axes;
    for (auto [name, n] : llvm::zip(axes_, axisSizes_))
      axes.push_back(fb::CreateAxis(b_, str(name), n));
    auto axesOffset = b_.CreateVector(axes);
    auto memory = emitMemory();
    auto costs = emitCosts();
    auto card = emitModelCard();
    std::vector<flatbuffers::Offset<fb::Provenance>> provenance;
    for (const auto& [op, pass, subject] : provenanceList_)
      provenance.push_back(
          fb::CreateProvenance(b_, str(op), str(pass), str(subject)));
    auto provenanceOffset = b_.CreateVector(provenance);
    std::string optionText;
    llvm::raw_string_ostream(optionText)
        << module_->getAttr(llm::LlmDialect::kOptionsAttr);
    auto producer = str(kProducer), mode = str(options.mode),
         targetName = str(target_.name()),
         machine = str(target_.isCuda ? "cuda-generic" : "cpu-generic"),
         optionOffset = str(optionText);
    fb::PlanBuilder plan(b_);
    plan.add_schema_version(llmrt::kPlanSchemaVersion);
    plan.add_producer(producer);
    plan.add_mode(mode);
    plan.add_target(targetName);
    plan.add_compute_dtype(options.dtype == "bf16" ? fb::ElementType::BF16
                                                   : fb::ElementType::F32);
    plan.add_machine(machine);
    plan.add_options(optionOffset);
    plan.add_model(card);
    plan.add_axes(axesOffset);
    plan.add_batch(options.batch);
    plan.add_cache_tokens(options.seq);
    plan.add_micro_batches(options.mode == "train" ? options.microbatches : 0);
    plan.add_entries(entries);
    plan.add_stages(stagesOffset);
    plan.add_kernels(kernels);
    plan.add_code(*code);
    plan.add_provenance(provenanceOffset);
    plan.add_memory(memory);
    plan.add_costs(costs);
    b_.Finish(plan.Finish(), fb::PlanIdentifier());
    return std::vector<uint8_t>(b_.GetBufferPointer(),
                                b_.GetBufferPointer() + b_.GetSize());
  }

private:
  using StringOffset = flatbuffers::Offset<flatbuffers::String>;

  StringOffset str(StringRef text) {
    return b_.CreateSharedString(text.data(), text.size());
  }

  int axisIndex(StringRef axis) {
    auto found = llvm::find(axes_, axis.str());
    return found == axes_.end() ? -1 : found - axes_.begin();
  }

  flatbuffers::Offset<fb::ByCoordinate> byCoordinate(StringRef axis,
                                                     ArrayRef<int64_t> values) {
    auto v = b_.CreateVector(values.data(), values.size());
    return fb::CreateByCoordinate(b_, axis.empty() ? -1 : axisIndex(axis), v);
  }

  FailureOr<flatbuffers::Offset<
      flatbuffers::Vector<flatbuffers::Offset<fb::CodeObject>>>>
  generateCode() {
    SmallVector<plan::KernelOp> generated;
    for (auto kernel : module_.getOps<plan::KernelOp>())
      if (kernel.isGenerated() && planCode_ == PlanCode::Generate)
        generated.push_back(kernel);
    std::vector<flatbuffers::Offset<fb::CodeObject>> offsets;
    if (!generated.empty()) {
      auto objects = target_.isCuda
                         ? generateCudaCode(module_, generated, target_)
                         : generateCpuCode(module_, generated, {0, 1, 2});
      if (failed(objects))
        return failure();
      for (const CodeObject& object : *objects) {
        b_.ForceVectorAlignment(object.image.size(), 1, 64);
        auto image = b_.CreateVector(object.image);
        largestImageBytes_ =
            std::max<int64_t>(largestImageBytes_, object.image.size());
        offsets.push_back(
            fb::CreateCodeObject(b_, str(object.target), object.level, image));
      }
    }
    return b_.CreateVector(offsets);
  }

  flatbuffers::Offset<flatbuffers::Vector<flatbuffers::Offset<fb::Kernel>>>
  emitKernels() {
    std::vector<flatbuffers::Offset<fb::Kernel>> kernels;
    for (auto kernel : module_.getOps<plan::KernelOp>()) {
      if (kernel.isGenerated()) {
        // A row kernel takes whole rows; an elementwise one on the CPU any 64
        // columns.
        int64_t columns = target_.isCuda ? kElementwiseColumns : 64;
        kernels.push_back(fb::CreateKernel(
            b_, fb::KernelKind::Generated, str(kernel.getSymName()), 0, 1,
            kernel.getElementwise() ? columns : 0, 0));
        continue;
      }
      StringRef name = *kernel.getHandTuned();
      KernelTile tile =
          handTunedTile(name, target_.isCuda).value_or(KernelTile{0, 0});
      kernels.push_back(fb::CreateKernel(b_, fb::KernelKind::HandTuned,
                                         str(name), *kernel.getVersion(),
                                         tile.rows, tile.columns, 0));
    }
    return b_.CreateVector(kernels);
  }

  flatbuffers::Offset<flatbuffers::Vector<flatbuffers::Offset<fb::Entry>>>
  emitEntries() {
    std::vector<flatbuffers::Offset<fb::Entry>> entries;
    for (auto entry : module_.getOps<plan::EntryOp>())
      entries.push_back(fb::CreateEntry(
          b_, str(entry.getSymName().drop_front(6)), entry.getSequences(),
          entry.getRows(), entry.getPages(), entry.getAllRows()));
    return b_.CreateVector(entries);
  }

  flatbuffers::Offset<fb::Word> emitWord(plan::WordAttr word) {
    flatbuffers::Offset<fb::ByCoordinate> by = 0;
    int index = -1;
    int64_t value = word.getValue();
    if (word.getBuffer())
      index = bufferIndex_.lookup(word.getBuffer().getValue());
    if (auto c = word.getCoordinates())
      by = byCoordinate(c.getAxis().getValue(), c.getValues());
    if (word.getAxis())
      index = axisIndex(word.getAxis().getValue());
    bool isSlot = word.getKind() == plan::WordKind::slot_kernel ||
                  word.getKind() == plan::WordKind::slot_words;
    if (isSlot) {
      index = value;
      value = 0;
    }
    return fb::CreateWord(b_, static_cast<fb::WordKind>(word.getKind()), index,
                          value, by);
  }

  template <typename Range>
  auto emitWords(Range words) {
    std::vector<flatbuffers::Offset<fb::Word>> offsets;
    for (auto word : words)
      offsets.push_back(emitWord(word));
    return b_.CreateVector(offsets);
  }

  int provenance(Operation* op, StringRef pass, StringRef subject) {
    auto key =
        std::make_tuple(locationName(op->getLoc()), pass.str(), subject.str());
    auto [it, isNew] =
        provenanceIndex_.try_emplace(key, provenanceList_.size());
    if (isNew)
      provenanceList_.push_back(key);
    return it->second;
  }

  flatbuffers::Offset<fb::Command> emitRun(plan::RunOp op) {
    auto words = emitWords(op.getWords().getAsRange<plan::WordAttr>());
    std::vector<flatbuffers::Offset<fb::Slot>> slots;
    for (auto slot : op.getSlots().getAsRange<plan::SlotWordsAttr>()) {
      auto slotWords = emitWords(slot.getWords());
      slots.push_back(fb::CreateSlot(
          b_, kernelIndex_.lookup(slot.getKernel().getValue()), slotWords));
    }
    auto slotOffset = b_.CreateVector(slots);
    auto gridRows = emitWord(op.getGridRows());
    fb::CommandBuilder command(b_);
    command.add_kind(fb::CommandKind::Launch);
    command.add_stream(op.getStream());
    command.add_provenance(provenance(op, "", ""));
    command.add_kernel(kernelIndex_.lookup(op.getKernel()));
    command.add_words(words);
    command.add_slots(slotOffset);
    command.add_grid_rows(gridRows);
    command.add_grid_cols(op.getGridColumns());
    return command.Finish();
  }

  flatbuffers::Offset<fb::Command> emitCollective(plan::CollectiveOp op) {
    std::vector<int> axes;
    for (Attribute axis : op.getAxes())
      axes.push_back(axisIndex(cast<StringAttr>(axis).getValue()));
    auto axesOffset = b_.CreateVector(axes);
    flatbuffers::Offset<fb::ByCoordinate> sendOffset = 0;
    if (auto by =
            dyn_cast_or_null<dist::ByCoordinateAttr>(op.getSendOffsetAttr()))
      sendOffset = byCoordinate(by.getAxis().getValue(), by.getValues());
    auto buffer = [&](StringRef name) {
      return name.empty() ? -1 : bufferIndex_.lookup(name);
    };
    int where =
        provenance(op, op.getPass().value_or(""), op.getSubject().value_or(""));
    SmallVector<plan::WordAttr> parts = partWords(op);
    flatbuffers::Offset<flatbuffers::Vector<flatbuffers::Offset<fb::Word>>>
        words = 0;
    if (!parts.empty())
      words = emitWords(parts);
    fb::CommandBuilder command(b_);
    command.add_words(words);
    command.add_kind(commandKind(op.getKind()));
    command.add_stream(op.getStream());
    command.add_provenance(where);
    command.add_axes(axesOffset);
    command.add_send_buffer(buffer(op.getSend()));
    command.add_send_offset(sendOffset);
    command.add_recv_buffer(buffer(op.getRecv()));
    command.add_bytes(op.getBytes());
    command.add_dtype(elementType(op.getElement()));
    command.add_root(op.getRoot());
    command.add_peer(op.getPeer());
    return command.Finish();
  }

  flatbuffers::Offset<fb::Command> emitEvent(fb::CommandKind kind, int event,
                                             int stream, Operation* op) {
    int where = provenance(op, "", "");
    fb::CommandBuilder command(b_);
    command.add_kind(kind);
    command.add_stream(stream);
    command.add_provenance(where);
    command.add_event(event);
    return command.Finish();
  }

  flatbuffers::Offset<fb::Program> emitProgram(plan::ProgramOp program) {
    std::vector<flatbuffers::Offset<fb::Command>> commands;
    int numEvents = 0;
    for (Operation& op : program.getBody().front()) {
      if (auto run = dyn_cast<plan::RunOp>(op)) {
        commands.push_back(emitRun(run));
      } else if (auto collective = dyn_cast<plan::CollectiveOp>(op)) {
        commands.push_back(emitCollective(collective));
      } else if (auto record = dyn_cast<plan::RecordEventOp>(op)) {
        numEvents = std::max<int>(numEvents, record.getEvent() + 1);
        commands.push_back(emitEvent(fb::CommandKind::RecordEvent,
                                     record.getEvent(), record.getStream(),
                                     record));
      } else if (auto wait = dyn_cast<plan::WaitEventOp>(op)) {
        commands.push_back(emitEvent(fb::CommandKind::WaitEvent,
                                     wait.getEvent(), wait.getStream(), wait));
      }
    }
    auto list = b_.CreateVector(commands);
    bool isEntry = !program.getEntry().empty();
    return fb::CreateProgram(
        b_, isEntry ? entryIndex_.lookup(program.getEntry()) : -1, list,
        numEvents);
  }

  flatbuffers::Offset<fb::Parameter> emitParameter(plan::ParameterOp op) {
    auto param = symbols_.lookup<llm::ParamOp>(op.getParam());
    auto type = cast<RankedTensorType>(param.getType());
    auto local = param.getComputeType();
    auto globalShape = b_.CreateVector(std::vector<int64_t>(type.getShape()));
    auto localShape = b_.CreateVector(std::vector<int64_t>(local.getShape()));
    std::vector<flatbuffers::Offset<fb::BoxDim>> box;
    if (auto slice = dyn_cast_or_null<dist::SliceAttr>(param.getSliceAttr())) {
      StringRef axis = slice.getAxis().getValue();
      auto offset = byCoordinate(axis, slice.getOffsets());
      auto count = byCoordinate(axis, slice.getCounts());
      box.push_back(fb::CreateBoxDim(b_, slice.getDim(), offset, count));
    }
    auto boxOffset = b_.CreateVector(box);
    std::vector<int> shardAxes;
    if (auto shard = dyn_cast_or_null<dist::ShardAttr>(param.getShardAttr()))
      for (StringAttr axis : shard.getAxes())
        shardAxes.push_back(axisIndex(axis.getValue()));
    auto shardOffset = b_.CreateVector(shardAxes);
    StringRef logical = param.getSymName(); // that of the model's own parameter
    if (param.getWeightSet() == kReferenceSet)
      logical.consume_front(kReferencePrefix);
    auto name = str(logical), source = str(param.getSource().value_or("")),
         set = str(param.getWeightSet().value_or("model"));
    fb::ParameterBuilder p(b_);
    p.add_name(name);
    p.add_source(source);
    p.add_weight_set(set);
    p.add_transposed(param.getTransposed());
    if (auto rows = param->getAttrOfType<ArrayAttr>("rows")) {
      p.add_source_row_begin(cast<IntegerAttr>(rows[0]).getInt());
      p.add_source_row_end(cast<IntegerAttr>(rows[1]).getInt());
    }
    p.add_global_shape(globalShape);
    p.add_local_shape(localShape);
    p.add_box(boxOffset);
    p.add_dtype(elementType(type.getElementType()));
    p.add_layout(weightLayout(op.getLayout()));
    p.add_buffer(bufferIndex_.lookup(op.getBuffer()));
    p.add_shard_axes(shardOffset);
    p.add_shard_bytes(op.getShardBytes());
    if (llm::InitAttr init = param.getInitAttr()) {
      p.add_init(static_cast<fb::InitKind>(init.getKind()));
      p.add_init_std(init.getStd());
    }
    return p.Finish();
  }

  flatbuffers::Offset<fb::EntryBuffers> emitNamed(plan::ProgramOp program,
                                                  DictionaryAttr dict) {
    std::vector<flatbuffers::Offset<fb::NamedBuffer>> list;
    for (NamedAttribute attr : dict) {
      StringRef buffer = cast<StringAttr>(attr.getValue()).getValue();
      auto type = cast<ShapedType>(bufferType_.lookup(buffer));
      auto shape = b_.CreateVector(std::vector<int64_t>(type.getShape()));
      list.push_back(fb::CreateNamedBuffer(
          b_, str(attr.getName().getValue()), bufferIndex_.lookup(buffer),
          elementType(type.getElementType()), shape));
    }
    auto offset = b_.CreateVector(list);
    return fb::CreateEntryBuffers(b_, entryIndex_.lookup(program.getEntry()),
                                  offset);
  }

  flatbuffers::Offset<fb::Stage> emitStage(plan::StageOp stage) {
    bufferIndex_.clear();
    std::vector<flatbuffers::Offset<fb::Buffer>> buffers;
    for (auto buffer : stage.getOps<plan::BufferOp>()) {
      bufferIndex_[buffer.getSymName()] = buffers.size();
      bufferType_[buffer.getSymName()] = buffer.getType();
      buffers.push_back(fb::CreateBuffer(
          b_, str(buffer.getSymName()), fb::MemorySpace::Device,
          memoryClass(buffer.getMemoryClass()), buffer.getOffset().value_or(0),
          buffer.getBytes(), buffer.getPaddingBytes(),
          slotKind(buffer.getSlotKind().value_or("")), buffer.getSlots()));
    }
    auto buffersOffset = b_.CreateVector(buffers);
    std::vector<flatbuffers::Offset<fb::Parameter>> parameters;
    llvm::StringMap<int> parameterIndex;
    for (auto param : stage.getOps<plan::ParameterOp>()) {
      parameterIndex[param.getParam()] = parameters.size();
      parameters.push_back(emitParameter(param));
    }
    auto states = emitStates(stage, parameterIndex);
    auto schedule = emitSchedule(stage);
    auto parametersOffset = b_.CreateVector(parameters);
    std::vector<flatbuffers::Offset<fb::Cache>> caches;
    for (auto cache : stage.getOps<plan::CacheOp>()) {
      StringRef buffer = cache.getBuffer();
      auto type = cast<ShapedType>(bufferType_.lookup(buffer));
      int64_t pageBytes = type.getNumElements() *
                          type.getElementTypeBitWidth() / 8 /
                          static_cast<int64_t>(cache.getPages());
      caches.push_back(fb::CreateCache(b_, str(cache.getCache()),
                                       bufferIndex_.lookup(buffer),
                                       cache.getPages(), pageBytes));
    }
    auto cachesOffset = b_.CreateVector(caches);
    std::vector<flatbuffers::Offset<fb::Program>> programs;
    std::vector<flatbuffers::Offset<fb::EntryBuffers>> inputs, outputs;
    flatbuffers::Offset<fb::Program> initialise = 0;
    for (auto program : stage.getOps<plan::ProgramOp>()) {
      if (program.getEntry().empty()) {
        initialise = emitProgram(program);
        continue;
      }
      programs.push_back(emitProgram(program));
      inputs.push_back(emitNamed(program, program.getInputs()));
      outputs.push_back(emitNamed(program, program.getOutputs()));
    }
    auto programsOffset = b_.CreateVector(programs);
    auto inputsOffset = b_.CreateVector(inputs);
    auto outputsOffset = b_.CreateVector(outputs);
    auto arena = fb::CreateArena(b_, fb::MemorySpace::Device,
                                 stage.getArenaBytes().value_or(0));
    auto arenas = b_.CreateVector(&arena, 1);
    return fb::CreateStage(b_, parametersOffset, buffersOffset, arenas,
                           initialise, programsOffset, inputsOffset,
                           outputsOffset, cachesOffset, states, schedule);
  }

  static fb::SlotKind slotKind(StringRef name) {
    return llvm::StringSwitch<fb::SlotKind>(name)
        .Case("micro_batch", fb::SlotKind::MicroBatch)
        .Case("saved", fb::SlotKind::Saved)
        .Case("deferred", fb::SlotKind::Deferred)
        .Case("received_activation", fb::SlotKind::ReceivedActivation)
        .Case("received_gradient", fb::SlotKind::ReceivedGradient)
        .Case("sent_activation", fb::SlotKind::SentActivation)
        .Case("sent_gradient", fb::SlotKind::SentGradient)
        .Default(fb::SlotKind::None);
  }

  flatbuffers::Offset<flatbuffers::Vector<flatbuffers::Offset<fb::State>>>
  emitStates(plan::StageOp stage, const llvm::StringMap<int>& parameterIndex) {
    std::vector<flatbuffers::Offset<fb::State>> states;
    for (auto op : stage.getOps<plan::StateOp>()) {
      auto state = symbols_.lookup<llm::StateOp>(op.getState());
      auto type = cast<RankedTensorType>(state.getType());
      std::vector<int> axes;
      if (auto shard = dyn_cast_or_null<dist::ShardAttr>(state.getShardAttr()))
        for (StringAttr axis : shard.getAxes())
          axes.push_back(axisIndex(axis.getValue()));
      auto axesOffset = b_.CreateVector(axes);
      int parameter = -1;
      if (auto param = state.getParamAttr())
        if (auto found = parameterIndex.find(param.getValue());
            found != parameterIndex.end())
          parameter = found->second;
      states.push_back(fb::CreateState(
          b_, str(state.getSymName()),
          static_cast<fb::StateRole>(state.getRole()), parameter,
          bufferIndex_.lookup(op.getBuffer()),
          elementType(type.getElementType()), type.getNumElements(), axesOffset,
          op.getShardBytes()));
    }
    return b_.CreateVector(states);
  }

  flatbuffers::Offset<flatbuffers::Vector<flatbuffers::Offset<fb::Action>>>
  emitSchedule(plan::StageOp stage) {
    std::vector<flatbuffers::Offset<fb::Action>> actions;
    for (auto op : stage.getOps<plan::ActionOp>()) {
      std::vector<int> slots(op.getSlots().begin(), op.getSlots().end());
      auto slotsOffset = b_.CreateVector(slots);
      actions.push_back(fb::CreateAction(b_, entryIndex_.lookup(op.getEntry()),
                                         op.getMicroBatch(), slotsOffset));
    }
    return b_.CreateVector(actions);
  }

  flatbuffers::Offset<flatbuffers::Vector<flatbuffers::Offset<fb::MemoryRow>>>
  emitMemory() {
    std::vector<flatbuffers::Offset<fb::MemoryRow>> rows;
    for (auto [i, stage] : llvm::enumerate(module_.getOps<plan::StageOp>())) {
      for (const MemoryCounter& m : countMemory(stage))
        rows.push_back(fb::CreateMemoryRow(b_, i, memoryClass(m.memoryClass),
                                           m.bytes, m.paddingBytes, m.isPeak));
      // Bounds of what lies outside the arena.
      rows.push_back(
          fb::CreateMemoryRow(b_, i, fb::MemoryClass::Code,
                              largestImageBytes_ + countArgumentBytes(stage)));
      rows.push_back(fb::CreateMemoryRow(
          b_, i, fb::MemoryClass::Library,
          countScratchBytes(module_, stage, axes_, axisSizes_)));
    }
    return b_.CreateVector(rows);
  }

  flatbuffers::Offset<flatbuffers::Vector<flatbuffers::Offset<fb::CostRow>>>
  emitCosts() {
    std::vector<flatbuffers::Offset<fb::CostRow>> rows;
    for (auto [i, stage] : llvm::enumerate(module_.getOps<plan::StageOp>()))
      for (auto program : stage.getOps<plan::ProgramOp>()) {
        if (program.getEntry().empty())
          continue;
        ProgramCounter c = countProgram(module_, program, axes_, axisSizes_);
        auto bytes = b_.CreateVector(c.axisBytes);
        rows.push_back(
            fb::CreateCostRow(b_, i, entryIndex_.lookup(program.getEntry()),
                              c.launches, c.flops, c.bytesTouched, bytes));
      }
    return b_.CreateVector(rows);
  }

  flatbuffers::Offset<fb::ModelCard> emitModelCard() {
    auto dict =
        module_->getAttrOfType<DictionaryAttr>(llm::LlmDialect::kModelAttr);
    auto text = [&](StringRef name) {
      auto attr = dict ? dict.getAs<StringAttr>(name) : StringAttr();
      return str(attr ? attr.getValue() : StringRef());
    };
    auto number = [&](StringRef name) {
      auto attr = dict ? dict.getAs<IntegerAttr>(name) : IntegerAttr();
      return attr ? attr.getInt() : 0;
    };
    int64_t parameters = 0;
    for (auto param : module_.getOps<llm::ParamOp>())
      if (param.getWeightSet() != kReferenceSet)
        parameters += cast<RankedTensorType>(param.getType()).getNumElements();
    auto family = text("family"), source = text("source"),
         tokenizer = text("tokenizer"), chat = text("chat_template"),
         config = text("config");
    return fb::CreateModelCard(b_, family, number("vocab_size"),
                               number("context_length"), source, tokenizer,
                               chat, parameters, config,
                               static_cast<uint64_t>(number("digest")));
  }

  ModuleOp module_;
  PlanCode planCode_;
  Target target_;
  SymbolTable symbols_;
  flatbuffers::FlatBufferBuilder b_{1 << 20};
  std::vector<std::string> axes_;
  std::vector<int64_t> axisSizes_;
  int64_t largestImageBytes_ = 0;
  llvm::StringMap<int> kernelIndex_, entryIndex_, bufferIndex_;
  llvm::StringMap<Type> bufferType_;
  std::map<std::tuple<std::string, std::string, std::string>, int>
      provenanceIndex_;
  std::vector<std::tuple<std::string, std::string, std::string>>
      provenanceList_;
};

} // namespace

FailureOr<std::vector<uint8_t>> emitPlan(ModuleOp module, PlanCode code) {
  return Emitter(module, code).emit();
}

} // namespace llmc
