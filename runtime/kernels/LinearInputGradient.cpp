// SPDX-License-Identifier: Apache-2.0
// linear_input_gradient: the product of dy with a weight along its outputs.
// Blocks of outputs: rows of dy are packed, and each strip of the weight's
// columns is turned into scratch, where all packed rows use it.
//
// Constraints  dtype f32 or bf16; tiles begin at multiples of 64 columns; panel
// weights are padded to whole panels. Scratch  kInputGradientScratchBytes.
#include "runtime/kernels/ProductTile.h"
#include "runtime/kernels/Transpose.h"

namespace llmrt::LLMRT_LEVEL {
namespace {

/// A block of outputs and of rows of dy.
struct Block {
  int64_t row;
  int64_t rows;
  int64_t n;
  int64_t count;
};

// strip[i][c] = w[n + i][k + c] for i < block.count and c < cols.
template <typename W>
void turnStrip(const LinearInputGradientArgs& a, const Block& block, int64_t k,
               int64_t cols, float* strip) {
  constexpr int64_t P = kPanelBytes / sizeof(W);
  const W* w = static_cast<const W*>(a.w);
  if (a.layout == static_cast<int64_t>(WeightLayout::RowMajor)) {
    for (int64_t i = 0; i < block.count; ++i)
      for (int64_t c = 0; c < cols; ++c)
        strip[i * kStripCols + c] = widen(w[(block.n + i) * a.K + k + c]);
    return;
  }
  for (int64_t i = 0; i < block.count; i += P)
    transposeBlock(w + (block.n + i) * a.K + k * P, cols, P, P,
                   strip + i * kStripCols, kStripCols);
}

// The block of the weight that turnStrip will read for the next strip.
template <typename W>
BlockFetch nextStrip(const LinearInputGradientArgs& a, const Block& block,
                     int64_t k) {
  constexpr int64_t P = kPanelBytes / sizeof(W);
  BlockFetch fetch;
  if (a.layout == static_cast<int64_t>(WeightLayout::RowMajor) ||
      k + kStripCols > a.K)
    return fetch;
  const W* w = static_cast<const W*>(a.w);
  fetch.next = reinterpret_cast<const char*>(w + block.n * a.K + k * P);
  fetch.lines = kStripCols * kPanelBytes / 64;
  fetch.strideBytes = a.K * kPanelBytes;
  fetch.rows = (block.count + P - 1) / P;
  fetch.rowsPerCall = 1;
  return fetch;
}

template <typename W>
void multiplyRows(const LinearInputGradientArgs& a, const LlmrtTile& tile,
                  int64_t row, int64_t rowEnd, float* packed) {
  float* strip = packed + kInputGradientPackedFloats;
  const int64_t colEnd = least(tile.colEnd, a.K);
  for (int64_t n = 0; n < a.N; n += kGradientBlock) {
    Block block{row, rowEnd - row, n, least(kGradientBlock, a.N - n)};
    for (int64_t r = 0; r < block.rows; ++r)
      __builtin_memcpy(packed + r * kGradientStride,
                       a.dy + (row + r) * a.lddy + n, block.count * 4);
    for (int64_t k = tile.colBegin; k < colEnd; k += kStripCols) {
      const int64_t cols = least(kStripCols, colEnd - k);
      turnStrip<W>(a, block, k, cols, strip);
      BlockFetch fetch = nextStrip<W>(a, block, k + kStripCols);
      productStrip<kGradientStride>(packed, block.rows, strip, kStripCols,
                                    block.count, a.dx + row * a.lddx + k,
                                    a.lddx, cols, n > 0, &fetch);
    }
  }
}

// Blocks of rows are whole register tiles and of about one size: a small last
// one would turn all of the weight for little work.
template <typename W>
void multiplyTile(const LinearInputGradientArgs& a, const LlmrtTile& tile,
                  float* packed) {
  const int64_t rowEnd = least(tile.rowEnd, a.rows);
  const int64_t rows = rowEnd - tile.rowBegin;
  constexpr int64_t blockTiles = kGradientRows / kTileRows;
  const int64_t tiles = (rows + kTileRows - 1) / kTileRows;
  const int64_t blocks = (tiles + blockTiles - 1) / blockTiles;
  for (int64_t b = 0; b < blocks; ++b) {
    int64_t begin = tile.rowBegin + tiles * b / blocks * kTileRows;
    int64_t end = tile.rowBegin + tiles * (b + 1) / blocks * kTileRows;
    multiplyRows<W>(a, tile, begin, least(end, rowEnd), packed);
  }
}

} // namespace

void linear_input_gradient(const uint64_t* words, const LlmrtTile* tile,
                           void* scratch) {
  const auto a = readArgs<LinearInputGradientArgs>(words);
  float* packed = static_cast<float*>(scratch);
  if (tile->rowBegin >= least(tile->rowEnd, a.rows))
    return;
  if (a.dtype == static_cast<int64_t>(DType::F32))
    return multiplyTile<float>(a, *tile, packed);
  multiplyTile<BF16>(a, *tile, packed);
}

} // namespace llmrt::LLMRT_LEVEL
