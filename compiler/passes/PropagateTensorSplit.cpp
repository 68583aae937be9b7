// SPDX-License-Identifier: Apache-2.0
// Decides what each tensor-split rank holds of every value. Parameters say how
// they may be cut; sharding rules carry the cuts through ops in program order.
// Where an op cannot work on what an operand is, a dist.reshard makes it whole
// (or gives each rank its rows). Types stay global here; partition-tensor-split
// makes them local.
#include "compiler/passes/Options.h"
#include "compiler/passes/Passes.h"
#include "compiler/passes/Shardings.h"

using namespace mlir;

namespace llmc {
#define GEN_PASS_DEF_PROPAGATETENSORSPLIT
#include "compiler/passes/Passes.h.inc"

namespace {

using dist::DimSplitAttr;
using dist::ShardingAttr;

constexpr StringLiteral kPassName = "propagate-tensor-split";

class Propagation {
public:
  Propagation(ModuleOp module, int64_t ranks, const Options& options)
      : context_(module.getContext()), symbols_(module), ranks_(ranks),
        sequenceParallel_(options.sequenceParallel),
        isTraining_(options.mode == "train"),
        axis_(StringAttr::get(context_, "tp")) {
    whole_ = ShardingAttr::get(context_, {}, {});
    partial_ = ShardingAttr::get(context_, {}, {axis_});
  }

  LogicalResult runEntry(func::FuncOp entry) {
    if (entry.getNumArguments() == 0) // works on states alone
      return runFunction(entry, /*isEntry=*/true);
    auto ids = cast<RankedTensorType>(entry.getArgument(0).getType());
    // Rows are cut only where a sequence has several; decode's are few and
    // separate.
    cutsRows_ = sequenceParallel_ && ids.getRank() == 2 &&
                ids.getDimSize(1) > 1 && ids.getNumElements() % ranks_ == 0;
    rows_ = ids.getNumElements();
    // What an earlier segment saved is as that one left it.
    for (BlockArgument arg : entry.getArguments()) {
      auto saved = saved_.find(nameOf(entry, arg.getArgNumber()));
      if (saved == saved_.end() || saved->second == whole_)
        continue;
      shardings_[arg] = saved->second;
      entry.setArgAttr(arg.getArgNumber(), kShardingAttr, saved->second);
    }
    return runFunction(entry, /*isEntry=*/true);
  }

private:
  ShardingAttr of(Value v) { return shardings_.lookup_or(v, whole_); }

  ShardingAttr rowSplit() {
    auto split = DimSplitAttr::get(context_, axis_, 0, 1, 1, rows_);
    return ShardingAttr::get(context_, {split}, {});
  }

  bool isRowSplit(ShardingAttr s) {
    return s.getSplits().size() == 1 && s.getSplits().front().getDim() == 0;
  }

  static StringRef nameOf(func::FuncOp entry, unsigned arg) {
    auto name = entry.getArgAttrOfType<StringAttr>(arg, "llm.name");
    return name ? name.getValue() : StringRef();
  }

  LogicalResult runFunction(func::FuncOp func, bool isEntry) {
    for (Operation& op :
         llvm::make_early_inc_range(func.getBody().front().getOperations())) {
      LogicalResult done = success();
      if (auto ret = dyn_cast<func::ReturnOp>(op))
        done = visitReturn(ret, isEntry);
      else if (auto call = dyn_cast<func::CallOp>(op))
        done = visitCall(call);
      else if (auto get = dyn_cast<llm::GetParamOp>(op))
        visitParam(get);
      else if (auto get = dyn_cast<llm::GetCacheOp>(op))
        visitCache(get);
      else if (auto read = dyn_cast<llm::ReadStateOp>(op))
        shardings_[read.getResult()] = ofState(read.getState());
      else if (auto accumulate = dyn_cast<llm::AccumulateOp>(op))
        done = visitAccumulate(accumulate);
      else if (auto gradient = dyn_cast<llm::EmbeddingGradientOp>(op))
        done = visitEmbeddingGradient(gradient);
      else if (isa<llm::SquareSumOp, llm::AdamwOp>(op))
        continue; // they work on what the rank has
      else
        done = visitCompute(&op);
      if (failed(done))
        return failure();
      annotate(&op);
    }
    return success();
  }

  void annotate(Operation* op) {
    SmallVector<Attribute> attrs;
    bool isAnyCut = false;
    for (Value result : op->getResults()) {
      attrs.push_back(of(result));
      isAnyCut |= of(result) != whole_;
    }
    if (isAnyCut)
      op->setAttr(kShardingAttr, ArrayAttr::get(context_, attrs));
  }

  ShardingAttr splitOf(llm::SplitAttr split, ShapedType type) {
    if (!split)
      return whole_;
    auto dim =
        DimSplitAttr::get(context_, axis_, split.getDim(), split.getUnit(),
                          split.getGroup(), type.getDimSize(split.getDim()));
    return ShardingAttr::get(context_, {dim}, {});
  }

  /// A state is cut as its parameter.
  ShardingAttr ofState(StringRef name) {
    auto state = symbols_.lookup<llm::StateOp>(name);
    if (!state.getParamAttr())
      return whole_;
    auto param = symbols_.lookup<llm::ParamOp>(*state.getParam());
    ShardingAttr split =
        splitOf(param.getSplitAttr(), cast<ShapedType>(state.getType()));
    return isShared(split) ? whole_ : split;
  }

  /// Training keeps a parameter whole if ranks would share its units: each
  /// takes the rows it works on, and their gradients are added.
  bool isShared(ShardingAttr sharding) {
    return isTraining_ && !sharding.getSplits().empty() &&
           hasSharedUnits(sharding.getSplits().front(), ranks_);
  }

  LogicalResult visitAccumulate(llm::AccumulateOp op) {
    ShardingAttr from = of(op.getX()), to = ofState(op.getState());
    if (!isShared(from))
      return reshard(op.getXMutable(), to);
    OpBuilder builder(op);
    Value sum = dist::ReshardOp::create(
        builder, op.getLoc(), op.getX().getType(), op.getX(),
        ShardingAttr::get(context_, from.getSplits(), {axis_}), to,
        builder.getStringAttr(op.getState()), builder.getStringAttr(kPassName));
    op.getXMutable().assign(sum);
    return success();
  }

  /// Each rank makes its part of the table's gradient from all rows.
  LogicalResult visitEmbeddingGradient(llm::EmbeddingGradientOp op) {
    ShardingAttr table = whole_;
    if (op.getParamAttr()) {
      auto param = symbols_.lookup<llm::ParamOp>(*op.getParam());
      table = splitOf(param.getSplitAttr(),
                      cast<ShapedType>(op.getResult().getType()));
    }
    bool isRowCut =
        !table.getSplits().empty() && table.getSplits().front().getDim() == 0;
    if (!isRowCut)
      return visitCompute(op);
    shardings_[op.getResult()] = table;
    return reshard(op.getDyMutable(), whole_);
  }

  void visitParam(llm::GetParamOp op) {
    auto param = symbols_.lookup<llm::ParamOp>(op.getParam());
    ShardingAttr split = splitOf(param.getSplitAttr(),
                                 cast<ShapedType>(op.getResult().getType()));
    if (!isShared(split)) {
      shardings_[op.getResult()] = split;
      return;
    }
    OpBuilder builder(op->getContext());
    builder.setInsertionPointAfter(op);
    auto own = dist::ReshardOp::create(
        builder, op.getLoc(), op.getResult().getType(), op.getResult(), whole_,
        split, builder.getStringAttr(op.getParam()),
        builder.getStringAttr(kPassName));
    op.getResult().replaceAllUsesExcept(own.getResult(), own);
    shardings_[own.getResult()] = split;
    annotate(own);
  }

  void visitCache(llm::GetCacheOp op) {
    auto cache = symbols_.lookup<llm::CacheOp>(op.getCache());
    shardings_[op.getResult()] = splitOf(
        cache.getSplitAttr(), cast<ShapedType>(op.getResult().getType()));
  }

  /// Makes operand `use` be sharded as `to`, by a reshard before its op.
  LogicalResult reshard(OpOperand& use, ShardingAttr to) {
    Value value = use.get();
    ShardingAttr from = of(value);
    if (from == to)
      return success();
    if (!isa<RankedTensorType>(value.getType()))
      return use.getOwner()->emitOpError("needs a whole cache");
    for (DimSplitAttr split : from.getSplits())
      if (split.getGroup() > 1)
        return use.getOwner()->emitOpError(
            "LLMC-E1002: key/value heads that several ranks hold cannot be "
            "gathered; use a smaller tp");
    Value& cached = reshards_[{value, to}];
    bool isUsable = cached && cached.getDefiningOp()->getBlock() ==
                                  use.getOwner()->getBlock();
    if (!isUsable) {
      OpBuilder builder(use.getOwner());
      std::string subject = locationName(value.getLoc());
      cached = dist::ReshardOp::create(
          builder, value.getLoc(), value.getType(), value, from, to,
          builder.getStringAttr(subject), builder.getStringAttr(kPassName));
      shardings_[cached] = to;
      annotate(cached.getDefiningOp());
    }
    use.set(cached);
    return success();
  }

  /// What a partial sum becomes: a run of rows for each rank, or the whole.
  ShardingAttr resolved(Value v) {
    auto type = cast<RankedTensorType>(v.getType());
    // A gradient of a parameter has no rows, whatever its size.
    bool hasRows =
        type.getRank() == 2 && type.getDimSize(0) == rows_ &&
        !isa_and_nonnull<llm::LinearWeightGradientOp, llm::EmbeddingGradientOp>(
            v.getDefiningOp());
    return cutsRows_ && hasRows ? rowSplit() : whole_;
  }

  LogicalResult visitReturn(func::ReturnOp op, bool isEntry) {
    for (OpOperand& use : op->getOpOperands()) {
      ShardingAttr s = of(use.get());
      ShardingAttr to = s;
      auto func = op->getParentOfType<func::FuncOp>();
      auto name = func.getResultAttrOfType<StringAttr>(use.getOperandNumber(),
                                                       "llm.name");
      bool isSaved = name && name.getValue().starts_with("saved.");
      if (isEntry && !isSaved)
        to = whole_;
      else if (!s.getPartial().empty())
        to = resolved(use.get());
      if (failed(reshard(use, to)))
        return failure();
      if (isSaved)
        saved_[name.getValue()] = to;
    }
    return success();
  }

  LogicalResult visitCall(func::CallOp call) {
    auto callee = symbols_.lookup<func::FuncOp>(call.getCallee());
    for (OpOperand& use : call->getOpOperands())
      if (!of(use.get()).getPartial().empty() &&
          failed(reshard(use, resolved(use.get()))))
        return failure();
    if (visited_.insert(callee).second) {
      for (auto [arg, operand] :
           llvm::zip(callee.getArguments(), call.getOperands())) {
        ShardingAttr s = of(operand);
        shardings_[arg] = s;
        if (s != whole_)
          callee.setArgAttr(arg.getArgNumber(), kShardingAttr, s);
      }
      if (failed(runFunction(callee, /*isEntry=*/false)))
        return failure();
    }
    for (auto [use, arg] :
         llvm::zip(call->getOpOperands(), callee.getArguments()))
      if (failed(reshard(use, of(arg))))
        return failure();
    Operation* ret = callee.getBody().front().getTerminator();
    for (auto [result, value] :
         llvm::zip(call.getResults(), ret->getOperands()))
      shardings_[result] = of(value);
    return success();
  }

  /// The cut of an operand's dimension, if it has one.
  DimSplitAttr cutOf(Value v, unsigned dim) {
    for (DimSplitAttr split : of(v).getSplits())
      if (split.getDim() == dim)
        return split;
    return {};
  }

  struct FactorUse {
    OpOperand* operand;
    unsigned dim;
  };

  LogicalResult visitCompute(Operation* op) {
    // A sum of partial gradients is one: it is completed once.
    if (isa<llm::AddOp>(op) && llvm::all_of(op->getOperands(), [&](Value v) {
          return of(v) == partial_ &&
                 isa<llm::LinearInputGradientOp, llm::AddOp>(v.getDefiningOp());
        })) {
      shardings_[op->getResult(0)] = partial_;
      return success();
    }
    for (OpOperand& use : op->getOpOperands())
      if (!of(use.get()).getPartial().empty() &&
          failed(reshard(use, resolved(use.get()))))
        return failure();
    auto ruled = dyn_cast<llm::ShardingRuleInterface>(op);
    bool isAnyCut = llvm::any_of(op->getOperands(),
                                 [&](Value v) { return of(v) != whole_; });
    if (!isAnyCut)
      return success();
    if (!ruled)
      return op->emitOpError("has no sharding rule and a cut operand");
    llm::ShardingRule rule = ruled.getShardingRule();
    SmallVector<SmallVector<FactorUse>> uses(rule.factors.size());
    for (auto [i, dims] : llvm::enumerate(rule.operands))
      for (auto [d, factor] : llvm::enumerate(dims))
        if (factor >= 0)
          uses[factor].push_back(
              {&op->getOpOperand(i), static_cast<unsigned>(d)});
    int cutFactor = chooseFactor(op, rule, uses);
    DimSplitAttr cut;
    if (cutFactor >= 0)
      for (const FactorUse& use : uses[cutFactor])
        if (DimSplitAttr s = cutOf(use.operand->get(), use.dim); s && !cut)
          cut = s;
    if (failed(matchOperands(op, rule, cutFactor)))
      return failure();
    if (cutFactor < 0)
      return success();
    for (auto [i, dims] : llvm::enumerate(rule.results))
      for (auto [d, factor] : llvm::enumerate(dims))
        if (factor == cutFactor) {
          auto type = cast<ShapedType>(op->getResult(i).getType());
          DimSplitAttr own = followedCut(op, rule, i, cutFactor, cut);
          // A result with one element for many (a head) has units in
          // proportion.
          int64_t unit = std::max<int64_t>(
              1, own.getUnit() * type.getDimSize(d) / own.getGlobal());
          if (type.getDimSize(d) == own.getGlobal())
            unit = own.getUnit();
          auto split = DimSplitAttr::get(context_, axis_, d, unit,
                                         own.getGroup(), type.getDimSize(d));
          shardings_[op->getResult(i)] =
              ShardingAttr::get(context_, {split}, {});
        }
    if (rule.factors[cutFactor] == llm::FactorKind::Reduction)
      for (Value result : op->getResults())
        shardings_[result] = partial_;
    return success();
  }

  /// The cut that result `i` copies.
  DimSplitAttr followedCut(Operation* op, const llm::ShardingRule& rule,
                           unsigned i, int factor, DimSplitAttr first) {
    if (i >= rule.follows.size())
      return first;
    unsigned operand = rule.follows[i];
    for (auto [d, f] : llvm::enumerate(rule.operands[operand]))
      if (f == factor)
        if (DimSplitAttr cut = cutOf(op->getOperand(operand), d))
          return cut;
    return first;
  }

  /// The one factor that stays cut: all its dimensions are cut alike (whole
  /// rows may be sliced), in whole grains. Rows give way to columns.
  int chooseFactor(Operation* op, const llm::ShardingRule& rule,
                   ArrayRef<SmallVector<FactorUse>> uses) {
    int rowFactor = rule.results.empty() || rule.results[0].empty()
                        ? -1
                        : rule.results[0][0];
    int chosen = -1;
    for (auto [f, kind] : llvm::enumerate(rule.factors)) {
      if (kind == llm::FactorKind::Full || uses[f].empty())
        continue;
      int64_t grain = f < rule.granularity.size() ? rule.granularity[f] : 1;
      DimSplitAttr cut;
      bool isPossible = true;
      for (const FactorUse& use : uses[f]) {
        DimSplitAttr s = cutOf(use.operand->get(), use.dim);
        bool isSliceable = static_cast<int>(f) == rowFactor && use.dim == 0;
        if (!s) {
          isPossible &= isSliceable;
          continue;
        }
        bool isCache = isa<MemRefType>(use.operand->get().getType());
        isPossible &= (isCache || s.getUnit() % grain == 0) &&
                      (!cut || isSameCut(cut, s));
        cut = s;
      }
      if (!isPossible || !cut)
        continue;
      if (chosen < 0 || chosen == rowFactor)
        chosen = f;
    }
    return chosen;
  }

  /// Makes every operand cut along the chosen factor and nowhere else.
  LogicalResult matchOperands(Operation* op, const llm::ShardingRule& rule,
                              int cutFactor) {
    for (auto [i, dims] : llvm::enumerate(rule.operands)) {
      OpOperand& use = op->getOpOperand(i);
      ShardingAttr to = whole_;
      for (auto [d, factor] : llvm::enumerate(dims)) {
        if (cutFactor < 0 || factor != cutFactor)
          continue;
        DimSplitAttr s = cutOf(use.get(), d);
        to = s ? ShardingAttr::get(context_, {s}, {}) : rowSplit();
      }
      if (failed(reshard(use, to)))
        return failure();
    }
    return success();
  }

  struct ShardingMap : DenseMap<Value, ShardingAttr> {
    ShardingAttr lookup_or(Value v, ShardingAttr fallback) const {
      auto found = find(v);
      return found == end() ? fallback : found->second;
    }
  };

  MLIRContext* context_;
  SymbolTable symbols_;
  int64_t ranks_;
  bool sequenceParallel_, isTraining_;
  StringAttr axis_;
  ShardingAttr whole_, partial_;
  bool cutsRows_ = false;
  int64_t rows_ = 0;
  ShardingMap shardings_;
  llvm::StringMap<ShardingAttr> saved_; // by name, from segment to segment
  DenseMap<std::pair<Value, Attribute>, Value> reshards_;
  DenseSet<Operation*> visited_;
};

struct PropagateTensorSplitPass
    : impl::PropagateTensorSplitBase<PropagateTensorSplitPass> {
  void runOnOperation() override {
    int64_t ranks = meshAxisSize(getOperation(), "tp");
    if (ranks == 1)
      return;
    Options options = Options::read(getOperation());
    Propagation propagation(getOperation(), ranks, options);
    SmallVector<func::FuncOp> funcs(getOperation().getOps<func::FuncOp>());
    for (func::FuncOp func : funcs)
      if (func->hasAttr(llm::LlmDialect::kEntryAttr) &&
          failed(propagation.runEntry(func)))
        return signalPassFailure();
  }
};

} // namespace
} // namespace llmc
