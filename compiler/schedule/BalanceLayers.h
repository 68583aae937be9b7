// SPDX-License-Identifier: Apache-2.0
// Distributes the layers of a model over the chunks of a pipeline.
#pragma once

#include "absl/status/statusor.h"

#include <cstdint>
#include <vector>

namespace llmc::schedule {

struct LayerCosts {
  std::vector<int64_t> layers; ///< in model order, in any unit, at least 0
  int64_t embedding = 0;       ///< counts in the first chunk
  int64_t head = 0;            ///< counts in the last chunk
};

/// Returns the first layer of each of stages * virtualStages chunks, in model
/// order: chunk c of stage p is entry c * stages + p. Each has a layer. The
/// costliest chunk, which sets the pace of the pipeline, is as cheap as can be;
/// among such cuts the sum of squared costs is least, so that the others are
/// even. Errors  LLMC-E1002 if there are fewer layers than chunks, or no
/// stages; InvalidArgument
///         for a negative cost.
absl::StatusOr<std::vector<int>> balanceLayers(const LayerCosts& costs,
                                               int stages, int virtualStages);

} // namespace llmc::schedule
