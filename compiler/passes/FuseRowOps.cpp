// SPDX-License-Identifier: Apache-2.0
// Groups row ops that follow each other in data flow into plan.fused regions. A
// group is emitted where its last member stood, so an op may join only if
// nothing between reads what the group has computed so far.
#include "compiler/passes/Options.h"
#include "compiler/passes/Passes.h"
#include "compiler/passes/RowOps.h"

#include "mlir/Dialect/Func/IR/FuncOps.h"

using namespace mlir;

namespace llmc {
#define GEN_PASS_DEF_FUSEROWOPS
#include "compiler/passes/Passes.h.inc"

namespace {

/// Members in program order. Empty once merged or emitted.
using Group = SmallVector<Operation*>;

ArrayRef<int64_t> shapeOf(Operation* op) {
  return cast<RankedTensorType>(op->getResult(0).getType()).getShape();
}

/// Width that a norm works over; 0 for other ops. One kernel has one width: a
/// norm of whole rows and a norm of heads walk memory differently.
int64_t normWidth(Operation* op) {
  if (auto norm = dyn_cast<llm::RmsNormOp>(op))
    return cast<RankedTensorType>(norm.getWeight().getType()).getDimSize(0);
  if (auto norm = dyn_cast<llm::RmsNormGradientOp>(op))
    return cast<RankedTensorType>(norm.getWeight().getType()).getDimSize(0);
  if (isa<llm::LayerNormOp, llm::LayerNormGradientOp>(op))
    return shapeOf(op)[1];
  return 0;
}

/// Returns true if `op`, later than all members, may join: it has their shape
/// and all other readers of the group come after it.
bool canJoin(const Group& group, Operation* op) {
  if (shapeOf(group.front()) != shapeOf(op))
    return false;
  for (Operation* member : group)
    if (normWidth(member) && normWidth(op) &&
        normWidth(member) != normWidth(op))
      return false;
  llvm::SmallPtrSet<Operation*, 8> members(group.begin(), group.end());
  for (Operation* member : group)
    for (Operation* user : member->getUsers())
      if (user != op && !members.contains(user) &&
          user->getBlock() == op->getBlock() && user->isBeforeInBlock(op))
        return false;
  return true;
}

/// With the few rows of a decode step an add runs best inside the matrix
/// product before it, and a norm inside the one after it (FuseSlots): such a
/// pair stays apart.
bool belongsToSlots(const Group& group, Operation* op) {
  constexpr int64_t kMostSlotRows = 16;
  if (shapeOf(op)[0] > kMostSlotRows ||
      !isa<llm::RmsNormOp, llm::LayerNormOp>(op))
    return false;
  bool isBeforeProducts = llvm::all_of(
      op->getUsers(), [](Operation* user) { return isa<llm::LinearOp>(user); });
  bool isAfterProduct = llvm::any_of(group, [](Operation* member) {
    return llvm::any_of(member->getOperands(), [](Value v) {
      return bool(v.getDefiningOp<llm::LinearOp>());
    });
  });
  return isBeforeProducts && isAfterProduct;
}

void fuseBlock(Block& block, bool hasSlots) {
  SmallVector<Group> groups;
  DenseMap<Operation*, unsigned> groupOf;
  for (Operation& op : block) {
    if (!isRowOp(&op))
      continue;
    // The group of the operand computed last; joining one group is enough, and
    // keeps the decision local.
    std::optional<unsigned> target;
    for (Value operand : op.getOperands()) {
      auto found = groupOf.find(operand.getDefiningOp());
      if (found == groupOf.end() || !canJoin(groups[found->second], &op) ||
          (hasSlots && belongsToSlots(groups[found->second], &op)))
        continue;
      if (!target ||
          groups[*target].back()->isBeforeInBlock(groups[found->second].back()))
        target = found->second;
    }
    if (!target) {
      target = groups.size();
      groups.emplace_back();
    }
    groups[*target].push_back(&op);
    groupOf[&op] = *target;
  }
  for (const Group& group : groups)
    fuseOps(group);
}

struct FuseRowOpsPass : impl::FuseRowOpsBase<FuseRowOpsPass> {
  void runOnOperation() override {
    bool hasSlots = !Options::read(getOperation()).isCuda();
    for (auto func : getOperation().getOps<func::FuncOp>())
      fuseBlock(func.getBody().front(), hasSlots);
  }
};

} // namespace
} // namespace llmc
