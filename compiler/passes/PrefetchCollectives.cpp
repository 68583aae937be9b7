// SPDX-License-Identifier: Apache-2.0
// Lets parameter gathers run beside compute. The gathers of one layer form a group (they
// share a call site). The group's starts stand right after the waits of the group before
// it: at most two layers of gathered parameters live at a time.
#include "compiler/passes/Launches.h"
#include "compiler/passes/Passes.h"

using namespace mlir;

namespace llmc {
#define GEN_PASS_DEF_PREFETCHCOLLECTIVES
#include "compiler/passes/Passes.h.inc"

namespace {

/// The call site of an inlined op; its own location at top level.
Location callSite(Operation* op) {
  if (auto call = dyn_cast<CallSiteLoc>(op->getLoc()))
    return call.getCaller();
  return op->getLoc();
}

using Group = SmallVector<dist::AllGatherOp>;

SmallVector<Group> groupGathers(Block& block) {
  SmallVector<Group> groups;
  for (auto gather : block.getOps<dist::AllGatherOp>()) {
    if (!paramOf(gather.getX()) || gather.getDim() != 0)
      continue;
    bool isSame = !groups.empty() &&
                  callSite(groups.back().back()) == callSite(gather);
    if (!isSame)
      groups.emplace_back();
    groups.back().push_back(gather);
  }
  return groups;
}

/// First reader of any result of the group.
Operation* firstUse(const Group& group) {
  Operation* first = nullptr;
  for (dist::AllGatherOp gather : group)
    for (Operation* user : gather->getUsers())
      if (!first || user->isBeforeInBlock(first))
        first = user;
  return first;
}

void prefetch(Block& block) {
  SmallVector<Group> groups = groupGathers(block);
  Operation* previousUse = nullptr;
  for (Group& group : groups) {
    Operation* use = firstUse(group);
    if (!use)
      continue;
    OpBuilder starts(use), waits(use);
    for (dist::AllGatherOp gather : group) {
      // Shards are parameters: available from the beginning.
      bool isLate = use->isBeforeInBlock(gather);
      starts.setInsertionPoint(previousUse ? previousUse
                               : isLate    ? use
                                           : gather);
      auto type = cast<RankedTensorType>(gather.getResult().getType());
      llm::GetParamOp shard = paramOf(gather.getX());
      if ((previousUse && !shard->isBeforeInBlock(previousUse)) ||
          !shard->isBeforeInBlock(use))
        shard->moveBefore(&block, block.begin());
      auto args = starts.getDictionaryAttr(
          {starts.getNamedAttr("axes", gather.getAxesAttr()),
           starts.getNamedAttr("dim", gather.getDimAttr())});
      auto start = dist::StartOp::create(
          starts, gather.getLoc(),
          dist::PendingType::get(type.getContext(), type), gather.getX(),
          "all_gather", args, gather.getSubjectAttr(), gather.getPassAttr());
      auto wait = dist::WaitOp::create(waits, gather.getLoc(), type,
                                       start.getPending());
      gather.getResult().replaceAllUsesWith(wait.getResult());
    }
    for (dist::AllGatherOp gather : group)
      gather.erase();
    previousUse = use;
  }
}

struct PrefetchCollectivesPass
    : impl::PrefetchCollectivesBase<PrefetchCollectivesPass> {
  void runOnOperation() override {
    for (auto func : getOperation().getOps<func::FuncOp>())
      prefetch(func.getBody().front());
  }
};

} // namespace
} // namespace llmc
