// SPDX-License-Identifier: Apache-2.0
// Between a checkpoint's tensors and the logical parameters of a module: a
// tensor can hold several parameters (rows of it) and be stored turned.
#pragma once

#include "runtime/io/WeightSource.h"
#include "tests/support/Interpreter.h"

#include <map>
#include <string>
#include <vector>

namespace llmc {

/// Returns a reader of the logical parameters that `source` holds, which must
/// outlive it. What cannot be read has no elements.
ParameterSource checkpointParameters(const llmrt::WeightSource& source);

/// Puts values of every logical parameter (itself, or its gradient) where the
/// checkpoint has the parameter; the result is by the checkpoint's names.
std::map<std::string, std::vector<float>>
inCheckpointLayout(mlir::ModuleOp module, const ParameterSource& parameters);

} // namespace llmc
