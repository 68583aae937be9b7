// SPDX-License-Identifier: Apache-2.0
// A small trained model, stories260K, which lies among the test data: a real
// text, compared with what llama2.c made of the model.
#pragma once

#include "tests/e2e/PlanRunner.h"

#include <functional>
#include <string>
#include <vector>

namespace llmrt {

/// The folder of the model and its golden values, or "" if this machine has
/// none.
std::string storiesFolder();

/// What llmc compiles in that folder, and with which options.
inline constexpr const char* kStoriesModel = "hf";
const std::vector<std::string>& storiesOptions();

/// Runs a plan of the model by `run`: 200 greedy tokens are those of llama2.c,
/// and the first logits close to its, one by one and all at once.
void expectGoldenStory(
    const std::function<absl::StatusOr<RunResult>(RunRequest)>& run);

} // namespace llmrt
