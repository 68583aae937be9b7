// SPDX-License-Identifier: Apache-2.0
// ZeRO stage 3: a rank keeps one run of each matrix and gathers the whole
// at each use. Gathers stand at call sites, where parameters are read; block
// functions do not change. In training, copies stay from the forward to the
// backward pass as long as they fit into the budget.
#include "compiler/passes/Launches.h"
#include "compiler/passes/Options.h"
#include "compiler/passes/Passes.h"
#include "compiler/passes/TrainingForward.h"
#include "compiler/passes/WeightStorage.h"

#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "llvm/ADT/StringMap.h"
#include "llvm/ADT/StringSet.h"

#include <map>

using namespace mlir;

namespace llmc {
#define GEN_PASS_DEF_INSERTZEROGATHERS
#include "compiler/passes/Passes.h.inc"

namespace {

/// The gathers of one parameter on a pipeline stage.
struct StageGathers {
  SmallVector<dist::ZeroGatherOp> forward, backward;
};

/// Keeps copies of gathered parameters of one stage from its forward to its
/// backward functions.
class CopyKeeper {
public:
  CopyKeeper(ModuleOp module, int64_t ranks) : module_(module), ranks_(ranks) {}

  void add(func::FuncOp func) {
    auto entry = func->getAttrOfType<StringAttr>(llm::LlmDialect::kEntryAttr);
    bool isForward = entry && entry.getValue().starts_with("forward");
    if (!isForward && !(entry && entry.getValue().starts_with("backward")))
      return;
    for (auto gather : func.getOps<dist::ZeroGatherOp>()) {
      StageGathers& gathers = byParam_[*gather.getSubject()];
      (isForward ? gathers.forward : gathers.backward).push_back(gather);
      if (isForward)
        order_.push_back(*gather.getSubject());
    }
  }

  /// Takes what the forward pass uses last first: its next use is the nearest.
  void keep(int64_t budgetBytes) {
    llvm::StringSet<> seen;
    for (StringRef name : llvm::reverse(order_)) {
      StageGathers& gathers = byParam_[name];
      if (!seen.insert(name).second || gathers.backward.empty())
        continue;
      auto shard =
          cast<RankedTensorType>(gathers.forward.front().getShard().getType());
      int64_t bytes =
          ranks_ * shard.getNumElements() * shard.getElementTypeBitWidth() / 8;
      if (bytes > budgetBytes)
        continue;
      budgetBytes -= bytes;
      markForward(gathers.forward);
      for (dist::ZeroGatherOp gather : gathers.backward)
        readKept(gather);
    }
  }

private:
  /// A function gathers a parameter once; its later readers take the same copy.
  void markForward(ArrayRef<dist::ZeroGatherOp> gathers) {
    DenseMap<Block*, dist::ZeroGatherOp> first;
    for (dist::ZeroGatherOp gather : gathers) {
      auto [it, isFirst] = first.try_emplace(gather->getBlock(), gather);
      if (isFirst) {
        gather->setAttr(kKeptAttr, UnitAttr::get(module_.getContext()));
        continue;
      }
      gather.getFull().replaceAllUsesWith(it->second.getFull());
      gather.erase();
    }
  }

  void readKept(dist::ZeroGatherOp gather) {
    OpBuilder b(gather);
    auto get = llm::GetParamOp::create(
        b, gather.getLoc(), gather.getFull().getType(), *gather.getSubject());
    get->setAttr(kKeptAttr, b.getUnitAttr());
    gather.getFull().replaceAllUsesWith(get.getResult());
    gather.erase();
  }

  ModuleOp module_;
  int64_t ranks_;
  llvm::StringMap<StageGathers> byParam_;
  SmallVector<StringRef> order_; // of gathers of the forward pass
};

struct InsertZeroGathersPass
    : impl::InsertZeroGathersBase<InsertZeroGathersPass> {
  void runOnOperation() override {
    ModuleOp module = getOperation();
    int64_t ranks = meshAxisSize(module, "dp");
    Options options = Options::read(module);
    if (ranks == 1)
      return;
    Builder b(module.getContext());
    for (auto param : module.getOps<llm::ParamOp>()) {
      auto type = param.getComputeType();
      bool isReference = param.getWeightSet() == kReferenceSet;
      int64_t zero = isReference ? options.referenceZero : options.zero;
      if (zero < 3 || type.getRank() != 2)
        continue;
      if (isInBlocks(param)) {
        param.emitError("LLMC-E1003: --zero=3 with --weights-format=")
            << *param.getStorage()
            << ": weights in blocks are not gathered; use --zero=0, or "
               "--weights-format=dense";
        return signalPassFailure();
      }
      param.setShardAttr(dist::ShardAttr::get(&getContext(),
                                              {b.getStringAttr("dp")},
                                              zeroRunElements(type, ranks)));
    }
    SymbolTable symbols(module);
    SmallVector<llm::GetParamOp> reads;
    module.walk([&](llm::GetParamOp op) { reads.push_back(op); });
    for (llm::GetParamOp op : reads) {
      auto param = symbols.lookup<llm::ParamOp>(op.getParam());
      auto shard = dyn_cast_or_null<dist::ShardAttr>(param.getShardAttr());
      if (!shard)
        continue;
      gather(op, shard);
    }
    keepCopies(module, ranks);
  }

  void keepCopies(ModuleOp module, int64_t ranks) {
    int64_t budgetBytes = Options::read(module).zeroLiveBytes;
    if (budgetBytes <= 0)
      return;
    std::map<int64_t, CopyKeeper> stages;
    for (auto func : module.getOps<func::FuncOp>()) {
      auto stage = func->getAttrOfType<IntegerAttr>("dist.stage");
      stages.try_emplace(stage ? stage.getInt() : 0, module, ranks)
          .first->second.add(func);
    }
    for (auto& [stage, keeper] : stages)
      keeper.keep(budgetBytes);
  }

  /// Reads the shard, and gathers it before each reader.
  void gather(llm::GetParamOp op, dist::ShardAttr shard) {
    auto full = cast<RankedTensorType>(op.getResult().getType());
    SmallVector<OpOperand*> uses;
    for (OpOperand& use : op.getResult().getUses())
      uses.push_back(&use);
    op.getResult().setType(
        RankedTensorType::get({shard.getElements()}, full.getElementType()));
    OpBuilder b(op);
    SmallVector<Attribute> axes(shard.getAxes().begin(), shard.getAxes().end());
    for (OpOperand* use : uses) {
      // A tied parameter goes to its copies as it is held.
      if (isa<dist::SendOp, dist::ReceiveInPlaceOp>(use->getOwner()))
        continue;
      b.setInsertionPoint(use->getOwner());
      auto gathered = dist::ZeroGatherOp::create(
          b, use->getOwner()->getLoc(), full, op.getResult(),
          b.getArrayAttr(axes), b.getStringAttr(op.getParam()),
          b.getStringAttr("insert-zero-gathers"));
      use->set(gathered.getFull());
    }
  }
};

} // namespace
} // namespace llmc
