// SPDX-License-Identifier: Apache-2.0
// What a rank holds outside its arena for a plan: bounds that the executor
// checks when it prepares.
#pragma once

#include "dialects/plan/Plan.h"

#include <string>
#include <vector>

namespace llmc {

/// Bytes of the argument blocks of all launches of a stage. A training step has
/// a block for each set of slots that its schedule gives a program.
int64_t countArgumentBytes(plan::StageOp stage);

/// The most scratch that one thread (cuda: a whole launch) needs on the stage.
/// `axes` and `axisSizes` are the mesh.
int64_t countScratchBytes(mlir::ModuleOp module, plan::StageOp stage,
                          const std::vector<std::string>& axes,
                          const std::vector<int64_t>& axisSizes);

} // namespace llmc
