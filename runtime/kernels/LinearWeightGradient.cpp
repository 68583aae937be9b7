// SPDX-License-Identifier: Apache-2.0
// linear_weight_gradient: the product of dy and x along rows. Columns of
// one side are packed in tiles, whose elements become the factors of a product,
// the other gives strips of vectors; which is which follows from the layout of
// the gradient:
//   Panel     x is tiled, strips are panels of outputs
//   RowMajor  dy is tiled, strips are columns of x
//
// Constraints  tiles begin at multiples of 32 outputs and 64 columns; a panel
// gradient is padded to whole panels, and the padding is written.
// Scratch  kWeightGradientScratchBytes.
#include "runtime/kernels/ProductTile.h"

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

/// Where the sum of column m of the tiled side and column c of a strip that
/// begins at column s goes: out + s * stripStep + m * rowStep + c.
struct Target {
  float* out;
  int64_t stripStep;
  int64_t rowStep;
};

/// Rows [begin, begin + count) of both sides.
struct Rows {
  int64_t begin;
  int64_t count;
};

// strips[s][r][c] = the strips' columns, one strip of kStripCols after another.
void packStrips(const Side& side, Rows rows, float* strips) {
  const float* from = side.data + rows.begin * side.stride + side.begin;
  for (int64_t r = 0; r < rows.count; ++r, from += side.stride)
    for (int64_t c = 0; c < side.end - side.begin; c += kStripCols) {
      float* to =
          strips + c / kStripCols * kGradientStripStride + r * kStripCols;
      const int64_t cols = least(kStripCols, side.end - side.begin - c);
      if (cols == kStripCols)
        __builtin_memcpy(to, from + c, kStripCols * sizeof(float));
      else
        __builtin_memcpy(to, from + c, cols * sizeof(float));
    }
}

// Columns [m, m + columns) as tiles of kTileRows of them:
// [tile][rows.count + 1][kTileStep]. Row by row, as memory likes to be read;
// the tiles' spare row keeps what is written together out of one cache set.
// Whole vectors are copied where the row has them.
void packTiles(const Side& side, Rows rows, int64_t m, int64_t columns,
               float* packed) {
  const int64_t tileStride = (rows.count + 1) * kTileStep;
  const float* from = side.data + rows.begin * side.stride + m;
  for (int64_t r = 0; r < rows.count;
       ++r, from += side.stride, packed += kTileStep) {
    float* to = packed;
    int64_t c = 0;
    for (; c < columns && m + c + kTileStep <= side.width;
         c += kTileRows, to += tileStride)
      __builtin_memcpy(to, from + c, kTileStep * sizeof(float));
    for (; c < columns; c += kTileRows, to += tileStride)
      __builtin_memcpy(to, from + c,
                       least(kTileRows, columns - c) * sizeof(float));
  }
}

// The block that is packed next.
BlockFetch nextTiled(const Side& tiled, Rows rows, int64_t m) {
  BlockFetch fetch;
  if (m >= tiled.end)
    return fetch;
  fetch.next =
      reinterpret_cast<const char*>(tiled.data + rows.begin * tiled.stride + m);
  fetch.strideBytes = tiled.stride * sizeof(float);
  fetch.lines = least(kGradientTiledCols, tiled.end - m) / 16;
  fetch.rows = rows.count;
  fetch.rowsPerCall = 8;
  return fetch;
}

// Adds the rows to all columns of both sides. The strips are packed once, the
// tiles block by block.
void multiplyRows(const Side& tiled, const Side& strips, Rows rows,
                  const Target& target, bool accumulate, float* packed) {
  float* packedStrips = packed + kWeightGradientPackedFloats;
  packStrips(strips, rows, packedStrips);
  for (int64_t m = tiled.begin; m < tiled.end; m += kGradientTiledCols) {
    const int64_t columns = least(kGradientTiledCols, tiled.end - m);
    packTiles(tiled, rows, m, columns, packed);
    BlockFetch fetch = nextTiled(tiled, rows, m + kGradientTiledCols);
    for (int64_t s = strips.begin; s < strips.end; s += kStripCols)
      productStrip<1>(packed, columns,
                      packedStrips + (s - strips.begin) / kStripCols *
                                         kGradientStripStride,
                      kStripCols, rows.count,
                      target.out + s * target.stripStep + m * target.rowStep,
                      target.rowStep, least(kStripCols, strips.end - s),
                      accumulate, &fetch);
  }
}

void multiply(const LinearWeightGradientArgs& a, const Side& tiled,
              const Side& strips, const Target& target, float* packed) {
  constexpr int64_t groupCols = kGradientStrips * kStripCols;
  for (int64_t s = strips.begin; s < strips.end; s += groupCols) {
    Side group = strips;
    group.begin = s;
    group.end = least(s + groupCols, strips.end);
    // One round at least: without rows the sums are 0.
    for (int64_t row = 0; row == 0 || row < a.rows; row += kGradientBlock)
      multiplyRows(tiled, group, {row, least(kGradientBlock, a.rows - row)},
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
