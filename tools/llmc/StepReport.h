// SPDX-License-Identifier: Apache-2.0
// What a plan will need and do, before anything runs: the forecast that
// `llmc compile` prints and `llmc inspect --output=json` carries. Every number
// comes from the plan's tables of memory, costs and schedule.
#pragma once

#include "tools/llmc/PlanReport.h"

namespace llmc {

/// What each rank of a pipeline stage does in one training step.
struct StageStep {
  double flops = 0;               // of matrix products and attention
  std::vector<int64_t> sentBytes; // by mesh axis
};

/// By stage; empty for a plan without a schedule (inference).
std::vector<StageStep> stepsOfStages(const fb::Plan& plan);

/// The share of a training step's schedule in which stages are idle, from a
/// simulation event by event. A segment takes time in proportion to its FLOPs;
/// transfers, collectives, prologue and optimizer take none. 0 for one stage.
/// Errors  Internal for a schedule that never ends.
absl::StatusOr<double> bubbleFraction(const fb::Plan& plan);

/// The classes that every report lists, then those that the plan has besides.
std::vector<fb::MemoryClass> reportedClasses(const fb::Plan& plan);

/// Whether a class is not part of the arena.
bool isOutside(fb::MemoryClass memoryClass);

/// Predicted bytes of a class on a rank of a stage; 0 if it has none.
int64_t classBytes(const fb::Plan& plan, int stage,
                   fb::MemoryClass memoryClass);

/// Bytes of all arenas of a rank of a stage.
int64_t arenaBytes(const fb::Plan& plan, int stage);

/// The whole report: bytes by class, bytes sent along each axis, the bubble.
std::string compileReport(const fb::Plan& plan);

} // namespace llmc
