// SPDX-License-Identifier: Apache-2.0
// The CUDA step of code generation: the linalg form of a kernel becomes one
// gpu.func of the CUDA kernel ABI (docs/design/cuda.md), vectors for each
// thread and shuffles between them. The same code serves every architecture.
#pragma once

#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/Dialect/GPU/IR/GPUDialect.h"
#include "mlir/IR/Builders.h"

namespace llmc {

/// Threads of a block of every generated kernel.
inline constexpr int64_t kGeneratedThreads = 256;
/// Columns of a tile of an elementwise kernel; others take whole rows. A tile
/// has one row.
inline constexpr int64_t kElementwiseColumns = 1024;

/// Lowers a function made by lowerKernelToLinalg. One block computes one tile:
/// a row, or 1024 columns of one. A thread takes vectors of as many elements as
/// 16 bytes hold, or the largest power of two below that which divides what is
/// walked, so that every access is whole and aligned. Rows of up to 32 elements
/// for each thread are held in registers between walks; longer ones are read
/// again.
///   Sums   each thread adds its vectors, then its lanes; a warp by butterfly
///          shuffles, then the 8 warps of a row in shared memory, all in a
///          fixed order. Heads of a row are one warp's each.
///   Words  word 0 is the number of valid rows: blocks behind them do nothing.
///          Addresses, in global memory, are multiples of 32 bytes.
///   Alias  a result may lie exactly on an argument of the same type.
/// Errors  norms of different widths in one kernel, a norm in an elementwise
/// one (diagnostics).
mlir::FailureOr<mlir::gpu::GPUFuncOp>
lowerLinalgToGpu(mlir::func::FuncOp form, bool isElementwise,
                 mlir::OpBuilder& builder);

} // namespace llmc
