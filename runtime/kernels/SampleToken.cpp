// SPDX-License-Identifier: Apache-2.0
// Chooses the next token of one sequence: filters, then one draw. A full sort of a
// large vocabulary would cost more than the whole model, so candidates are selected in
// growing batches until the filters are satisfied.
#include "runtime/kernels/SampleToken.h"

#include "runtime/base/Philox.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace llmrt {
namespace {

constexpr float kLowest = -std::numeric_limits<float>::infinity();

float logitAt(const SampleChoice& c, int64_t i) {
  return std::isnan(c.logits[i]) ? kLowest : c.logits[i];
}

int32_t largestLogit(const SampleChoice& c) {
  int32_t best = 0;
  float bestLogit = logitAt(c, 0);
  for (int64_t i = 1; i < c.V; ++i)
    if (c.logits[i] > bestLogit) {
      bestLogit = c.logits[i];
      best = static_cast<int32_t>(i);
    }
  return best;
}

double weightAt(const SampleChoice& c, float largest, int64_t i) {
  return std::exp((static_cast<double>(logitAt(c, i)) - largest) /
                  c.temperature);
}

double uniform(const SampleChoice& c) {
  PhiloxCounter words = philox4x32({static_cast<uint32_t>(c.sequenceId),
                                    static_cast<uint32_t>(c.position), 0, 0},
                                   philoxKey(static_cast<uint64_t>(c.seed)));
  return uniformFromWords(words[0], words[1]);
}

// Puts the `count` best of candidates [0, V) in order at the front.
void rankBest(const SampleChoice& c, int32_t* candidates, int64_t count) {
  auto better = [&](int32_t a, int32_t b) {
    float la = logitAt(c, a), lb = logitAt(c, b);
    return la != lb ? la > lb : a < b;
  };
  if (count < c.V)
    std::nth_element(candidates, candidates + count, candidates + c.V, better);
  std::sort(candidates, candidates + count, better);
}

// Returns how many of the best to keep so that their weight reaches topP of `total`,
// the weight of the first `limit`, ranking only as many as that takes.
int64_t reachTopP(const SampleChoice& c, float largest, int64_t limit,
                  double total, int32_t* candidates) {
  for (int64_t ranked = std::min<int64_t>(limit, 256);;
       ranked = std::min(limit, ranked * 8)) {
    rankBest(c, candidates, ranked);
    double sum = 0.0;
    for (int64_t i = 0; i < ranked; ++i) {
      sum += weightAt(c, largest, candidates[i]);
      if (sum >= static_cast<double>(c.topP) * total)
        return i + 1;
    }
    if (ranked == limit)
      return limit;
  }
}

// Leaves the kept candidates at the front, by index; returns their number.
int64_t filter(const SampleChoice& c, float largest, int32_t* candidates) {
  for (int64_t i = 0; i < c.V; ++i)
    candidates[i] = static_cast<int32_t>(i);
  int64_t kept = c.topK > 0 ? std::min<int64_t>(c.topK, c.V) : c.V;
  if (kept < c.V)
    rankBest(c, candidates, kept);
  if (c.topP < 1.0f) {
    double total = 0.0;
    for (int64_t i = 0; i < kept; ++i)
      total += weightAt(c, largest, candidates[i]);
    kept = reachTopP(c, largest, kept, total, candidates);
  }
  std::sort(candidates, candidates + kept);
  return kept;
}

} // namespace

int32_t sampleToken(const SampleChoice& c, int32_t* candidates) {
  int32_t best = largestLogit(c);
  float largest = logitAt(c, best);
  if (!(c.temperature > 0.0f) || !std::isfinite(largest) || c.topK == 1)
    return best;
  int64_t kept = filter(c, largest, candidates);
  double total = 0.0;
  for (int64_t i = 0; i < kept; ++i)
    total += weightAt(c, largest, candidates[i]);
  double goal = uniform(c) * total;
  double sum = 0.0;
  int32_t last = best;
  for (int64_t i = 0; i < kept; ++i) {
    double weight = weightAt(c, largest, candidates[i]);
    sum += weight;
    if (weight > 0.0)
      last = candidates[i];
    if (sum > goal)
      return last;
  }
  return last;
}

} // namespace llmrt
