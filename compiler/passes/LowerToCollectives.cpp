// SPDX-License-Identifier: Apache-2.0
// Intent to mechanism: each reshard and ZeRO gather becomes the collective that
// does it. The subject and the pass that wanted it go along.
#include "compiler/passes/Launches.h"
#include "compiler/passes/Options.h"
#include "compiler/passes/Passes.h"
#include "compiler/passes/Shardings.h"

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
  auto rows = [&](dist::DimSplitAttr split, auto value) {
    auto module = op->getParentOfType<ModuleOp>();
    int64_t ranks = meshAxisSize(module, split.getAxis());
    SmallVector<int64_t> values;
    for (int64_t r = 0; r < ranks; ++r)
      values.push_back(value(rangeOf(split, r, ranks)));
    return dist::ByCoordinateAttr::get(op.getContext(), split.getAxis(),
                                       values);
  };
  auto offsets = [&](dist::DimSplitAttr split) {
    return rows(split, [](ElementRange range) { return range.offset; });
  };
  auto counts = [&](dist::DimSplitAttr split) {
    return rows(split, [](ElementRange range) { return range.count; });
  };
  if (!from.getPartial().empty() && !from.getSplits().empty()) {
    dist::DimSplitAttr split = from.getSplits().front();
    Value placed = dist::PlaceRowsOp::create(b, loc, type, op.getX(),
                                             offsets(split), counts(split));
    result = dist::AllReduceOp::create(b, loc, type, placed,
                                       b.getArrayAttr({split.getAxis()}),
                                       op.getSubjectAttr(), op.getPassAttr());
  } else if (!from.getPartial().empty()) {
    SmallVector<Attribute> axes(from.getPartial().begin(),
                                from.getPartial().end());
    auto names = b.getArrayAttr(axes);
    result =
        to.getSplits().empty()
            ? dist::AllReduceOp::create(b, loc, type, op.getX(), names,
                                        op.getSubjectAttr(), op.getPassAttr())
                  .getResult()
            : dist::ReduceScatterOp::create(b, loc, type, op.getX(), names,
                                            op.getSubjectAttr(),
                                            op.getPassAttr())
                  .getResult();
  } else if (!from.getSplits().empty()) {
    dist::DimSplitAttr split = from.getSplits().front();
    result = dist::AllGatherOp::create(b, loc, type, op.getX(),
                                       b.getArrayAttr({split.getAxis()}),
                                       b.getI64IntegerAttr(split.getDim()),
                                       op.getSubjectAttr(), op.getPassAttr());
  } else if (to.getSplits().front().getGroup() > 1) {
    dist::DimSplitAttr split = to.getSplits().front();
    result = dist::TakeRowsOp::create(b, loc, type, op.getX(), offsets(split),
                                      counts(split));
  } else {
    result = dist::SliceRowsOp::create(b, loc, type, op.getX(),
                                       to.getSplits().front().getAxis());
  }
  op.getResult().replaceAllUsesWith(result);
  op.erase();
}

void lowerGather(dist::ZeroGatherOp op) {
  OpBuilder b(op);
  auto gather = dist::AllGatherOp::create(
      b, op.getLoc(), op.getFull().getType(), op.getShard(), op.getAxesAttr(),
      b.getI64IntegerAttr(0), op.getSubjectAttr(), op.getPassAttr());
  if (Attribute kept = op->getAttr(kKeptAttr))
    gather->setAttr(kKeptAttr, kept);
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
