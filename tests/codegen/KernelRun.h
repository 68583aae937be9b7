// SPDX-License-Identifier: Apache-2.0
// Tensors with guard bytes and odd addresses, and calls of generated kernels on
// them.
#pragma once

#include "runtime/kernels/KernelAbi.h"

#include <bit>
#include <cmath>
#include <cstring>
#include <random>
#include <vector>

namespace llmc {

inline float bf16ToFloat(uint16_t bits) {
  return std::bit_cast<float>(static_cast<uint32_t>(bits) << 16);
}

/// Rounds to nearest even by walking: slow, and not how the compiler does it.
inline uint16_t nearestBf16(float x) {
  if (std::isnan(x))
    return 0x7fc0;
  uint16_t low = std::bit_cast<uint32_t>(x) >> 16; // towards zero
  uint16_t high = low + 1;                         // away from zero
  double toLow = std::fabs(double(x) - bf16ToFloat(low));
  // Above the largest bf16 the next one would be 2^128.
  double next = std::isinf(bf16ToFloat(high))
                    ? std::copysign(std::ldexp(1.0, 128), x)
                    : bf16ToFloat(high);
  double toHigh = std::fabs(double(x) - next);
  if (std::isinf(x))
    return low;
  if (toLow != toHigh)
    return toLow < toHigh ? low : high;
  return low & 1 ? high : low;
}

/// A tensor [rows, columns] (or a vector, with one row) of f32 or bf16, that
/// begins at no larger alignment than its elements' and lies between guard
/// bytes.
class Tensor {
public:
  Tensor(int64_t rows, int64_t columns, bool isBf16)
      : rows(rows), columns(columns), isBf16(isBf16),
        bytes_(2 * kGuard + rows * columns * elementBytes(), 0xA5) {}

  static Tensor random(int64_t rows, int64_t columns, bool isBf16,
                       unsigned seed, float scale = 1) {
    Tensor t(rows, columns, isBf16);
    std::mt19937 generator(seed);
    std::normal_distribution<float> normal(0, scale);
    for (int64_t i = 0; i < t.numElements(); ++i)
      t.set(i, normal(generator));
    return t;
  }

  int64_t numElements() const { return rows * columns; }

  int64_t elementBytes() const { return isBf16 ? 2 : 4; }

  uint8_t* data() { return bytes_.data() + kGuard; }

  const uint8_t* data() const { return bytes_.data() + kGuard; }

  float at(int64_t i) const {
    if (isBf16) {
      uint16_t bits;
      std::memcpy(&bits, data() + 2 * i, 2);
      return bf16ToFloat(bits);
    }
    float value;
    std::memcpy(&value, data() + 4 * i, 4);
    return value;
  }

  void set(int64_t i, float value) {
    if (isBf16) {
      uint16_t bits = nearestBf16(value);
      std::memcpy(data() + 2 * i, &bits, 2);
    } else {
      std::memcpy(data() + 4 * i, &value, 4);
    }
  }

  std::vector<double> doubles() const {
    std::vector<double> values;
    for (int64_t i = 0; i < numElements(); ++i)
      values.push_back(at(i));
    return values;
  }

  bool guardsAreIntact() const {
    for (int64_t i = 0; i < kGuard; ++i)
      if (bytes_[i] != 0xA5 || bytes_[bytes_.size() - 1 - i] != 0xA5)
        return false;
    return true;
  }

  bool operator==(const Tensor& other) const { return bytes_ == other.bytes_; }

  int64_t rows;
  int64_t columns;
  bool isBf16;

private:
  // With an allocation at 16 bytes, data begins at 4 modulo 16.
  static constexpr int64_t kGuard = 132;
  std::vector<uint8_t> bytes_;
};

/// Calls a kernel on the whole of its rows, in tiles of `rowTile` rows x
/// `colTile` columns (0: all).
inline void runKernel(LlmrtKernelFn function,
                      const std::vector<const Tensor*>& arguments,
                      const std::vector<Tensor*>& results, int64_t rowTile = 0,
                      int64_t colTile = 0) {
  // Word 0, the number of rows, must not be read.
  std::vector<uint64_t> words = {0xdeadbeef};
  for (const Tensor* t : arguments)
    words.push_back(reinterpret_cast<uint64_t>(t->data()));
  for (Tensor* t : results)
    words.push_back(reinterpret_cast<uint64_t>(t->data()));
  int64_t rows = results[0]->rows, columns = results[0]->columns;
  int64_t rowStep = rowTile ? rowTile : rows;
  int64_t colStep = colTile ? colTile : columns;
  for (int64_t r = 0; r < rows; r += rowStep)
    for (int64_t c = 0; c < columns; c += colStep) {
      LlmrtTile tile = {r, std::min(r + rowStep, rows), c,
                        std::min(c + colStep, columns)};
      function(words.data(), &tile, nullptr);
    }
}

} // namespace llmc
