// SPDX-License-Identifier: Apache-2.0
// Turns each entry function into commands over buffers. A tensor value is one buffer; a
// collective that works in place shares its operand's. Offsets come later (AssignMemory).
// Over 500 lines because one class holds the names and buffers of a stage, which
// parameters, states, launches and collectives all look up. It has outgrown that reason
// with the buffers of training: they and the collectives are the next to move out.
#include "compiler/passes/Launches.h"
#include "compiler/passes/Options.h"
#include "compiler/passes/Passes.h"
#include "compiler/passes/SelectTrainingKernels.h"
#include "compiler/schedule/Schedule.h"
#include "runtime/kernels/KernelAbi.h"

#include "llvm/ADT/StringSwitch.h"

#include <map>
#include <set>

using namespace mlir;

namespace llmc {
#define GEN_PASS_DEF_LOWERTOPLAN
#include "compiler/passes/Passes.h.inc"

namespace {

/// Word names of a hand-tuned kernel, in order, from Kernels.def.
SmallVector<std::pair<StringRef, char>> kernelWords(StringRef kernel) {
  StringRef text;
#define LLMRT_KERNEL(name, version, rowTile, colTile, words)                   \
  if (kernel == #name)                                                         \
    text = words;
#include "runtime/kernels/Kernels.def"
#undef LLMRT_KERNEL
  SmallVector<std::pair<StringRef, char>> result;
  SmallVector<StringRef> parts;
  text.split(parts, ' ', -1, /*KeepEmpty=*/false);
  for (StringRef part : parts)
    result.push_back({part.split(':').first, part.back()});
  return result;
}

int64_t bytesOf(ShapedType type) {
  return type.getNumElements() * type.getElementTypeBitWidth() / 8;
}

/// Stage of an entry function.
int64_t stageOf(func::FuncOp entry) {
  auto attr = entry->getAttrOfType<IntegerAttr>("dist.stage");
  return attr ? attr.getInt() : 0;
}

StringRef entryName(func::FuncOp entry) {
  return entry->getAttrOfType<StringAttr>(llm::LlmDialect::kEntryAttr)
      .getValue();
}

/// Builds one plan.stage from the entry functions of that stage.
class StageLowering {
public:
  StageLowering(ModuleOp module, SymbolTable& symbols, int64_t stage,
                const schedule::StageSlots& slots)
      : module_(module), symbols_(symbols), builder_(module.getContext()),
        slots_(slots), isTraining_(Options::read(module).mode == "train") {
    builder_.setInsertionPointToEnd(module.getBody());
    stage_ = plan::StageOp::create(builder_, module.getLoc(),
                                   "stage" + std::to_string(stage), stage,
                                   IntegerAttr());
    body_ = builder_.createBlock(&stage_.getBody());
    for (Block** part : {&parameters_, &buffers_, &programs_})
      *part = new Block();
  }

  ~StageLowering() {
    for (Block* part : {parameters_, buffers_, programs_}) {
      body_->getOperations().splice(body_->end(), part->getOperations());
      delete part;
    }
  }

  LogicalResult lower(func::FuncOp entry) {
    values_.clear();
    entry_ = entryName(entry);
    numEvents_ = 0;
    events_.clear();
    SmallVector<NamedAttribute> inputs, outputs;
    for (auto [i, arg] : llvm::enumerate(entry.getArguments())) {
      StringRef name = entry.getArgAttrOfType<StringAttr>(i, "llm.name");
      if (arg.use_empty())
        continue;
      auto type = cast<ShapedType>(arg.getType());
      if (isBetweenSegments(name)) {
        values_[arg] = segmentBuffer(name, type);
        continue;
      }
      StringAttr buffer =
          isTraining_ ? inputBuffer(name, type)
                      : newBuffer(entry_ + "." + name.str(), "inputs", type,
                                  true);
      values_[arg] = buffer;
      inputs.push_back(builder_.getNamedAttr(name, buffer));
    }
    Operation* ret = entry.getBody().front().getTerminator();
    for (auto [i, value] : llvm::enumerate(ret->getOperands())) {
      StringRef name = entry.getResultAttrOfType<StringAttr>(i, "llm.name");
      auto type = cast<ShapedType>(value.getType());
      bool isSaved = isBetweenSegments(name);
      StringAttr buffer =
          isSaved ? segmentBuffer(name, type)
          : isTraining_ && entry_ == "forward"
              ? newSlots(name.str(), "outputs", type, "micro_batch",
                         Options::read(module_).microbatches)
              : newBuffer(entry_ + "." + name.str(), "outputs", type, true);
      if (!values_.try_emplace(value, buffer).second)
        return entry.emitError("returns one value twice");
      if (!isSaved)
        outputs.push_back(builder_.getNamedAttr(name, buffer));
    }
    builder_.setInsertionPointToEnd(programs_);
    auto program = plan::ProgramOp::create(
        builder_, entry.getLoc(), entry_, builder_.getDictionaryAttr(inputs),
        builder_.getDictionaryAttr(outputs));
    commands_ = builder_.createBlock(&program.getBody());
    for (Operation& op : entry.getBody().front())
      if (failed(lowerOp(&op)))
        return failure();
    return success();
  }

  /// Adds the program that runs once: constant tables.
  void finish() {
    builder_.setInsertionPointToEnd(programs_);
    auto none = builder_.getDictionaryAttr({});
    auto program = plan::ProgramOp::create(builder_, module_.getLoc(), "",
                                           none, none);
    commands_ = builder_.createBlock(&program.getBody());
    for (auto& [op, buffer] : tableOrder_)
      lowerTable(op, buffer);
  }

  /// Writes the stage's part of the schedule.
  void schedule(const schedule::Schedule& schedule, int64_t stage) {
    builder_.setInsertionPointToEnd(programs_);
    auto run = [&](StringRef entry, int64_t microBatch,
                   ArrayRef<int64_t> slots) {
      plan::ActionOp::create(builder_, module_.getLoc(), entry, microBatch,
                             slots);
    };
    run("prologue", -1, {});
    for (const schedule::Action& a : schedule.actions[stage]) {
      SmallVector<int64_t> slots(schedule::kNumSlotClasses, -1);
      for (const schedule::SlotUse& use : schedule::slotUses(a))
        slots[static_cast<int>(use.slotClass)] = use.slot;
      run(segmentOf(a), a.microBatch, slots);
    }
    run("loss", -1, {});
    run("optimizer", -1, {});
  }

private:
  static StringRef segmentOf(const schedule::Action& action) {
    switch (action.kind) {
    case schedule::ActionKind::Forward:
      return "forward";
    case schedule::ActionKind::Backward:
      return "backward";
    case schedule::ActionKind::BackwardInput:
      return "backward_input";
    case schedule::ActionKind::BackwardWeight:
      return "backward_weight";
    case schedule::ActionKind::Send:
      return action.isGradient ? "send_gradient" : "send_activation";
    case schedule::ActionKind::Recv:
      return action.isGradient ? "receive_gradient" : "receive_activation";
    }
    llvm_unreachable("every kind is handled");
  }

  /// Values that one segment writes and another reads have a slot kind for a prefix.
  static bool isBetweenSegments(StringRef name) {
    return name.starts_with("saved.") || name.starts_with("deferred.") ||
           name.starts_with("received_") || name.starts_with("sent_");
  }

  StringAttr segmentBuffer(StringRef name, ShapedType type) {
    StringAttr& buffer = segmentBuffers_[name.str()];
    if (buffer)
      return buffer;
    StringRef kind = name.split('.').first;
    auto slotClass = llvm::StringSwitch<schedule::SlotClass>(kind)
                         .Case("deferred", schedule::SlotClass::Deferred)
                         .Case("received_activation",
                               schedule::SlotClass::ReceivedActivation)
                         .Case("received_gradient",
                               schedule::SlotClass::ReceivedGradient)
                         .Case("sent_activation",
                               schedule::SlotClass::SentActivation)
                         .Case("sent_gradient",
                               schedule::SlotClass::SentGradient)
                         .Default(schedule::SlotClass::Saved);
    int64_t slots = std::max(1, slots_.count(slotClass, 0));
    return buffer = newSlots(name.str(), "activations", type, kind, slots);
  }

  /// Inputs of micro-batches are given whole, before the step.
  StringAttr inputBuffer(StringRef name, ShapedType type) {
    StringAttr& buffer = segmentBuffers_[name.str()];
    if (buffer)
      return buffer;
    if (name == "hyper")
      return buffer = newBuffer(name.str(), "inputs", type, true);
    int64_t slots = Options::read(module_).microbatches;
    SmallVector<int64_t> shape(type.getShape());
    if (entry_ == "prologue") // all micro-batches at once
      shape[0] /= slots;
    return buffer = newSlots(name.str(), "inputs", type.clone(shape),
                             "micro_batch", slots);
  }

  StringAttr newSlots(std::string name, StringRef memoryClass, ShapedType type,
                      StringRef kind, int64_t slots) {
    // Each slot begins at an aligned address.
    constexpr int64_t kAlignment = 64;
    int64_t used = bytesOf(type);
    int64_t bytes = (used + kAlignment - 1) / kAlignment * kAlignment;
    if (memoryClass != "activations")
      bytes = used; // the host sees them as one array
    StringAttr buffer = newBuffer(name, memoryClass, type, true,
                                  slots * (bytes - used), slots * bytes);
    auto op = cast<plan::BufferOp>(buffers_->back());
    op.setSlotKind(kind);
    op.setSlots(slots);
    return buffer;
  }

  LogicalResult lowerState(llm::ReadStateOp read) {
    StringRef name = read.getState();
    StringAttr& buffer = states_[name.str()];
    if (!buffer) {
      auto state = symbols_.lookup<llm::StateOp>(name);
      auto type = cast<ShapedType>(state.getType());
      StringRef memoryClass =
          llvm::StringSwitch<StringRef>(llm::stringifyStateRole(state.getRole()))
              .Case("gradient", "gradients")
              .Cases("moment1", "moment2", "master", "optimizer")
              .Default("optimizer");
      int64_t bytes = stateBytes(state);
      buffer = newBuffer(name.str(), memoryClass, type, true,
                         bytes - bytesOf(type), bytes);
      paddedBytes_[buffer.getValue()] = bytes;
      OpBuilder::InsertionGuard guard(builder_);
      builder_.setInsertionPointToEnd(parameters_);
      plan::StateOp::create(builder_, read.getLoc(), name, buffer,
                            state.getShardAttr() ? bytes : 0);
    }
    values_[read.getResult()] = buffer;
    return success();
  }

  StringAttr newBuffer(std::string name, StringRef memoryClass,
                       ShapedType type, bool isPersistent,
                       int64_t padding = 0, int64_t bytes = -1) {
    std::string unique = name;
    for (int i = 1; !names_.insert(unique).second; ++i)
      unique = name + "." + std::to_string(i);
    OpBuilder::InsertionGuard guard(builder_);
    builder_.setInsertionPointToEnd(buffers_);
    plan::BufferOp::create(builder_, module_.getLoc(), unique, memoryClass,
                           bytes < 0 ? bytesOf(type) : bytes, type,
                           isPersistent, padding, StringAttr(), 1,
                           IntegerAttr());
    return builder_.getStringAttr(unique);
  }

  std::string ownName(Operation* op) {
    std::string name = locationName(op->getLoc());
    return name.empty() ? op->getName().stripDialect().str() : name;
  }

  /// Buffer that `value` is written to: the output or shared one if decided, else its own.
  StringAttr resultBuffer(Value value, StringRef memoryClass) {
    auto found = values_.find(value);
    if (found != values_.end())
      return found->second;
    std::string name =
        entry_ + "." + ownName(value.getDefiningOp());
    auto type = cast<ShapedType>(value.getType());
    auto bytes = value.getDefiningOp()->getAttrOfType<IntegerAttr>(
        kResultBytesAttr);
    if (auto state = value.getDefiningOp()->getAttrOfType<FlatSymbolRefAttr>(
            kStateAttr))
      bytes = builder_.getI64IntegerAttr(
          stateBytes(symbols_.lookup<llm::StateOp>(state.getValue())));
    StringAttr buffer = newBuffer(name, memoryClass, type, false,
                                  bytes ? bytes.getInt() - bytesOf(type) : 0,
                                  bytes ? bytes.getInt() : -1);
    if (bytes)
      paddedBytes_[buffer.getValue()] = bytes.getInt();
    values_[value] = buffer;
    return buffer;
  }

  LogicalResult lowerOp(Operation* op) {
    builder_.setInsertionPointToEnd(commands_);
    if (auto get = dyn_cast<llm::GetParamOp>(op))
      return lowerParam(get);
    if (auto get = dyn_cast<llm::GetCacheOp>(op))
      return lowerCache(get);
    if (auto read = dyn_cast<llm::ReadStateOp>(op))
      return lowerState(read);
    if (auto table = dyn_cast<plan::RopeTableOp>(op))
      return tableBuffer(table);
    if (auto launch = dyn_cast<plan::LaunchOp>(op))
      return lowerLaunch(launch);
    if (isa<func::ReturnOp>(op))
      return success();
    if (auto start = dyn_cast<dist::StartOp>(op))
      return lowerStart(start);
    if (auto wait = dyn_cast<dist::WaitOp>(op))
      return lowerWait(wait);
    if (auto slice = dyn_cast<dist::SliceRowsOp>(op))
      return lowerSlice(slice);
    if (auto copy = dyn_cast<dist::CopyOp>(op)) {
      createCopy(op, values_.lookup(copy.getX()),
                 resultBuffer(copy.getResult(), "activations"),
                 bytesOf(cast<ShapedType>(copy.getX().getType())), Attribute());
      return success();
    }
    if (auto gather = dyn_cast<dist::GatherInPlaceOp>(op))
      return lowerGatherInPlace(gather);
    if (op->getDialect() == module_.getContext()
                                ->getLoadedDialect<dist::DistDialect>())
      return lowerCollective(op);
    return op->emitOpError("has no kernel for target cpu");
  }

  LogicalResult lowerParam(llm::GetParamOp get) {
    StringRef name = get.getParam();
    StringAttr& buffer = params_[name.str()];
    if (!buffer) {
      auto param = symbols_.lookup<llm::ParamOp>(name);
      auto layout = param->getAttrOfType<StringAttr>(kLayoutAttr);
      auto local = param.getComputeType();
      int64_t used = usedBytes(param), bytes = bytesOf(local);
      if (layout.getValue() == "panel")
        bytes = panelBytes(local);
      if (auto run = param->getAttrOfType<IntegerAttr>(kRunElementsAttr))
        bytes = std::max(bytes, run.getInt() * meshAxisSize(module_, "dp") *
                                    local.getElementTypeBitWidth() / 8);
      auto shard = dyn_cast_or_null<dist::ShardAttr>(param.getShardAttr());
      int64_t shardBytes = 0;
      if (shard) {
        shardBytes = shard.getElements() * local.getElementTypeBitWidth() / 8;
        used = used * shardBytes / std::max<int64_t>(bytes, 1);
        bytes = shardBytes;
      }
      buffer = newBuffer(name.str(), "parameters", local, true,
                         std::max<int64_t>(0, bytes - used), bytes);
      paddedBytes_[buffer.getValue()] = bytes;
      OpBuilder::InsertionGuard guard(builder_);
      builder_.setInsertionPointToEnd(parameters_);
      plan::ParameterOp::create(builder_, get.getLoc(), get.getParam(), buffer,
                                layout, shardBytes);
    }
    values_[get.getResult()] = buffer;
    return success();
  }

  static int64_t panelBytes(RankedTensorType type) {
    int64_t panel = panelWidth(type.getElementType());
    int64_t outputs = (type.getDimSize(0) + panel - 1) / panel * panel;
    return outputs * type.getDimSize(1) * type.getElementTypeBitWidth() / 8;
  }

  /// Bytes of logical elements that a rank holds: the most over ranks.
  static int64_t usedBytes(llm::ParamOp param) {
    auto local = param.getComputeType();
    int64_t bytes = bytesOf(local);
    auto slice = dyn_cast_or_null<dist::SliceAttr>(param.getSliceAttr());
    if (!slice)
      return bytes;
    int64_t most = *llvm::max_element(slice.getCounts());
    return bytes / local.getDimSize(slice.getDim()) * most;
  }

  LogicalResult lowerCache(llm::GetCacheOp get) {
    StringRef name = get.getCache();
    StringAttr& buffer = caches_[name.str()];
    if (!buffer) {
      auto type = cast<MemRefType>(get.getResult().getType());
      buffer = newBuffer(name.str(), "caches", type, true);
      OpBuilder::InsertionGuard guard(builder_);
      builder_.setInsertionPointToEnd(parameters_);
      plan::CacheOp::create(builder_, get.getLoc(), name, buffer,
                            type.getDimSize(0));
    }
    values_[get.getResult()] = buffer;
    return success();
  }

  LogicalResult tableBuffer(plan::RopeTableOp op) {
    std::string key;
    llvm::raw_string_ostream stream(key);
    stream << op.getParams() << op.getType();
    StringAttr& buffer = tables_[key];
    if (!buffer) {
      buffer = newBuffer("rope_table", "constants",
                         cast<ShapedType>(op.getType()), true);
      tableOrder_.push_back({op, buffer});
    }
    values_[op.getResult()] = buffer;
    return success();
  }

  void lowerTable(plan::RopeTableOp op, StringAttr buffer) {
    auto params = cast<llm::RopeAttr>(op.getParams());
    auto type = cast<RankedTensorType>(op.getType());
    builder_.setInsertionPointToEnd(commands_);
    auto real = [&](double v) {
      return word(plan::WordKind::real, llvm::bit_cast<int64_t>(v));
    };
    auto integer = [&](int64_t v) { return word(plan::WordKind::integer, v); };
    plan::WordAttr rows = integer(type.getDimSize(0));
    Attribute words[] = {rows,
                         address(buffer),
                         integer(params.getRotary()),
                         real(params.getTheta()),
                         integer(static_cast<int64_t>(params.getScaling())),
                         real(params.getFactor()),
                         real(params.getLowFreqFactor()),
                         real(params.getHighFreqFactor()),
                         real(params.getOriginalContext())};
    ensureTableKernel();
    plan::RunOp::create(builder_, op.getLoc(), "rope_table",
                        builder_.getArrayAttr(words),
                        builder_.getArrayAttr({}), rows, 1,
                        builder_.getArrayAttr({}),
                        builder_.getArrayAttr({buffer}), 0);
  }

  void ensureTableKernel() {
    if (symbols_.lookup("rope_table"))
      return;
    OpBuilder::InsertionGuard guard(builder_);
    builder_.setInsertionPoint(stage_);
    auto kernel = plan::KernelOp::create(
        builder_, module_.getLoc(), builder_.getStringAttr("rope_table"),
        builder_.getStringAttr("rope_table"), builder_.getI64IntegerAttr(1),
        UnitAttr());
    kernel.getBody().emplaceBlock();
    symbols_.insert(kernel);
  }

  plan::WordAttr word(plan::WordKind kind, int64_t value) {
    return plan::WordAttr::get(builder_.getContext(), kind, value, StringAttr(),
                               dist::ByCoordinateAttr(), StringAttr());
  }

  plan::WordAttr address(StringAttr buffer) {
    return plan::WordAttr::get(builder_.getContext(), plan::WordKind::address,
                               0, buffer, dist::ByCoordinateAttr(),
                               StringAttr());
  }

  plan::WordAttr scalar(Attribute attr) {
    if (auto by = dyn_cast<dist::ByCoordinateAttr>(attr))
      return plan::WordAttr::get(builder_.getContext(),
                                 plan::WordKind::coordinate, 0, StringAttr(),
                                 by, StringAttr());
    if (auto real = dyn_cast<FloatAttr>(attr))
      return word(plan::WordKind::real,
                  llvm::bit_cast<int64_t>(real.getValueAsDouble()));
    return word(plan::WordKind::integer, cast<IntegerAttr>(attr).getInt());
  }

  /// Words of a generated kernel: rows, inputs, results.
  SmallVector<plan::WordAttr> generatedWords(plan::WordAttr rows,
                                             ArrayRef<StringAttr> buffers) {
    SmallVector<plan::WordAttr> words = {rows};
    for (StringAttr buffer : buffers)
      words.push_back(buffer ? address(buffer)
                             : word(plan::WordKind::integer, 0));
    return words;
  }

  LogicalResult lowerLaunch(plan::LaunchOp op) {
    auto kernel = symbols_.lookup<plan::KernelOp>(op.getKernel());
    SmallVector<StringAttr> inputs, inouts, results;
    for (Value v : op.getInputs())
      inputs.push_back(values_.lookup(v));
    for (Value v : op.getInouts())
      inouts.push_back(values_.lookup(v));
    for (Value v : op.getResults())
      results.push_back(
          resultBuffer(v, v.use_empty() ? "workspace" : "activations"));
    SmallVector<Attribute> words, slots;
    if (kernel.isGenerated()) {
      SmallVector<StringAttr> buffers(inputs);
      buffers.append(results);
      for (plan::WordAttr w : generatedWords(op.getRows(), buffers))
        words.push_back(w);
    } else {
      bindWords(op, kernel, inputs, inouts, results, words, slots);
    }
    SmallVector<Attribute> reads, writes;
    for (auto* list : {&inputs, &inouts})
      for (StringAttr b : *list)
        reads.push_back(b);
    for (auto* list : {&inouts, &results})
      for (StringAttr b : *list)
        writes.push_back(b);
    plan::RunOp::create(builder_, op.getLoc(), op.getKernelAttr(),
                        builder_.getArrayAttr(words),
                        builder_.getArrayAttr(slots), op.getRows(),
                        op.getColumnsAttr(), builder_.getArrayAttr(reads),
                        builder_.getArrayAttr(writes),
                        builder_.getI64IntegerAttr(0));
    return success();
  }

  void bindWords(plan::LaunchOp op, plan::KernelOp kernel,
                 ArrayRef<StringAttr> inputs, ArrayRef<StringAttr> inouts,
                 ArrayRef<StringAttr> results, SmallVector<Attribute>& words,
                 SmallVector<Attribute>& slots) {
    llvm::StringMap<plan::WordAttr> bound;
    auto bind = [&](ArrayAttr names, ArrayRef<StringAttr> buffers) {
      for (auto [name, buffer] : llvm::zip(names, buffers))
        if (StringRef text = cast<StringAttr>(name).getValue(); !text.empty())
          bound[text] = address(buffer);
    };
    bind(op.getInputWords(), inputs);
    bind(op.getInoutWords(), inouts);
    bind(op.getResultWords(), results);
    for (NamedAttribute attr : op.getScalars()) {
      StringRef name = attr.getName().getValue();
      if (name.consume_back(".offset")) // bytes into an address
        bound[name] = plan::WordAttr::get(
            builder_.getContext(), plan::WordKind::address, 0,
            bound.lookup(name).getBuffer(),
            cast<dist::ByCoordinateAttr>(attr.getValue()), StringAttr());
      else
        bound[name] = scalar(attr.getValue());
    }
    if (ArrayAttr attrs = op.getSlotsAttr())
      for (auto slot : attrs.getAsRange<plan::SlotAttr>())
        bindSlot(op, slot, inputs, results, bound, slots);
    for (auto [i, declared] : llvm::enumerate(
             kernelWords(kernel.getHandTuned().value()))) {
      if (i == 0) {
        words.push_back(op.getRows());
        continue;
      }
      auto found = bound.find(declared.first);
      words.push_back(found == bound.end() ? word(plan::WordKind::integer, 0)
                                           : found->second);
    }
  }

  /// A slot's words: "epilogue1" has kernel word "epilogue1" and block word
  /// "epilogueArgs1"; "prologue" has "prologueArgs", and two words more that say where
  /// its output goes.
  void bindSlot(plan::LaunchOp op, plan::SlotAttr slot,
                ArrayRef<StringAttr> inputs, ArrayRef<StringAttr> results,
                llvm::StringMap<plan::WordAttr>& bound,
                SmallVector<Attribute>& slots) {
    int64_t numInputs = inputs.size(), number = slots.size();
    SmallVector<StringAttr> buffers;
    auto buffer = [&](int64_t i) {
      return i < 0           ? StringAttr()
             : i < numInputs ? inputs[i]
                             : results[i - numInputs];
    };
    int64_t outputWord = -1;
    for (int64_t i : slot.getOperands())
      buffers.push_back(buffer(i));
    for (int64_t i : slot.getResults()) {
      if (i < 0)
        outputWord = buffers.size() + 1;
      buffers.push_back(buffer(i));
    }
    auto words = generatedWords(op.getRows(), buffers);
    slots.push_back(plan::SlotWordsAttr::get(builder_.getContext(),
                                             slot.getKernel(), words));
    StringRef name = slot.getWord().getValue();
    bound[name] = word(plan::WordKind::slot_kernel, number);
    size_t digits = name.find_last_not_of("0123456789") + 1;
    std::string args =
        (name.take_front(digits) + "Args" + name.drop_front(digits)).str();
    bound[args] = word(plan::WordKind::slot_words, number);
    if (outputWord < 0)
      return;
    bound["prologueWords"] = word(plan::WordKind::integer, words.size());
    bound["prologueOut"] = word(plan::WordKind::integer, outputWord);
  }

  /// Bytes of one rank's part, as plan.fbs counts them.
  static int64_t collectiveBytes(StringRef kind, ShapedType operand,
                                 ShapedType result) {
    if (kind == "all_gather" || kind == "send")
      return bytesOf(operand);
    return bytesOf(result);
  }

  void createCollective(Operation* op, StringRef kind, DictionaryAttr args,
                        StringAttr send, StringAttr recv, int64_t bytes,
                        Type element, int64_t stream) {
    auto axes = args.getAs<ArrayAttr>("axes");
    if (!axes)
      axes = builder_.getArrayAttr({args.getAs<StringAttr>("axis")});
    auto integer = [&](StringRef name) {
      auto attr = args.getAs<IntegerAttr>(name);
      return attr ? attr.getInt() : -1;
    };
    plan::CollectiveOp::create(
        builder_, op->getLoc(), kind, axes, send.getValue(), recv.getValue(),
        bytes, element, integer("root"), integer("peer"), stream,
        op->getAttrOfType<StringAttr>("subject"),
        op->getAttrOfType<StringAttr>("pass"), Attribute());
  }

  LogicalResult lowerCollective(Operation* op) {
    StringRef kind = op->getName().stripDialect();
    auto known = {"all_gather", "reduce_scatter", "all_reduce",
                  "broadcast",  "send",           "recv", "receive_in_place"};
    if (!llvm::is_contained(known, kind))
      return op->emitOpError("must be lowered before lower-to-plan");
    StringAttr empty = builder_.getStringAttr("");
    StringAttr send = op->getNumOperands() ? values_.lookup(op->getOperand(0))
                                           : empty;
    if (kind == "send" || kind == "receive_in_place") {
      auto type = cast<ShapedType>(op->getOperand(0).getType());
      int64_t bytes =
          std::max(bytesOf(type), paddedBytes_.lookup(send.getValue()));
      bool isSend = kind == "send";
      createCollective(op, isSend ? "send" : "recv", op->getAttrDictionary(),
                       isSend ? send : empty, isSend ? empty : send, bytes,
                       type.getElementType(), 0);
      return success();
    }
    Value result = op->getResult(0);
    bool isInPlace = kind == "all_reduce" || kind == "broadcast";
    if (isInPlace && op->getNumOperands())
      shareOrCopy(op, send, result);
    auto type = cast<ShapedType>(result.getType());
    auto operandType = op->getNumOperands()
                           ? cast<ShapedType>(op->getOperand(0).getType())
                           : type;
    StringAttr recv = gatherBuffer(op, op->getAttrDictionary(), result);
    int64_t bytes = collectiveBytes(kind, operandType, type);
    // Elements of a panel layout are spread over its padding.
    if (kind == "all_reduce" || kind == "recv")
      bytes = std::max(bytes, paddedBytes_.lookup(recv.getValue()));
    createCollective(op, kind, op->getAttrDictionary(),
                     isInPlace && op->getNumOperands() ? recv : send, recv,
                     bytes, type.getElementType(), 0);
    return success();
  }

  /// An in-place collective works on its operand's buffer if nobody else reads it.
  void shareOrCopy(Operation* op, StringAttr operand, Value result) {
    Value x = op->getOperand(0);
    if (x.hasOneUse() && !values_.count(result) && x.getDefiningOp()) {
      values_[result] = operand;
      return;
    }
    StringAttr recv = resultBuffer(result, "activations");
    createCopy(op, operand, recv, bytesOf(cast<ShapedType>(x.getType())),
               Attribute());
  }

  void createCopy(Operation* op, StringAttr from, StringAttr to, int64_t bytes,
                  Attribute sendOffset) {
    plan::CollectiveOp::create(
        builder_, op->getLoc(), "copy", builder_.getArrayAttr({}),
        from.getValue(), to.getValue(), bytes, builder_.getI8Type(), -1, -1, 0,
        StringAttr(), StringAttr(), sendOffset);
  }

  /// Buffer of a collective's result. The runs of a gathered parameter are all stored,
  /// padding included.
  StringAttr gatherBuffer(Operation* op, DictionaryAttr args, Value result) {
    bool isParam = op->getNumOperands() && paramOf(op->getOperand(0));
    if (!isParam || values_.count(result))
      return resultBuffer(result, "communication");
    int64_t ranks = 1;
    for (Attribute axis : args.getAs<ArrayAttr>("axes"))
      ranks *= meshAxisSize(module_, cast<StringAttr>(axis).getValue());
    auto type = cast<ShapedType>(result.getType());
    int64_t bytes =
        ranks * bytesOf(cast<ShapedType>(op->getOperand(0).getType()));
    StringAttr buffer =
        newBuffer(entry_ + ".gathered." +
                      paramOf(op->getOperand(0)).getParam().str(),
                  "gathered_parameters", type, false, bytes - bytesOf(type),
                  bytes);
    values_[result] = buffer;
    return buffer;
  }

  LogicalResult lowerSlice(dist::SliceRowsOp op) {
    auto type = cast<ShapedType>(op.getResult().getType());
    StringAttr to = resultBuffer(op.getResult(), "activations");
    SmallVector<int64_t> offsets;
    for (int64_t i = 0; i < meshAxisSize(module_, op.getAxis()); ++i)
      offsets.push_back(i * bytesOf(type));
    createCopy(op, values_.lookup(op.getX()), to, bytesOf(type),
               dist::ByCoordinateAttr::get(builder_.getContext(),
                                           op.getAxisAttr(), offsets));
    return success();
  }

  LogicalResult lowerGatherInPlace(dist::GatherInPlaceOp op) {
    auto type = cast<ShapedType>(op.getX().getType());
    StringRef buffer = values_.lookup(op.getX());
    int64_t bytes =
        op.getRun() * type.getElementTypeBitWidth() / 8;
    SmallVector<int64_t> offsets;
    for (int64_t i = 0; i < meshAxisSize(module_, "dp"); ++i)
      offsets.push_back(i * bytes);
    auto send = dist::ByCoordinateAttr::get(
        builder_.getContext(), builder_.getStringAttr("dp"), offsets);
    plan::CollectiveOp::create(builder_, op.getLoc(), "all_gather",
                               op.getAxes(), buffer, buffer, bytes,
                               type.getElementType(), -1, -1, 0,
                               op.getSubjectAttr(), op.getPassAttr(), send);
    return success();
  }

  LogicalResult lowerStart(dist::StartOp op) {
    auto type = op.getPending().getType().getType();
    auto wait = cast<dist::WaitOp>(*op.getPending().getUsers().begin());
    StringAttr recv = gatherBuffer(op, op.getArgs(), wait.getResult());
    int64_t ready = numEvents_++, done = numEvents_++;
    events_[op] = done;
    auto event = [&](int64_t e, int64_t stream, bool isRecord) {
      if (isRecord)
        plan::RecordEventOp::create(builder_, op.getLoc(), e, stream);
      else
        plan::WaitEventOp::create(builder_, op.getLoc(), e, stream);
    };
    event(ready, 0, true);
    event(ready, 1, false);
    createCollective(op, op.getCollective(), op.getArgs(),
                     values_.lookup(op.getX()), recv,
                     collectiveBytes(op.getCollective(),
                                     cast<ShapedType>(op.getX().getType()),
                                     type),
                     type.getElementType(), 1);
    event(done, 1, true);
    return success();
  }

  LogicalResult lowerWait(dist::WaitOp op) {
    Operation* start = op.getPending().getDefiningOp();
    plan::WaitEventOp::create(builder_, op.getLoc(), events_.lookup(start), 0);
    return success();
  }

  ModuleOp module_;
  SymbolTable& symbols_;
  OpBuilder builder_;
  plan::StageOp stage_;
  Block* body_ = nullptr;
  Block* parameters_ = nullptr;
  Block* buffers_ = nullptr;
  Block* programs_ = nullptr;
  Block* commands_ = nullptr;
  std::string entry_;
  int64_t numEvents_ = 0;
  DenseMap<Operation*, int64_t> events_;
  DenseMap<Value, StringAttr> values_;
  std::set<std::string> names_;
  std::map<std::string, StringAttr> params_, caches_, tables_, states_;
  llvm::StringMap<int64_t> paddedBytes_; // of buffers with a padded layout
  schedule::StageSlots slots_;
  bool isTraining_;
  std::map<std::string, StringAttr> segmentBuffers_;
  SmallVector<std::pair<plan::RopeTableOp, StringAttr>> tableOrder_;
};

/// Declares the entry of `func`, which is one of a stage.
void declareEntry(OpBuilder& builder, func::FuncOp func, const Options& options,
                  int64_t dataRanks) {
  int64_t sequences, rows, pages = 0;
  if (options.mode == "train") {
    sequences = options.batch / (dataRanks * options.microbatches);
    rows = options.seq;
  } else {
    auto ids = cast<RankedTensorType>(func.getArgument(0).getType());
    auto table = cast<RankedTensorType>(func.getArgument(3).getType());
    sequences = ids.getDimSize(0);
    rows = ids.getDimSize(1);
    pages = table.getDimSize(1);
  }
  plan::EntryOp::create(builder, func.getLoc(),
                        "entry_" + entryName(func).str(), sequences, rows,
                        pages, /*all_rows=*/entryName(func) == "score");
}

struct LowerToPlanPass : impl::LowerToPlanBase<LowerToPlanPass> {
  void runOnOperation() override {
    ModuleOp module = getOperation();
    SymbolTable symbols(module);
    OpBuilder builder = OpBuilder::atBlockEnd(module.getBody());
    Options options = Options::read(module);
    bool isTraining = options.mode == "train";
    std::map<int64_t, SmallVector<func::FuncOp>> stages;
    llvm::StringMap<bool> entries;
    SmallVector<func::FuncOp> funcs(module.getOps<func::FuncOp>());
    for (func::FuncOp func : funcs) {
      stages[stageOf(func)].push_back(func);
      if (entries.try_emplace(entryName(func), true).second)
        declareEntry(builder, func, options, meshAxisSize(module, "dp"));
    }
    schedule::Schedule schedule;
    if (isTraining) {
      auto made = makeSchedule(options, stages.size());
      if (!made.ok()) {
        module.emitError(std::string(made.status().message()));
        return signalPassFailure();
      }
      schedule = *std::move(made);
    }
    for (auto& [stage, list] : stages) {
      StageLowering lowering(module, symbols, stage,
                             isTraining ? schedule.slots[stage]
                                        : schedule::StageSlots());
      for (func::FuncOp func : list)
        if (failed(lowering.lower(func)))
          return signalPassFailure();
      lowering.finish();
      if (isTraining)
        lowering.schedule(schedule, stage);
    }
    for (func::FuncOp func : funcs)
      func.erase();
  }

  static absl::StatusOr<schedule::Schedule> makeSchedule(const Options& options,
                                                         int64_t stages) {
    schedule::ScheduleOptions wanted;
    auto kind = schedule::parseScheduleKind(options.schedule);
    if (!kind.ok())
      return kind.status();
    wanted.kind = *kind;
    wanted.stages = stages;
    wanted.microBatches = options.microbatches;
    wanted.virtualStages = options.virtualStages;
    return schedule::makeSchedule(wanted);
  }
};

} // namespace
} // namespace llmc
