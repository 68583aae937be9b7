// SPDX-License-Identifier: Apache-2.0
// Which changes of the options of `llmc compile` make a plan fit into a memory
// limit. Nothing is estimated: each change is compiled, and its needs and its
// price are read from the plan that comes out.
#pragma once

#include "tools/llmc/Commands.h"
#include "tools/llmc/PlanReport.h"

#include <functional>

namespace llmc {

/// Compiles the same model with other options; returns the payload of a plan
/// without code.
using TrialCompiler =
    std::function<absl::StatusOr<std::vector<uint8_t>>(const CommandLine&)>;

struct FittingChange {
  std::string options;    // "--recompute=full", several joined by a space
  int64_t arenaBytes = 0; // that a rank of the largest stage then needs
  std::string price;      // "31.0 % more FLOPs in a step"
};

/// The stage whose ranks need the most bytes.
int largestStage(const fb::Plan& plan);

/// Changes of one option that make `plan`, which `line` gave, fit; the cheapest
/// first. If none does, several together; if that does not either, nothing.
/// First come those that cost only time, then those that change what is
/// computed; more ranks are tried when there are few of these.
std::vector<FittingChange> fittingChanges(const fb::Plan& plan,
                                          int64_t limitBytes,
                                          const CommandLine& line,
                                          const TrialCompiler& compile);

} // namespace llmc
