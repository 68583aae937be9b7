// SPDX-License-Identifier: Apache-2.0
#include "compiler/passes/Asynchronous.h"

#include "compiler/passes/Launches.h"

using namespace mlir;

namespace llmc {

Location callSite(Operation* op) {
  if (auto call = dyn_cast<CallSiteLoc>(op->getLoc()))
    return call.getCaller();
  return op->getLoc();
}

dist::StartOp createStart(OpBuilder& builder, Operation* op) {
  SmallVector<NamedAttribute> args;
  for (StringRef name : {"axes", "dim"})
    if (Attribute value = op->getAttr(name))
      args.push_back(builder.getNamedAttr(name, value));
  auto type = cast<RankedTensorType>(op->getResult(0).getType());
  auto start = dist::StartOp::create(
      builder, op->getLoc(), dist::PendingType::get(type.getContext(), type),
      op->getOperand(0), op->getName().stripDialect(),
      builder.getDictionaryAttr(args), op->getAttrOfType<StringAttr>("subject"),
      op->getAttrOfType<StringAttr>("pass"));
  if (Attribute kept = op->getAttr(kKeptAttr))
    start->setAttr(kKeptAttr, kept);
  return start;
}

dist::WaitOp createWait(OpBuilder& builder, dist::StartOp start,
                        Operation* op) {
  auto wait = dist::WaitOp::create(
      builder, op->getLoc(), op->getResult(0).getType(), start.getPending());
  op->getResult(0).replaceAllUsesWith(wait.getResult());
  op->erase();
  return wait;
}

} // namespace llmc
