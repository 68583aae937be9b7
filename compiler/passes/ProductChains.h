// SPDX-License-Identifier: Apache-2.0
// What fuse-few-row-products and fuse-many-row-products ask of the chains that
// they look for.
#pragma once

#include "dialects/llm/Llm.h"

namespace llmc {

inline mlir::RankedTensorType tensorType(mlir::Value v) {
  return mlir::cast<mlir::RankedTensorType>(v.getType());
}

/// Columns of a value.
inline int64_t width(mlir::Value v) { return tensorType(v).getShape().back(); }

inline bool isReal32(mlir::Value v) {
  return tensorType(v).getElementType().isF32();
}

/// The one op that reads a value, if it is of this kind.
template <typename Op>
Op onlyReader(mlir::Value v) {
  return v.hasOneUse() ? mlir::dyn_cast<Op>(*v.user_begin()) : Op();
}

/// True for a product of f32 rows, or of rows that were rounded for it
/// (round-factors), whose weight, f32 or bf16, is read 16 bytes at a time.
inline bool readsWholeAccesses(llm::LinearOp op) {
  constexpr int64_t kAccessBits = 128;
  auto weight = tensorType(op.getWeight());
  mlir::Type element = weight.getElementType();
  bool isRounded =
      element.isBF16() && tensorType(op.getX()).getElementType() == element;
  return (isReal32(op.getX()) || isRounded) && isReal32(op.getResult()) &&
         (element.isF32() || element.isBF16()) &&
         weight.getDimSize(1) * weight.getElementTypeBitWidth() % kAccessBits ==
             0;
}

} // namespace llmc
