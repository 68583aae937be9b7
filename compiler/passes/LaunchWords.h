// SPDX-License-Identifier: Apache-2.0
// The argument words of kernels: binds what a plan.launch names to the words
// that the kernel's declaration lists.
#pragma once

#include "dialects/plan/Plan.h"

#include "mlir/IR/Builders.h"

namespace llmc {

/// The buffers of a launch, in the order of its operands and results.
struct LaunchBuffers {
  mlir::SmallVector<mlir::StringAttr> inputs, inouts, results;
};

plan::WordAttr integerWord(mlir::MLIRContext* context, int64_t value);
plan::WordAttr realWord(mlir::MLIRContext* context, double value);
plan::WordAttr addressWord(mlir::StringAttr buffer);

/// Creates the plan.run of a launch of `kernel` on these buffers.
void createRun(mlir::OpBuilder& builder, plan::LaunchOp launch,
               plan::KernelOp kernel, const LaunchBuffers& buffers);

} // namespace llmc
