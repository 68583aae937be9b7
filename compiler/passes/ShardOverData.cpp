// SPDX-License-Identifier: Apache-2.0
// The data axis of a training step: gradients are added over it, optimizer
// states (ZeRO 1), gradients (2) and parameters (3) are cut along it.
// InsertZeroGathers has cut the parameters already. The norm and the loss
// concern all axes, so they are here too.
#include "compiler/passes/Launches.h"
#include "compiler/passes/Options.h"
#include "compiler/passes/Passes.h"
#include "compiler/passes/SelectTrainingKernels.h"

#include "llvm/ADT/MapVector.h"

using namespace mlir;

namespace llmc {
#define GEN_PASS_DEF_SHARDOVERDATA
#include "compiler/passes/Passes.h.inc"

namespace {

constexpr StringLiteral kPassName = "shard-over-data";

class DataSharding {
public:
  explicit DataSharding(ModuleOp module)
      : module_(module), symbols_(module), builder_(module.getContext()),
        options_(Options::read(module)), ranks_(meshAxisSize(module, "dp")) {}

  LogicalResult run() {
    for (auto mesh : module_.getOps<dist::MeshOp>())
      for (auto [axis, size] : llvm::zip(mesh.getAxes(), mesh.getSizes()))
        if (size > 1)
          meshAxes_.push_back(cast<StringAttr>(axis).getValue());
    cutStates();
    for (auto func : module_.getOps<func::FuncOp>()) {
      auto entry = func->getAttrOfType<StringAttr>(llm::LlmDialect::kEntryAttr);
      if (!entry)
        continue;
      if (entry.getValue() == "prologue")
        sumCounts(func);
      if (entry.getValue() == "backward" && options_.zero >= 2 && ranks_ > 1)
        scatterGradients(func);
      if (entry.getValue() == "loss")
        sumLoss(func);
      if (entry.getValue() == "optimizer" && failed(exchange(func)))
        return failure();
    }
    return success();
  }

private:
  llm::ParamOp paramOf(llm::StateOp state) {
    if (!state.getParamAttr())
      return {};
    return symbols_.lookup<llm::ParamOp>(*state.getParam());
  }

  static bool isMatrix(llm::ParamOp param) {
    return param && param.getComputeType().getRank() == 2;
  }

  /// Elements of a run of the f32 states of a matrix.
  int64_t runOf(llm::ParamOp param) {
    // Runs of a bf16 weight are panels of 64 outputs, two f32 panels.
    return zeroRunElements(param.getComputeType(), ranks_);
  }

  dist::ShardAttr shardOf(llm::ParamOp param) {
    return dist::ShardAttr::get(builder_.getContext(),
                                {builder_.getStringAttr("dp")}, runOf(param));
  }

  /// Moments (ZeRO 1) and gradients (2) of matrices become runs; every state
  /// takes its parameter's local type.
  void cutStates() {
    for (auto state : module_.getOps<llm::StateOp>()) {
      llm::ParamOp param = paramOf(state);
      if (!param)
        continue;
      auto f32 = builder_.getF32Type();
      state.setType(param.getComputeType().clone(f32));
      if (!isMatrix(param) || ranks_ == 1)
        continue;
      param->setAttr(kRunElementsAttr,
                     builder_.getI64IntegerAttr(runOf(param)));
      int64_t first = state.getRole() == llm::StateRole::gradient ? 2 : 1;
      if (options_.zero < first)
        continue;
      state.setShardAttr(shardOf(param));
      state.setType(RankedTensorType::get({runOf(param)}, f32));
    }
    module_.walk([&](dist::RecvOp receive) {
      if (auto name = receive->getAttrOfType<FlatSymbolRefAttr>(kStateAttr))
        receive.getResult().setType(cast<RankedTensorType>(
            symbols_.lookup<llm::StateOp>(name.getValue()).getType()));
    });
    module_.walk([&](llm::ReadStateOp read) {
      read.getResult().setType(cast<RankedTensorType>(
          symbols_.lookup<llm::StateOp>(read.getState()).getType()));
    });
  }

  ArrayAttr axes(ArrayRef<StringRef> names) {
    return builder_.getStrArrayAttr(names);
  }

  Value allReduce(Value x, ArrayAttr axes, StringRef subject) {
    return dist::AllReduceOp::create(builder_, x.getLoc(), x.getType(), x, axes,
                                     builder_.getStringAttr(subject),
                                     builder_.getStringAttr(kPassName));
  }

  Value reduceScatter(Value x, llm::ParamOp param) {
    auto run = RankedTensorType::get({runOf(param)}, builder_.getF32Type());
    return dist::ReduceScatterOp::create(
        builder_, x.getLoc(), run, x, axes({"dp"}),
        builder_.getStringAttr(param.getSymName()),
        builder_.getStringAttr(kPassName));
  }

  void sumCounts(func::FuncOp prologue) {
    if (ranks_ == 1)
      return;
    for (auto count : prologue.getOps<llm::CountLabelsOp>()) {
      builder_.setInsertionPointAfter(count);
      Value own = count.getResult();
      Value sum = allReduce(own, axes({"dp"}), "count");
      own.replaceAllUsesExcept(sum, sum.getDefiningOp());
    }
  }

  /// ZeRO 2: what a micro-batch adds to a gradient goes to its ranks first.
  void scatterGradients(func::FuncOp backward) {
    llvm::MapVector<StringRef, SmallVector<llm::AccumulateOp>> terms;
    for (auto accumulate : backward.getOps<llm::AccumulateOp>())
      if (symbols_.lookup<llm::StateOp>(accumulate.getState()).getShardAttr())
        terms[accumulate.getState()].push_back(accumulate);
    for (auto& [name, list] : terms) {
      auto state = symbols_.lookup<llm::StateOp>(name);
      if (list.size() > 1)
        sumBeforeScatter(backward, state, list);
      builder_.setInsertionPoint(list.back());
      list.back().getXMutable().assign(
          reduceScatter(list.back().getX(), paramOf(state)));
    }
  }

  /// A tied parameter has several terms: a rank adds its own first, as stages 0
  /// and 1 do.
  void sumBeforeScatter(func::FuncOp backward, llm::StateOp state,
                        ArrayRef<llm::AccumulateOp> terms) {
    std::string name = state.getSymName().str() + ".own";
    llm::ParamOp param = paramOf(state);
    auto whole = param.getComputeType().clone(builder_.getF32Type());
    if (!symbols_.lookup(name)) {
      builder_.setInsertionPoint(state);
      symbols_.insert(llm::StateOp::create(builder_, state.getLoc(), name,
                                           whole, llm::StateRole::gradient,
                                           state.getParamAttr(), Attribute()));
    }
    builder_.setInsertionPointToStart(&backward.getBody().front());
    llm::ZeroStateOp::create(builder_, state.getLoc(), name);
    for (llm::AccumulateOp term : terms.drop_back())
      term.setState(name);
    llm::AccumulateOp last = terms.back();
    builder_.setInsertionPoint(last);
    llm::AccumulateOp::create(builder_, last.getLoc(), last.getX(), name);
    last.getXMutable().assign(
        llm::ReadStateOp::create(builder_, state.getLoc(), whole, name));
  }

  LogicalResult exchange(func::FuncOp optimizer) {
    SmallVector<Operation*> ops;
    for (Operation& op : optimizer.getBody().front())
      ops.push_back(&op);
    DenseMap<StringRef, Value> gradients; // by state, exchanged
    for (Operation* op : ops) {
      builder_.setInsertionPoint(op);
      if (auto send = dyn_cast<dist::SendOp>(op))
        exchangeBeforeSend(send, gradients);
      else if (auto receive = dyn_cast<dist::RecvOp>(op))
        addExchanged(receive, gradients);
      else if (auto square = dyn_cast<llm::SquareSumOp>(op))
        countOnce(square, gradients);
      else if (auto terms = dyn_cast<llm::SumTermsOp>(op))
        gatherTerms(terms);
      else if (auto adamw = dyn_cast<llm::AdamwOp>(op))
        update(adamw, gradients);
    }
    return success();
  }

  void sumLoss(func::FuncOp segment) {
    builder_.setInsertionPointToStart(&segment.getBody().front());
    SmallVector<StringRef> names;
    for (StringRef axis : meshAxes_)
      if (axis != "tp") // its ranks hold the same loss
        names.push_back(axis);
    if (names.empty())
      return;
    auto state = symbols_.lookup<llm::StateOp>("loss");
    Value loss = llm::ReadStateOp::create(builder_, state.getLoc(),
                                          state.getType(), "loss");
    allReduce(loss, axes(names), "loss");
  }

  dist::ByCoordinateAttr table(StringRef axis,
                               llvm::function_ref<int64_t(int64_t)> value) {
    SmallVector<int64_t> values;
    for (int64_t i = 0; i < meshAxisSize(module_, axis); ++i)
      values.push_back(value(i));
    return dist::ByCoordinateAttr::get(builder_.getContext(),
                                       builder_.getStringAttr(axis), values);
  }

  dist::ByCoordinateAttr runOffsets(llm::ParamOp param) {
    int64_t bytes = runOf(param) * 4;
    return table("dp", [&](int64_t i) { return i * bytes; });
  }

  /// The gradient that the optimizer works with: added over data ranks.
  Value exchanged(Value own, DenseMap<StringRef, Value>& gradients) {
    auto read = own.getDefiningOp<llm::ReadStateOp>();
    Value& result = gradients[read.getState()];
    if (result)
      return result;
    auto state = symbols_.lookup<llm::StateOp>(read.getState());
    llm::ParamOp param = paramOf(state);
    if (ranks_ == 1 || state.getShardAttr())
      result = own;
    else if (isMatrix(param) && options_.zero >= 1)
      result = reduceScatter(own, param);
    else
      result = allReduce(own, axes({"dp"}), param.getSymName());
    return result;
  }

  /// A copy of a tied parameter is added over data ranks before it is sent
  /// home, as ZeRO 2 and 3 do with each micro-batch's: then all stages of ZeRO
  /// add in the same order.
  void exchangeBeforeSend(dist::SendOp send,
                          DenseMap<StringRef, Value>& gradients) {
    if (send.getX().getDefiningOp<llm::ReadStateOp>())
      send.getXMutable().assign(exchanged(send.getX(), gradients));
  }

  /// At home the same: what is received is added to the home's own exchanged
  /// gradient, in a state of its own.
  void addExchanged(dist::RecvOp receive,
                    DenseMap<StringRef, Value>& gradients) {
    auto name = receive->getAttrOfType<FlatSymbolRefAttr>(kStateAttr);
    auto own =
        name ? symbols_.lookup<llm::StateOp>(name.getValue()) : llm::StateOp();
    if (!own || ranks_ == 1 || own.getShardAttr())
      return;
    Location loc = own.getLoc();
    std::string sum = own.getSymName().str() + ".exchanged";
    if (!symbols_.lookup(sum)) {
      Value first =
          exchanged(llm::ReadStateOp::create(builder_, loc, own.getType(),
                                             own.getSymName()),
                    gradients);
      declareExchanged(own, sum, cast<RankedTensorType>(first.getType()));
      llm::ZeroStateOp::create(builder_, loc, sum);
      llm::AccumulateOp::create(builder_, loc, first, sum);
    }
    auto state = symbols_.lookup<llm::StateOp>(sum);
    auto accumulate = cast<llm::AccumulateOp>(*receive->user_begin());
    receive.getResult().setType(cast<RankedTensorType>(state.getType()));
    receive->setAttr(kStateAttr, FlatSymbolRefAttr::get(state));
    accumulate.setState(sum);
    builder_.setInsertionPointAfter(accumulate);
    gradients[own.getSymName()] =
        llm::ReadStateOp::create(builder_, loc, state.getType(), sum);
  }

  void declareExchanged(llm::StateOp own, StringRef name,
                        RankedTensorType type) {
    OpBuilder::InsertionGuard guard(builder_);
    builder_.setInsertionPointAfter(own);
    auto state = llm::StateOp::create(
        builder_, own.getLoc(), name, type, llm::StateRole::gradient,
        own.getParamAttr(),
        type == own.getType() ? dist::ShardAttr() : shardOf(paramOf(own)));
    symbols_.insert(state);
  }

  void countOnce(llm::SquareSumOp op, DenseMap<StringRef, Value>& gradients) {
    auto read = op.getX().getDefiningOp<llm::ReadStateOp>();
    llm::ParamOp param =
        paramOf(symbols_.lookup<llm::StateOp>(read.getState()));
    op.getXMutable().assign(exchanged(op.getX(), gradients));
    SmallVector<Attribute> counted;
    auto first = [](int64_t i) -> int64_t { return i == 0; };
    if (meshAxisSize(module_, "tp") > 1 && !param.getSliceAttr())
      counted.push_back(table("tp", first));
    if (ranks_ > 1 && !isMatrix(param))
      counted.push_back(table("dp", first));
    if (!counted.empty())
      op.setCountedAttr(builder_.getArrayAttr(counted));
    if (ranks_ == 1 || !isMatrix(param))
      return;
    // Every stage of ZeRO counts the same runs on the same ranks.
    op->setAttr(kIsRunAttr, builder_.getUnitAttr());
    if (options_.zero == 0)
      op->setAttr(kRunOffsetsAttr, runOffsets(param));
  }

  void gatherTerms(llm::SumTermsOp op) {
    if (meshAxes_.empty())
      return;
    int64_t ranks = 1;
    for (StringRef axis : meshAxes_)
      ranks *= meshAxisSize(module_, axis);
    builder_.setInsertionPointAfter(op);
    Value own = op.getResult();
    auto gather = dist::AllGatherOp::create(
        builder_, op.getLoc(),
        RankedTensorType::get({ranks}, builder_.getF64Type()), own,
        axes(meshAxes_), builder_.getI64IntegerAttr(0),
        builder_.getStringAttr("norm"), builder_.getStringAttr(kPassName));
    own.replaceAllUsesExcept(gather.getResult(), gather);
  }

  void update(llm::AdamwOp op, DenseMap<StringRef, Value>& gradients) {
    auto param = symbols_.lookup<llm::ParamOp>(op.getParam());
    op.getGradientMutable().assign(exchanged(op.getGradient(), gradients));
    if (ranks_ == 1 || !isMatrix(param) || options_.zero == 0)
      return;
    op->setAttr(kIsRunAttr, builder_.getUnitAttr());
    if (options_.zero == 3)
      return; // the rank holds its run alone
    op->setAttr(kRunOffsetsAttr, runOffsets(param));
    builder_.setInsertionPointAfter(op);
    Value whole = llm::GetParamOp::create(
        builder_, op.getLoc(), param.getComputeType(), param.getSymName());
    dist::GatherInPlaceOp::create(builder_, op.getLoc(), whole, axes({"dp"}),
                                  builder_.getI64IntegerAttr(runOf(param)),
                                  builder_.getStringAttr(param.getSymName()),
                                  builder_.getStringAttr(kPassName));
  }

  ModuleOp module_;
  SymbolTable symbols_;
  OpBuilder builder_;
  Options options_;
  int64_t ranks_;
  SmallVector<StringRef> meshAxes_; // with more than one rank
};

struct ShardOverDataPass : impl::ShardOverDataBase<ShardOverDataPass> {
  void runOnOperation() override {
    if (failed(DataSharding(getOperation()).run()))
      signalPassFailure();
  }
};

} // namespace
} // namespace llmc
