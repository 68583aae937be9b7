// SPDX-License-Identifier: Apache-2.0
// Runs training plans on the batches of a fixture, on local ranks: what the
// tests of training compare.
#pragma once

#include "runtime/comm/Communicator.h"
#include "tests/support/TrainingFixture.h"

#include "absl/status/statusor.h"

#include <string>
#include <vector>

namespace llmrt {

struct TrainingRequest {
  std::string model;                // of the fixture, imported
  std::vector<std::string> options; // of llmc compile, beyond batch and seq
  int numSteps = 10;
  int numThreads = 1; // of each rank
  bool checkMemory = true;
  SimulatedLink link; // of the fabric
  bool readMoments = false;
};

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

/// Imports the fixture's checkpoint, compiles a training plan and runs its steps.
/// Before each step its batch is evaluated.
/// Errors  whatever llmc or any rank returned; Internal if ranks disagree, or an
/// evaluation and the step after it about the loss.
absl::StatusOr<TrainingResult>
runTraining(const testing::TrainingFixture& fixture,
            const TrainingRequest& request);

/// Returns the name of a parametrised case: letters, digits and '_'.
std::string caseName(std::string fixture,
                     const std::vector<std::string>& options);

} // namespace llmrt
