// SPDX-License-Identifier: Apache-2.0
#include "tools/llmc/PublishedMemory.h"

#include "absl/strings/str_cat.h"

namespace llmc {

ModelStates publishedModelStates(double parameters, double dataRanks,
                                 int stage) {
  ModelStates states{2 * parameters, 2 * parameters, 12 * parameters};
  if (stage >= 1)
    states.optimizer /= dataRanks;
  if (stage >= 2)
    states.gradients /= dataRanks;
  if (stage >= 3)
    states.parameters /= dataRanks;
  return states;
}

absl::StatusOr<PublishedBytes>
publishedLayerActivations(const PublishedLayer& layer,
                          absl::string_view recompute) {
  double sbh = layer.sequence * layer.microBatch * layer.hidden;
  double matrix = 5 * layer.heads * layer.sequence / layer.hidden; // 5as/h
  double t = layer.tensorRanks;
  bool isCut = t == 1 || layer.isSequenceParallel;
  if (recompute == "none" && t == 1)
    return PublishedBytes{"sbh(34+5as/h)", sbh * (34 + matrix)};
  if (recompute == "none" && isCut)
    return PublishedBytes{"(sbh/t)(34+5as/h)", sbh / t * (34 + matrix)};
  if (recompute == "none")
    return PublishedBytes{"sbh(10+24/t+5as/ht)",
                          sbh * (10 + 24 / t + matrix / t)};
  if (recompute == "selective" && isCut)
    return PublishedBytes{"34sbh/t", 34 * sbh / t};
  if (recompute == "selective")
    return PublishedBytes{"sbh(10+24/t)", sbh * (10 + 24 / t)};
  if (recompute == "full")
    return PublishedBytes{"2sbh", 2 * sbh};
  return absl::InvalidArgumentError(
      absl::StrCat("no recomputation '", recompute, "'"));
}

} // namespace llmc
