// SPDX-License-Identifier: Apache-2.0
// What a user of both modes relies on: a training plan for cuda gives a text
// the log-probabilities that inference gives it, on cuda and on cpu. Described
// once, run on an emulation on every build and on a GPU where there is one.
#pragma once

#include "tests/e2e/CudaParity.h"
#include "tests/e2e/TrainingRunner.h"

#include <functional>
#include <string>
#include <vector>

namespace llmrt {

/// Cases of CudaParity.h with whose inference plans training is compared.
const std::vector<CudaCase>& cudaProbabilityCases();

/// "llama_9q3kv_f32_probabilities": names the test and the training plan.
std::string probabilityName(const CudaCase& c);

/// Options of llmc compile for the training plan, without a target.
std::vector<std::string> probabilityOptions(const CudaCase& c);

using CudaTrainer = std::function<absl::StatusOr<TrainingResult>(
    const testing::TrainingFixture&, TrainingRequest)>;

/// Compares the log-probabilities of some tokens of the fixture's text: of
/// steps of the training plan, run by `train`; of the scores of the cuda plan,
/// run by `runCuda`; and of the scores of the cpu plan. Fails the test where
/// one of the former is further from the latter than the case allows.
void expectLogProbabilitiesOfCpu(const CudaCase& c, const std::string& cpuPlan,
                                 const CudaRunner& runCuda,
                                 const CudaTrainer& train);

} // namespace llmrt
