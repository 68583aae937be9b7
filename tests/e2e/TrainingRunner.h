// SPDX-License-Identifier: Apache-2.0
// Runs training plans on the batches of a fixture, on local ranks: what the
// tests of training compare.
#pragma once

#include "runtime/comm/Communicator.h"
#include "runtime/device/Device.h"
#include "runtime/plan/PlanFile.h"
#include "tests/e2e/PlanRunner.h"
#include "tests/support/TrainingFixture.h"

#include "absl/status/statusor.h"

#include <functional>
#include <memory>
#include <string>
#include <vector>

namespace llmrt {

struct TrainingRequest {
  std::string model = {}; // of the fixture, imported
  // Of llmc compile, beyond batch and seq.
  std::vector<std::string> options = {};
  int numSteps = 10;
  int numThreads = 1; // of each rank
  bool checkMemory = true;
  SimulatedLink link = {}; // of the fabric
  bool readMoments = false;
  // Takes each step twice, the second time from the tensors as they were before
  // the first, which must change no bit. Of one rank.
  bool repeatSteps = false;
  bool usesGraphs = true;
  std::string tuningCache = {}; // ExecutorOptions::tuningCache
  std::string plan = {}; // compiled with trainingOptions(); empty: is compiled
  // Makes the device of a rank of that stage; without, that of the plan's
  // target.
  std::function<std::unique_ptr<Device>(const fb::Stage&)> device = {};
  MakeFabrics fabrics = {};
};

/// Options of llmc compile for a fixture, with `more`.
std::vector<std::string>
trainingOptions(const testing::TrainingFixture& fixture,
                std::vector<std::string> more);

/// Steps that learn nothing and count one label each: step i the token behind
/// row rows[i] of `tokens`, which all `numSequences` sequences hold, in
/// sequence rows[i] % numSequences. Their losses are minus the
/// log-probabilities of these tokens.
testing::TrainingFixture oneLabelAStep(const std::string& checkpoint,
                                       const std::vector<int32_t>& tokens,
                                       const std::vector<int64_t>& rows,
                                       int64_t numSequences);

struct TrainingResult {
  std::vector<double> losses;
  std::vector<double> norms;
  // Of preference optimisation, by step: means over pairs.
  std::vector<double> chosenRewards;
  std::vector<double> rejectedRewards;
  // Adam's first moments after the last step if the request reads them, by
  // checkpoint name and in checkpoint layout, put together from all ranks.
  testing::GradientsByName moments;
};

/// Imports the fixture's checkpoint, compiles a training plan and runs its
/// steps. Before each step its batch is evaluated. Errors  whatever llmc or any
/// rank returned; Internal if ranks disagree, or an evaluation and the step
/// after it about the loss.
absl::StatusOr<TrainingResult>
runTraining(const testing::TrainingFixture& fixture,
            const TrainingRequest& request);

/// Returns the name of a parametrised case: letters, digits and '_'.
std::string caseName(std::string fixture,
                     const std::vector<std::string>& options);

} // namespace llmrt
