// SPDX-License-Identifier: Apache-2.0
#include "compiler/passes/RowOps.h"

#include "mlir/IR/Builders.h"
#include "mlir/IR/IRMapping.h"
#include "llvm/ADT/SetVector.h"

using namespace mlir;

namespace llmc {
namespace {

bool isElementwise(Operation* op) {
  return isa<llm::AddOp, llm::MulOp, llm::ScaleOp, llm::SoftCapOp,
             llm::ActivationOp, llm::GatedActivationOp, llm::AddBiasOp,
             llm::RoundOp, llm::ActivationGradientOp,
             llm::GatedActivationGradientOp, llm::SoftCapGradientOp>(op);
}

} // namespace

bool isRowOp(Operation* op) {
  return isElementwise(op) ||
         isa<llm::RmsNormOp, llm::LayerNormOp, llm::RmsNormGradientOp,
             llm::LayerNormGradientOp>(op);
}

bool isElementwiseBody(Block& body) {
  return llvm::all_of(body.without_terminator(),
                      [](Operation& op) { return isElementwise(&op); });
}

plan::FusedOp fuseOps(ArrayRef<Operation*> ops) {
  llvm::SmallPtrSet<Operation*, 8> members(ops.begin(), ops.end());
  llvm::SetVector<Value> inputs;
  SmallVector<Value> outputs;
  SmallVector<Location> locations;
  for (Operation* op : ops) {
    for (Value operand : op->getOperands())
      if (!members.contains(operand.getDefiningOp()))
        inputs.insert(operand);
    for (Value result : op->getResults())
      if (llvm::any_of(result.getUsers(), [&](Operation* user) {
            return !members.contains(user);
          }))
        outputs.push_back(result);
    locations.push_back(op->getLoc());
  }
  if (outputs.empty()) { // nobody reads them
    for (Operation* op : llvm::reverse(ops))
      op->erase();
    return {};
  }
  OpBuilder builder(ops.back());
  Location loc = locations.size() == 1
                     ? locations.front()
                     : FusedLoc::get(builder.getContext(), locations);
  auto fused = plan::FusedOp::create(
      builder, loc, ValueRange(outputs).getTypes(), inputs.getArrayRef());
  Block* body = builder.createBlock(&fused.getBody());
  IRMapping mapping;
  for (Value input : inputs)
    mapping.map(input, body->addArgument(input.getType(), input.getLoc()));
  builder.setInsertionPointToStart(body);
  for (Operation* op : ops)
    builder.clone(*op, mapping);
  SmallVector<Value> yielded;
  for (Value output : outputs)
    yielded.push_back(mapping.lookup(output));
  plan::YieldOp::create(builder, loc, yielded);
  for (auto [output, result] : llvm::zip(outputs, fused.getResults()))
    output.replaceAllUsesWith(result);
  for (Operation* op : llvm::reverse(ops))
    op->erase();
  return fused;
}

} // namespace llmc
