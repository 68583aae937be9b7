// SPDX-License-Identifier: Apache-2.0
#include "runtime/training/Evaluation.h"

#include "runtime/base/Error.h"
#include "runtime/training/StepInputs.h"

#include <chrono>
#include <cmath>
#include <cstring>

namespace llmrt {
namespace {

// Places in the state `loss` of preference optimisation: Kernels.def,
// preference_loss.
constexpr size_t kTerms = 6;

using Terms = std::array<double, kTerms>;

std::optional<Terms> preferenceTerms(const Executor& executor) {
  Terms terms;
  for (size_t i = 0; i < kTerms; ++i) {
    std::optional<double> term = stepNumber(executor, "loss", i);
    if (!term)
      return std::nullopt;
    terms[i] = *term;
  }
  return terms;
}

PreferenceReport meansOf(const Terms& terms) {
  double pairs = terms[5] > 0 ? terms[5] : NAN;
  return {terms[1] / pairs, terms[2] / pairs, terms[3] / pairs,
          terms[4] / pairs};
}

} // namespace

std::optional<double> stepNumber(const Executor& executor,
                                 absl::string_view name, size_t index) {
  absl::Span<const uint8_t> bytes = executor.stepOutput(name);
  if (bytes.size() < (index + 1) * sizeof(float))
    return std::nullopt;
  float value;
  std::memcpy(&value, bytes.data() + index * sizeof(float), sizeof(value));
  return value;
}

std::optional<PreferenceReport> preferenceOfStep(const Executor& executor) {
  std::optional<Terms> terms = preferenceTerms(executor);
  if (!terms)
    return std::nullopt;
  return meansOf(*terms);
}

absl::StatusOr<std::optional<EvaluationReport>>
evaluate(const HeldOutData& heldOut, const BatchPlace& where,
         Executor& executor,
         const std::function<absl::StatusOr<bool>()>& isStopped) {
  auto begin = std::chrono::steady_clock::now();
  EvaluationReport report;
  report.name = heldOut.name;
  BatchPlace place = where;
  Terms sums = {};
  bool isPreference = false;
  int64_t numSteps = heldOut.data->numSteps(place.batch);
  for (int64_t step = 0; step < numSteps; ++step) {
    place.position = step * place.batch;
    LLMRT_RETURN_IF_ERROR(
        fillStepInputs(*heldOut.data, heldOut.reference, place, executor));
    LLMRT_RETURN_IF_ERROR(executor.executeEvaluation(nullptr));
    LLMRT_ASSIGN_OR_RETURN(bool isEnd, isStopped());
    if (isEnd)
      return std::nullopt;
    double count = stepNumber(executor, "count").value_or(0);
    // The loss of a batch is its mean; a batch of padding has none.
    if (count > 0)
      report.loss += count * stepNumber(executor, "loss").value_or(NAN);
    report.numCounted += static_cast<int64_t>(count);
    if (std::optional<Terms> terms = preferenceTerms(executor)) {
      isPreference = true;
      for (size_t i = 0; i < kTerms; ++i)
        sums[i] += (*terms)[i];
    }
  }
  report.loss /= static_cast<double>(report.numCounted);
  if (isPreference)
    report.preference = meansOf(sums);
  std::chrono::duration<double> elapsed =
      std::chrono::steady_clock::now() - begin;
  report.seconds = elapsed.count();
  return report;
}

} // namespace llmrt
