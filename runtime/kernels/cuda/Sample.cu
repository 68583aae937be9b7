// SPDX-License-Identifier: Apache-2.0
// sample on CUDA: one block chooses the next token of one sequence. It makes
// the choice that SampleToken.h describes: the same weights to the bit, the
// same Philox block, and sums in double, in another order than on cpu (so that
// a choice differs only where a sum meets its goal within 2^-50).
//
// A filter keeps candidates down to a threshold in the ranking. Thresholds are
// found as the bits of an order-preserving code of the logit, three at a time
// from the highest: each step sums over all candidates. So there is no sort and
// no atomic.
//
// Scratch  weights f32 [S, V].    Constraints  V below 2^31.
#include "runtime/base/Philox.h"
#include "runtime/kernels/cuda/Cuda.cuh"

namespace llmrt::cuda {
namespace {

constexpr int kThreads = 512;
constexpr int kWarps = kThreads / kWarpLanes;
constexpr int kDigit = 3; // bits of the code that one step finds
constexpr int kSums = (1 << kDigit) - 1;
constexpr float kLowest = -__builtin_huge_valf();

struct Shared {
  double sums[kSums][kWarps];
  float logits[kWarps];
  int indices[kWarps];
  double goal;
  int chosen;
};

/// Candidates whose code is larger than `code`, and those of that code up to
/// `index`.
struct Threshold {
  uint32_t code;
  int index;
};

struct Draw {
  const float* logits;
  float* weights;
  int V;
  Shared& shared;

  __device__ float logit(int i) const {
    const float l = logits[i];
    return l == l ? l : kLowest; // NaN counts as the lowest
  }

  // Larger logits have larger codes; adding 0 makes the two zeros one.
  __device__ uint32_t code(int i) const {
    const uint32_t bits = bitsOfFloat(added(logit(i), 0.0f));
    return bits ^ (bits >> 31 ? 0xFFFFFFFFu : 0x80000000u);
  }

  __device__ bool isKept(int i, Threshold t) const {
    const uint32_t c = code(i);
    return c > t.code || (c == t.code && i <= t.index);
  }
};

__device__ inline int warpOf() { return threadIdx.x / kWarpLanes; }

__device__ inline int laneOf() { return threadIdx.x % kWarpLanes; }

// Adds `count` numbers of each thread over the block; every thread gets the
// sums.
template <int count>
__device__ inline void addOverBlock(Shared& shared, double (&x)[count]) {
  __syncthreads();
#pragma unroll
  for (int i = 0; i < count; ++i) {
    const double sum = sumOfLanes(x[i]);
    if (laneOf() == 0)
      shared.sums[i][warpOf()] = sum;
  }
  __syncthreads();
#pragma unroll
  for (int i = 0; i < count; ++i) {
    x[i] = 0.0;
    for (int w = 0; w < kWarps; ++w)
      x[i] += shared.sums[i][w];
  }
}

__device__ inline bool isBetter(float logit, int index, float other,
                                int otherIndex) {
  return logit > other || (logit == other && index < otherIndex);
}

__device__ inline int largestLogit(const Draw& d) {
  float best = kLowest;
  int index = static_cast<int>(threadIdx.x) < d.V ? threadIdx.x : 0;
  for (int i = threadIdx.x; i < d.V; i += kThreads)
    if (d.logit(i) > best) {
      best = d.logit(i);
      index = i;
    }
  for (int offset = kWarpLanes / 2; offset > 0; offset /= 2) {
    const float other = __shfl_xor_sync(0xFFFFFFFFu, best, offset);
    const int otherIndex = __shfl_xor_sync(0xFFFFFFFFu, index, offset);
    if (isBetter(other, otherIndex, best, index)) {
      best = other;
      index = otherIndex;
    }
  }
  if (laneOf() == 0) {
    d.shared.logits[warpOf()] = best;
    d.shared.indices[warpOf()] = index;
  }
  __syncthreads();
  best = d.shared.logits[0];
  index = d.shared.indices[0];
  for (int w = 1; w < kWarps; ++w)
    if (isBetter(d.shared.logits[w], d.shared.indices[w], best, index)) {
      best = d.shared.logits[w];
      index = d.shared.indices[w];
    }
  return index;
}

__device__ inline float twice(float a, float b, float c) {
  return added(multiplied(a, b), c);
}

// exp of VectorMath.h at the level of SampleToken.cpp (baseline), to the bit.
__device__ inline float weightOf(float x) {
  const float lowest = -87.33f;
  if (x < lowest)
    return 0.0f;
  const float shifted = twice(x, 1.44269504088896341f, 12582912.0f);
  const float n = added(shifted, -12582912.0f);
  float r = twice(n, -0.693359375f, x);
  r = twice(n, 2.12194440e-4f, r);
  float poly = 1.9875691500e-4f;
  poly = twice(poly, r, 1.3981999507e-3f);
  poly = twice(poly, r, 8.3334519073e-3f);
  poly = twice(poly, r, 4.1665795894e-2f);
  poly = twice(poly, r, 1.6666665459e-1f);
  poly = twice(poly, r, 5.0000001201e-1f);
  poly = added(twice(poly, multiplied(r, r), r), 1.0f);
  return floatOfBits(bitsOfFloat(poly) + (bitsOfFloat(shifted) << 23));
}

__device__ inline void weigh(const Draw& d, float largest, float temperature) {
  for (int i = threadIdx.x; i < d.V; i += kThreads)
    d.weights[i] = weightOf(added(d.logit(i), -largest) / temperature);
  __syncthreads();
}

/// What a filter adds up.
enum class Measure { Count, Weight };

__device__ inline double measureOf(const Draw& d, Measure measure, int i) {
  return measure == Measure::Count ? 1.0 : double{d.weights[i]};
}

__device__ inline double totalOf(const Draw& d, Measure measure,
                                 Threshold kept) {
  double sum[1] = {0.0};
  for (int i = threadIdx.x; i < d.V; i += kThreads)
    if (d.isKept(i, kept))
      sum[0] += measureOf(d, measure, i);
  addOverBlock(d.shared, sum);
  return sum[0];
}

// Returns the index of the candidate number `count`, from 1, of those of this
// code.
__device__ inline int indexOfTie(const Draw& d, uint32_t code, int count) {
  if (warpOf() == 0) {
    int before = 0;
    for (int begin = 0; begin < d.V && before < count; begin += kWarpLanes) {
      const int i = begin + laneOf();
      const int isTie = i < d.V && d.code(i) == code ? 1 : 0;
      int upTo = isTie;
      for (int offset = 1; offset < kWarpLanes; offset *= 2) {
        const int other = __shfl_up_sync(0xFFFFFFFFu, upTo, offset);
        upTo += laneOf() >= offset ? other : 0;
      }
      if (isTie && before + upTo == count)
        d.shared.chosen = i;
      before += __shfl_sync(0xFFFFFFFFu, upTo, kWarpLanes - 1);
    }
  }
  __syncthreads();
  return d.shared.chosen;
}

// Returns the threshold at which the sum over the best of the candidates that
// `within` keeps reaches the goal.
__device__ inline Threshold reach(const Draw& d, Threshold within,
                                  Measure measure, double goal) {
  goal = goal > 0.0 ? goal : 0x1p-1000; // the best is always kept
  uint32_t code = 0;
  double above = 0.0; // of candidates of larger codes than the threshold's
  for (int shift = 30; shift >= 0; shift -= kDigit) {
    double sums[kSums] = {};
    for (int i = threadIdx.x; i < d.V; i += kThreads) {
      if (!d.isKept(i, within))
        continue;
      const double m = measureOf(d, measure, i);
      const uint32_t c = d.code(i);
      // The first step has two bits, and digits that do not fit: sums of none.
#pragma unroll
      for (int digit = 1; digit <= kSums; ++digit)
        if (uint64_t{c} >= code + (uint64_t(digit) << shift))
          sums[digit - 1] += m;
    }
    addOverBlock(d.shared, sums);
    // Sums fall with the digit: the largest that reaches the goal, and the next
    // one's sum.
    uint32_t found = 0;
#pragma unroll
    for (int digit = 1; digit <= kSums; ++digit)
      if (sums[digit - 1] >= goal)
        found = digit;
      else if (static_cast<int>(found) == digit - 1)
        above = sums[digit - 1];
    code += found << shift;
  }
  // Candidates of the threshold's own code weigh the same: how many are needed?
  double ties[2] = {0.0, 0.0}; // their number, their sum
  for (int i = threadIdx.x; i < d.V; i += kThreads)
    if (d.code(i) == code && d.isKept(i, within)) {
      ties[0] += 1.0;
      ties[1] += measureOf(d, measure, i);
    }
  addOverBlock(d.shared, ties);
  if (ties[0] == 0.0)
    return within; // rounding left the sum a little short of the goal
  const double each = ties[1] / ties[0];
  double needed = 1.0;
  while (needed < ties[0] && above + needed * each < goal)
    needed += 1.0;
  if (needed < ties[0])
    return {code, indexOfTie(d, code, static_cast<int>(needed))};
  return {code, code == within.code ? within.index : d.V};
}

__device__ inline double uniformOf(const SampleArgs& a, int64_t s) {
  const PhiloxCounter words =
      philox4x32({static_cast<uint32_t>(a.sequenceId[s]),
                  static_cast<uint32_t>(a.positions[s]), 0, 0},
                 philoxKey(static_cast<uint64_t>(a.seed[s])));
  return uniformFromWords(words[0], words[1]);
}

// Walks the kept candidates by index until their sum exceeds uniform * total.
__device__ inline int draw(const Draw& d, Threshold kept, double uniform,
                           int best) {
  // Each warp adds up a run of candidates; the draw then walks one of the runs.
  const int run = (d.V + kThreads - 1) / kThreads * kWarpLanes;
  auto weightAt = [&](int i, int end) {
    return i < end && d.isKept(i, kept) ? double{d.weights[i]} : 0.0;
  };
  auto endOf = [&](int warp) {
    return (warp + 1) * run < d.V ? (warp + 1) * run : d.V;
  };
  double sum = 0.0;
  for (int i = warpOf() * run + laneOf(); i < endOf(warpOf()); i += kWarpLanes)
    sum += weightAt(i, d.V);
  sum = sumOfLanes(sum);
  __syncthreads();
  if (laneOf() == 0)
    d.shared.sums[0][warpOf()] = sum;
  if (threadIdx.x == 0)
    d.shared.chosen = best;
  __syncthreads();
  if (warpOf() == 0) {
    double total = 0.0;
    for (int w = 0; w < kWarps; ++w)
      total += d.shared.sums[0][w];
    const double goal = uniform * total;
    // The run in which the goal lies; rounding may leave it behind the last one
    // that holds anything.
    double before = 0.0;
    int warp = 0;
    double base = 0.0;
    for (int w = 0; w < kWarps; ++w) {
      const double mine = d.shared.sums[0][w];
      if (mine > 0.0) {
        warp = w;
        base = before;
        if (before + mine > goal)
          break;
      }
      before += mine;
    }
    int chosen = -1, last = best;
    for (int begin = warp * run; begin < endOf(warp) && chosen < 0;
         begin += kWarpLanes) {
      const int i = begin + laneOf();
      const double weight = weightAt(i, endOf(warp));
      double upTo = weight;
      for (int offset = 1; offset < kWarpLanes; offset *= 2) {
        const double other = __shfl_up_sync(0xFFFFFFFFu, upTo, offset);
        upTo += laneOf() >= offset ? other : 0.0;
      }
      int first = weight > 0.0 && base + upTo > goal ? i : INT32_MAX;
      int latest = weight > 0.0 ? i : -1;
      for (int offset = kWarpLanes / 2; offset > 0; offset /= 2) {
        const int otherFirst = __shfl_xor_sync(0xFFFFFFFFu, first, offset);
        const int otherLatest = __shfl_xor_sync(0xFFFFFFFFu, latest, offset);
        first = otherFirst < first ? otherFirst : first;
        latest = otherLatest > latest ? otherLatest : latest;
      }
      if (first != INT32_MAX)
        chosen = first;
      if (latest >= 0)
        last = latest;
      base += __shfl_sync(0xFFFFFFFFu, upTo, kWarpLanes - 1);
    }
    if (laneOf() == 0)
      d.shared.chosen = chosen >= 0 ? chosen : last;
  }
  __syncthreads();
  return d.shared.chosen;
}

__device__ inline int sampleToken(const SampleArgs& a, int64_t s,
                                  const Draw& d) {
  const int best = largestLogit(d);
  const float largest = d.logits[best], temperature = a.temperature[s];
  const int topK = a.topK[s];
  const float topP = a.topP[s];
  const bool isFinite = fabsf(largest) < __builtin_huge_valf();
  if (!(temperature > 0.0f) || !isFinite || topK == 1)
    return best;
  weigh(d, largest, temperature);
  Threshold kept{0, d.V}; // every code is larger
  if (topK > 0 && topK < d.V)
    kept = reach(d, kept, Measure::Count, topK);
  if (topP < 1.0f)
    kept = reach(d, kept, Measure::Weight,
                 double{topP} * totalOf(d, Measure::Weight, kept));
  return draw(d, kept, uniformOf(a, s), best);
}

} // namespace
} // namespace llmrt::cuda

LLMRT_CUDA_ENTRY(sample, 512) {
  using namespace llmrt::cuda;
  __shared__ Shared shared;
  const auto& a = argsOf<llmrt::SampleArgs>(args);
  const int64_t s = blockTile(rows, cols, rowTile, colTile).rowBegin;
  if (s >= a.S)
    return;
  const Draw d{a.logits + s * a.V, reinterpret_cast<float*>(scratch) + s * a.V,
               static_cast<int>(a.V), shared};
  const int token = sampleToken(a, s, d);
  if (threadIdx.x == 0)
    a.out[s] = token;
}
