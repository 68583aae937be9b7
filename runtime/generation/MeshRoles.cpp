// SPDX-License-Identifier: Apache-2.0
// Replicas are numbered along the data axes in the order of the mesh.
#include "runtime/generation/MeshRoles.h"

#include "runtime/plan/Mesh.h"

namespace llmrt {
namespace {

std::vector<int> dataAxes(const fb::Plan& plan) {
  std::vector<int> axes;
  for (unsigned i = 0; i < plan.axes()->size(); ++i) {
    const auto* name = plan.axes()->Get(i)->name();
    if (absl::string_view(name->data(), name->size())
            .substr(0, kDataAxisPrefix.size()) == kDataAxisPrefix)
      axes.push_back(static_cast<int>(i));
  }
  return axes;
}

int findLogitsRank(const fb::Plan& plan, absl::Span<const int> axes,
                   int entry) {
  for (int rank = 0; rank < numRanks(plan); ++rank) {
    std::vector<int> coordinates = coordinatesOfRank(plan, rank);
    if (indexAlongAxes(plan, coordinates, axes) == 0 &&
        findOutput(plan, stageOfCoordinates(plan, coordinates), entry,
                   "logits"))
      return rank;
  }
  return 0;
}

} // namespace

const fb::NamedBuffer* findOutput(const fb::Plan& plan, int stage, int entry,
                                  absl::string_view name) {
  const fb::Stage* holder = plan.stages()->Get(stage);
  if (!holder->outputs())
    return nullptr;
  for (const fb::EntryBuffers* outputs : *holder->outputs()) {
    if (outputs->entry() != entry || !outputs->buffers())
      continue;
    for (const fb::NamedBuffer* buffer : *outputs->buffers())
      if (absl::string_view(buffer->name()->data(), buffer->name()->size()) ==
          name)
        return buffer;
  }
  return nullptr;
}

MeshRoles makeMeshRoles(const fb::Plan& plan, int rank, int entry) {
  std::vector<int> axes = dataAxes(plan);
  std::vector<int> coordinates = coordinatesOfRank(plan, rank);
  std::vector<int> origin(coordinates.size(), 0);
  MeshRoles roles;
  roles.numReplicas = static_cast<int>(sizeAlongAxes(plan, axes));
  roles.replica = indexAlongAxes(plan, coordinates, axes);
  roles.leaders = groupAlongAxes(plan, origin, axes);
  roles.logitsRank = findLogitsRank(plan, axes, entry);
  return roles;
}

} // namespace llmrt
