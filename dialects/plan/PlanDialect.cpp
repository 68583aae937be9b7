// SPDX-License-Identifier: Apache-2.0
// Registration and verifiers of the `plan` dialect.
#include "dialects/plan/Plan.h"

#include "mlir/IR/Builders.h"
#include "mlir/IR/DialectImplementation.h"
#include "llvm/ADT/TypeSwitch.h"

#include "dialects/plan/PlanDialect.cpp.inc"

#include "dialects/plan/PlanEnums.cpp.inc"

#define GET_ATTRDEF_CLASSES
#include "dialects/plan/PlanAttrs.cpp.inc"

#define GET_OP_CLASSES
#include "dialects/plan/PlanOps.cpp.inc"

using namespace mlir;

namespace llmc::plan {

void PlanDialect::initialize() {
  addAttributes<
#define GET_ATTRDEF_LIST
#include "dialects/plan/PlanAttrs.cpp.inc"
      >();
  addOperations<
#define GET_OP_LIST
#include "dialects/plan/PlanOps.cpp.inc"
      >();
}

LogicalResult FusedOp::verify() {
  Block& block = getBody().front();
  if (block.getArgumentTypes() != getInputs().getTypes())
    return emitOpError("(C1) expects one block argument for each operand");
  auto yield = dyn_cast<YieldOp>(block.back());
  if (!yield || yield.getValues().getTypes() != getResultTypes())
    return emitOpError("(C1) expects one yielded value for each result");
  return success();
}

LogicalResult KernelOp::verify() {
  Block& block = getBody().front();
  if (!isGenerated() && !block.empty())
    return emitOpError("(C1) expects no body on a hand-tuned kernel");
  if (isGenerated() && (block.empty() || !isa<YieldOp>(block.back())))
    return emitOpError("(C2) expects a body that ends with plan.yield");
  return success();
}

LogicalResult LaunchOp::verify() {
  bool isNamed = !getInputWords().empty() || !getResultWords().empty();
  if (isNamed && (getInputWords().size() != getInputs().size() ||
                  getInoutWords().size() != getInouts().size() ||
                  getResultWords().size() != getResults().size()))
    return emitOpError("(C1) expects one word name for each value");
  return success();
}

LogicalResult LaunchOp::verifySymbolUses(SymbolTableCollection& symbolTable) {
  if (symbolTable.lookupNearestSymbolFrom<KernelOp>(*this, getKernelAttr()))
    return success();
  return emitOpError("(C2) expects a kernel, got ") << getKernelAttr();
}

} // namespace llmc::plan
