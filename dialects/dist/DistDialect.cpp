// SPDX-License-Identifier: Apache-2.0
// Registration and verifiers of the `dist` dialect.
#include "dialects/dist/Dist.h"

#include "mlir/IR/Builders.h"
#include "mlir/IR/DialectImplementation.h"
#include "llvm/ADT/StringSet.h"
#include "llvm/ADT/TypeSwitch.h"

#include "dialects/dist/DistDialect.cpp.inc"

#define GET_ATTRDEF_CLASSES
#include "dialects/dist/DistAttrs.cpp.inc"

#define GET_TYPEDEF_CLASSES
#include "dialects/dist/DistTypes.cpp.inc"

#define GET_OP_CLASSES
#include "dialects/dist/DistOps.cpp.inc"

using namespace mlir;

namespace llmc::dist {

void DistDialect::initialize() {
  addAttributes<
#define GET_ATTRDEF_LIST
#include "dialects/dist/DistAttrs.cpp.inc"
      >();
  addTypes<
#define GET_TYPEDEF_LIST
#include "dialects/dist/DistTypes.cpp.inc"
      >();
  addOperations<
#define GET_OP_LIST
#include "dialects/dist/DistOps.cpp.inc"
      >();
}

LogicalResult MeshOp::verify() {
  llvm::StringSet<> names;
  for (Attribute axis : getAxes())
    names.insert(cast<StringAttr>(axis).getValue());
  bool isPositive = llvm::all_of(getSizes(), [](int64_t n) { return n > 0; });
  if (names.size() != getAxes().size() ||
      getAxes().size() != getSizes().size() || !isPositive)
    return emitOpError("(C1) expects distinct axes with one positive size "
                       "each, got ")
           << getAxes() << " and " << getSizes();
  return success();
}

int64_t MeshOp::getAxisSize(llvm::StringRef axis) {
  for (auto [name, sizeOfAxis] : llvm::zip(getAxes(), getSizes()))
    if (cast<StringAttr>(name).getValue() == axis)
      return sizeOfAxis;
  return 1;
}

int64_t MeshOp::getNumRanks() {
  int64_t ranks = 1;
  for (int64_t n : getSizes())
    ranks *= n;
  return ranks;
}

namespace {

LogicalResult requireElementType(Operation* op, Value a, Value b) {
  Type ta = cast<RankedTensorType>(a.getType()).getElementType();
  Type tb = cast<RankedTensorType>(b.getType()).getElementType();
  if (ta == tb)
    return success();
  return op->emitOpError("(C1) expects one element type, got ")
         << ta << " and " << tb;
}

/// True if dimension 0 of `whole` is some times that of `part`, the others
/// equal.
bool isWholeParts(Value whole, Value part) {
  auto from = cast<RankedTensorType>(whole.getType());
  auto to = cast<RankedTensorType>(part.getType());
  return from.getRank() == to.getRank() && from.getRank() > 0 &&
         from.getElementType() == to.getElementType() &&
         from.getShape().drop_front() == to.getShape().drop_front() &&
         to.getDimSize(0) > 0 && from.getDimSize(0) % to.getDimSize(0) == 0;
}

} // namespace

LogicalResult ReshardOp::verify() {
  if (failed(requireElementType(*this, getX(), getResult())))
    return failure();
  bool isFromPartial = !getFrom().getPartial().empty();
  bool isFromSplit = !getFrom().getSplits().empty();
  bool isToSplit = !getTo().getSplits().empty();
  bool isToPartial = !getTo().getPartial().empty();
  if (isToPartial || (isFromPartial && isFromSplit) ||
      (isFromSplit && isToSplit) ||
      (!isFromPartial && !isFromSplit && !isToSplit))
    return emitOpError("(C2) expects partial to whole, partial to split, split "
                       "to whole or whole to split, got ")
           << getFrom() << " to " << getTo();
  return success();
}

LogicalResult ZeroGatherOp::verify() {
  if (failed(requireElementType(*this, getShard(), getFull())))
    return failure();
  if (cast<RankedTensorType>(getShard().getType()).getRank() != 1)
    return emitOpError("(C2) expects a flat shard, got ")
           << getShard().getType();
  return success();
}

LogicalResult AllGatherOp::verify() {
  if (failed(requireElementType(*this, getX(), getResult())))
    return failure();
  auto from = cast<RankedTensorType>(getX().getType());
  auto to = cast<RankedTensorType>(getResult().getType());
  int64_t dim = getDim();
  if (from.getRank() == 1 && to.getRank() > 1 && dim == 0)
    return success(); // runs of the flattened result
  if (from.getRank() == to.getRank() && dim >= 0 && dim < from.getRank()) {
    bool isSame = true;
    for (int64_t i = 0; i < from.getRank(); ++i)
      isSame &= i == dim || from.getDimSize(i) == to.getDimSize(i);
    if (isSame)
      return success();
  }
  return emitOpError("(C2) expects equal dimensions but dimension ")
         << dim << ", got " << from << " and " << to;
}

LogicalResult ReduceScatterOp::verify() {
  if (failed(requireElementType(*this, getX(), getResult())))
    return failure();
  bool isFlat = cast<RankedTensorType>(getResult().getType()).getRank() == 1 &&
                cast<RankedTensorType>(getX().getType()).getRank() > 1;
  if (isFlat || isWholeParts(getX(), getResult()))
    return success();
  return emitOpError("(C2) expects dimension 0 in whole parts, got ")
         << getX().getType() << " and " << getResult().getType();
}

LogicalResult SliceRowsOp::verify() {
  if (isWholeParts(getX(), getResult()))
    return success();
  return emitOpError("(C1) expects rows in whole parts, got ")
         << getX().getType() << " and " << getResult().getType();
}

LogicalResult BroadcastOp::verify() {
  if (!getX() || getX().getType() == getResult().getType())
    return success();
  return emitOpError("(C1) expects an operand of the result's type, got ")
         << getX().getType() << " and " << getResult().getType();
}

LogicalResult StartOp::verify() {
  if (llvm::is_contained({"all_gather", "reduce_scatter", "all_reduce"},
                         getCollective()))
    return success();
  return emitOpError("(C1) expects all_gather, reduce_scatter or all_reduce, "
                     "got ")
         << getCollectiveAttr();
}

LogicalResult WaitOp::verify() {
  if (getPending().getType().getType() == getResult().getType())
    return success();
  return emitOpError("(C1) expects the pending type ")
         << getPending().getType().getType() << ", got "
         << getResult().getType();
}

} // namespace llmc::dist
