// SPDX-License-Identifier: Apache-2.0
// Private to the executor: the groups of ranks that the commands of a plan use.
#pragma once

#include "runtime/comm/Communicator.h"
#include "runtime/plan/PlanFile.h"

#include <map>
#include <memory>
#include <vector>

namespace llmrt {

class Communicators {
public:
  /// Makes a group along every list of axes that any stage of the plan uses, in
  /// one order on all ranks. Collective over all ranks.
  static absl::StatusOr<Communicators>
  create(const fb::Plan& plan, Fabric& fabric,
         absl::Span<const int> coordinates);

  /// Returns the group along `axes`; null if it has one rank.
  Communicator* find(absl::Span<const int> axes) const;
  /// Returns the bytes that all groups hold on this rank.
  int64_t reservedBytes() const;

private:
  std::map<std::vector<int>, std::unique_ptr<Communicator>> byAxes_;
};

} // namespace llmrt
