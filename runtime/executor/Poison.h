// SPDX-License-Identifier: Apache-2.0
// Private to the executor: fills memory that holds nothing between two calls
// with values that spoil whatever is computed from them. For tests.
#pragma once

#include "runtime/executor/Rank.h"

namespace llmrt {

class Poison {
public:
  /// A NaN as f32, as two bf16, and a negative index as i32.
  static constexpr uint32_t kPattern = 0xFFA5FFA5;

  Poison() = default;
  /// Finds the ranges of the arenas that no persistent buffer covers.
  explicit Poison(const Rank& rank);

  /// Enqueues the filling.
  void fillDeadMemory(Device& device) const;

private:
  struct Range {
    uint8_t* data;
    int64_t sizeBytes;
  };

  std::vector<Range> ranges_;
};

} // namespace llmrt
