// SPDX-License-Identifier: Apache-2.0
// Rows of heads rounded to bf16 in the scratch of a launch, by a launch before
// it, as blocks of 64 rows in panels: what attention_rows and
// attention_gradient on sm_90a bring to shared memory by bulk copies, as often
// as blocks need it. A block is of one head of one sequence; there are as many
// as the sequence takes, with zeros behind its last row.
#pragma once

#include "runtime/kernels/cuda/Panels.cuh"

namespace llmrt::cuda {

inline constexpr int kRoundedRows = 64; // of a block

/// Rounded heads of some kind.
struct RoundedHeads {
  BF16* blocks; // [sequences, heads, numBlocks] of 64 x P elements
  int64_t heads;
  int64_t numBlocks; // of a sequence
  int64_t P;         // elements of a row: panels

  __device__ BF16* block(int64_t sequence, int64_t head, int64_t block) const {
    return blocks +
           ((sequence * heads + head) * numBlocks + block) * kRoundedRows * P;
  }

  /// Of `sequences` sequences.
  __device__ int64_t elements(int64_t sequences) const {
    return sequences * heads * numBlocks * kRoundedRows * P;
  }
};

/// Returns the elements of a head with padding, as the tensor core forms hold
/// it.
__device__ inline int64_t paddedHead(int64_t D) {
  return D <= 64 ? 64 : D <= 128 ? 128 : 256;
}

__device__ inline int64_t roundedBlocks(int64_t R) {
  return (R + kRoundedRows - 1) / kRoundedRows;
}

/// A row of a block that a block of threads rounds.
struct RoundedRow {
  int64_t sequence;
  int64_t index; // in the sequence
  int64_t row;   // of all; -1: behind the sequence, zeros
};

/// Returns row `gridRow` of sequences with all their blocks.
__device__ inline RoundedRow roundedRowAt(int64_t gridRow, int64_t R,
                                          int64_t rows) {
  const int64_t padded = roundedBlocks(R) * kRoundedRows;
  const int64_t sequence = gridRow / padded, index = gridRow % padded;
  const int64_t row = sequence * R + index;
  return {sequence, index, index < R && row < rows ? row : -1};
}

/// Lane i of a warp reads elements 8 i and on of D (at most 256), zeros behind
/// them.
__device__ inline void readEight(const float* x, int64_t D, int lane,
                                 float (&eight)[8]) {
  const int64_t d = lane * 8;
  if (d + 8 <= D && isAligned16(x)) {
    widenVector(load16(x + d), x, eight);
    widenVector(load16(x + d + 4), x, eight + 4);
    return;
  }
#pragma unroll
  for (int i = 0; i < 8; ++i)
    eight[i] = d + i < D ? x[d + i] : 0.0f;
}

/// Writes them, rounded (nearest even), as a row of head `head`.
__device__ inline void writeEight(const float (&eight)[8],
                                  const RoundedRow& row, int64_t head, int lane,
                                  const RoundedHeads& to) {
  if (lane * kPieceElements >= to.P)
    return;
  auto* block = reinterpret_cast<uint8_t*>(
      to.block(row.sequence, head, row.index / kRoundedRows));
  const int inBlock = static_cast<int>(row.index % kRoundedRows);
  *reinterpret_cast<uint4*>(block + pieceOffset(kRoundedRows, inBlock, lane)) =
      make_uint4(packBf16(eight[0], eight[1]), packBf16(eight[2], eight[3]),
                 packBf16(eight[4], eight[5]), packBf16(eight[6], eight[7]));
}

/// Rounds the heads of a row of x [rows, ld], of D elements each, a warp each.
__device__ inline void roundHeads(const float* x, int64_t ld, int64_t D,
                                  const RoundedRow& row,
                                  const RoundedHeads& to) {
  const int lane = threadIdx.x % kWarpLanes;
  for (int64_t head = threadIdx.x / kWarpLanes; head < to.heads;
       head += blockDim.x / kWarpLanes) {
    float eight[8] = {};
    if (row.row >= 0)
      readEight(x + row.row * ld + head * D, D, lane, eight);
    writeEight(eight, row, head, lane, to);
  }
}

} // namespace llmrt::cuda
