// SPDX-License-Identifier: Apache-2.0
// Uses a tensor that a reader returned, as a fuzz target must.
#pragma once

#include "runtime/io/Dequantize.h"

#include <algorithm>
#include <cstdlib>

namespace llmrt::testing {

/// Reads the first and last byte and a few runs of elements. Aborts if the
/// tensor contradicts itself.
inline void touchTensor(const SourceTensor& tensor) {
  std::optional<int64_t> sizeBytes = sourceSizeBytes(tensor.type, tensor.shape);
  if (!sizeBytes || static_cast<uint64_t>(*sizeBytes) != tensor.bytes.size())
    std::abort();
  volatile uint8_t sink = 0;
  if (!tensor.bytes.empty())
    sink = tensor.bytes.front() ^ tensor.bytes.back();
  (void)sink;
  constexpr int64_t kMaxRun = 600;
  float values[kMaxRun];
  int64_t numElements = tensor.numElements();
  int64_t count = std::min(numElements, kMaxRun);
  for (int64_t begin : {int64_t{0}, numElements - count, numElements / 2}) {
    absl::Status status = readElements(
        tensor, begin, std::min(count, numElements - begin), values);
    if (status.ok() != canReadElements(tensor.type))
      std::abort();
  }
}

} // namespace llmrt::testing
