// SPDX-License-Identifier: Apache-2.0
// What the options of `llmc compile` may be, before a model is read.
#pragma once

#include "tools/llmc/Commands.h"

#include "absl/status/statusor.h"

#include <string>
#include <vector>

namespace llmc {

/// Ranks along an axis of the mesh.
struct Axis {
  std::string name;
  int64_t size;
};

/// dp, pp and tp, outermost first. Errors  MeshInvalid.
absl::StatusOr<std::vector<Axis>> parseMesh(const std::string& text);

/// Checks each value alone. Errors  BadOptionValue, and those of parseTarget().
absl::Status checkValues(const CommandLine& line);

/// Refuses options that cannot be meant together. Errors  OptionsContradict;
/// Unsupported for weights in blocks where no kernel reads them.
absl::Status checkTogether(const CommandLine& line);

/// Errors  PhaseUnknown.
absl::Status checkPhase(const std::string& phase);

/// Errors  PassUnknown for a pass that is not there, or that every plan needs.
absl::Status checkDisabled(const std::vector<std::string>& disabled);

} // namespace llmc
