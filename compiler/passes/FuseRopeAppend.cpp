// SPDX-License-Identifier: Apache-2.0
// One launch for: rope of the queries, rope of the keys, append of the turned
// keys, append of the values. Looks from each attention at the appends to its
// caches; a model that does something between keeps its separate kernels.
#include "compiler/passes/Launches.h"
#include "compiler/passes/Passes.h"
#include "compiler/passes/RopeTables.h"
#include "runtime/kernels/KernelAbi.h"

using namespace mlir;

namespace llmc {
#define GEN_PASS_DEF_FUSEROPEAPPEND
#include "compiler/passes/Passes.h.inc"

namespace {

llm::KvAppendOp appendBefore(Value cache, Operation* reader) {
  llm::KvAppendOp found;
  for (Operation* user : cache.getUsers())
    if (auto append = dyn_cast<llm::KvAppendOp>(user))
      if (append->getBlock() == reader->getBlock() &&
          append->isBeforeInBlock(reader))
        found = append;
  return found;
}

int64_t width(Value v) {
  return cast<RankedTensorType>(v.getType()).getDimSize(1);
}

void fuse(func::FuncOp entry, llm::CachedAttentionOp attention) {
  auto keys = appendBefore(attention.getKeys(), attention);
  auto values = appendBefore(attention.getValues(), attention);
  if (!keys || !values)
    return;
  auto ropeQ = attention.getQ().getDefiningOp<llm::RopeOp>();
  auto ropeK = keys.getX().getDefiningOp<llm::RopeOp>();
  if (!ropeQ || !ropeK || !ropeQ->hasOneUse() || !ropeK->hasOneUse() ||
      ropeQ.getParams() != ropeK.getParams() ||
      ropeQ.getPositions() != attention.getPositions() ||
      ropeK.getPositions() != attention.getPositions())
    return;
  MLIRContext* context = entry.getContext();
  OpBuilder builder(attention);
  auto cache = cast<MemRefType>(attention.getKeys().getType());
  auto table = cast<RankedTensorType>(attention.getBlockTable().getType());
  auto positions = cast<RankedTensorType>(attention.getPositions().getType());
  int64_t headDim = attention.getHeadDim();
  int64_t heads = width(attention.getQ()) / headDim;
  LaunchSpec spec;
  spec.kernel = "rope_append";
  spec.inputs = {
      {"q", ropeQ.getX()},
      {"k", ropeK.getX()},
      {"v", values.getX()},
      {"positions", attention.getPositions()},
      {"table", createRopeTable(builder, ropeQ, table.getDimSize(1))},
      {"blockTable", attention.getBlockTable()}};
  spec.inouts = {{"keyCache", attention.getKeys()},
                 {"valueCache", attention.getValues()}};
  spec.results = {{"qOut", attention.getQ().getType()}};
  auto scalar = [&](StringRef name, int64_t value) {
    spec.scalars.push_back({name, intScalar(context, value)});
  };
  scalar("R", positions.getDimSize(1));
  scalar("H", heads);
  scalar("KV", cache.getDimSize(2));
  scalar("D", headDim);
  scalar("rotary", ropeQ.getParams().getRotary());
  scalar("style", ropeQ.getParams().getInterleaved());
  scalar("pages", table.getDimSize(1));
  scalar("dtype", dtypeOf(cache.getElementType()));
  scalar("ldq", width(ropeQ.getX()));
  scalar("ldk", width(ropeK.getX()));
  scalar("ldv", width(values.getX()));
  scalar("ldo", width(attention.getQ()));
  spec.rows = rowsWord(
      entry, cast<RankedTensorType>(attention.getQ().getType()).getDimSize(0));
  spec.columns = heads + cache.getDimSize(2);
  auto loc = FusedLoc::get(context, {ropeQ.getLoc(), ropeK.getLoc(),
                                     keys.getLoc(), values.getLoc()});
  auto launch = createLaunch(builder, loc, spec);
  ropeQ.getResult().replaceAllUsesWith(launch.getResult(0));
  keys.erase();
  values.erase();
  ropeQ.erase();
  ropeK.erase();
}

struct FuseRopeAppendPass : impl::FuseRopeAppendBase<FuseRopeAppendPass> {
  void runOnOperation() override {
    for (auto entry : getOperation().getOps<func::FuncOp>()) {
      SmallVector<llm::CachedAttentionOp> ops(
          entry.getOps<llm::CachedAttentionOp>());
      for (llm::CachedAttentionOp op : ops)
        fuse(entry, op);
    }
  }
};

} // namespace
} // namespace llmc
