// SPDX-License-Identifier: Apache-2.0
// Chooses the next token of one sequence. Compiled once, for every CPU level:
// the choice from given logits is the same everywhere. Not a kernel: Sample.cpp
// is.
#pragma once

#include <cstdint>

namespace llmrt {

struct SampleChoice {
  const float* logits; // [V]
  int64_t V;
  float temperature; // 0 or less: the largest logit, lowest index first
  int32_t topK;      // 0 or less: all
  float topP;        // 1 or more: all
  int64_t seed;
  int32_t sequenceId;
  int32_t position;
};

/// Returns the chosen index. NaN counts as the lowest logit; a row without any
/// number gives 0. Order   candidates are ranked by logit, then by lower index;
/// the draw walks the kept
///         ones by index. Probabilities are exp((l - max) / temperature) in f32
///         (VectorMath.h), summed in double; below 1e-38 they are 0.
/// Random  Philox4x32-10, key seed, counter (sequenceId, position, 0, 0), the
/// first two
///         words as a 53-bit uniform.
/// Scratch kSampleBuckets f64, V f32 and V int32: sums, weights, candidates.
int32_t sampleToken(const SampleChoice& choice, void* scratch);

} // namespace llmrt
