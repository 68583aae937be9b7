// SPDX-License-Identifier: Apache-2.0
// linear: products of the rows of x with up to three weights. One to four rows
// read the weights as several streams at once; more rows are packed, so that a
// strip of weights is used from cache by all of them. Every path adds in the
// same order, so that a row's result does not depend on it.
//
// Constraints  dtype f32 or bf16; count 1..3; zip 1 needs count 2 and N0 = N1;
// tiles begin at multiples of 64 columns. Panel weights are padded to whole
// panels. Slots  a prologue and an epilogue may use kSlotScratchBytes of
// scratch. Epilogues see columns that begin at a multiple of a panel and end at
// one or at N; with zip, both products of a tile are finished before epilogue0
// and then epilogue1 run. Scratch  linearScratch() in Scratch.h.
#include "runtime/kernels/ProductTile.h"

namespace llmrt::LLMRT_LEVEL {
namespace {

/// The most rows that read weights as streams.
constexpr int64_t kStreamRows = 4;
/// Columns that are finished before their epilogue runs.
constexpr int64_t kEpilogueCols = 64;

/// One call: its arguments, rows and scratch.
struct Call {
  LinearArgs args;
  const float* x;
  int64_t ldx;
  int64_t rowBegin;
  int64_t rowEnd;
  int64_t panelCols;
  float* packedX;
  float* strip;
  void* slot;
};

void runEpilogue(const Call& call, const LinearWeight& weight, int64_t row,
                 int64_t rows, int64_t begin, int64_t end) {
  end = least(end, weight.N);
  if (!weight.epilogue || begin >= end)
    return;
  LlmrtTile tile{row, row + rows, begin, end};
  weight.epilogue(weight.epilogueArgs, &tile, call.slot);
}

// ---- few rows: weights as streams ----

// M rows times P panels side by side; each panel is a stream of its own.
template <int M, int P, int V, typename W>
LLMRT_INLINE void streamTile(const float* x, int64_t ldx, const W* w,
                             int64_t panelStride, int64_t K, Vec* out) {
  constexpr int64_t panelCols = kPanelBytes / sizeof(W);
  Vec sum[M][P][V];
#pragma GCC unroll 4
  for (int m = 0; m < M; ++m)
#pragma GCC unroll 4
    for (int p = 0; p < P; ++p)
#pragma GCC unroll 16
      for (int v = 0; v < V; ++v)
        sum[m][p][v] = zero();
  for (int64_t k = 0; k < K; ++k) {
#pragma GCC unroll 4
    for (int p = 0; p < P; ++p) {
      const W* line = w + p * panelStride + k * panelCols;
#pragma GCC unroll 8
      for (int v = 0; v < V; v += 2) {
        Vec b[2];
        loadPair(line + v * kLanes, b[0], b[1]);
#pragma GCC unroll 4
        for (int m = 0; m < M; ++m) {
          Vec a = splat(x[m * ldx + k]);
          sum[m][p][v] = fma(a, b[0], sum[m][p][v]);
          sum[m][p][v + 1] = fma(a, b[1], sum[m][p][v + 1]);
        }
      }
    }
  }
#pragma GCC unroll 4
  for (int m = 0; m < M; ++m)
#pragma GCC unroll 4
    for (int p = 0; p < P; ++p)
#pragma GCC unroll 8
      for (int v = 0; v < V; v += 2) {
        fromPairOrder(w, sum[m][p][v], sum[m][p][v + 1]);
        out[(m * P + p) * V + v] = sum[m][p][v];
        out[(m * P + p) * V + v + 1] = sum[m][p][v + 1];
      }
}

template <int M, int P, typename W>
void streamPanels(const Call& call, const LinearWeight& weight, int64_t row,
                  int64_t panel) {
  constexpr int64_t panelCols = kPanelBytes / sizeof(W);
  // A tile of at most 8 vectors of columns keeps its sums in 16 registers'
  // reach.
  constexpr int V = panelCols / kLanes < 8 ? panelCols / kLanes : 8;
  const int64_t panelStride = call.args.K * panelCols;
  const float* x = call.x + row * call.ldx;
  for (int64_t first = 0; first < panelCols; first += V * kLanes) {
    Vec sums[M * P * V];
    const W* w = static_cast<const W*>(weight.w) + panel * panelStride + first;
    streamTile<M, P, V>(x, call.ldx, w, panelStride, call.args.K, sums);
    for (int m = 0; m < M; ++m)
      for (int p = 0; p < P; ++p)
        for (int v = 0; v < V; ++v) {
          int64_t col = (panel + p) * panelCols + first + v * kLanes;
          if (col < weight.N)
            storePart(weight.y + (row + m) * weight.ldy + col,
                      sums[(m * P + p) * V + v], weight.N - col);
        }
  }
}

template <int M, typename W>
void streamRows(const Call& call, const LinearWeight& weight, int64_t row,
                int64_t begin, int64_t end) {
  constexpr int64_t panelCols = kPanelBytes / sizeof(W);
  constexpr int V = panelCols / kLanes;
  // As many panels at once as leave the sums in registers: 24 of 32, or 8
  // of 16.
  constexpr int budget = (kLanes == 16 ? 24 : 8) / (M * V);
  constexpr int P = budget >= 4 ? 4 : budget >= 2 ? 2 : 1;
  int64_t panel = begin / panelCols;
  int64_t panelEnd = (end + panelCols - 1) / panelCols;
  for (; panel + P <= panelEnd; panel += P)
    streamPanels<M, P, W>(call, weight, row, panel);
  for (; panel < panelEnd; ++panel)
    streamPanels<M, 1, W>(call, weight, row, panel);
}

template <typename W>
void streamWeight(const Call& call, const LinearWeight& weight, int64_t begin,
                  int64_t end) {
  end = least(end, weight.N);
  if (begin >= end)
    return;
  switch (call.rowEnd - call.rowBegin) {
  case 1:
    return streamRows<1, W>(call, weight, call.rowBegin, begin, end);
  case 2:
    return streamRows<2, W>(call, weight, call.rowBegin, begin, end);
  case 3:
    return streamRows<3, W>(call, weight, call.rowBegin, begin, end);
  case 4:
    return streamRows<4, W>(call, weight, call.rowBegin, begin, end);
  }
}

// ---- more rows: packed blocks ----

void packRows(const Call& call, int64_t row, int64_t rows, int64_t kBegin,
              int64_t kCount, float* packed) {
  for (int64_t r = 0; r < rows; ++r)
    __builtin_memcpy(packed + r * kProductRowStride,
                     call.x + (row + r) * call.ldx + kBegin, kCount * 4);
}

template <typename W>
void transposeStrip(const W* w, int64_t K, int64_t cols, int64_t kCount,
                    float* out) {
  for (int64_t c = 0; c < kStripCols; ++c)
    for (int64_t k = 0; k < kCount; ++k)
      out[k * kStripCols + c] = c < cols ? widen(w[c * K + k]) : 0.0f;
}

/// Packed rows of x and the part of K that they hold.
struct Block {
  const float* packed;
  int64_t row;
  int64_t rows;
  int64_t kBegin;
  int64_t kCount;
};

// All packed rows times one strip.
template <typename W>
void multiplyStrip(const LinearWeight& weight, const Block& block, const W* w,
                   int64_t wStride, int64_t col) {
  productStrip(block.packed, block.rows, w, wStride, block.kCount,
               weight.y + block.row * weight.ldy + col, weight.ldy,
               least(kStripCols, weight.N - col), block.kBegin > 0);
}

// Columns [begin, end) of a weight, at most kEpilogueCols of them.
template <typename W>
void multiplyBlock(const Call& call, const LinearWeight& weight,
                   const Block& block, int64_t begin, int64_t end) {
  constexpr int64_t panelCols = kPanelBytes / sizeof(W);
  const W* all = static_cast<const W*>(weight.w);
  const int64_t K = call.args.K;
  for (int64_t col = begin; col < least(end, weight.N); col += kStripCols) {
    if (call.args.layout == static_cast<int64_t>(WeightLayout::RowMajor)) {
      transposeStrip(all + col * K + block.kBegin, K, weight.N - col,
                     block.kCount, call.strip);
      multiplyStrip(weight, block, call.strip, kStripCols, col);
      continue;
    }
    const W* w = all + (col / panelCols * K + block.kBegin) * panelCols +
                 col % panelCols;
    multiplyStrip(weight, block, w, panelCols, col);
  }
}

// So few rows that all of them are packed at once, and each panel is read in
// one go.
template <typename W>
void blockFewRows(const Call& call, const LinearWeight* weights, int count,
                  int64_t begin, int64_t end) {
  const int64_t K = call.args.K;
  Block block{nullptr, call.rowBegin, call.rowEnd - call.rowBegin, 0, 0};
  auto blockAt = [&](int64_t k) {
    block.packed =
        call.packedX + k / kProductBlock * block.rows * kProductRowStride;
    block.kBegin = k;
    block.kCount = least(kProductBlock, K - k);
    return const_cast<float*>(block.packed);
  };
  for (int64_t k = 0; k < K; k += kProductBlock) {
    float* packed = blockAt(k);
    packRows(call, block.row, block.rows, k, block.kCount, packed);
  }
  for (int64_t col = begin; col < end; col += kEpilogueCols) {
    int64_t colEnd = least(end, col + kEpilogueCols);
    for (int j = 0; j < count; ++j)
      for (int64_t k = 0; k < K; k += kProductBlock) {
        blockAt(k);
        multiplyBlock<W>(call, weights[j], block, col, colEnd);
      }
    for (int j = 0; j < count; ++j)
      runEpilogue(call, weights[j], block.row, block.rows, col, colEnd);
  }
}

// Rows and K in blocks, so that what is packed stays in the second-level cache.
// Row blocks are whole register tiles and of about one size: a small last one
// would read all weights for little work.
template <typename W>
void blockManyRows(const Call& call, const LinearWeight* weights, int count,
                   int64_t begin, int64_t end) {
  const int64_t K = call.args.K;
  const int64_t rows = call.rowEnd - call.rowBegin;
  const int64_t tiles = (rows + kTileRows - 1) / kTileRows;
  constexpr int64_t blockTiles = kLinearRowBlock / kTileRows;
  const int64_t blocks = (tiles + blockTiles - 1) / blockTiles;
  for (int64_t b = 0; b < blocks; ++b) {
    int64_t row = call.rowBegin + tiles * b / blocks * kTileRows;
    int64_t rowEnd = least(call.rowBegin + tiles * (b + 1) / blocks * kTileRows,
                           call.rowEnd);
    for (int64_t k = 0; k < K; k += kProductBlock) {
      Block block{call.packedX, row, rowEnd - row, k,
                  least(kProductBlock, K - k)};
      packRows(call, row, block.rows, k, block.kCount, call.packedX);
      for (int64_t col = begin; col < end; col += kEpilogueCols) {
        int64_t colEnd = least(end, col + kEpilogueCols);
        for (int j = 0; j < count; ++j)
          multiplyBlock<W>(call, weights[j], block, col, colEnd);
        for (int j = 0; j < count && k + block.kCount == K; ++j)
          runEpilogue(call, weights[j], row, block.rows, col, colEnd);
      }
    }
  }
}

// ---- one weight, or two zipped ----

template <typename W>
void multiplyWeights(const Call& call, const LinearWeight* weights, int count,
                     int64_t begin, int64_t end) {
  const int64_t rows = call.rowEnd - call.rowBegin;
  if (rows > kLinearFewRows)
    return blockManyRows<W>(call, weights, count, begin, end);
  if (rows > kStreamRows ||
      call.args.layout == static_cast<int64_t>(WeightLayout::RowMajor))
    return blockFewRows<W>(call, weights, count, begin, end);
  for (int j = 0; j < count; ++j)
    streamWeight<W>(call, weights[j], begin, end);
  for (int j = 0; j < count; ++j)
    runEpilogue(call, weights[j], call.rowBegin, rows, begin, end);
}

template <typename W>
void multiplyTile(const Call& call, const LlmrtTile& tile) {
  const LinearArgs& a = call.args;
  if (a.zip) {
    multiplyWeights<W>(call, a.weights, 2, tile.colBegin,
                       least(tile.colEnd, a.weights[0].N));
    return;
  }
  int64_t offset = 0;
  for (int64_t j = 0; j < a.count; ++j) {
    const LinearWeight& weight = a.weights[j];
    int64_t begin = greatest(tile.colBegin - offset, 0);
    int64_t end = least(tile.colEnd - offset, weight.N);
    if (begin < end)
      multiplyWeights<W>(call, &weight, 1, begin, end);
    offset += roundUp(weight.N, call.panelCols);
  }
}

// Runs the prologue for the tile's rows and points the call's x at its result.
void runPrologue(Call& call, char* scratch, const LinearScratch& parts) {
  const LinearArgs& a = call.args;
  float* out = reinterpret_cast<float*>(scratch + parts.prologueOut);
  uint64_t* words = reinterpret_cast<uint64_t*>(scratch + parts.prologueArgs);
  __builtin_memcpy(words, a.prologueArgs, a.prologueWords * 8);
  words[a.prologueOut] = reinterpret_cast<uint64_t>(out);
  LlmrtTile tile{call.rowBegin, call.rowEnd, 0, a.K};
  a.prologue(words, &tile, call.slot);
  call.x = out;
  call.ldx = a.K;
}

} // namespace

void linear(const uint64_t* words, const LlmrtTile* tile, void* scratch) {
  Call call;
  call.args = readArgs<LinearArgs>(words);
  const LinearArgs& a = call.args;
  call.x = a.x;
  call.ldx = a.ldx;
  call.rowBegin = tile->rowBegin;
  call.rowEnd = least(tile->rowEnd, a.rows);
  if (call.rowBegin >= call.rowEnd)
    return;
  const bool isFloat = a.dtype == static_cast<int64_t>(DType::F32);
  call.panelCols = kPanelBytes / (isFloat ? 4 : 2);
  char* bytes = static_cast<char*>(scratch);
  LinearScratch parts = linearScratch(a);
  call.packedX = reinterpret_cast<float*>(bytes + parts.packedX);
  call.strip = reinterpret_cast<float*>(bytes + parts.strip);
  call.slot = bytes + parts.slot;
  if (a.prologue)
    runPrologue(call, bytes, parts);
  if (isFloat)
    return multiplyTile<float>(call, *tile);
  multiplyTile<BF16>(call, *tile);
}

} // namespace llmrt::LLMRT_LEVEL
