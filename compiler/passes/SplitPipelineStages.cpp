// SPDX-License-Identifier: Apache-2.0
// Makes one function for each entry and stage. The ops of a stage are those
// after the crossing into it and before the next one; parameters, caches and
// entry arguments are available on every stage that reads them.
#include "compiler/passes/Options.h"
#include "compiler/passes/Passes.h"
#include "compiler/passes/Shardings.h"

#include "mlir/IR/IRMapping.h"

using namespace mlir;

namespace llmc {
#define GEN_PASS_DEF_SPLITPIPELINESTAGES
#include "compiler/passes/Passes.h.inc"

namespace {

class Splitter {
public:
  Splitter(func::FuncOp entry, int64_t stages)
      : entry_(entry), stages_(stages), builder_(entry.getContext()) {}

  void run() {
    int64_t stage = 0;
    for (Operation& op : entry_.getBody().front()) {
      if (auto crossing = dyn_cast<dist::PipelineStageOp>(op))
        stage = crossing.getStage();
      stageOf_[&op] = stage;
    }
    for (int64_t s = 0; s < stages_; ++s)
      build(s);
    entry_.erase();
  }

private:
  void build(int64_t stage) {
    builder_.setInsertionPoint(entry_);
    auto copy = cast<func::FuncOp>(entry_->cloneWithoutRegions());
    copy.setName(entry_.getName().str() + ".stage" + std::to_string(stage));
    builder_.insert(copy);
    copy->setAttr("dist.stage", builder_.getI64IntegerAttr(stage));
    Block* block = new Block();
    copy.getBody().push_back(block);
    mapping_.clear();
    for (BlockArgument arg : entry_.getArguments())
      mapping_.map(arg, block->addArgument(arg.getType(), arg.getLoc()));
    builder_.setInsertionPointToStart(block);
    for (Operation& op : entry_.getBody().front())
      cloneOp(&op, stage, copy);
  }

  void cloneOp(Operation* op, int64_t stage, func::FuncOp copy) {
    if (auto crossing = dyn_cast<dist::PipelineStageOp>(op))
      return cloneCrossing(crossing, stage);
    if (auto ret = dyn_cast<func::ReturnOp>(op))
      return cloneReturn(ret, stage, copy);
    bool isShared = isSharedByStages(op);
    bool isHere = stageOf_[op] == stage;
    if (isShared)
      isHere = llvm::any_of(op->getUsers(), [&](Operation* user) {
        return stageOf_[user] == stage && !isa<dist::PipelineStageOp>(user);
      });
    if (isHere)
      builder_.clone(*op, mapping_);
  }

  void cloneCrossing(dist::PipelineStageOp op, int64_t stage) {
    auto pp = builder_.getStringAttr("pp");
    auto pass = builder_.getStringAttr("split-pipeline-stages");
    auto subject = builder_.getStringAttr(locationName(op.getLoc()));
    int64_t to = op.getStage();
    if (stage == to - 1)
      dist::SendOp::create(builder_, op.getLoc(), mapping_.lookup(op.getX()),
                           pp, builder_.getI64IntegerAttr(to), subject, pass);
    if (stage != to)
      return;
    auto recv = dist::RecvOp::create(
        builder_, op.getLoc(), op.getResult().getType(), pp,
        builder_.getI64IntegerAttr(to - 1), subject, pass);
    mapping_.map(op.getResult(), recv.getResult());
  }

  /// The last stage returns everything; the others the sampled ids, broadcast
  /// to them.
  void cloneReturn(func::ReturnOp op, int64_t stage, func::FuncOp copy) {
    SmallVector<Value> results;
    SmallVector<Attribute> resultAttrs;
    auto axes = builder_.getStrArrayAttr({"pp"});
    auto pass = builder_.getStringAttr("split-pipeline-stages");
    bool isLast = stage == stages_ - 1;
    for (auto [i, value] : llvm::enumerate(op.getOperands())) {
      bool isToken = cast<RankedTensorType>(value.getType())
                         .getElementType()
                         .isInteger(32);
      auto attrs = entry_.getResultAttrDict(i);
      if (!isToken && !isLast)
        continue;
      Value local = isLast ? mapping_.lookup(value) : Value();
      if (isToken)
        local = dist::BroadcastOp::create(
            builder_, op.getLoc(), value.getType(), local, axes,
            builder_.getI64IntegerAttr(stages_ - 1),
            builder_.getStringAttr("next_ids"), pass);
      results.push_back(local);
      resultAttrs.push_back(attrs);
    }
    func::ReturnOp::create(builder_, op.getLoc(), results);
    copy.setFunctionType(builder_.getFunctionType(
        copy.getFunctionType().getInputs(),
        SmallVector<Type>(ValueRange(results).getTypes())));
    copy.setResAttrsAttr(builder_.getArrayAttr(resultAttrs));
  }

  func::FuncOp entry_;
  int64_t stages_;
  OpBuilder builder_;
  IRMapping mapping_;
  DenseMap<Operation*, int64_t> stageOf_;
};

struct SplitPipelineStagesPass
    : impl::SplitPipelineStagesBase<SplitPipelineStagesPass> {
  void runOnOperation() override {
    int64_t stages = meshAxisSize(getOperation(), "pp");
    if (stages == 1)
      return;
    SmallVector<func::FuncOp> entries;
    for (auto func : getOperation().getOps<func::FuncOp>())
      if (func->hasAttr(llm::LlmDialect::kEntryAttr))
        entries.push_back(func);
    for (func::FuncOp entry : entries)
      Splitter(entry, stages).run();
  }
};

} // namespace
} // namespace llmc
