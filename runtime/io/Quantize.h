// SPDX-License-Identifier: Apache-2.0
// Turns floats, or blocks of a GGUF file, into blocks as kernels read them:
// kQuantizedElements neighbouring elements share a factor; elements lie first,
// factors behind all of them. Two formats of GGUF, whose elements are kept as
// they are:
//   Q8_0  32 signed bytes; element * factor
//   Q4_0  16 bytes, byte i with elements i (low half) and i + 16;
//         (element - 8) * factor
#pragma once

#include "runtime/io/SourceTensor.h"

namespace llmrt {

inline constexpr int64_t kQuantizedElements = 32;
inline constexpr int64_t kFactorBytes = 2; // an IEEE half

/// Bytes of the elements of a block of `type`, Q8_0 or Q4_0; 0 for others.
int64_t quantizedElementBytes(SourceType type);

/// Rounds whole blocks as ggml's reference code does (quantize_row_q8_0_ref and
/// quantize_row_q4_0_ref of ggml-quants.c), bit for bit as the Python package
/// gguf: to the nearest, halves away from zero; the factor of q8_0 is the
/// largest magnitude / 127, that of q4_0 the element of largest magnitude / -8.
/// A block that is not finite gets a factor that is not either.
void quantizeBlocks(SourceType type, const float* in, int64_t numBlocks,
                    uint8_t* elements, uint16_t* factors);

/// Takes blocks of a file, each with its factor before its elements, apart.
void separateBlocks(SourceType type, const uint8_t* in, int64_t numBlocks,
                    uint8_t* elements, uint16_t* factors);

/// Returns the nearest IEEE half, ties to even; what is too large becomes
/// infinite.
uint16_t f16FromFloat(float value);

} // namespace llmrt
