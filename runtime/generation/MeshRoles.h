// SPDX-License-Identifier: Apache-2.0
// Which data replica a rank works for, and which ranks rank 0 hears from. Taken
// from the plan's mesh alone, so that all ranks agree without a message.
#pragma once

#include "runtime/plan/PlanFile.h"

namespace llmrt {

struct MeshRoles {
  int numReplicas = 1;
  int replica = 0;          // of this rank
  std::vector<int> leaders; // world rank of each replica's first rank
  int logitsRank = 0;       // the first rank of replica 0 that has the logits
};

/// `entry` names the entry whose logits are meant.
MeshRoles makeMeshRoles(const fb::Plan& plan, int rank, int entry);

/// Returns a named output of an entry on a stage, or nullptr.
const fb::NamedBuffer* findOutput(const fb::Plan& plan, int stage, int entry,
                                  absl::string_view name);

} // namespace llmrt
