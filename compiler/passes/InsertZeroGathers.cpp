// SPDX-License-Identifier: Apache-2.0
// ZeRO stage 3: a rank keeps one run of each matrix and gathers the whole
// at each use. Gathers stand at call sites, where parameters are read; block functions
// do not change.
#include "compiler/passes/Launches.h"
#include "compiler/passes/Options.h"
#include "compiler/passes/Passes.h"
#include "compiler/passes/TrainingForward.h"

using namespace mlir;

namespace llmc {
#define GEN_PASS_DEF_INSERTZEROGATHERS
#include "compiler/passes/Passes.h.inc"

namespace {

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
      if (zero >= 3 && type.getRank() == 2)
        param.setShardAttr(dist::ShardAttr::get(
            &getContext(), {b.getStringAttr("dp")}, zeroRunElements(type, ranks)));
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
    SmallVector<Attribute> axes(shard.getAxes().begin(),
                                shard.getAxes().end());
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
