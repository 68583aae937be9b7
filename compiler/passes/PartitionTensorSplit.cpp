// SPDX-License-Identifier: Apache-2.0
// Rewrites every value to what one tensor-split rank holds, as propagation
// decided.
#include "compiler/passes/Options.h"
#include "compiler/passes/Passes.h"
#include "compiler/passes/Shardings.h"
#include "compiler/passes/WeightStorage.h"

using namespace mlir;

namespace llmc {
#define GEN_PASS_DEF_PARTITIONTENSORSPLIT
#include "compiler/passes/Passes.h.inc"

namespace {

using dist::DimSplitAttr;
using dist::ShardingAttr;

class Partitioner {
public:
  Partitioner(ModuleOp module, int64_t ranks)
      : module_(module), symbols_(module), ranks_(ranks),
        builder_(module.getContext()) {}

  void run() {
    for (auto func : module_.getOps<func::FuncOp>())
      partitionFunction(func);
    // Call results follow their callees, which are all partitioned now.
    for (auto func : module_.getOps<func::FuncOp>())
      func.walk([&](func::CallOp call) {
        auto callee = symbols_.lookup<func::FuncOp>(call.getCallee());
        for (auto [result, type] : llvm::zip(
                 call.getResults(), callee.getFunctionType().getResults()))
          result.setType(type);
      });
    for (auto func : module_.getOps<func::FuncOp>())
      updateSignature(func);
    for (auto state : module_.getOps<llm::StateOp>())
      if (state.getParamAttr()) {
        auto param = symbols_.lookup<llm::ParamOp>(*state.getParam());
        state.setType(param.getComputeType().clone(builder_.getF32Type()));
      }
  }

private:
  Type localType(Type type, ShardingAttr sharding) {
    auto shaped = cast<ShapedType>(type);
    SmallVector<int64_t> shape(shaped.getShape());
    for (DimSplitAttr split : sharding.getSplits())
      shape[split.getDim()] = localSize(split, ranks_);
    return shaped.clone(shape);
  }

  void partitionFunction(func::FuncOp func) {
    for (BlockArgument arg : func.getArguments()) {
      unsigned i = arg.getArgNumber();
      if (auto s = func.getArgAttrOfType<ShardingAttr>(i, kShardingAttr)) {
        setAttrs(arg, s);
        arg.setType(localType(arg.getType(), s));
        func.removeArgAttr(i, kShardingAttr);
      }
    }
    for (Operation& op : func.getBody().front())
      partitionOp(&op);
    updateSignature(func);
  }

  /// Remembers the cut of a value, for the ops that need offsets.
  void setAttrs(Value v, ShardingAttr s) {
    if (!s.getSplits().empty())
      cuts_[v] = s.getSplits().front();
  }

  void partitionOp(Operation* op) {
    auto shardings = op->getAttrOfType<ArrayAttr>(kShardingAttr);
    if (shardings) {
      for (auto [result, attr] : llvm::zip(op->getResults(), shardings)) {
        auto s = cast<ShardingAttr>(attr);
        setAttrs(result, s);
        result.setType(localType(result.getType(), s));
      }
      op->removeAttr(kShardingAttr);
    }
    if (auto get = dyn_cast<llm::GetParamOp>(op))
      partitionParam(get);
    else if (auto get = dyn_cast<llm::GetCacheOp>(op))
      partitionCache(get);
    else if (auto embedding = dyn_cast<llm::EmbeddingOp>(op))
      setVocabulary(embedding, embedding.getTable(), 0);
    else if (auto gradient = dyn_cast<llm::EmbeddingGradientOp>(op))
      setVocabulary(gradient, gradient.getResult(), 0);
    else if (auto statistics = dyn_cast<llm::CrossEntropyStatisticsOp>(op))
      setVocabulary(statistics, statistics.getLogits(), 1);
    else if (auto gradient = dyn_cast<llm::CrossEntropyGradientOp>(op))
      setVocabulary(gradient, gradient.getLogits(), 1);
    else if (auto attention = dyn_cast<llm::CachedAttentionOp>(op))
      setHeadOffset(attention, attention.getKeys());
    else if (auto attention = dyn_cast<llm::RowAttentionOp>(op))
      setHeadOffset(attention, attention.getK());
    else if (auto gradient = dyn_cast<llm::RowAttentionGradientOp>(op))
      setHeadOffset(gradient, gradient.getK());
  }

  void partitionParam(llm::GetParamOp op) {
    auto param = symbols_.lookup<llm::ParamOp>(op.getParam());
    auto found = cuts_.find(op.getResult());
    if (found == cuts_.end() || param.getSliceAttr())
      return;
    DimSplitAttr split = found->second;
    SmallVector<int64_t> offsets, counts;
    for (int64_t r = 0; r < ranks_; ++r) {
      ElementRange range = rangeOf(split, r, ranks_);
      offsets.push_back(range.offset);
      counts.push_back(range.count);
    }
    param.setLocalTypeAttr(TypeAttr::get(op.getResult().getType()));
    param.setSliceAttr(dist::SliceAttr::get(builder_.getContext(),
                                            split.getAxis(), split.getDim(),
                                            offsets, counts));
  }

  void partitionCache(llm::GetCacheOp op) {
    auto cache = symbols_.lookup<llm::CacheOp>(op.getCache());
    cache.setTypeAttr(TypeAttr::get(op.getResult().getType()));
  }

  Attribute byCoordinate(DimSplitAttr split,
                         llvm::function_ref<int64_t(int64_t)> value) {
    SmallVector<int64_t> values;
    for (int64_t r = 0; r < ranks_; ++r)
      values.push_back(value(r));
    return dist::ByCoordinateAttr::get(builder_.getContext(), split.getAxis(),
                                       values);
  }

  /// Says which ids a rank has, where dimension `dim` of `value` is a cut
  /// vocabulary.
  template <typename Op>
  void setVocabulary(Op op, Value value, int64_t dim) {
    auto found = cuts_.find(value);
    if (found == cuts_.end() || found->second.getDim() != dim)
      return;
    auto range = [&](int64_t r) { return rangeOf(found->second, r, ranks_); };
    op.setVocabBeginAttr(byCoordinate(
        found->second, [&](int64_t r) { return range(r).offset; }));
    if constexpr (requires { op.setVocabCountAttr(Attribute()); })
      op.setVocabCountAttr(byCoordinate(
          found->second, [&](int64_t r) { return range(r).count; }));
  }

  template <typename Op>
  void setHeadOffset(Op op, Value keys) {
    auto found = cuts_.find(keys);
    if (found == cuts_.end())
      return;
    op.setHeadOffsetAttr(byCoordinate(found->second, [&](int64_t r) {
      return headOffset(found->second, r, ranks_);
    }));
  }

  void updateSignature(func::FuncOp func) {
    Operation* ret = func.getBody().front().getTerminator();
    func.setFunctionType(
        builder_.getFunctionType(func.getBody().front().getArgumentTypes(),
                                 SmallVector<Type>(ret->getOperandTypes())));
  }

  ModuleOp module_;
  SymbolTable symbols_;
  int64_t ranks_;
  Builder builder_;
  DenseMap<Value, DimSplitAttr> cuts_;
};

struct PartitionTensorSplitPass
    : impl::PartitionTensorSplitBase<PartitionTensorSplitPass> {
  void runOnOperation() override {
    int64_t ranks = meshAxisSize(getOperation(), "tp");
    if (ranks == 1)
      return;
    Partitioner(getOperation(), ranks).run();
    for (auto param : getOperation().getOps<llm::ParamOp>()) {
      auto slice = dyn_cast_or_null<dist::SliceAttr>(param.getSliceAttr());
      if (slice && slice.getDim() == 1 && failed(checkColumnCut(param, slice)))
        return signalPassFailure();
    }
  }
};

} // namespace
} // namespace llmc
