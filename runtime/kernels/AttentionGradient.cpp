// SPDX-License-Identifier: Apache-2.0
// attention_gradient: the gradients of attention_rows. Scores are computed
// again block by block from queries and keys, and weights from logSum:
//   p = exp(score - logSum); delta = sum of dout * out
//   ds = p * (dout . v - delta) * scale, with a soft-cap times 1 -
//   (score/cap)^2 dv += p dout; dk += ds q; dq += ds k
// For each key block, ascending, and each query head that reads its head: the
// query blocks that see it, ascending. One call does all of a sequence and
// key/value head, so that the order of sums is fixed.
//
// Constraints  as AttentionRows.cpp; out, logSum are its results. Scratch
// attentionGradientScratch() in Scratch.h. Source  Dao et al. 2022, Dao 2023
// (FlashAttention).
#include "runtime/kernels/AttentionStep.h"
#include "runtime/kernels/RoundedRows.h"
#include "runtime/kernels/Transpose.h"

namespace llmrt::LLMRT_LEVEL {
namespace {

constexpr int64_t kBlock = kPageTokens;
constexpr int64_t kStride = kAttentionStride;

/// One sequence and key/value head.
struct Call {
  AttentionGradientArgs args;
  AttentionGradientScratch parts;
  float* scratch;
  int64_t firstRow; // of the sequence
  int64_t kvHead;

  float* at(int64_t part) const { return scratch + part; }
};

/// Rows of a sequence that are packed together.
struct Rows {
  int64_t begin;
  int64_t count;
};

/// A block of queries and a block of keys. firstSeen, counted in the sequence,
/// is that of each query.
struct Pair {
  Rows queries;
  Rows keys;
  int64_t firstSeen[kBlock];
};

// ---- packed rows ----

// Rows of D elements as packed rows, filled up with zeros to whole vectors.
void packRows(const float* x, int64_t ldx, int64_t rows, int64_t D,
              float* packed) {
  for (int64_t r = 0; r < rows; ++r)
    for (int64_t d = 0; d < D; d += kAttentionBlock) {
      const int64_t count = least(kAttentionBlock, D - d);
      float* to = packed + (d / kAttentionBlock * kBlock + r) * kStride;
      __builtin_memcpy(to, x + r * ldx + d, count * sizeof(float));
      for (int64_t i = count; i < roundUp(count, kLanes); ++i)
        to[i] = 0.0f;
    }
}

void roundRows(int64_t rows, int64_t D, float* packed) {
  for (int64_t r = 0; r < rows; ++r)
    for (int64_t d = 0; d < D; d += kAttentionBlock) {
      float* row = packed + (d / kAttentionBlock * kBlock + r) * kStride;
      roundToBf16(row, least(kAttentionBlock, D - d), row);
    }
}

// turned[d][t] = x[t][d], zeros for tokens that there are not.
void turnRows(const float* x, int64_t ldx, int64_t rows, int64_t D, bool narrow,
              float* turned) {
  transposeBlock(x, rows, D, ldx, turned, kBlock);
  for (int64_t d = 0; d < D && rows < kBlock; ++d)
    for (int64_t t = rows; t < kBlock; ++t)
      turned[d * kBlock + t] = 0.0f;
  if (narrow)
    roundToBf16(turned, D * kBlock, turned);
}

void clearRows(float* x, int64_t ldx, int64_t rows, int64_t D) {
  for (int64_t r = 0; r < rows; ++r)
    __builtin_memset(x + r * ldx, 0, D * sizeof(float));
}

// ---- products of a pair ----

// out[q][t] = packed rows times turned rows, for the tokens that each register
// tile of queries can see.
void multiplyTurned(const Call& call, const Pair& pair, const float* packed,
                    const float* turned, float* out) {
  const int64_t D = call.args.D;
  for (int64_t r = 0; r < pair.queries.count; r += kTileRows) {
    const int64_t rows = least(kTileRows, pair.queries.count - r);
    const int64_t seen = pair.queries.begin + r + rows - pair.keys.begin;
    const int64_t cols = least(kBlock, roundUp(seen, 2 * kLanes));
    for (int64_t d = 0; d < D && seen > 0; d += kAttentionBlock)
      productCols<kStride>(
          rows, cols, packed + (d / kAttentionBlock * kBlock + r) * kStride,
          turned + d * kBlock, kBlock, least(kAttentionBlock, D - d),
          out + r * kStride, kStride, d > 0);
  }
}

// sums[m][d] += sum over i in [begin, end) of a[m][i] * packed[i][d].
void addProduct(const Call& call, int64_t rows, const float* a, int64_t begin,
                int64_t end, const float* packed, float* sums, int64_t stride) {
  const int64_t D = roundUp(call.args.D, kLanes);
  for (int64_t d = 0; d < D && begin < end; d += kAttentionBlock)
    productCols<kStride>(rows, least(kAttentionBlock, D - d), a + begin,
                         packed +
                             (d / kAttentionBlock * kBlock + begin) * kStride,
                         kStride, end - begin, sums + d, stride, true);
}

// sums[t] += turned[t] times the packed rows of queries, from the first query
// that sees the register tile of keys.
void addToKeys(const Call& call, const Pair& pair, const float* turned,
               const float* packed, float* sums) {
  const int64_t stride = call.parts.accStride;
  for (int64_t t = 0; t < pair.keys.count; t += kTileRows)
    addProduct(call, least(kTileRows, pair.keys.count - t),
               turned + t * kStride,
               greatest(pair.keys.begin + t - pair.queries.begin, 0),
               pair.queries.count, packed, sums + t * stride, stride);
}

// dq += ds times keys.
void addToQueries(const Call& call, const Pair& pair, int64_t head) {
  const AttentionGradientArgs& a = call.args;
  const bool whole = a.D % kLanes == 0;
  float* dq = a.dq + (call.firstRow + pair.queries.begin) * a.lddq + head * a.D;
  float* sums = whole ? dq : call.at(call.parts.dq);
  const int64_t stride = whole ? a.lddq : call.parts.accStride;
  for (int64_t r = 0; r < pair.queries.count && !whole; ++r)
    __builtin_memcpy(sums + r * stride, dq + r * a.lddq, a.D * sizeof(float));
  for (int64_t r = 0; r < pair.queries.count; r += kTileRows) {
    const int64_t rows = least(kTileRows, pair.queries.count - r);
    const int64_t seen = pair.queries.begin + r + rows - pair.keys.begin;
    addProduct(call, rows, call.at(call.parts.ds) + r * kStride, 0,
               least(seen, pair.keys.count), call.at(call.parts.keys),
               sums + r * stride, stride);
  }
  for (int64_t r = 0; r < pair.queries.count && !whole; ++r)
    __builtin_memcpy(dq + r * a.lddq, sums + r * stride, a.D * sizeof(float));
}

// ---- weights and their gradients ----

// Scores and dout . v of one query become p and ds, 0 where it does not see.
void differentiateRow(const Call& call, const Pair& pair, int64_t i,
                      float logSum, float delta) {
  const AttentionGradientArgs& a = call.args;
  float* p = call.at(call.parts.p) + i * kStride;
  float* ds = call.at(call.parts.ds) + i * kStride;
  const Vec scale = splat(static_cast<float>(a.scale));
  const Vec cap = splat(static_cast<float>(a.softcap));
  const int64_t begin =
      greatest(least(pair.firstSeen[i] - pair.keys.begin, kBlock), 0);
  const int64_t end =
      least(pair.queries.begin + i + 1 - pair.keys.begin, kBlock);
  const VecInt before = splatInt(static_cast<int>(begin));
  const VecInt behind = splatInt(static_cast<int>(end));
  for (int64_t t = 0; t < kBlock; t += kLanes) {
    Vec score = load(p + t) * scale;
    Vec slope = scale;
    if (a.softcap != 0.0) {
      Vec turned = tanhVec(score / cap);
      score = cap * turned;
      slope = scale * (splat(1.0f) - turned * turned);
    }
    Vec weight = expVec(score - splat(logSum));
    Vec gradient = weight * (load(ds + t) - splat(delta)) * slope;
    const VecInt lane = addInt(laneIndex(), splatInt(static_cast<int>(t)));
    weight = ifLessInt(lane, before, zero(), weight);
    gradient = ifLessInt(lane, before, zero(), gradient);
    store(p + t, ifLessInt(lane, behind, weight, zero()));
    store(ds + t, ifLessInt(lane, behind, gradient, zero()));
  }
}

void turnSquare(const float* square, int64_t rows, float* turned) {
  transposeBlock(square, rows, kBlock, kStride, turned, kStride);
}

void addPair(const Call& call, const Pair& pair, int64_t head,
             const float* delta) {
  const AttentionGradientArgs& a = call.args;
  const AttentionGradientScratch& parts = call.parts;
  const int64_t row = call.firstRow + pair.queries.begin;
  packRows(a.q + row * a.ldq + head * a.D, a.ldq, pair.queries.count, a.D,
           call.at(parts.queries));
  packRows(a.dout + row * a.lddo + head * a.D, a.lddo, pair.queries.count, a.D,
           call.at(parts.dout));
  multiplyTurned(call, pair, call.at(parts.queries), call.at(parts.keysTurned),
                 call.at(parts.p));
  multiplyTurned(call, pair, call.at(parts.dout), call.at(parts.valuesTurned),
                 call.at(parts.ds));
  for (int64_t i = 0; i < pair.queries.count; ++i)
    differentiateRow(call, pair, i, a.logSum[(row + i) * a.H + head],
                     delta[pair.queries.begin + i]);
  turnSquare(call.at(parts.p), pair.queries.count, call.at(parts.pTurned));
  turnSquare(call.at(parts.ds), pair.queries.count, call.at(parts.dsTurned));
  addToKeys(call, pair, call.at(parts.pTurned), call.at(parts.dout),
            call.at(parts.dv));
  addToKeys(call, pair, call.at(parts.dsTurned), call.at(parts.queries),
            call.at(parts.dk));
  addToQueries(call, pair, head);
}

// ---- blocks ----

// Takes the queries of a pair; returns whether one of them sees one of the
// keys.
bool takeQueries(const Call& call, Pair& pair, int64_t begin) {
  const AttentionGradientArgs& a = call.args;
  pair.queries = {begin, least(kBlock, a.R - begin)};
  int64_t earliest = a.R;
  for (int64_t i = 0; i < pair.queries.count; ++i) {
    int64_t first = a.starts ? a.starts[call.firstRow + begin + i] : 0;
    if (a.window > 0)
      first = greatest(first, begin + i - a.window + 1);
    pair.firstSeen[i] = first;
    earliest = least(earliest, first);
  }
  return earliest < pair.keys.begin + pair.keys.count;
}

// Turns and packs the keys of a pair and clears their sums.
void beginKeys(const Call& call, Rows keys) {
  const AttentionGradientArgs& a = call.args;
  const AttentionGradientScratch& parts = call.parts;
  const int64_t row = call.firstRow + keys.begin;
  const float* k = a.k + row * a.ldk + call.kvHead * a.D;
  const float* v = a.v + row * a.ldv + call.kvHead * a.D;
  const bool narrow = a.dtype != static_cast<int64_t>(DType::F32);
  turnRows(k, a.ldk, keys.count, a.D, narrow, call.at(parts.keysTurned));
  turnRows(v, a.ldv, keys.count, a.D, narrow, call.at(parts.valuesTurned));
  packRows(k, a.ldk, keys.count, a.D, call.at(parts.keys));
  if (narrow)
    roundRows(keys.count, a.D, call.at(parts.keys));
  clearRows(call.at(parts.dk), parts.accStride, keys.count, parts.accStride);
  clearRows(call.at(parts.dv), parts.accStride, keys.count, parts.accStride);
}

void endKeys(const Call& call, Rows keys) {
  const AttentionGradientArgs& a = call.args;
  const int64_t row = call.firstRow + keys.begin, col = call.kvHead * a.D;
  for (int64_t t = 0; t < keys.count; ++t) {
    const int64_t from = t * call.parts.accStride;
    __builtin_memcpy(a.dk + (row + t) * a.lddk + col,
                     call.at(call.parts.dk) + from, a.D * sizeof(float));
    __builtin_memcpy(a.dv + (row + t) * a.lddv + col,
                     call.at(call.parts.dv) + from, a.D * sizeof(float));
  }
}

// delta of all rows of a head; also clears their dq.
void beginHead(const Call& call, int64_t head, float* delta) {
  const AttentionGradientArgs& a = call.args;
  for (int64_t i = 0; i < a.R; ++i) {
    const int64_t row = call.firstRow + i;
    const float* out = a.out + row * a.ldo + head * a.D;
    const float* dout = a.dout + row * a.lddo + head * a.D;
    Vec sum = zero();
    int64_t d = 0;
    for (; d + kLanes <= a.D; d += kLanes)
      sum = fma(load(dout + d), load(out + d), sum);
    delta[i] = sumLanes(sum);
    for (; d < a.D; ++d)
      delta[i] += dout[d] * out[d];
  }
  clearRows(a.dq + call.firstRow * a.lddq + head * a.D, a.lddq, a.R, a.D);
}

void differentiate(const Call& call) {
  const AttentionGradientArgs& a = call.args;
  // The first query head that reads this key/value head.
  int64_t headBegin = 0;
  while (headBegin < a.H && kvHeadOf(headBegin, a) < call.kvHead)
    ++headBegin;
  const int64_t headEnd = kvHeadEnd(call.kvHead, a);
  for (int64_t h = headBegin; h < headEnd; ++h)
    beginHead(call, h, call.at(call.parts.delta) + h * a.R);
  Pair pair;
  for (int64_t t = 0; t < a.R; t += kBlock) {
    pair.keys = {t, least(kBlock, a.R - t)};
    beginKeys(call, pair.keys);
    for (int64_t h = headBegin; h < headEnd; ++h)
      for (int64_t i = t; i < a.R; i += kBlock)
        if (takeQueries(call, pair, i))
          addPair(call, pair, h, call.at(call.parts.delta) + h * a.R);
    endKeys(call, pair.keys);
  }
}

} // namespace

void attention_gradient(const uint64_t* words, const LlmrtTile* tile,
                        void* scratch) {
  Call call;
  call.args = readArgs<AttentionGradientArgs>(words);
  const AttentionGradientArgs& a = call.args;
  call.parts = attentionGradientScratch(a.D, a.R, a.H);
  call.scratch = static_cast<float*>(scratch);
  for (int64_t s = tile->rowBegin; s < least(tile->rowEnd, a.sequences); ++s)
    for (int64_t h = tile->colBegin; h < least(tile->colEnd, a.KV); ++h) {
      call.firstRow = s * a.R;
      call.kvHead = h;
      differentiate(call);
    }
}

} // namespace llmrt::LLMRT_LEVEL
