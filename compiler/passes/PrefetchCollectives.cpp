// SPDX-License-Identifier: Apache-2.0
// Lets parameter gathers run beside compute. The gathers of one layer form a
// group (they share a call site). The group's starts stand where the group
// before it is first read, the first group's at the beginning: at most two
// layers of gathered parameters live at a time. Each is waited for where it is
// first read itself.
#include "compiler/passes/Asynchronous.h"
#include "compiler/passes/Buckets.h"
#include "compiler/passes/Launches.h"
#include "compiler/passes/Options.h"
#include "compiler/passes/Passes.h"

using namespace mlir;

namespace llmc {
#define GEN_PASS_DEF_PREFETCHCOLLECTIVES
#include "compiler/passes/Passes.h.inc"

namespace {

using Group = SmallVector<dist::AllGatherOp>;

/// Gathers of parameters that somebody reads, by layer.
SmallVector<Group> groupGathers(Block& block) {
  SmallVector<Group> groups;
  for (auto gather : block.getOps<dist::AllGatherOp>()) {
    if (!paramOf(gather.getX()) || gather.getDim() != 0 || gather->use_empty())
      continue;
    bool isSame =
        !groups.empty() && callSite(groups.back().back()) == callSite(gather);
    if (!isSame)
      groups.emplace_back();
    groups.back().push_back(gather);
  }
  return groups;
}

Operation* firstReader(dist::AllGatherOp gather) {
  Operation* first = nullptr;
  for (Operation* user : gather->getUsers())
    if (!first || user->isBeforeInBlock(first))
      first = user;
  return first;
}

/// Where the first group starts: behind the parameters that are read there.
Operation* beginningOf(Block& block) {
  for (Operation& op : block)
    if (!isa<llm::GetParamOp>(op))
      return &op;
  return &block.back();
}

void prefetch(Block& block, int64_t bucketBytes) {
  SmallVector<Group> groups = groupGathers(block);
  if (groups.empty())
    return;
  int64_t numBuckets = 0;
  Operation* place = beginningOf(block);
  for (Group& group : groups) {
    Operation* groupReader = nullptr;
    SmallVector<std::pair<dist::StartOp, Operation*>> started;
    for (dist::AllGatherOp gather : group) {
      // Shards are parameters: available from the beginning.
      llm::GetParamOp shard = paramOf(gather.getX());
      if (!shard->isBeforeInBlock(place))
        shard->moveBefore(&block, block.begin());
      Operation* reader = firstReader(gather);
      if (!groupReader || reader->isBeforeInBlock(groupReader))
        groupReader = reader;
      OpBuilder builder(place);
      started.push_back({createStart(builder, gather), reader});
    }
    SmallVector<dist::StartOp> starts;
    for (auto [gather, entry] : llvm::zip(group, started)) {
      OpBuilder waits(entry.second);
      createWait(waits, entry.first, gather);
      starts.push_back(entry.first);
    }
    assignBuckets(starts, bucketBytes, numBuckets);
    place = groupReader;
  }
}

struct PrefetchCollectivesPass
    : impl::PrefetchCollectivesBase<PrefetchCollectivesPass> {
  void runOnOperation() override {
    int64_t bucketBytes = Options::read(getOperation()).zeroBucketBytes;
    for (auto func : getOperation().getOps<func::FuncOp>())
      prefetch(func.getBody().front(), bucketBytes);
  }
};

} // namespace
} // namespace llmc
