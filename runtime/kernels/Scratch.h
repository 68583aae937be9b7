// SPDX-License-Identifier: Apache-2.0
// Scratch bytes that each hand-tuned kernel needs for one call by one thread:
// the workspace formulas of Kernels.def. The same at every CPU level, so that a
// plan's memory does not depend on the machine. Functions are static because
// sources of every CPU level include them: the linker must not merge the
// copies.
#pragma once

#include "runtime/kernels/TrainingKernelArgs.h"

namespace llmrt {

/// Reduction elements of one block of a product, and the distance between rows
/// of a packed block of x (not a multiple of the 4 KiB at which cache sets
/// alias).
inline constexpr int64_t kProductBlock = 2048;
inline constexpr int64_t kProductRowStride = kProductBlock + 16;
/// The most rows of x that `linear` packs at once (about half of a 1 MiB
/// second-level cache).
inline constexpr int64_t kLinearRowBlock = 70;
/// The most rows that `linear` packs whole.
inline constexpr int64_t kLinearFewRows = 16;
/// The most rows of one register tile at any level.
inline constexpr int64_t kMaxTileRows = 14;
/// Columns of one strip of a product: the width of an f32 panel.
inline constexpr int64_t kStripCols = 32;
/// The gradients of `linear`: reduction elements and rows of one packed block,
/// and the distance between its rows.
inline constexpr int64_t kGradientBlock = 1024;
inline constexpr int64_t kGradientRows = 140;
inline constexpr int64_t kGradientStride = kGradientBlock + 16;
/// Buckets of similar logits of `sample`.
inline constexpr int64_t kSampleBuckets = 1 << 14;
/// Scratch that a prologue or an epilogue of `linear` may use.
inline constexpr int64_t kSlotScratchBytes = 4096;

static inline constexpr int64_t roundUp(int64_t value, int64_t multiple) {
  return (value + multiple - 1) / multiple * multiple;
}

/// The parts of the scratch of `linear`, as byte offsets.
struct LinearScratch {
  int64_t packedX;      // see linearPackedFloats
  int64_t strip;        // RowMajor: [kProductBlock, kStripCols] f32
  int64_t prologueOut;  // [rows, K] f32
  int64_t prologueArgs; // [prologueWords]
  int64_t slot;         // kSlotScratchBytes
  int64_t totalBytes;
};

/// Few rows: [ceil(K / kProductBlock), rows, kProductRowStride]; more: one
/// block of rows and K, [min(rows, kLinearRowBlock), kProductRowStride].
static inline int64_t linearPackedFloats(int64_t rows, int64_t K) {
  int64_t few = rows < kLinearFewRows ? rows : kLinearFewRows;
  int64_t some = rows < kLinearRowBlock ? rows : kLinearRowBlock;
  int64_t whole = roundUp(K, kProductBlock) / kProductBlock * few;
  return (whole > some ? whole : some) * kProductRowStride;
}

static inline LinearScratch linearScratch(const LinearArgs& a) {
  LinearScratch s;
  s.packedX = 0;
  s.strip = s.packedX + roundUp(linearPackedFloats(a.rows, a.K) * 4, 64);
  const bool isPanel = a.layout == static_cast<int64_t>(WeightLayout::Panel);
  s.prologueOut = s.strip + (isPanel ? 0 : kProductBlock * kStripCols * 4);
  s.prologueArgs =
      s.prologueOut + (a.prologue ? roundUp(a.rows * a.K * 4, 64) : 0);
  s.slot = s.prologueArgs + (a.prologue ? roundUp(a.prologueWords * 8, 64) : 0);
  s.totalBytes = s.slot + kSlotScratchBytes;
  return s;
}

/// Floats of the packed rows of the gradients of `linear`, with room for whole
/// squares of a transposition; the strip [kGradientBlock, kStripCols] follows.
inline constexpr int64_t kGradientPackedFloats =
    (kGradientRows + 4) * kGradientStride;
inline constexpr int64_t kGradientScratchBytes =
    (kGradientPackedFloats + kGradientBlock * kStripCols) * 4;

/// The parts of the scratch of `attention`, as float offsets.
struct AttentionScratch {
  int64_t q;    // [ceil(D / kProductBlock), kMaxTileRows, kProductRowStride]
  int64_t p;    // [kMaxTileRows, kProductRowStride]: scores, then weights
  int64_t acc;  // [kMaxTileRows, accStride]
  int64_t tail; // [kPageTokens, 16]: the last columns of values
  int64_t accStride;
  int64_t totalBytes;
};

static inline AttentionScratch attentionScratch(int64_t D) {
  AttentionScratch s;
  constexpr int64_t rowsFloats = kMaxTileRows * kProductRowStride;
  s.q = 0;
  s.p = s.q + roundUp(D, kProductBlock) / kProductBlock * rowsFloats;
  s.acc = s.p + rowsFloats;
  s.accStride = roundUp(D, kStripCols);
  s.tail = s.acc + kMaxTileRows * s.accStride;
  s.totalBytes = (s.tail + kPageTokens * 16) * 4;
  return s;
}

static inline int64_t linearScratchBytes(const uint64_t* words) {
  return linearScratch(readArgs<LinearArgs>(words)).totalBytes;
}

static inline int64_t attentionScratchBytes(const uint64_t* words) {
  return attentionScratch(readArgs<AttentionArgs>(words).D).totalBytes;
}

static inline int64_t ropeAppendScratchBytes(const uint64_t* words) {
  return kPageTokens * readArgs<RopeAppendArgs>(words).D * 4;
}

static inline int64_t gradientScratchBytes(const uint64_t*) {
  return kGradientScratchBytes;
}

static inline int64_t sampleScratchBytes(const uint64_t* words) {
  return roundUp(kSampleBuckets * 8 + readArgs<SampleArgs>(words).V * 8, 64);
}

} // namespace llmrt
