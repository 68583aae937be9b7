// SPDX-License-Identifier: Apache-2.0
// Ranks, coordinates and groups of a plan's mesh. It makes no communicators.
#pragma once

#include "runtime/plan/PlanFile.h"

#include "absl/strings/string_view.h"

namespace llmrt {

/// The axis whose coordinate is a rank's pipeline stage; without it there is
/// one stage.
inline constexpr absl::string_view kStageAxis = "pp";

/// Axes whose name begins with this cut the batch: each of their coordinates is
/// a replica of the model (perhaps sharded with ZeRO).
inline constexpr absl::string_view kDataAxisPrefix = "dp";

/// Returns the number of an axis, or -1.
int findAxis(const fb::Plan& plan, absl::string_view name);

/// Returns the pipeline stage of a rank.
int stageOfCoordinates(const fb::Plan& plan, absl::Span<const int> coordinates);

/// Returns the ranks that differ from `coordinates` only along `axes`, ordered
/// by their coordinates along `axes`, the first one slowest.
std::vector<int> groupAlongAxes(const fb::Plan& plan,
                                absl::Span<const int> coordinates,
                                absl::Span<const int> axes);

/// Returns the place of a rank in its group along `axes`.
int indexAlongAxes(const fb::Plan& plan, absl::Span<const int> coordinates,
                   absl::Span<const int> axes);

/// Returns the product of the sizes of `axes`.
int64_t sizeAlongAxes(const fb::Plan& plan, absl::Span<const int> axes);

/// A FlatBuffers vector of int as a span; empty if absent.
inline absl::Span<const int>
spanOf(const ::flatbuffers::Vector<int32_t>* vector) {
  return vector ? absl::Span<const int>(vector->data(), vector->size())
                : absl::Span<const int>();
}

} // namespace llmrt
