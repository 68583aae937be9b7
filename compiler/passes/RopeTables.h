// SPDX-License-Identifier: Apache-2.0
// The constant table that the rope kernels read.
#pragma once

#include "dialects/plan/Plan.h"

namespace llmc {

/// Creates the table of `op` for `pages` cache pages of positions.
mlir::Value createRopeTable(mlir::OpBuilder& builder, llm::RopeOp op,
                            int64_t pages);

} // namespace llmc
