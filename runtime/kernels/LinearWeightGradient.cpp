// SPDX-License-Identifier: Apache-2.0
// linear_weight_gradient: the product of dy and x along rows. One side is
// turned, so that its columns become packed rows of a product, the other gives
// strips of vectors; which is which follows from the layout of the gradient:
//   Panel     x is turned, strips are panels of outputs
//   RowMajor  dy is turned, strips are columns of x
//
// Constraints  tiles begin at multiples of 32 outputs and 64 columns; a panel
// gradient is padded to whole panels, and the padding is written.
// Scratch  kGradientScratchBytes.
#include "runtime/kernels/ProductTile.h"
#include "runtime/kernels/Transpose.h"

namespace llmrt::LLMRT_LEVEL {
namespace {

/// Columns [begin, end) of a matrix of a.rows rows and `width` columns.
struct Side {
  const float* data;
  int64_t stride;
  int64_t width;
  int64_t begin;
  int64_t end;
};

/// Where the sum of column m of the turned side and column c of a strip that
/// begins at column s goes: out + s * stripStep + m * rowStep + c.
struct Target {
  float* out;
  int64_t stripStep;
  int64_t rowStep;
};

void packStrip(const Side& side, int64_t row, int64_t count, int64_t col,
               int64_t cols, float* strip) {
  const float* from = side.data + row * side.stride + col;
  for (int64_t r = 0; r < count; ++r, from += side.stride)
    if (cols == kStripCols)
      __builtin_memcpy(strip + r * kStripCols, from,
                       kStripCols * sizeof(float));
    else
      __builtin_memcpy(strip + r * kStripCols, from, cols * sizeof(float));
}

// Adds rows [row, row + count) for one block of turned columns.
void multiplyBlock(const Side& turned, const Side& strips, int64_t row,
                   int64_t count, const Target& target, bool accumulate,
                   float* packed) {
  float* strip = packed + kGradientPackedFloats;
  const int64_t columns = turned.end - turned.begin;
  // Whole squares, where there are columns to fill them: they cost less.
  const int64_t squares =
      least(roundUp(columns, kLanes), turned.width - turned.begin);
  transposeBlock(turned.data + row * turned.stride + turned.begin, count,
                 squares, turned.stride, packed, kGradientStride);
  for (int64_t s = strips.begin; s < strips.end; s += kStripCols) {
    const int64_t cols = least(kStripCols, strips.end - s);
    packStrip(strips, row, count, s, cols, strip);
    productStrip<kGradientStride>(packed, columns, strip, kStripCols, count,
                                  target.out + s * target.stripStep +
                                      turned.begin * target.rowStep,
                                  target.rowStep, cols, accumulate);
  }
}

void multiply(const LinearWeightGradientArgs& a, const Side& turned,
              const Side& strips, const Target& target, float* packed) {
  const int64_t columns = turned.end - turned.begin;
  if (columns <= 0 || strips.begin >= strips.end)
    return;
  constexpr int64_t blockTiles = kGradientRows / kTileRows;
  const int64_t tiles = (columns + kTileRows - 1) / kTileRows;
  const int64_t blocks = (tiles + blockTiles - 1) / blockTiles;
  // One round at least: without rows the sums are 0.
  for (int64_t row = 0; row == 0 || row < a.rows; row += kGradientBlock)
    for (int64_t b = 0; b < blocks; ++b) {
      Side part = turned;
      part.begin = turned.begin + tiles * b / blocks * kTileRows;
      part.end = least(turned.begin + tiles * (b + 1) / blocks * kTileRows,
                       turned.end);
      multiplyBlock(part, strips, row, least(kGradientBlock, a.rows - row),
                    target, a.accumulate || row > 0, packed);
    }
}

// What lies beyond the valid box is 0, whatever was there.
void clearRest(const LinearWeightGradientArgs& a, const LlmrtTile& tile) {
  const bool isPanel = a.layout == static_cast<int64_t>(WeightLayout::Panel);
  const int64_t nEnd = isPanel ? tile.rowEnd : least(tile.rowEnd, a.N);
  const int64_t kEnd = least(tile.colEnd, a.K);
  const int64_t validN = least(a.validN, a.N);
  if (nEnd <= validN && kEnd <= a.validK)
    return;
  for (int64_t n = tile.rowBegin; n < nEnd; ++n) {
    float* line =
        isPanel ? a.out + n / kStripCols * kStripCols * a.K + n % kStripCols
                : a.out + n * a.K;
    const int64_t step = isPanel ? kStripCols : 1;
    int64_t k = n < validN ? greatest(a.validK, tile.colBegin) : tile.colBegin;
    for (; k < kEnd; ++k)
      line[k * step] = 0.0f;
  }
}

} // namespace

void linear_weight_gradient(const uint64_t* words, const LlmrtTile* tile,
                            void* scratch) {
  const auto a = readArgs<LinearWeightGradientArgs>(words);
  float* packed = static_cast<float*>(scratch);
  const int64_t N = least(a.validN, a.N), K = least(a.validK, a.K);
  const Side dy{a.dy, a.lddy, N, tile->rowBegin, least(tile->rowEnd, N)};
  const Side x{a.x, a.ldx, K, tile->colBegin, least(tile->colEnd, K)};
  if (a.layout == static_cast<int64_t>(WeightLayout::Panel))
    multiply(a, x, dy, {a.out, a.K, kStripCols}, packed);
  else
    multiply(a, dy, x, {a.out, 1, a.K}, packed);
  clearRest(a, *tile);
}

} // namespace llmrt::LLMRT_LEVEL
