// SPDX-License-Identifier: Apache-2.0
// Ranks are numbered with the last axis of the mesh fastest.
#include "runtime/plan/Mesh.h"

namespace llmrt {

int64_t atCoordinates(const fb::ByCoordinate* value,
                      absl::Span<const int> coordinates, int64_t absent) {
  if (!value || !value->values() || value->values()->size() == 0)
    return absent;
  return value->values()->Get(value->axis() < 0 ? 0
                                                : coordinates[value->axis()]);
}

int numRanks(const fb::Plan& plan) {
  int count = 1;
  for (const fb::Axis* axis : *plan.axes())
    count *= axis->size();
  return count;
}

std::vector<int> coordinatesOfRank(const fb::Plan& plan, int rank) {
  std::vector<int> coordinates(plan.axes()->size());
  for (int i = static_cast<int>(coordinates.size()) - 1; i >= 0; --i) {
    coordinates[i] = rank % plan.axes()->Get(i)->size();
    rank /= plan.axes()->Get(i)->size();
  }
  return coordinates;
}

int findAxis(const fb::Plan& plan, absl::string_view name) {
  for (unsigned i = 0; i < plan.axes()->size(); ++i) {
    const ::flatbuffers::String* axisName = plan.axes()->Get(i)->name();
    if (absl::string_view(axisName->data(), axisName->size()) == name)
      return i;
  }
  return -1;
}

int stageOfCoordinates(const fb::Plan& plan,
                       absl::Span<const int> coordinates) {
  int axis = findAxis(plan, kStageAxis);
  return axis < 0 ? 0 : coordinates[axis];
}

int64_t sizeAlongAxes(const fb::Plan& plan, absl::Span<const int> axes) {
  int64_t count = 1;
  for (int axis : axes)
    count *= plan.axes()->Get(axis)->size();
  return count;
}

int indexAlongAxes(const fb::Plan& plan, absl::Span<const int> coordinates,
                   absl::Span<const int> axes) {
  int index = 0;
  for (int axis : axes)
    index = index * plan.axes()->Get(axis)->size() + coordinates[axis];
  return index;
}

std::vector<int> groupAlongAxes(const fb::Plan& plan,
                                absl::Span<const int> coordinates,
                                absl::Span<const int> axes) {
  std::vector<int> ranks(sizeAlongAxes(plan, axes));
  std::vector<int> at(coordinates.begin(), coordinates.end());
  for (size_t i = 0; i < ranks.size(); ++i) {
    int rest = static_cast<int>(i);
    for (int a = static_cast<int>(axes.size()) - 1; a >= 0; --a) {
      at[axes[a]] = rest % plan.axes()->Get(axes[a])->size();
      rest /= plan.axes()->Get(axes[a])->size();
    }
    int rank = 0;
    for (unsigned axis = 0; axis < at.size(); ++axis)
      rank = rank * plan.axes()->Get(axis)->size() + at[axis];
    ranks[i] = rank;
  }
  return ranks;
}

} // namespace llmrt
