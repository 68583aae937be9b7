// SPDX-License-Identifier: Apache-2.0
// Turns runs of a tensor of a weight file into float, whatever its storage
// format. The values are exactly those of ggml's own reference code: multiply,
// then add, each rounded to float. Packing for kernels is done elsewhere, from
// these floats.
#pragma once

#include "runtime/io/SourceTensor.h"

#include "absl/status/status.h"

#include <bit>
#include <cstdint>

namespace llmrt {

/// Returns true if readElements() can read tensors of `type`: F64 (rounded to
/// float), F32, F16, BF16, Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, Q4_K, Q5_K, Q6_K.
bool canReadElements(SourceType type);

/// Converts elements [begin, begin + numElements) of the flattened tensor to
/// float. `begin` need not be at a block's border. Reads only the blocks it
/// needs; may be called by any number of threads.
/// Errors  TensorTypeUnsupported, naming tensor and type; OutOfRange if the run
///         is not inside the tensor.
absl::Status readElements(const SourceTensor& tensor, int64_t begin,
                          int64_t numElements, float* out);

/// Returns the nearest bfloat16, ties to even; any NaN becomes 0x7fc0, as in
/// PyTorch.
inline uint16_t bf16FromFloat(float value) {
  uint32_t bits = std::bit_cast<uint32_t>(value);
  uint32_t rounded = (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
  return (bits & 0x7fffffff) > 0x7f800000 ? 0x7fc0
                                          : static_cast<uint16_t>(rounded);
}

inline float floatFromBf16(uint16_t value) {
  return std::bit_cast<float>(static_cast<uint32_t>(value) << 16);
}

/// Returns the exact value. No step is subnormal in float, so that the answer
/// does not depend on whether the thread flushes subnormals to zero. Masks
/// instead of branches, so that loops vectorise.
inline float floatFromF16(uint16_t value) {
  uint32_t magnitude = value & 0x7fff;
  uint32_t exponentBias = magnitude < 0x7c00 ? 112u << 23 : 224u << 23;
  uint32_t normal = (magnitude << 13) + exponentBias;
  // 0.5 + mantissa * 2^-24, minus 0.5.
  uint32_t subnormal = std::bit_cast<uint32_t>(
      std::bit_cast<float>((value & 0x3ff) | 0x3f000000) - 0.5f);
  uint32_t mask = magnitude < 0x0400 ? ~0u : 0u;
  uint32_t bits = (subnormal & mask) | (normal & ~mask);
  return std::bit_cast<float>(bits |
                              (static_cast<uint32_t>(value & 0x8000) << 16));
}

/// Converts `numElements` floats as bf16FromFloat() does.
void convertToBf16(const float* in, int64_t numElements, uint16_t* out);

} // namespace llmrt
