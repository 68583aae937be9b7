// SPDX-License-Identifier: Apache-2.0
// The register tile that all products share: some rows of x times a
// strip of w, with the sums in registers. Every sum runs over k in ascending
// order with one fma each, so that no choice of tile changes a bit. For kernel
// sources only.
#pragma once

#include "runtime/kernels/Scratch.h"
#include "runtime/kernels/Simd.h"

namespace llmrt::LLMRT_LEVEL {

/// How many steps of k ahead weights are fetched: 2 KiB of a stream.
inline constexpr int64_t kPrefetchAhead = 48;

template <int64_t bytes>
LLMRT_INLINE void prefetchLines(const void* p) {
#pragma GCC unroll 4
  for (int64_t i = 0; i < bytes; i += 64)
    __builtin_prefetch(static_cast<const char*>(p) + i);
}

/// From one k to the next in x that is packed in tiles: the factors of one k
/// for kTileRows rows lie side by side, in one cache line.
inline constexpr int64_t kTileStep = (kTileRows + kLanes - 1) / kLanes * kLanes;

/// y[m][c] (+)= sum over k of x[m * xStride + k * xStep] * w[k * wStride + c],
/// for M rows and V vectors of columns. The constant row stride of x lets M
/// rows share one address register.
template <int M, int V, int64_t xStride, int64_t xStep = 1, typename W>
void productTile(const float* x, const W* w, int64_t wStride, int64_t K,
                 float* y, int64_t ldy, bool accumulate) {
  Vec sum[M][V];
#pragma GCC unroll 16
  for (int m = 0; m < M; ++m) {
#pragma GCC unroll 2
    for (int v = 0; v < V; ++v)
      sum[m][v] = accumulate ? load(y + m * ldy + v * kLanes) : zero();
    if constexpr (V == 2)
      toPairOrder(w, sum[m][0], sum[m][1]);
  }
  for (int64_t k = 0; k < K; ++k) {
    Vec b[V];
    prefetchLines<128>(w + kPrefetchAhead * wStride);
    if constexpr (V == 2)
      loadPair(w, b[0], b[1]);
    else
      b[0] = load(w);
#pragma GCC unroll 16
    for (int m = 0; m < M; ++m) {
      Vec a = splat(x[m * xStride]);
#pragma GCC unroll 2
      for (int v = 0; v < V; ++v)
        sum[m][v] = fma(a, b[v], sum[m][v]);
    }
    x += xStep;
    w += wStride;
  }
#pragma GCC unroll 16
  for (int m = 0; m < M; ++m) {
    if constexpr (V == 2)
      fromPairOrder(w, sum[m][0], sum[m][1]);
#pragma GCC unroll 2
    for (int v = 0; v < V; ++v)
      store(y + m * ldy + v * kLanes, sum[m][v]);
  }
}

/// productTile for M = 1..kTileRows known at run time.
template <int V, int64_t xStride = kProductRowStride, int64_t xStep = 1,
          typename W>
inline void productRows(int64_t M, const float* x, const W* w, int64_t wStride,
                        int64_t K, float* y, int64_t ldy, bool accumulate) {
  switch (M) {
#define LLMRT_ROWS(rows)                                                       \
  case rows:                                                                   \
    if constexpr (rows <= kTileRows)                                           \
      productTile<rows, V, xStride, xStep>(x, w, wStride, K, y, ldy,           \
                                           accumulate);                        \
    return;
    LLMRT_ROWS(1)
    LLMRT_ROWS(2)
    LLMRT_ROWS(3)
    LLMRT_ROWS(4)
    LLMRT_ROWS(5)
    LLMRT_ROWS(6)
    LLMRT_ROWS(7)
    LLMRT_ROWS(8)
    LLMRT_ROWS(9)
    LLMRT_ROWS(10)
    LLMRT_ROWS(11)
    LLMRT_ROWS(12)
    LLMRT_ROWS(13)
    LLMRT_ROWS(14)
#undef LLMRT_ROWS
  }
}

/// productRows for any number of columns that is a multiple of kLanes.
template <int64_t xStride = kProductRowStride, typename W>
inline void productCols(int64_t M, int64_t cols, const float* x, const W* w,
                        int64_t wStride, int64_t K, float* y, int64_t ldy,
                        bool accumulate) {
  int64_t c = 0;
  for (; c + 2 * kLanes <= cols; c += 2 * kLanes)
    productRows<2, xStride>(M, x, w + c, wStride, K, y + c, ldy, accumulate);
  if (c < cols)
    productRows<1, xStride>(M, x, w + c, wStride, K, y + c, ldy, accumulate);
}

/// Fetches a block of `rows` rows of `lines` cache lines into the second-level
/// cache, some rows at each call: what is needed after the current products.
struct BlockFetch {
  const char* next = nullptr;
  int64_t strideBytes = 0;
  int64_t lines = 0;
  int64_t rows = 0;
  int64_t rowsPerCall = 0;

  LLMRT_INLINE void operator()() {
    int64_t count = least(rows, rowsPerCall);
    rows -= count;
    for (; count > 0; --count, next += strideBytes)
      for (int64_t i = 0; i < lines; ++i)
        __builtin_prefetch(next + i * 64, 0, 2);
  }
};

/// productRows for any number of rows and at most kStripCols columns. Columns
/// that are left out of the last vector are computed, but not written. With
/// xStride 1, x is packed in tiles [rows / kTileRows, K + 1, kTileStep].
template <int64_t xStride = kProductRowStride, typename W>
void productStrip(const float* x, int64_t rows, const W* w, int64_t wStride,
                  int64_t K, float* y, int64_t ldy, int64_t cols,
                  bool accumulate, BlockFetch* fetch = nullptr) {
  constexpr int64_t xStep = xStride == 1 ? kTileStep : 1;
  for (int64_t c = 0; c < cols; c += 2 * kLanes)
    for (int64_t r = 0; r < rows; r += kTileRows) {
      if (fetch)
        (*fetch)();
      const int64_t tileRows = least(kTileRows, rows - r);
      const float* tileX =
          x +
          (xStride == 1 ? r / kTileRows * (K + 1) * kTileStep : r * xStride);
      float* tileY = y + r * ldy + c;
      // The next rows, meanwhile: nothing else hides how far their sums are.
      for (int64_t m = kTileRows; m < 2 * kTileRows; ++m) {
        prefetchLines<128>(tileY + m * ldy);
        if constexpr (xStride != 1)
          prefetchLines<64>(tileX + m * xStride);
      }
      if (c + 2 * kLanes <= cols) {
        productRows<2, xStride, xStep>(tileRows, tileX, w + c, wStride, K,
                                       tileY, ldy, accumulate);
        continue;
      }
      float whole[kTileRows * 2 * kLanes] = {};
      const int64_t valid = cols - c;
      for (int64_t m = 0; m < tileRows; ++m)
        for (int64_t i = 0; accumulate && i < valid; ++i)
          whole[m * 2 * kLanes + i] = tileY[m * ldy + i];
      productRows<2, xStride, xStep>(tileRows, tileX, w + c, wStride, K, whole,
                                     2 * kLanes, accumulate);
      for (int64_t m = 0; m < tileRows; ++m)
        for (int64_t i = 0; i < valid; ++i)
          tileY[m * ldy + i] = whole[m * 2 * kLanes + i];
    }
}

} // namespace llmrt::LLMRT_LEVEL
