// SPDX-License-Identifier: Apache-2.0
#include "tests/support/InterpreterValues.h"

using namespace mlir;

namespace llmc {

RankState::RankState(dist::MeshOp mesh, int64_t rank) : rank_(rank) {
  if (!mesh)
    return;
  for (auto [axis, sizeOfAxis] : llvm::zip(mesh.getAxes(), mesh.getSizes())) {
    axes_.push_back(cast<StringAttr>(axis).getValue().str());
    sizes_.push_back(sizeOfAxis);
  }
  coordinates_.resize(axes_.size());
  for (size_t i = axes_.size(); i-- > 0; rank /= sizes_[i])
    coordinates_[i] = rank % sizes_[i];
}

int64_t RankState::coordinate(llvm::StringRef axis) const {
  for (size_t i = 0; i < axes_.size(); ++i)
    if (axes_[i] == axis)
      return coordinates_[i];
  return 0;
}

int64_t RankState::valueHere(Attribute attr, int64_t fallback) const {
  if (auto here = dyn_cast_or_null<dist::ByCoordinateAttr>(attr))
    return here.getValues()[coordinate(here.getAxis())];
  if (auto integer = dyn_cast_or_null<IntegerAttr>(attr))
    return integer.getInt();
  return fallback;
}

int64_t RankState::rankAt(llvm::StringRef axis, int64_t coordinate) const {
  int64_t rank = 0;
  for (size_t i = 0; i < axes_.size(); ++i)
    rank = rank * sizes_[i] + (axes_[i] == axis ? coordinate : coordinates_[i]);
  return rank;
}

std::vector<int64_t> RankState::groupAlong(ArrayAttr axes) const {
  std::vector<int64_t> group;
  int64_t numRanks = 1;
  for (int64_t n : sizes_)
    numRanks *= n;
  for (int64_t other = 0; other < numRanks; ++other) {
    bool isMember = true;
    int64_t rest = other;
    for (size_t i = axes_.size(); i-- > 0; rest /= sizes_[i]) {
      bool isAlong = llvm::any_of(axes, [&](Attribute axis) {
        return cast<StringAttr>(axis).getValue() == axes_[i];
      });
      isMember &= isAlong || rest % sizes_[i] == coordinates_[i];
    }
    if (isMember)
      group.push_back(other);
  }
  return group;
}

int64_t RankState::placeAlong(ArrayAttr axes) const {
  std::vector<int64_t> group = groupAlong(axes);
  return std::find(group.begin(), group.end(), rank_) - group.begin();
}

int64_t placeOfShard(dist::ShardAttr shard, const RankState& rank) {
  SmallVector<Attribute> axes(shard.getAxes().begin(), shard.getAxes().end());
  return rank.placeAlong(ArrayAttr::get(shard.getContext(), axes));
}

} // namespace llmc
