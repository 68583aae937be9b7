// SPDX-License-Identifier: Apache-2.0
// Lets the exchange of gradients run beside compute. In a backward segment a
// reduction starts where its gradient is made, and is added to its state one
// layer later: at most two layers of whole gradients wait for the link. In the
// optimizer segment all exchanges start before the first is waited for, and
// updated parameters are gathered beside the updates that follow.
#include "compiler/passes/Asynchronous.h"
#include "compiler/passes/Buckets.h"
#include "compiler/passes/Launches.h"
#include "compiler/passes/Options.h"
#include "compiler/passes/Passes.h"

#include "mlir/Dialect/Func/IR/FuncOps.h"

using namespace mlir;

namespace llmc {
#define GEN_PASS_DEF_OVERLAPREDUCTIONS
#include "compiler/passes/Passes.h.inc"

namespace {

bool isReduction(Operation* op) {
  return isa<dist::ReduceScatterOp, dist::AllReduceOp>(op);
}

/// How often the ops of a block add to a state, and whether one reads it: an
/// addition that is not the only one has to stay in order.
struct StateUses {
  llvm::StringMap<int> additions;
  llvm::StringMap<bool> isRead;

  explicit StateUses(Block& block) {
    for (Operation& op : block)
      if (auto addition = dyn_cast<llm::AccumulateOp>(op))
        ++additions[addition.getState()];
      else if (auto read = dyn_cast<llm::ReadStateOp>(op))
        isRead[read.getState()] = true;
  }
};

/// The op that adds the result of `op` to a state, if it can wait; else null.
llm::AccumulateOp additionOf(Operation* op, const StateUses& uses) {
  if (!isReduction(op) || !op->hasOneUse())
    return {};
  auto addition = dyn_cast<llm::AccumulateOp>(*op->user_begin());
  if (!addition || uses.additions.lookup(addition.getState()) != 1 ||
      uses.isRead.lookup(addition.getState()))
    return {};
  return addition;
}

/// A reduction on its way, and the op that adds its result to a state.
struct Pending {
  Operation* reduction;
  dist::StartOp start;
  llm::AccumulateOp addition;
};

/// Starts each reduction where its operand is made. Returns them by layer, in
/// the order of their starts.
SmallVector<SmallVector<Pending>> startReductions(Block& block) {
  StateUses uses(block);
  DenseMap<Operation*, Pending> byStart;
  for (Operation& op : llvm::make_early_inc_range(block)) {
    llm::AccumulateOp addition = additionOf(&op, uses);
    if (!addition)
      continue;
    OpBuilder builder(&block, block.begin());
    if (Operation* maker = op.getOperand(0).getDefiningOp())
      builder.setInsertionPointAfter(maker);
    dist::StartOp start = createStart(builder, &op);
    byStart[start] = {&op, start, addition};
  }
  SmallVector<SmallVector<Pending>> layers;
  for (auto start : block.getOps<dist::StartOp>()) {
    auto found = byStart.find(start);
    if (found == byStart.end())
      continue;
    if (layers.empty() ||
        callSite(layers.back().back().start) != callSite(start))
      layers.emplace_back();
    layers.back().push_back(found->second);
  }
  return layers;
}

/// Moves the scatters of a bucket to the last of them.
void fillBuckets(ArrayRef<Pending> layer, int64_t bucketBytes,
                 int64_t& numBuckets) {
  SmallVector<dist::StartOp> scatters;
  for (Pending pending : layer)
    if (pending.start.getCollective() == "reduce_scatter")
      scatters.push_back(pending.start);
  assignBuckets(scatters, bucketBytes, numBuckets);
  for (size_t i = scatters.size(); i-- > 1;)
    if (shareBucket(scatters[i - 1], scatters[i]))
      scatters[i - 1]->moveBefore(scatters[i]);
}

/// Buckets that prefetched gathers have.
int64_t countBuckets(Block& block) {
  int64_t count = 0;
  for (auto start : block.getOps<dist::StartOp>())
    if (auto bucket = start->getAttrOfType<IntegerAttr>(kBucketAttr))
      count = std::max(count, bucket.getInt() + 1);
  return count;
}

void overlapBackward(Block& block, int64_t bucketBytes) {
  int64_t numBuckets = countBuckets(block);
  SmallVector<SmallVector<Pending>> layers = startReductions(block);
  for (ArrayRef<Pending> layer : layers)
    fillBuckets(layer, bucketBytes, numBuckets);
  for (auto [i, layer] : llvm::enumerate(layers)) {
    Operation* last = nullptr; // what the next wait follows
    if (i + 1 < layers.size())
      last = layers[i + 1].back().start;
    for (Pending& pending : layer) {
      OpBuilder builder(block.getTerminator());
      if (last)
        builder.setInsertionPointAfter(last);
      auto wait = createWait(builder, pending.start, pending.reduction);
      pending.addition->moveAfter(wait);
      if (last)
        last = pending.addition;
    }
  }
}

/// Sums of squares wait for the exchanges of their gradients behind all starts.
void overlapExchanges(Block& block, llm::SumTermsOp sum) {
  SmallVector<Operation*> exchanges;
  for (Operation& op : block) {
    if (!isReduction(&op) ||
        !op.getOperand(0).getDefiningOp<llm::ReadStateOp>())
      continue;
    bool isForSquares = false, canWait = true;
    for (Operation* user : op.getUsers())
      if (isa<llm::SquareSumOp>(user))
        isForSquares = true;
      else
        canWait = canWait && sum->isBeforeInBlock(user);
    if (isForSquares && canWait)
      exchanges.push_back(&op);
  }
  for (Operation* op : exchanges) {
    OpBuilder builder(op);
    dist::StartOp start = createStart(builder, op);
    builder.setInsertionPoint(sum);
    dist::WaitOp wait = createWait(builder, start, op);
    for (Operation* user : llvm::make_early_inc_range(wait->getUsers()))
      if (isa<llm::SquareSumOp>(user))
        user->moveBefore(sum);
  }
}

void overlapOptimizer(Block& block) {
  for (auto sum : block.getOps<llm::SumTermsOp>()) {
    overlapExchanges(block, sum);
    break;
  }
  for (auto gather : block.getOps<dist::GatherInPlaceOp>())
    gather->setAttr(kAsynchronousAttr, UnitAttr::get(gather.getContext()));
}

struct OverlapReductionsPass
    : impl::OverlapReductionsBase<OverlapReductionsPass> {
  void runOnOperation() override {
    int64_t bucketBytes = Options::read(getOperation()).zeroBucketBytes;
    for (auto func : getOperation().getOps<func::FuncOp>()) {
      auto entry = func->getAttrOfType<StringAttr>(llm::LlmDialect::kEntryAttr);
      if (!entry)
        continue;
      if (entry.getValue().starts_with("backward"))
        overlapBackward(func.getBody().front(), bucketBytes);
      if (entry.getValue() == "optimizer")
        overlapOptimizer(func.getBody().front());
    }
  }
};

} // namespace
} // namespace llmc
