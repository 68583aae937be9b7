// SPDX-License-Identifier: Apache-2.0
// Turns each entry function into commands over buffers. A tensor value is one
// buffer; a collective that works in place shares its operand's. Offsets come
// later (AssignMemory). Here are programs, tables and schedule; buffers are in
// StageBuffers, the arguments of kernels in LaunchWords, communication in
// CollectiveCommands.
#include "compiler/passes/CollectiveCommands.h"
#include "compiler/passes/LaunchWords.h"
#include "compiler/passes/Options.h"
#include "compiler/passes/Passes.h"
#include "compiler/passes/StageBuffers.h"
#include "compiler/schedule/Check.h"
#include "compiler/schedule/Schedule.h"

#include "llvm/ADT/StringSet.h"

using namespace mlir;

namespace llmc {
#define GEN_PASS_DEF_LOWERTOPLAN
#include "compiler/passes/Passes.h.inc"

namespace {

/// Stage of an entry function.
int64_t stageOf(func::FuncOp entry) {
  auto attr = entry->getAttrOfType<IntegerAttr>("dist.stage");
  return attr ? attr.getInt() : 0;
}

/// Chunk of an entry function; -1: the stage has one function for all.
int64_t chunkOf(func::FuncOp entry) {
  auto attr = entry->getAttrOfType<IntegerAttr>("dist.chunk");
  return attr ? attr.getInt() : -1;
}

/// Name in the plan of the entry `segment` of a chunk.
std::string entryName(StringRef segment, int64_t chunk) {
  return chunk < 0 ? segment.str() : (segment + ".chunk" + Twine(chunk)).str();
}

std::string entryName(func::FuncOp entry) {
  auto segment = entry->getAttrOfType<StringAttr>(llm::LlmDialect::kEntryAttr);
  return entryName(segment.getValue(), chunkOf(entry));
}

/// True for a segment that only sends or receives: it runs beside the others,
/// on the communication stream.
bool isTransfer(func::FuncOp entry) {
  Block& body = entry.getBody().front();
  return &body.front() != body.getTerminator() &&
         llvm::all_of(body.without_terminator(), [](Operation& op) {
           return isa<dist::SendOp, dist::RecvOp>(op);
         });
}

/// The segment that an action runs.
StringRef segmentOf(const schedule::Action& action) {
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

/// Builds one plan.stage from the entry functions of that stage.
class StageLowering {
public:
  StageLowering(ModuleOp module, SymbolTable& symbols, int64_t stage,
                const schedule::StageSlots& slots)
      : module_(module), symbols_(symbols), builder_(module.getContext()),
        buffers_(module, symbols, slots),
        collectives_(module, buffers_, builder_) {
    builder_.setInsertionPointToEnd(module.getBody());
    stage_ = plan::StageOp::create(builder_, module.getLoc(),
                                   "stage" + std::to_string(stage), stage,
                                   IntegerAttr());
    builder_.createBlock(&stage_.getBody());
  }

  LogicalResult lower(func::FuncOp entry) {
    entries_.insert(entryName(entry));
    buffers_.startEntry(entryName(entry), std::max<int64_t>(0, chunkOf(entry)));
    collectives_.startEntry(isTransfer(entry) ? 1 : 0);
    SmallVector<NamedAttribute> inputs, outputs;
    for (auto [i, arg] : llvm::enumerate(entry.getArguments())) {
      StringRef name = entry.getArgAttrOfType<StringAttr>(i, "llm.name");
      if (arg.use_empty())
        continue;
      StringAttr buffer =
          buffers_.argumentBuffer(name, cast<ShapedType>(arg.getType()));
      buffers_.assign(arg, buffer);
      if (!StageBuffers::isBetweenSegments(name))
        inputs.push_back(builder_.getNamedAttr(name, buffer));
    }
    Operation* ret = entry.getBody().front().getTerminator();
    for (auto [i, value] : llvm::enumerate(ret->getOperands())) {
      StringRef name = entry.getResultAttrOfType<StringAttr>(i, "llm.name");
      StringAttr buffer =
          buffers_.outputBuffer(name, cast<ShapedType>(value.getType()));
      if (!buffers_.assign(value, buffer))
        return entry.emitError("returns one value twice");
      if (!StageBuffers::isBetweenSegments(name))
        outputs.push_back(builder_.getNamedAttr(name, buffer));
    }
    createProgram(entry.getLoc(), entryName(entry), inputs, outputs);
    for (Operation& op : entry.getBody().front())
      if (failed(lowerOp(&op)))
        return failure();
    builder_.setInsertionPointToEnd(commands_);
    collectives_.finishEntry(entry.getLoc());
    return success();
  }

  /// Adds the program that runs once: constant tables. Then declares all
  /// buffers.
  void finish() {
    createProgram(module_.getLoc(), "", {}, {});
    for (auto& [op, buffer] : buffers_.tables())
      lowerTable(op, buffer);
    Block& body = stage_.getBody().front();
    buffers_.moveTo(body);
    body.getOperations().splice(body.end(), programs_.getOperations());
  }

  /// Writes the stage's part of the schedule.
  void schedule(const schedule::Schedule& schedule, int64_t stage) {
    builder_.setInsertionPointToEnd(&stage_.getBody().front());
    auto run = [&](StringRef entry, int64_t microBatch,
                   ArrayRef<int64_t> slots) {
      plan::ActionOp::create(builder_, module_.getLoc(), entry, microBatch,
                             slots);
    };
    run("prologue", -1, {});
    for (const schedule::Action& a : schedule.actions[stage]) {
      std::string entry =
          entryName(segmentOf(a), schedule.virtualStages > 1 ? a.chunk : -1);
      // Below the first layer that is trained no gradient is sent.
      if (schedule::isTransfer(a.kind) && a.isGradient &&
          !entries_.contains(entry))
        continue;
      SmallVector<int64_t> slots(schedule::kNumSlotClasses, -1);
      for (const schedule::SlotUse& use : schedule::slotUses(a))
        slots[static_cast<int>(use.slotClass)] = use.slot;
      run(entry, a.microBatch, slots);
    }
    run("loss", -1, {});
    run("optimizer", -1, {});
  }

private:
  void createProgram(Location loc, StringRef entry,
                     ArrayRef<NamedAttribute> inputs,
                     ArrayRef<NamedAttribute> outputs) {
    builder_.setInsertionPointToEnd(&programs_);
    auto program = plan::ProgramOp::create(builder_, loc, entry,
                                           builder_.getDictionaryAttr(inputs),
                                           builder_.getDictionaryAttr(outputs));
    commands_ = builder_.createBlock(&program.getBody());
  }

  LogicalResult lowerOp(Operation* op) {
    builder_.setInsertionPointToEnd(commands_);
    if (auto get = dyn_cast<llm::GetParamOp>(op))
      buffers_.declareParameter(get);
    else if (auto get = dyn_cast<llm::GetCacheOp>(op))
      buffers_.declareCache(get);
    else if (auto read = dyn_cast<llm::ReadStateOp>(op))
      buffers_.declareState(read);
    else if (auto table = dyn_cast<plan::RopeTableOp>(op))
      buffers_.declareTable(table);
    else if (auto launch = dyn_cast<plan::LaunchOp>(op))
      lowerLaunch(launch);
    else if (op->getDialect() ==
             module_.getContext()->getLoadedDialect<dist::DistDialect>())
      return collectives_.lower(op);
    else if (!isa<func::ReturnOp>(op))
      return op->emitOpError("has no kernel");
    return success();
  }

  void lowerLaunch(plan::LaunchOp op) {
    LaunchBuffers buffers;
    for (Value v : op.getInputs())
      buffers.inputs.push_back(buffers_.lookup(v));
    for (Value v : op.getInouts())
      buffers.inouts.push_back(buffers_.lookup(v));
    for (Value v : op.getResults())
      buffers.results.push_back(buffers_.resultBuffer(
          v, v.use_empty() ? "workspace" : "activations"));
    createRun(builder_, op, symbols_.lookup<plan::KernelOp>(op.getKernel()),
              buffers);
  }

  void lowerTable(plan::RopeTableOp op, StringAttr buffer) {
    auto params = cast<llm::RopeAttr>(op.getParams());
    auto type = cast<RankedTensorType>(op.getType());
    MLIRContext* context = op.getContext();
    auto integer = [&](int64_t v) { return integerWord(context, v); };
    auto real = [&](double v) { return realWord(context, v); };
    plan::WordAttr rows = integer(type.getDimSize(0));
    Attribute words[] = {rows,
                         addressWord(buffer),
                         integer(params.getRotary()),
                         real(params.getTheta()),
                         integer(static_cast<int64_t>(params.getScaling())),
                         real(params.getFactor()),
                         real(params.getLowFreqFactor()),
                         real(params.getHighFreqFactor()),
                         real(params.getOriginalContext())};
    ensureTableKernel();
    builder_.setInsertionPointToEnd(commands_);
    plan::RunOp::create(builder_, op.getLoc(), "rope_table",
                        builder_.getArrayAttr(words), builder_.getArrayAttr({}),
                        rows, 1, builder_.getArrayAttr({}),
                        builder_.getArrayAttr({buffer}), 0);
  }

  void ensureTableKernel() {
    if (symbols_.lookup("rope_table"))
      return;
    builder_.setInsertionPoint(stage_);
    auto kernel = plan::KernelOp::create(
        builder_, module_.getLoc(), builder_.getStringAttr("rope_table"),
        builder_.getStringAttr("rope_table"), builder_.getI64IntegerAttr(1),
        UnitAttr());
    kernel.getBody().emplaceBlock();
    symbols_.insert(kernel);
  }

  ModuleOp module_;
  SymbolTable& symbols_;
  OpBuilder builder_;
  StageBuffers buffers_;
  CollectiveCommands collectives_;
  plan::StageOp stage_;
  llvm::StringSet<> entries_; // lowered
  Block programs_;            // until the stage is finished
  Block* commands_ = nullptr;
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
  plan::EntryOp::create(builder, func.getLoc(), "entry_" + entryName(func),
                        sequences, rows, pages,
                        /*all_rows=*/entryName(func) == "score");
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
    auto made = schedule::makeSchedule(wanted);
    if (made.ok())
      if (auto fault = schedule::check(*made))
        return absl::InternalError(fault->message);
    return made;
  }
};

} // namespace
} // namespace llmc
