// SPDX-License-Identifier: Apache-2.0
// Parameters that are held in blocks of elements that share a factor: which
// ones, what a kernel calls their format, and their bytes. The `storage` of
// llm.param says it ("q8_0", "q4_0"); the type stays that of the elements,
// which is what a product may round them to. llmrt::WeightFormat has the
// layout.
#pragma once

#include "dialects/dist/Dist.h"

#include "mlir/Dialect/Func/IR/FuncOps.h"

namespace llmc {

/// Gives every matrix of the model the storage `format`; with q4_0 tables and
/// the head, which have more to lose, q8_0. Errors  LLMC-E1003 for a matrix
/// whose rows are not whole blocks.
mlir::LogicalResult storeInBlocks(mlir::func::FuncOp forward,
                                  llvm::StringRef format);

/// True if the parameter is held in blocks.
bool isInBlocks(llm::ParamOp param);

/// The parameter that a weight is, if it is held in blocks; else null.
llm::ParamOp paramInBlocks(mlir::Value weight);

/// Value of llmrt::WeightFormat for a weight: of its blocks, or of its type.
int64_t weightFormatOf(mlir::Value weight);

/// Bytes of a matrix of this type as the parameter is held, without the padding
/// of panels.
int64_t storedBytes(llm::ParamOp param, mlir::RankedTensorType type);

/// Checks that a cut of columns lies between blocks. Errors  LLMC-E1002.
mlir::LogicalResult checkColumnCut(llm::ParamOp param, dist::SliceAttr slice);

} // namespace llmc
