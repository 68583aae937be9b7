// SPDX-License-Identifier: Apache-2.0
#include "runtime/io/Quantize.h"

#include <bit>
#include <cmath>
#include <cstring>

namespace llmrt {
namespace {

constexpr int kElements = kQuantizedElements;

/// To the nearest, halves away from zero. v is within +-2^24.
inline int roundedHalfAway(float v) {
  int whole = static_cast<int>(v);
  const float rest = v - static_cast<float>(whole); // exact
  whole += rest >= 0.5f ? 1 : 0;
  whole -= rest <= -0.5f ? 1 : 0;
  return whole;
}

/// 1 / factor, or 0 where elements times that would not be numbers.
inline float inverseOf(float factor) {
  const float inverse = 1.0f / factor;
  return std::isfinite(inverse) && inverse != 0.0f ? inverse : 0.0f;
}

void quantizeQ8(const float* in, uint8_t* elements, uint16_t& factor) {
  float most = 0.0f;
  bool isFinite = true;
  for (int i = 0; i < kElements; ++i) {
    const float magnitude = std::fabs(in[i]);
    most = magnitude > most ? magnitude : most;
    isFinite &= std::isfinite(magnitude);
  }
  if (!isFinite) {
    factor = f16FromFloat(NAN);
    std::memset(elements, 0, kElements);
    return;
  }
  const float d = most / 127.0f;
  const float inverse = inverseOf(d);
  for (int i = 0; i < kElements; ++i)
    elements[i] = static_cast<uint8_t>(roundedHalfAway(in[i] * inverse));
  factor = f16FromFloat(d);
}

void quantizeQ4(const float* in, uint8_t* elements, uint16_t& factor) {
  float most = 0.0f, signedMost = 0.0f;
  bool isFinite = true;
  for (int i = 0; i < kElements; ++i) {
    const float magnitude = std::fabs(in[i]);
    signedMost = magnitude > most ? in[i] : signedMost; // the first of equals
    most = magnitude > most ? magnitude : most;
    isFinite &= std::isfinite(magnitude);
  }
  const float d = isFinite ? signedMost / -8.0f : NAN;
  const float inverse = isFinite ? inverseOf(d) : 0.0f;
  auto element = [&](int i) {
    const float scaled = isFinite ? in[i] * inverse : 0.0f;
    const int moved = static_cast<int>(scaled + 8.5f);
    return static_cast<uint8_t>(moved < 15 ? moved : 15);
  };
  for (int i = 0; i < kElements / 2; ++i)
    elements[i] =
        static_cast<uint8_t>(element(i) | (element(i + kElements / 2) << 4));
  factor = f16FromFloat(d);
}

} // namespace

int64_t quantizedElementBytes(SourceType type) {
  return type == SourceType::Q8_0   ? kQuantizedElements
         : type == SourceType::Q4_0 ? kQuantizedElements / 2
                                    : 0;
}

void quantizeBlocks(SourceType type, const float* in, int64_t numBlocks,
                    uint8_t* elements, uint16_t* factors) {
  const bool isQ8 = type == SourceType::Q8_0;
  const int64_t elementBytes = quantizedElementBytes(type);
  for (int64_t b = 0; b < numBlocks; ++b)
    (isQ8 ? quantizeQ8 : quantizeQ4)(in + b * kElements,
                                     elements + b * elementBytes, factors[b]);
}

void separateBlocks(SourceType type, const uint8_t* in, int64_t numBlocks,
                    uint8_t* elements, uint16_t* factors) {
  const int64_t elementBytes = quantizedElementBytes(type);
  for (int64_t b = 0; b < numBlocks; ++b) {
    const uint8_t* block = in + b * (kFactorBytes + elementBytes);
    std::memcpy(factors + b, block, kFactorBytes);
    std::memcpy(elements + b * elementBytes, block + kFactorBytes,
                elementBytes);
  }
}

uint16_t f16FromFloat(float value) {
  const uint32_t bits = std::bit_cast<uint32_t>(value);
  const auto sign = static_cast<uint16_t>((bits >> 16) & 0x8000);
  const uint32_t magnitude = bits & 0x7FFFFFFF;
  if (magnitude > 0x7F800000)
    return sign | 0x7E00;
  if (magnitude >= 0x477FF000) // halfway from the largest half to 2^16
    return sign | 0x7C00;
  if (magnitude < 0x38800000) { // below the smallest normal half, 2^-14
    // Added to 2^-1, whose last bit is worth 2^-24, as that of a subnormal.
    const float moved = std::bit_cast<float>(magnitude) + 0.5f;
    return sign |
           static_cast<uint16_t>(std::bit_cast<uint32_t>(moved) - 0x3F000000);
  }
  const uint32_t rounded = magnitude + 0xFFF + ((magnitude >> 13) & 1);
  return sign | static_cast<uint16_t>((rounded - (112u << 23)) >> 13);
}

} // namespace llmrt
