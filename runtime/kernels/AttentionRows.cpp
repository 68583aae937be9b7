// SPDX-License-Identifier: Apache-2.0
// attention_rows: causal grouped-query attention of whole sequences on their
// own keys and values, without a cache. Blocks of kPageTokens keys, aligned to
// the row's index in its sequence, are turned (and rounded to dtype) once for
// all queries of a pass; each query then takes the steps of `attention`.
//
// Constraints  dtype f32 or bf16; any D; 0 <= starts[i] <= i (index in the
// sequence). Scratch  attentionScratch() in Scratch.h. Source  as
// Attention.cpp.
#include "runtime/kernels/AttentionStep.h"
#include "runtime/kernels/RoundedRows.h"
#include "runtime/kernels/Transpose.h"

namespace llmrt::LLMRT_LEVEL {
namespace {

/// Queries of one sequence and key/value head that read each block together.
struct Pass {
  AttentionRowsArgs args;
  Scoring scoring;
  float* keys;
  float* values;
  int64_t firstRow; // of the sequence
  int64_t kvHead;
  int64_t count; // groups in use
  QueryGroup groups[kPassGroups];
};

// Rows of block b, turned and rounded.
KeyBlock<float> packBlock(const Pass& pass, int64_t b) {
  const AttentionRowsArgs& a = pass.args;
  const int64_t tokens = least(kPageTokens, a.R - b * kPageTokens);
  const int64_t row = pass.firstRow + b * kPageTokens;
  const float* k = a.k + row * a.ldk + pass.kvHead * a.D;
  const float* v = a.v + row * a.ldv + pass.kvHead * a.D;
  transposeBlock(k, tokens, a.D, a.ldk, pass.keys, kPageTokens);
  // Nobody sees what follows the last row, but it is multiplied.
  for (int64_t d = 0; d < a.D && tokens < kPageTokens; ++d)
    for (int64_t t = tokens; t < kPageTokens; ++t)
      pass.keys[d * kPageTokens + t] = 0.0f;
  if (a.dtype == static_cast<int64_t>(DType::F32))
    return {pass.keys, v, a.ldv};
  roundToBf16(pass.keys, a.D * kPageTokens, pass.keys);
  for (int64_t t = 0; t < tokens; ++t)
    roundToBf16(v + t * a.ldv, a.D, pass.values + t * a.D);
  return {pass.keys, pass.values, a.D};
}

void attendPass(Pass& pass) {
  int64_t blockBegin = pass.args.R / kPageTokens, blockEnd = 0;
  for (int64_t j = 0; j < pass.count; ++j) {
    QueryGroup& g = pass.groups[j];
    g.begin();
    for (int64_t i = 0; i < g.count; ++i) {
      blockBegin = least(blockBegin, g.first[i] / kPageTokens);
      blockEnd = greatest(blockEnd, g.last[i] / kPageTokens + 1);
    }
  }
  for (int64_t b = blockBegin; b < blockEnd; ++b) {
    const KeyBlock<float> block = packBlock(pass, b);
    for (int64_t j = 0; j < pass.count; ++j)
      stepGroup(pass.scoring, pass.groups[j], b,
                [&](int64_t) { return block; });
  }
  for (int64_t j = 0; j < pass.count; ++j)
    pass.groups[j].finish(pass.args.D);
  pass.count = 0;
}

void addQuery(Pass& pass, int64_t row, int64_t head) {
  const AttentionRowsArgs& a = pass.args;
  if (pass.count > 0 && pass.groups[pass.count - 1].count < kTileRows)
    --pass.count;
  if (pass.count == kPassGroups)
    attendPass(pass);
  const int64_t i = row - pass.firstRow;
  int64_t first = a.starts ? a.starts[row] : 0;
  if (a.window > 0)
    first = greatest(first, i - a.window + 1);
  pass.groups[pass.count++].add(a.q + row * a.ldq + head * a.D, a.D, first, i,
                                a.out + row * a.ldo + head * a.D,
                                a.logSum + row * a.H + head);
}

} // namespace

void attention_rows(const uint64_t* words, const LlmrtTile* tile,
                    void* scratch) {
  Pass pass;
  pass.args = readArgs<AttentionRowsArgs>(words);
  const AttentionRowsArgs& a = pass.args;
  const AttentionScratch parts = attentionScratch(a.D, kPassGroups, 1);
  float* floats = static_cast<float*>(scratch);
  pass.scoring = {a.D, a.scale, a.softcap};
  pass.keys = floats + parts.keys;
  pass.values = floats + parts.values;
  pass.count = 0;
  for (int64_t j = 0; j < kPassGroups; ++j) {
    QueryGroup& g = pass.groups[j];
    g.packedQ = floats + parts.q + j * parts.qFloats;
    g.weights = floats + parts.p;
    g.sums = floats + parts.acc + j * kMaxTileRows * parts.accStride;
    g.tail = floats + parts.tail;
    g.accStride = parts.accStride;
  }
  const int64_t rowEnd = least(tile->rowEnd, a.rows);
  const int64_t headEnd = least(tile->colEnd, a.H);
  for (int64_t row = tile->rowBegin; row < rowEnd;) {
    pass.firstRow = row / a.R * a.R;
    const int64_t sequenceEnd = least(rowEnd, pass.firstRow + a.R);
    for (int64_t head = tile->colBegin; head < headEnd;) {
      pass.kvHead = kvHeadOf(head, a);
      const int64_t groupEnd = least(headEnd, kvHeadEnd(pass.kvHead, a));
      for (; head < groupEnd; ++head)
        for (int64_t r = row; r < sequenceEnd; ++r)
          addQuery(pass, r, head);
      attendPass(pass);
    }
    row = sequenceEnd;
  }
}

} // namespace llmrt::LLMRT_LEVEL
