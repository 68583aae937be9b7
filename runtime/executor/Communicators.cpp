// SPDX-License-Identifier: Apache-2.0
// Every rank makes the groups of all stages, in the order of their axis lists:
// creating a group is collective, and stages may use different ones.
#include "runtime/executor/Communicators.h"

#include "runtime/base/Error.h"
#include "runtime/plan/Mesh.h"

#include <set>

namespace llmrt {
namespace {

void collectAxes(const fb::Program* program, std::set<std::vector<int>>& all) {
  if (!program || !program->commands())
    return;
  for (const fb::Command* command : *program->commands()) {
    absl::Span<const int> axes = spanOf(command->axes());
    if (!axes.empty())
      all.emplace(axes.begin(), axes.end());
  }
}

} // namespace

absl::StatusOr<Communicators>
Communicators::create(const fb::Plan& plan, Fabric& fabric,
                      absl::Span<const int> coordinates) {
  std::set<std::vector<int>> all;
  for (const fb::Stage* stage : *plan.stages()) {
    collectAxes(stage->initialise(), all);
    for (const fb::Program* program : *stage->programs())
      collectAxes(program, all);
  }
  Communicators communicators;
  for (const std::vector<int>& axes : all) {
    std::vector<int> ranks = groupAlongAxes(plan, coordinates, axes);
    if (ranks.size() == 1)
      continue;
    LLMRT_ASSIGN_OR_RETURN(communicators.byAxes_[axes],
                           fabric.createCommunicator(ranks));
  }
  return communicators;
}

Communicator* Communicators::find(absl::Span<const int> axes) const {
  auto found = byAxes_.find(std::vector<int>(axes.begin(), axes.end()));
  return found == byAxes_.end() ? nullptr : found->second.get();
}

int64_t Communicators::reservedBytes() const {
  int64_t sum = 0;
  for (const auto& [axes, communicator] : byAxes_)
    sum += communicator->reservedBytes();
  return sum;
}

} // namespace llmrt
