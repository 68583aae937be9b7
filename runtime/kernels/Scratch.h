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
/// The gradients of `linear`: reduction elements of one block, and the distance
/// between packed rows.
inline constexpr int64_t kGradientBlock = 512;
inline constexpr int64_t kGradientStride = kGradientBlock + 16;
/// The most packed rows of dy of linear_input_gradient.
inline constexpr int64_t kGradientRows = 256;
/// The most columns that linear_weight_gradient packs in tiles at once (whole
/// register tiles of 14), and strips.
inline constexpr int64_t kGradientTiledCols = 112;
inline constexpr int64_t kGradientStrips = 8;
/// Floats from one of these strips [kGradientBlock, kStripCols] to the next:
/// not a multiple of 4 KiB, as they are filled together.
inline constexpr int64_t kGradientStripStride =
    kGradientBlock * kStripCols + 2 * kStripCols;
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

/// Scratch of linear_input_gradient: packed rows, then one strip.
inline constexpr int64_t kInputGradientPackedFloats =
    kGradientRows * kGradientStride;
inline constexpr int64_t kInputGradientScratchBytes =
    (kInputGradientPackedFloats + kGradientBlock * kStripCols) * 4;

/// Scratch of linear_weight_gradient: tiles of columns, each line of floats a
/// power of two wide, with a spare row; then strips.
inline constexpr int64_t kWeightGradientPackedFloats =
    (kGradientTiledCols / 6 + 1) * 8 * (kGradientBlock + 1);
inline constexpr int64_t kWeightGradientScratchBytes =
    (kWeightGradientPackedFloats + kGradientStrips * kGradientStripStride) * 4;

/// Elements of D in one block of the packed rows of attention, and the distance
/// between rows of them and of scores.
inline constexpr int64_t kAttentionBlock = 256;
inline constexpr int64_t kAttentionStride = kAttentionBlock + 16;
/// Groups of queries that read a packed block of keys in one pass of
/// attention_rows.
inline constexpr int64_t kPassGroups = 10;

/// Floats of `rows` packed rows of D: [ceil(D / kAttentionBlock), rows,
/// kAttentionStride].
static inline int64_t packedRowFloats(int64_t rows, int64_t D) {
  return roundUp(D, kAttentionBlock) / kAttentionBlock * rows *
         kAttentionStride;
}

/// The parts of the scratch of `attention` and, with `groups` and a block of
/// keys and values, of attention_rows, as float offsets.
struct AttentionScratch {
  int64_t p;      // [kMaxTileRows, kAttentionStride]: scores, then weights
  int64_t tail;   // [kPageTokens, 16]: the last columns of values
  int64_t q;      // groups of packed rows [kMaxTileRows, D]
  int64_t acc;    // groups of [kMaxTileRows, accStride]
  int64_t keys;   // [D, kPageTokens]
  int64_t values; // [kPageTokens, D]
  int64_t qFloats;
  int64_t accStride;
  int64_t totalBytes;
};

static inline AttentionScratch attentionScratch(int64_t D, int64_t groups,
                                                int64_t blocks) {
  AttentionScratch s;
  s.qFloats = packedRowFloats(kMaxTileRows, D);
  s.accStride = roundUp(D, kStripCols);
  s.p = 0;
  s.tail = s.p + kMaxTileRows * kAttentionStride;
  s.q = s.tail + kPageTokens * 16;
  s.acc = s.q + groups * s.qFloats;
  s.keys = s.acc + groups * kMaxTileRows * s.accStride;
  s.values = s.keys + blocks * kPageTokens * D;
  s.totalBytes = (s.values + blocks * kPageTokens * D) * 4;
  return s;
}

/// The parts of the scratch of attention_gradient, as float offsets. Rows and
/// columns are those of one block of kPageTokens queries or keys.
struct AttentionGradientScratch {
  int64_t keysTurned;   // [D, kPageTokens]
  int64_t valuesTurned; // [D, kPageTokens]
  int64_t keys;         // packed rows
  int64_t queries;      // packed rows
  int64_t dout;         // packed rows
  int64_t p;            // [kPageTokens, kAttentionStride], and so on
  int64_t ds;
  int64_t pTurned;
  int64_t dsTurned;
  int64_t dq; // [kPageTokens, accStride], and so on
  int64_t dk;
  int64_t dv;
  int64_t delta; // [R, H]
  int64_t accStride;
  int64_t totalBytes;
};

static inline AttentionGradientScratch
attentionGradientScratch(int64_t D, int64_t R, int64_t H) {
  AttentionGradientScratch s;
  const int64_t packed = packedRowFloats(kPageTokens, D);
  constexpr int64_t square = kPageTokens * kAttentionStride;
  s.accStride = roundUp(D, kStripCols);
  s.keysTurned = 0;
  s.valuesTurned = s.keysTurned + kPageTokens * D;
  s.keys = s.valuesTurned + kPageTokens * D;
  s.queries = s.keys + packed;
  s.dout = s.queries + packed;
  s.p = s.dout + packed;
  s.ds = s.p + square;
  s.pTurned = s.ds + square;
  s.dsTurned = s.pTurned + square;
  s.dq = s.dsTurned + square;
  s.dk = s.dq + kPageTokens * s.accStride;
  s.dv = s.dk + kPageTokens * s.accStride;
  s.delta = s.dv + kPageTokens * s.accStride;
  s.totalBytes = roundUp((s.delta + R * H) * 4, 64);
  return s;
}

static inline int64_t linearScratchBytes(const uint64_t* words) {
  return linearScratch(readArgs<LinearArgs>(words)).totalBytes;
}

static inline int64_t attentionScratchBytes(const uint64_t* words) {
  return attentionScratch(readArgs<AttentionArgs>(words).D, 1, 0).totalBytes;
}

static inline int64_t attentionRowsScratchBytes(const uint64_t* words) {
  const auto a = readArgs<AttentionRowsArgs>(words);
  return attentionScratch(a.D, kPassGroups, 1).totalBytes;
}

static inline int64_t attentionGradientScratchBytes(const uint64_t* words) {
  const auto a = readArgs<AttentionGradientArgs>(words);
  return attentionGradientScratch(a.D, a.R, a.H).totalBytes;
}

static inline int64_t ropeAppendScratchBytes(const uint64_t* words) {
  return kPageTokens * readArgs<RopeAppendArgs>(words).D * 4;
}

static inline int64_t inputGradientScratchBytes(const uint64_t*) {
  return kInputGradientScratchBytes;
}

static inline int64_t weightGradientScratchBytes(const uint64_t*) {
  return kWeightGradientScratchBytes;
}

static inline int64_t sampleScratchBytes(const uint64_t* words) {
  return roundUp(kSampleBuckets * 8 + readArgs<SampleArgs>(words).V * 8, 64);
}

} // namespace llmrt
