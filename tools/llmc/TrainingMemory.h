// SPDX-License-Identifier: Apache-2.0
// Where the memory of a training plan goes, in terms of the formulas of
// docs/howto/training-memory.md and of papers.
#pragma once

#include "tools/llmc/PlanReport.h"
#include "tools/llmc/PublishedMemory.h"

#include <map>

namespace llmc {

/// Parameters of one rank of a stage before ZeRO, padding and all copies
/// counted, as the shapes in the plan give them.
struct StageParameters {
  int64_t elements = 0; // without padding
  int64_t trainedElements = 0;
  // With the padding to equal runs of panels.
  int64_t shardedMatrices = 0; // by ZeRO 3
  int64_t wholeMatrices = 0;
  int64_t trainedMatrices = 0; // of both
  int64_t vectors = 0;
  int64_t trainedVectors = 0;
};

StageParameters parametersOfStage(const fb::Plan& plan, int stage);

/// Bytes that a rank of the stage needs for its parameters, gradients and
/// optimizer states, by the formula.
ModelStates ownModelStates(const fb::Plan& plan, int stage);

/// Bytes that `forward` saves for `backward` of one micro-batch, by who reads
/// them: "layers.3" one layer, "" the head. What a later stage receives is not
/// among them.
std::map<std::string, int64_t> savedBytes(const fb::Plan& plan, int stage);

/// Model states and activations of every stage next to the ZeRO paper and
/// Korthikanti et al., with the reasons for the differences. "" for a plan that
/// does not train.
std::string trainingMemoryText(const fb::Plan& plan);

} // namespace llmc
