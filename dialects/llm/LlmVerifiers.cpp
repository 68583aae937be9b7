// SPDX-License-Identifier: Apache-2.0
// Verifiers of the `llm` ops. Each message names the label of its constraint.
#include "dialects/llm/Llm.h"

#include "llvm/ADT/Twine.h"

using namespace mlir;

namespace llmc::llm {
namespace {

int64_t widthOf(Value v) {
  return cast<ShapedType>(v.getType()).getShape().back();
}

int64_t rankOf(Value v) { return cast<ShapedType>(v.getType()).getRank(); }

int64_t dimOf(Value v, int64_t i) {
  return cast<ShapedType>(v.getType()).getDimSize(i);
}

LogicalResult requireRank(Operation* op, Value v, int64_t rank,
                          llvm::StringRef name) {
  if (rankOf(v) == rank)
    return success();
  return op->emitOpError("(C1) expects ")
         << name << " of rank " << rank << ", got " << v.getType();
}

LogicalResult requireEqual(Operation* op, llvm::StringRef what, int64_t a,
                           int64_t b) {
  if (a == b)
    return success();
  return op->emitOpError("(C1) expects equal ")
         << what << ", got " << a << " and " << b;
}

LogicalResult requireHeads(Operation* op, Value v, int64_t headDim,
                           llvm::StringRef name) {
  if (failed(requireRank(op, v, 2, name)))
    return failure();
  if (headDim > 0 && widthOf(v) % headDim == 0)
    return success();
  return op->emitOpError("(C1) expects ")
         << name << " of whole heads of width " << headDim << ", got width "
         << widthOf(v);
}

} // namespace

LogicalResult ParamOp::verify() {
  auto type = dyn_cast<RankedTensorType>(getType());
  if (!type || !type.hasStaticShape() || type.getRank() < 1 ||
      type.getRank() > 2 || type.getNumElements() == 0)
    return emitOpError("(C1) expects a static tensor of rank 1 or 2, got ")
           << getType();
  if (SplitAttr split = getSplitAttr()) {
    if (split.getDim() < 0 || split.getDim() >= type.getRank() ||
        split.getUnit() < 1 || split.getGroup() < 1 ||
        type.getDimSize(split.getDim()) % split.getUnit() != 0)
      return emitOpError("(C2) expects a split of an existing dimension into "
                         "whole units, got ")
             << split << " of " << type;
  }
  return success();
}

LogicalResult CacheOp::verify() {
  auto type = dyn_cast<MemRefType>(getType());
  if (!type || !type.hasStaticShape() || type.getRank() != 4)
    return emitOpError("(C1) expects a static memref of rank 4, got ")
           << getType();
  return success();
}

LogicalResult GetParamOp::verifySymbolUses(SymbolTableCollection& symbolTable) {
  auto param =
      symbolTable.lookupNearestSymbolFrom<ParamOp>(*this, getParamAttr());
  if (!param)
    return emitOpError("(C1) expects a parameter, got ") << getParamAttr();
  auto type = cast<RankedTensorType>(getResult().getType());
  bool isShard = param.getShardAttr() && type.getRank() == 1;
  if (type != param.getType() && type != param.getComputeType() && !isShard)
    return emitOpError("(C2) expects the type of ")
           << getParamAttr() << ", " << param.getComputeType() << ", got "
           << type;
  return success();
}

LogicalResult GetCacheOp::verifySymbolUses(SymbolTableCollection& symbolTable) {
  auto cache =
      symbolTable.lookupNearestSymbolFrom<CacheOp>(*this, getCacheAttr());
  if (!cache || cache.getType() != getResult().getType())
    return emitOpError("(C1) expects a cache of type ")
           << getResult().getType() << ", got " << getCacheAttr();
  return success();
}

LogicalResult EmbeddingOp::verify() {
  if (failed(requireRank(*this, getIds(), 2, "ids")) ||
      failed(requireRank(*this, getTable(), 2, "table")) ||
      failed(requireRank(*this, getResult(), 2, "result")))
    return failure();
  return requireEqual(*this, "widths", widthOf(getTable()),
                      widthOf(getResult()));
}

LogicalResult LinearOp::verify() {
  if (failed(requireRank(*this, getX(), 2, "x")) ||
      failed(requireRank(*this, getWeight(), 2, "weight")) ||
      failed(requireRank(*this, getResult(), 2, "result")))
    return failure();
  if (failed(requireEqual(*this, "inner widths", widthOf(getX()),
                          widthOf(getWeight()))))
    return failure();
  if (failed(
          requireEqual(*this, "rows", dimOf(getX(), 0), dimOf(getResult(), 0))))
    return failure();
  return requireEqual(*this, "outer widths", dimOf(getWeight(), 0),
                      widthOf(getResult()));
}

LogicalResult AddBiasOp::verify() {
  if (failed(requireRank(*this, getBias(), 1, "bias")))
    return failure();
  return requireEqual(*this, "widths", widthOf(getX()), widthOf(getBias()));
}

LogicalResult RmsNormOp::verify() {
  if (failed(requireRank(*this, getWeight(), 1, "weight")))
    return failure();
  if (widthOf(getX()) % widthOf(getWeight()) != 0)
    return emitOpError("(C1) expects rows of whole widths of the weight, got ")
           << widthOf(getX()) << " and " << widthOf(getWeight());
  return success();
}

LogicalResult LayerNormOp::verify() {
  if (failed(requireRank(*this, getWeight(), 1, "weight")) ||
      failed(
          requireEqual(*this, "widths", widthOf(getX()), widthOf(getWeight()))))
    return failure();
  return requireEqual(*this, "widths", widthOf(getX()), widthOf(getBias()));
}

LogicalResult RopeOp::verify() {
  int64_t headDim = getHeadDim();
  if (failed(requireHeads(*this, getX(), headDim, "x")))
    return failure();
  int64_t rotary = getParams().getRotary();
  if (rotary <= 0 || rotary > headDim || rotary % 2 != 0)
    return emitOpError(
               "(C2) expects an even rotary width up to the head width ")
           << headDim << ", got " << rotary;
  return success();
}

LogicalResult AttentionOp::verify() {
  int64_t headDim = getHeadDim();
  if (failed(requireHeads(*this, getQ(), headDim, "q")) ||
      failed(requireHeads(*this, getK(), headDim, "k")))
    return failure();
  if (getNumKvHeads() == 0 || getNumHeads() % getNumKvHeads() != 0)
    return emitOpError("(C1) expects query heads in whole groups, got ")
           << getNumHeads() << " query and " << getNumKvHeads()
           << " key/value heads";
  return success();
}

LogicalResult KvAppendOp::verify() {
  auto cache = cast<MemRefType>(getCache().getType());
  if (cache.getRank() != 4)
    return emitOpError("(C1) expects a cache of rank 4, got ") << cache;
  return requireEqual(*this, "widths", widthOf(getX()),
                      cache.getDimSize(2) * cache.getDimSize(3));
}

LogicalResult CachedAttentionOp::verify() {
  auto keys = cast<MemRefType>(getKeys().getType());
  if (keys.getRank() != 4 || keys != getValues().getType())
    return emitOpError("(C1) expects two caches of one type and rank 4, got ")
           << keys << " and " << getValues().getType();
  if (failed(requireEqual(*this, "head widths", keys.getDimSize(3),
                          static_cast<int64_t>(getHeadDim()))))
    return failure();
  return requireHeads(*this, getQ(), getHeadDim(), "q");
}

LogicalResult SelectRowsOp::verify() {
  if (failed(
          requireEqual(*this, "widths", widthOf(getX()), widthOf(getResult()))))
    return failure();
  return requireEqual(*this, "sequences", dimOf(getValidRows(), 0),
                      dimOf(getResult(), 0));
}

LogicalResult SampleOp::verify() {
  if (failed(requireRank(*this, getLogits(), 2, "logits")))
    return failure();
  int64_t sequences = dimOf(getLogits(), 0);
  for (Value v : getOperands().drop_front())
    if (rankOf(v) != 1 || dimOf(v, 0) != sequences)
      return emitOpError("(C1) expects ")
             << sequences << " values per operand, got " << v.getType();
  return requireEqual(*this, "sequences", sequences, dimOf(getResult(), 0));
}

} // namespace llmc::llm
