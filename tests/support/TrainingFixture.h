// SPDX-License-Identifier: Apache-2.0
// The reference numbers of training that
// tests/fixtures/make_training_fixtures.py wrote with PyTorch: batches, losses,
// norms, gradients, DPO rewards. Plain structs, so that tests of the
// interpreter, of kernels and of whole plans can all use them.
// tests/fixtures/README.md says what each number is.
#pragma once

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

#include <cstdint>
#include <map>
#include <string>
#include <vector>

namespace llmrt::testing {

/// The inputs of one optimizer step; docs/design/training.md, inputs.
struct TrainingBatch {
  int64_t numSequences = 0;
  int64_t numRows = 0;                 // of one sequence
  std::vector<int32_t> ids = {};       // [numSequences, numRows], as the rest
  std::vector<int32_t> positions = {}; // inside the document
  std::vector<int32_t> starts = {};    // of the document, inside the sequence
  std::vector<int32_t> labels = {};    // -100: not counted
};

struct TrainingOptimizer {
  double learningRate = 0; // the same in each step
  double beta1 = 0, beta2 = 0, epsilon = 0;
  double weightDecay = 0; // of matrices; norms and biases have none
  double clip = 0;
};

/// One DPO step, [pairs] each; log-probabilities are sums over counted rows.
struct PairReport {
  std::vector<double> losses;
  std::vector<double> chosenRewards, rejectedRewards;
  std::vector<double> chosenLogProbabilities, rejectedLogProbabilities;
  std::vector<double> referenceChosenLogProbabilities;
  std::vector<double> referenceRejectedLogProbabilities;
};

struct DpoSettings {
  std::string reference; // absolute folder of the reference's checkpoint
  std::string loss;      // sigmoid, hinge, ipo
  double beta = 0, labelSmoothing = 0;
};

using GradientsByName = std::map<std::string, std::vector<float>>;

struct TrainingFixture {
  std::string name;       // "gemma2/sft"
  std::string objective;  // pretrain, sft, dpo
  std::string checkpoint; // absolute folder of the initial weights
  TrainingOptimizer optimizer;
  DpoSettings dpo; // of objective dpo only
  // One element for each step. A loss is that before the step's update, a
  // norm that before clipping.
  std::vector<TrainingBatch> batches;
  std::vector<int64_t> countedTokens;
  std::vector<double> losses;
  std::vector<double> norms;
  std::vector<PairReport> pairs; // of objective dpo only
  // Of the first step's loss. Names and layouts are the checkpoint's.
  GradientsByName gradients; // empty where the fixture stores norms only
  std::map<std::string, double> gradientNorms;
};

/// Reads training fixture `name`, as "gemma2/sft" or "llama-deep/dpo-ipo", of
/// the source tree that LLMC_SOURCE_DIR names.
/// Errors  FailedPrecondition without LLMC_SOURCE_DIR; those of
///         WeightSource::open(); InvalidArgument for a file that disagrees.
absl::StatusOr<TrainingFixture> readTrainingFixture(absl::string_view name);

/// Returns the names of all training fixtures, sorted.
std::vector<std::string> trainingFixtureNames();

/// How far one parameter's gradient is from its reference.
struct GradientError {
  std::string name;
  double error = 0; // norm of the difference, in parts of the scale below
};

/// Returns the parameter whose gradient is worst: the norm of the difference
/// over max(norm of the reference, 1e-3 x global norm of the reference). NaN
/// is worse than any number.
/// Errors  InvalidArgument if `gradients` lacks a parameter, has another one,
///         or one of another size.
absl::StatusOr<GradientError> worstGradient(const GradientsByName& reference,
                                            const GradientsByName& gradients);

} // namespace llmrt::testing
