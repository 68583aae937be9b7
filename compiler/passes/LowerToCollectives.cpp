// SPDX-License-Identifier: Apache-2.0
// Intent to mechanism: each reshard and ZeRO gather becomes the collective that does it.
// The subject and the pass that wanted it go along.
#include "compiler/passes/Passes.h"

using namespace mlir;

namespace llmc {
#define GEN_PASS_DEF_LOWERTOCOLLECTIVES
#include "compiler/passes/Passes.h.inc"

namespace {

void lowerReshard(dist::ReshardOp op) {
  OpBuilder b(op);
  Location loc = op.getLoc();
  Type type = op.getResult().getType();
  auto from = op.getFrom(), to = op.getTo();
  Value result;
  if (!from.getPartial().empty()) {
    SmallVector<Attribute> axes(from.getPartial().begin(),
                                from.getPartial().end());
    auto names = b.getArrayAttr(axes);
    result = to.getSplits().empty()
                 ? dist::AllReduceOp::create(b, loc, type, op.getX(), names,
                                             op.getSubjectAttr(),
                                             op.getPassAttr())
                       .getResult()
                 : dist::ReduceScatterOp::create(b, loc, type, op.getX(), names,
                                                 op.getSubjectAttr(),
                                                 op.getPassAttr())
                       .getResult();
  } else if (!from.getSplits().empty()) {
    dist::DimSplitAttr split = from.getSplits().front();
    result = dist::AllGatherOp::create(
        b, loc, type, op.getX(), b.getArrayAttr({split.getAxis()}),
        b.getI64IntegerAttr(split.getDim()), op.getSubjectAttr(),
        op.getPassAttr());
  } else {
    result = dist::SliceRowsOp::create(
        b, loc, type, op.getX(), to.getSplits().front().getAxis());
  }
  op.getResult().replaceAllUsesWith(result);
  op.erase();
}

void lowerGather(dist::ZeroGatherOp op) {
  OpBuilder b(op);
  auto gather = dist::AllGatherOp::create(
      b, op.getLoc(), op.getFull().getType(), op.getShard(), op.getAxesAttr(),
      b.getI64IntegerAttr(0), op.getSubjectAttr(), op.getPassAttr());
  op.getFull().replaceAllUsesWith(gather.getResult());
  op.erase();
}

struct LowerToCollectivesPass
    : impl::LowerToCollectivesBase<LowerToCollectivesPass> {
  void runOnOperation() override {
    getOperation().walk([](Operation* op) {
      if (auto reshard = dyn_cast<dist::ReshardOp>(op))
        lowerReshard(reshard);
      else if (auto gather = dyn_cast<dist::ZeroGatherOp>(op))
        lowerGather(gather);
    });
  }
};

} // namespace
} // namespace llmc
