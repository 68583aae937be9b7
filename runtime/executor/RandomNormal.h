// SPDX-License-Identifier: Apache-2.0
// Runs of the normal stream of Philox.h, for initialising whole parameters.
#pragma once

#include <cstdint>

namespace llmrt {

/// Writes elements [begin, begin + numElements) of normal(seed, stream, .)
/// times `deviation`. A value depends on seed, stream and its index alone.
void fillNormal(uint64_t seed, uint64_t stream, int64_t begin,
                int64_t numElements, float deviation, float* out);

} // namespace llmrt
