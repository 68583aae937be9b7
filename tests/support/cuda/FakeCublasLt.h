// SPDX-License-Identifier: Apache-2.0
// cuBLASLt without a GPU: it multiplies memory of the host as its descriptors
// say (types, transposes, sizes, distances, alpha and beta), on a stream of the
// test's, and is strict: wrong alignment, distances, attributes, workspaces and
// algorithms of another library are errors. Algorithms differ in the time that
// a test's clock shows for them and in what they need.
#pragma once

#include "runtime/device/cublaslt/MatrixProducts.h"

#include <functional>

namespace llmrt::test {

/// What `stream` points to in a call of the library.
struct FakeLtStream {
  std::function<void(std::function<void()>)> enqueue;
};

/// What was asked of the library.
struct FakeLtCounts {
  int heuristics = 0;
  int matmuls = 0;
  int objects = 0;     // handles and descriptors that live
  int lastChoice = -1; // algorithm of the last product
};

FakeLtCounts& fakeLtCounts();

/// Makes the next product of that many fail; -1: none.
void failFakeMatmul(int inCalls);

LtTable fakeLtTable();

/// The algorithm that is the fastest of those that may be used.
inline constexpr int kFakeBest = 6;

/// Shows the seconds of the algorithm that ran last.
class FakeLtTimer final : public StreamTimer {
public:
  bool canMeasure() const override { return isOpen; }

  absl::StatusOr<double>
  secondsOf(absl::FunctionRef<absl::Status()> work) override;

  bool isOpen = true;
  int numMeasured = 0;
};

} // namespace llmrt::test
