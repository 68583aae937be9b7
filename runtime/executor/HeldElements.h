// SPDX-License-Identifier: Apache-2.0
// Private to the executor: the elements of one logical tensor that lie in one
// buffer of this rank (a box, laid out, perhaps a ZeRO run of that), visited as
// rectangles of the logical tensor.
#pragma once

#include "runtime/executor/LocalBox.h"
#include "runtime/executor/LogicalTensors.h"

#include <utility>

namespace llmrt {

/// Indices [first, second).
using Interval = std::pair<int64_t, int64_t>;

struct HeldElementsArgs {
  const fb::Parameter* parameter;
  absl::Span<const int> coordinates;
  DType dtype; // of the elements in memory
  int64_t shard = 0;
  int64_t shardBytes = 0; // 0: the whole box
  uint8_t* memory;
  /// Leaves out what ranks with a lower coordinate along the cut axes hold too.
  bool isFirstOnly = false;
};

class HeldElements {
public:
  explicit HeldElements(const HeldElementsArgs& args);

  using Visit = absl::FunctionRef<absl::Status(
      const LogicalBox& box, float* values, int64_t rowStride)>;

  /// Calls `visit` with the elements as f32, in memory order of rows. With
  /// `isChanged` they are stored back afterwards, rounded to the type in
  /// memory. Errors  those of `visit`, at once.
  absl::Status visit(bool isChanged, Visit visit);

private:
  /// Local rows x columns; elements of a run that is a rectangle.
  struct Rectangle {
    int64_t rowBegin, rowEnd, colBegin, colEnd;
  };

  absl::Status visitPanels(bool isChanged, Visit visit);
  absl::Status visitRows(bool isChanged, Visit visit);
  absl::Status visitRectangle(const Rectangle& part, bool isChanged,
                              Visit visit);
  absl::Status visitBlock(int64_t localRow, const LogicalBox& box,
                          bool isChanged, Visit visit);
  std::vector<Interval> ownIntervals(int dim, bool isFirstOnly) const;
  bool ownsRow(int64_t localRow) const;
  uint8_t* elementAt(int64_t row, int64_t col) const;
  float load(int64_t row, int64_t col) const;
  void store(int64_t row, int64_t col, float value) const;

  const fb::Parameter& parameter_;
  std::vector<int> coordinates_;
  LocalBox box_;
  DType dtype_;
  bool isPanel_;
  uint8_t* memory_;
  int64_t begin_; // units of the laid-out box that are here: elements, or lines
  int64_t end_;   // of panels
  std::vector<std::vector<Interval>> own_; // by dimension, of logical indices
  std::vector<float> staging_;
};

} // namespace llmrt
