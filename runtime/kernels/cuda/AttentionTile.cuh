// SPDX-License-Identifier: Apache-2.0
// What the forms of `attention` on CUDA share: which heads read a key/value
// head, which keys a query sees, and its score.
#pragma once

#include "runtime/kernels/TrainingKernelArgs.h"
#include "runtime/kernels/cuda/CachePages.cuh"

namespace llmrt::cuda {

inline constexpr float kNoScore = -1e30f; // below every score; e^ of it is 0

/// Returns the key/value head that a query head reads. Query heads that pad a
/// rank's share read its last one.
template <typename Args>
__device__ inline int64_t kvHeadOf(const Args& a, int64_t head) {
  return least((head + a.headOffset) / a.group, a.KV - 1);
}

/// Query heads [begin, end) that read a key/value head.
struct HeadRange {
  int64_t begin;
  int64_t end;
};

template <typename Args>
__device__ inline HeadRange headsOf(const Args& a, int64_t kvHead) {
  const int64_t begin = greatest(kvHead * a.group - a.headOffset, 0);
  const int64_t end = kvHead + 1 == a.KV
                          ? a.H
                          : least(a.H, (kvHead + 1) * a.group - a.headOffset);
  return {kvHead == 0 ? 0 : least(begin, a.H), greatest(end, 0)};
}

/// Returns the first position that a query at `position` sees.
__device__ inline int64_t firstSeen(const AttentionArgs& a, int64_t position) {
  return a.window > 0 ? greatest(position - a.window + 1, 0) : 0;
}

/// Returns the first row of its sequence that row `index` of it, `row` of all,
/// sees.
template <typename Args>
__device__ inline int64_t firstSeenRow(const Args& a, int64_t row,
                                       int64_t index) {
  const int64_t start = a.starts ? a.starts[row] : 0;
  return a.window > 0 ? greatest(start, index - a.window + 1) : start;
}

__device__ inline float scoreOf(float product, float scale, float softcap) {
  const float score = product * scale;
  return softcap == 0.0f ? score : softcap * tanhf(score / softcap);
}

/// Returns tanh(x), with an error of 2^-22.
__device__ inline float tanhApproximately(float x) {
  return 1.0f - 2.0f / (expOf(2.0f * x) + 1.0f);
}

/// Some rows of one sequence.
struct QueryTile {
  int64_t sequence;
  int64_t row;   // the first
  int64_t count; // with or without work
};

/// Returns the rows of a tile of a grid that cuts each sequence apart: into
/// tiles of `size` rows, the last of them shorter.
template <typename Args>
__device__ inline QueryTile queryTileAt(const Args& a, int64_t gridRow,
                                        int64_t size) {
  const int64_t tilesPerSequence = (a.R + size - 1) / size;
  const int64_t tile = gridRow / size;
  const int64_t sequence = tile / tilesPerSequence;
  const int64_t first = tile % tilesPerSequence * size;
  const int64_t row = sequence * a.R + first;
  return {sequence, row, least(least(size, a.R - first), a.rows - row)};
}

} // namespace llmrt::cuda
