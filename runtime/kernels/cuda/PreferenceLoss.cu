// SPDX-License-Identifier: Apache-2.0
// preference_loss on CUDA: one block; the threads add up the rows of a pair in
// double, in a fixed order, and pairs follow one another. The formulas are
// those of runtime/kernels/PreferenceLoss.cpp.
//
// Constraints  S even; beta > 0.    Scratch  none.    Source  see there.
#include "runtime/kernels/cuda/Training.cuh"

namespace llmrt::cuda {
namespace {

constexpr int64_t kHinge = 1;
constexpr int64_t kIpo = 2;

/// log p of a sequence, and what a row's loss counts in it (without its sign).
struct Sequence {
  double policy;
  double reference;
  double rowWeight;
  bool isCounted;
};

struct Loss {
  double value;
  double slope; // d value / d x
};

__device__ inline Sequence sumSequence(const PreferenceLossArgs& a,
                                       int64_t sequence, double* places) {
  double policy = 0.0, reference = 0.0, count = 0.0;
  for (int64_t r = sequence * a.R + threadIdx.x; r < (sequence + 1) * a.R;
       r += blockDim.x) {
    if (a.labels[r] < 0)
      continue;
    count += 1.0;
    policy -= a.loss[r];
    reference -= a.reference[r];
  }
  count = sumOfBlock(count, places);
  policy = sumOfBlock(policy, places);
  reference = sumOfBlock(reference, places);
  if (count == 0.0)
    return {0.0, 0.0, 0.0, false};
  return {policy, reference, a.kind == kIpo ? 1.0 / count : 1.0, true};
}

// log(1 + e^x) without overflow.
__device__ inline double softplus(double x) {
  const double small = log1p(exp(x > 0.0 ? -x : x));
  return x > 0.0 ? x + small : small;
}

__device__ inline double sigmoid(double x) { return 1.0 / (1.0 + exp(-x)); }

__device__ inline Loss pairLoss(const PreferenceLossArgs& a, double x) {
  const double beta = a.hyper[8], smoothing = a.hyper[9], z = beta * x;
  if (a.kind == kHinge)
    return {z < 1.0 ? 1.0 - z : 0.0, z < 1.0 ? -beta : 0.0};
  if (a.kind == kIpo) {
    const double off = x - 1.0 / (2.0 * beta);
    return {off * off, 2.0 * off};
  }
  return {(1.0 - smoothing) * softplus(-z) + smoothing * softplus(z),
          beta * (smoothing * sigmoid(z) - (1.0 - smoothing) * sigmoid(-z))};
}

__device__ inline void weighRows(const PreferenceLossArgs& a, int64_t sequence,
                                 double weight) {
  for (int64_t r = sequence * a.R + threadIdx.x; r < (sequence + 1) * a.R;
       r += blockDim.x)
    a.weights[r] = a.labels[r] < 0 ? 0.0f : static_cast<float>(weight);
}

} // namespace
} // namespace llmrt::cuda

LLMRT_CUDA_ENTRY(preference_loss, 256) {
  using namespace llmrt::cuda;
  __shared__ double places[8];
  const auto& a = argsOf<llmrt::PreferenceLossArgs>(args);
  const double beta = a.hyper[8], scale = a.scale[0];
  // Every thread has the same sums.
  double loss = 0.0, chosenReward = 0.0, rejectedReward = 0.0, margin = 0.0;
  double accuracy = 0.0, pairs = 0.0;
  for (int64_t s = 0; s + 1 < a.S; s += 2) {
    const Sequence chosen = sumSequence(a, s, places);
    const Sequence rejected = sumSequence(a, s + 1, places);
    if (!chosen.isCounted && !rejected.isCounted) {
      weighRows(a, s, 0.0);
      weighRows(a, s + 1, 0.0);
      continue;
    }
    const double gained = chosen.policy - chosen.reference;
    const double lost = rejected.policy - rejected.reference;
    const Loss pair =
        pairLoss(a, gained * chosen.rowWeight - lost * rejected.rowWeight);
    // log p is minus the sum of row losses.
    weighRows(a, s, -pair.slope * chosen.rowWeight / scale);
    weighRows(a, s + 1, pair.slope * rejected.rowWeight / scale);
    loss += pair.value / scale;
    chosenReward += beta * gained;
    rejectedReward += beta * lost;
    margin += beta * (gained - lost);
    accuracy += gained > lost ? 1.0 : 0.0;
    pairs += 1.0;
  }
  if (threadIdx.x > 0)
    return;
  a.out[0] = static_cast<float>(loss);
  a.out[1] = static_cast<float>(chosenReward);
  a.out[2] = static_cast<float>(rejectedReward);
  a.out[3] = static_cast<float>(margin);
  a.out[4] = static_cast<float>(accuracy);
  a.out[5] = static_cast<float>(pairs);
}
