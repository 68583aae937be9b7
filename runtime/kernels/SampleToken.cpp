// SPDX-License-Identifier: Apache-2.0
// Chooses the next token of one sequence: filters, then one draw. A sort of a
// large vocabulary would cost more than a small model. So both filters are
// thresholds in the ranking, found by sums over buckets of similar logits; only
// the bucket in which a threshold lies is sorted. Compiled once, at the
// baseline level.
#include "runtime/kernels/SampleToken.h"

#include "runtime/base/Philox.h"
#include "runtime/kernels/Scratch.h"
#include "runtime/kernels/VectorMath.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

namespace llmrt {
namespace {

using namespace LLMRT_LEVEL;

constexpr float kLowest = -std::numeric_limits<float>::infinity();
/// Logits whose largest is found at once.
constexpr int64_t kBlock = 256;

/// The last kept candidate: those that rank before it are kept too.
struct Threshold {
  float logit;
  int64_t index;
};

/// One choice, with the largest logit and every candidate's weight.
struct Draw {
  const SampleChoice& choice;
  float largest;
  double* buckets;     // [kSampleBuckets]
  float* weights;      // [V]
  int32_t* candidates; // [V]

  float logit(int64_t i) const {
    return std::isnan(choice.logits[i]) ? kLowest : choice.logits[i];
  }

  bool isBetter(int32_t a, int32_t b) const {
    float la = logit(a), lb = logit(b);
    return la != lb ? la > lb : a < b;
  }

  bool isKept(int64_t i, Threshold t) const {
    float l = logit(i);
    return l > t.logit || (l == t.logit && i <= t.index);
  }

  // Larger logits have no smaller buckets: the upper bits of an
  // order-preserving code. Adding 0 makes the two zeros, which are equal, one.
  int64_t bucket(int64_t i) const {
    uint32_t code = __builtin_bit_cast(uint32_t, logit(i) + 0.0f);
    code ^= code >> 31 ? 0xFFFFFFFF : 0x80000000;
    return static_cast<int64_t>(uint64_t{code} * kSampleBuckets >> 32);
  }
};

int32_t largestLogit(const SampleChoice& c) {
  int32_t best = 0;
  float bestLogit = kLowest;
  for (int64_t begin = 0; begin < c.V; begin += kBlock) {
    int64_t end = std::min(c.V, begin + kBlock);
    // A NaN is the first operand and lets the second through.
    Vec block = splat(kLowest);
    int64_t i = begin;
    for (; i + kLanes <= end; i += kLanes)
      block = vmax(load(c.logits + i), block);
    float largest = largestLane(block);
    for (; i < end; ++i)
      largest = c.logits[i] > largest ? c.logits[i] : largest;
    if (!(largest > bestLogit))
      continue;
    bestLogit = largest;
    best = static_cast<int32_t>(
        std::find(c.logits + begin, c.logits + end, largest) - c.logits);
  }
  return best;
}

void weigh(const Draw& d) {
  const SampleChoice& c = d.choice;
  const Vec largest = splat(d.largest), temperature = splat(c.temperature);
  auto weight = [&](const float* logits) {
    Vec x = vmax(load(logits), splat(kLowest)); // no NaN
    return expVec((x - largest) / temperature);
  };
  int64_t i = 0;
  for (; i + kLanes <= c.V; i += kLanes)
    store(d.weights + i, weight(c.logits + i));
  float rest[kLanes] = {};
  std::copy(c.logits + i, c.logits + c.V, rest);
  storePart(d.weights + i, weight(rest), c.V - i);
}

// Returns the threshold at which the sum of `measure` over the best of the
// candidates that `within` keeps reaches the goal.
template <typename Measure>
Threshold reach(const Draw& d, Threshold within, Measure measure, double goal) {
  // The best candidate is always kept, whatever the goal.
  goal = std::max(goal, std::numeric_limits<double>::min());
  std::fill(d.buckets, d.buckets + kSampleBuckets, 0.0);
  for (int64_t i = 0; i < d.choice.V; ++i)
    if (d.isKept(i, within))
      d.buckets[d.bucket(i)] += measure(i);
  double sum = 0.0;
  int64_t bucket = kSampleBuckets - 1;
  while (bucket > 0 && sum + d.buckets[bucket] < goal)
    sum += d.buckets[bucket--];
  int64_t count = 0;
  for (int64_t i = 0; i < d.choice.V; ++i)
    if (d.bucket(i) == bucket && d.isKept(i, within))
      d.candidates[count++] = static_cast<int32_t>(i);
  std::sort(d.candidates, d.candidates + count,
            [&](int32_t a, int32_t b) { return d.isBetter(a, b); });
  for (int64_t i = 0; i < count; ++i) {
    sum += measure(d.candidates[i]);
    if (sum >= goal)
      return {d.logit(d.candidates[i]), d.candidates[i]};
  }
  // Rounding left the sum of the parts a little short of the goal.
  return count > 0 ? Threshold{d.logit(d.candidates[count - 1]),
                               d.candidates[count - 1]}
                   : within;
}

double totalWeight(const Draw& d, Threshold kept) {
  double total = 0.0;
  for (int64_t i = 0; i < d.choice.V; ++i)
    if (d.isKept(i, kept))
      total += d.weights[i];
  return total;
}

// The same for the best `count`: a heap of few is hardly ever touched.
Threshold reachFew(const Draw& d, int64_t count) {
  std::iota(d.candidates, d.candidates + d.choice.V, 0);
  std::partial_sort(d.candidates, d.candidates + count,
                    d.candidates + d.choice.V,
                    [&](int32_t a, int32_t b) { return d.isBetter(a, b); });
  return {d.logit(d.candidates[count - 1]), d.candidates[count - 1]};
}

Threshold filter(const Draw& d) {
  const SampleChoice& c = d.choice;
  Threshold kept{kLowest, c.V};
  if (c.topK > 0 && c.topK <= c.V / 64)
    kept = reachFew(d, c.topK);
  else if (c.topK > 0 && c.topK < c.V)
    kept = reach(
        d, kept, [](int64_t) { return 1.0; }, c.topK);
  if (c.topP < 1.0f)
    kept = reach(
        d, kept, [&](int64_t i) { return double{d.weights[i]}; },
        double{c.topP} * totalWeight(d, kept));
  return kept;
}

double uniform(const SampleChoice& c) {
  PhiloxCounter words = philox4x32({static_cast<uint32_t>(c.sequenceId),
                                    static_cast<uint32_t>(c.position), 0, 0},
                                   philoxKey(static_cast<uint64_t>(c.seed)));
  return uniformFromWords(words[0], words[1]);
}

} // namespace

int32_t sampleToken(const SampleChoice& c, void* scratch) {
  int32_t best = largestLogit(c);
  auto* buckets = static_cast<double*>(scratch);
  auto* weights = reinterpret_cast<float*>(buckets + kSampleBuckets);
  Draw d{c, c.logits[best], buckets, weights,
         reinterpret_cast<int32_t*>(weights + c.V)};
  if (!(c.temperature > 0.0f) || !std::isfinite(d.largest) || c.topK == 1)
    return best;
  weigh(d);
  Threshold kept = filter(d);
  double goal = uniform(c) * totalWeight(d, kept);
  double sum = 0.0;
  int32_t last = best;
  for (int64_t i = 0; i < c.V; ++i) {
    if (d.weights[i] == 0.0f || !d.isKept(i, kept))
      continue;
    sum += d.weights[i];
    last = static_cast<int32_t>(i);
    if (sum > goal)
      return last;
  }
  return last;
}

} // namespace llmrt
