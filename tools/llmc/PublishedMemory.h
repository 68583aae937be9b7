// SPDX-License-Identifier: Apache-2.0
// What papers say that training needs, for comparison with a plan. Where a step
// of llmc differs, and why, is in docs/howto/training-memory.md.
#pragma once

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace llmc {

/// Bytes of one device.
struct ModelStates {
  double parameters = 0;
  double gradients = 0;
  double optimizer = 0;

  double sum() const { return parameters + gradients + optimizer; }
};

/// 16-bit parameters and gradients, and K = 12 bytes of optimizer states for
/// each of `parameters` elements; ZeRO stage 0 (nothing is sharded) to 3.
/// Source  Rajbhandari et al. 2020 (ZeRO), section 5 and table 1.
ModelStates publishedModelStates(double parameters, double dataRanks,
                                 int stage);

/// One transformer layer with 16-bit activations, dropout, an MLP of width 4h
/// and a stored attention matrix.
struct PublishedLayer {
  double sequence = 0;   // s
  double microBatch = 0; // b
  double hidden = 0;     // h
  double heads = 0;      // a, of all tensor ranks
  double tensorRanks = 1;
  bool isSequenceParallel = false;
};

struct PublishedBytes {
  absl::string_view formula;
  double bytes = 0;
};

/// Bytes of activations that one rank keeps of the layer. `recompute` is none,
/// selective (attention matrices) or full (the layer's input).
/// Source  Korthikanti et al. 2022, equations 1 to 4, 6 and table 2.
/// Errors  InvalidArgument for any other word.
absl::StatusOr<PublishedBytes>
publishedLayerActivations(const PublishedLayer& layer,
                          absl::string_view recompute);

} // namespace llmc
