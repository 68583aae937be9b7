// SPDX-License-Identifier: Apache-2.0
// The checksum of plans and token files, and the fingerprint by which a cache
// knows its sources. Not for cryptography.
#pragma once

#include "absl/types/span.h"

#include <cstdint>
#include <string_view>

namespace llmrt {

/// CRC-64/XZ (ECMA-182, reflected). `seed` is the checksum of the bytes before.
uint64_t crc64(absl::Span<const uint8_t> bytes, uint64_t seed = 0);

inline uint64_t crc64(std::string_view text, uint64_t seed = 0) {
  return crc64(absl::MakeConstSpan(
                   reinterpret_cast<const uint8_t*>(text.data()), text.size()),
               seed);
}

} // namespace llmrt
