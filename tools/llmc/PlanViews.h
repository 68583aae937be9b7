// SPDX-License-Identifier: Apache-2.0
// A plan as text for people and as JSON for programs: what `llmc inspect`
// prints.
#pragma once

#include "tools/llmc/PlanReport.h"

#include <string>

namespace llmc {

/// Model, mesh, entries, options, memory, kernels, costs and code on one page.
std::string summarisePlan(const OpenPlan& open);

/// Every table, buffer and command.
std::string disassemble(const fb::Plan& plan);

/// One command in one line, without its number; slots are not in it.
std::string commandText(const fb::Plan& plan, const fb::Stage& stage,
                        const fb::Command& command);

/// One line for each slot of a launch.
std::vector<std::string> slotTexts(const fb::Plan& plan, const fb::Stage& stage,
                                   const fb::Command& command);

/// "tensor f32 [64, 128], box of dimension 1 over tp, panel": how ranks hold
/// it.
std::string parameterText(const fb::Plan& plan, const fb::Parameter& parameter);

/// Everything a program may want; keys as docs/reference/llmc.md lists them.
std::string planJson(const OpenPlan& open);

/// The commands of one entry as a Graphviz graph: an edge leads from the
/// command that writes a buffer to those that read it. Entry "" means the first
/// one. Errors  NameUnknown.
absl::StatusOr<std::string> commandGraph(const fb::Plan& plan,
                                         const std::string& entry);

/// Memory table of every stage, for summary and explain.
std::string memoryTable(const fb::Plan& plan);

/// "commands 12 to 40 of prefill", for every program that uses the buffer.
std::string lifetimeText(const fb::Plan& plan, const fb::Stage& stage,
                         int buffer);

/// Memory table, the largest buffers of each stage with what they hold and how
/// long; for training, what papers predict.
std::string explainMemory(const fb::Plan& plan);

} // namespace llmc
