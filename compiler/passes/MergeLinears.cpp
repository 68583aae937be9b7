// SPDX-License-Identifier: Apache-2.0
// One launch for matrix products that read the same rows. Two that feed one
// gated activation are zipped (a tile has both products); others are set side
// by side.
#include "compiler/passes/Launches.h"
#include "compiler/passes/Passes.h"

using namespace mlir;

namespace llmc {
#define GEN_PASS_DEF_MERGELINEARS
#include "compiler/passes/Passes.h.inc"

namespace {

constexpr unsigned kMostWeights = 3;

bool isSingleLinear(plan::LaunchOp op) {
  auto count = op.getScalars().getAs<IntegerAttr>("count");
  return op.getKernel() == "linear" && count && count.getInt() == 1;
}

/// Returns true if the launches' only common reader takes both results, in
/// order, as its first two inputs: an elementwise kernel such as a gated
/// activation.
bool feedOneGate(plan::LaunchOp a, plan::LaunchOp b) {
  if (!a.getResult(0).hasOneUse() || !b.getResult(0).hasOneUse() ||
      a.getResult(0).getType() != b.getResult(0).getType())
    return false;
  Operation* user = *a.getResult(0).user_begin();
  if (user != *b.getResult(0).user_begin())
    return false;
  auto launch = dyn_cast<plan::LaunchOp>(user);
  if (!launch)
    return false;
  auto kernel = SymbolTable::lookupNearestSymbolFrom<plan::KernelOp>(
      launch, launch.getKernelAttr());
  return kernel.isGenerated() && kernel.getElementwise();
}

void merge(ArrayRef<plan::LaunchOp> group) {
  plan::LaunchOp first = group.front();
  OpBuilder builder(group.back());
  bool isZip = group.size() == 2 && feedOneGate(group[0], group[1]);
  LaunchSpec spec;
  spec.kernel = "linear";
  spec.inputs.push_back({"x", first.getInputs()[0]});
  DictionaryAttr scalars = first.getScalars();
  for (StringRef name : {"ldx", "K", "dtype", "layout"})
    spec.scalars.push_back({name, scalars.get(name)});
  addFactorDtype(first.getInputs()[0], spec);
  MLIRContext* context = first.getContext();
  spec.scalars.push_back({"zip", intScalar(context, isZip)});
  spec.scalars.push_back({"count", intScalar(context, group.size())});
  static constexpr StringLiteral kWeights[] = {"w0", "w1", "w2"};
  static constexpr StringLiteral kResults[] = {"y0", "y1", "y2"};
  static constexpr StringLiteral kWidths[] = {"N0", "N1", "N2"};
  static constexpr StringLiteral kStrides[] = {"ldy0", "ldy1", "ldy2"};
  SmallVector<Location> locations;
  for (unsigned i = 0; i < group.size(); ++i) {
    plan::LaunchOp op = group[i];
    spec.inputs.push_back({kWeights[i], op.getInputs()[1]});
    spec.results.push_back({kResults[i], op.getResult(0).getType()});
    spec.scalars.push_back({kWidths[i], op.getScalars().get("N0")});
    spec.scalars.push_back({kStrides[i], op.getScalars().get("ldy0")});
    spec.columns = isZip ? op.getColumns() : spec.columns + op.getColumns();
    locations.push_back(op.getLoc());
  }
  spec.rows = first.getRows();
  auto merged = createLaunch(builder, FusedLoc::get(context, locations), spec);
  for (unsigned i = 0; i < group.size(); ++i) {
    plan::LaunchOp op = group[i];
    op.getResult(0).replaceAllUsesWith(merged.getResult(i));
    op.erase();
  }
}

/// Returns true if nothing between the first member and `op` reads a member's
/// result, so that all can run where `op` stands.
bool canDelay(ArrayRef<plan::LaunchOp> group, plan::LaunchOp op) {
  for (plan::LaunchOp member : group)
    for (Operation* user : member.getResult(0).getUsers())
      if (user->isBeforeInBlock(op))
        return false;
  return true;
}

void mergeBlock(Block& block) {
  SmallVector<SmallVector<plan::LaunchOp>> groups;
  for (auto op : block.getOps<plan::LaunchOp>()) {
    if (!isSingleLinear(op))
      continue;
    bool isJoined = false;
    for (auto& group : groups) {
      plan::LaunchOp first = group.front();
      auto same = [&](StringRef name) {
        return first.getScalars().get(name) == op.getScalars().get(name);
      };
      if (first.getInputs()[0] != op.getInputs()[0] || !same("dtype") ||
          !same("layout") || group.size() == kMostWeights ||
          !canDelay(group, op))
        continue;
      group.push_back(op);
      isJoined = true;
      break;
    }
    if (!isJoined)
      groups.push_back({op});
  }
  for (auto& group : groups)
    if (group.size() > 1)
      merge(group);
}

struct MergeLinearsPass : impl::MergeLinearsBase<MergeLinearsPass> {
  void runOnOperation() override {
    for (auto func : getOperation().getOps<func::FuncOp>())
      mergeBlock(func.getBody().front());
  }
};

} // namespace
} // namespace llmc
