// SPDX-License-Identifier: Apache-2.0
// What the interpreter computes with: tensors and caches of doubles, and the
// state of one virtual rank. Nothing is rounded, whatever the element types
// say.
#pragma once

#include "dialects/dist/Dist.h"

#include <cstdint>
#include <memory>
#include <string>
#include <variant>
#include <vector>

namespace llmc {

/// A row-major tensor. Integers are doubles too (exact up to 2^53).
struct Tensor {
  std::vector<int64_t> shape;
  std::vector<double> values;

  Tensor() = default;

  /// Makes a tensor of zeros.
  explicit Tensor(std::vector<int64_t> shapeOfTensor)
      : shape(std::move(shapeOfTensor)) {
    int64_t numElements = 1;
    for (int64_t extent : shape)
      numElements *= extent;
    values.resize(numElements);
  }

  int64_t numElements() const { return values.size(); }

  int64_t width() const { return shape.back(); }

  int64_t rows() const { return numElements() / width(); }

  double* row(int64_t r) { return values.data() + r * width(); }

  const double* row(int64_t r) const { return values.data() + r * width(); }

  bool operator==(const Tensor&) const = default;
};

/// A started collective: its group and place in the group's order.
struct Ticket {
  std::string group;
  int64_t number = 0;
};

/// One virtual rank: where it is in the mesh and the values it holds.
class RankState {
public:
  RankState(dist::MeshOp mesh, int64_t rank);

  int64_t rank() const { return rank_; }

  /// Coordinate along an axis; 0 if the mesh has none of that name.
  int64_t coordinate(llvm::StringRef axis) const;
  /// Value of an integer or `by_coordinate` attribute here; `fallback` without
  /// one.
  int64_t valueHere(mlir::Attribute attr, int64_t fallback) const;
  /// Place of this rank among those that differ along `axes` only.
  int64_t placeAlong(mlir::ArrayAttr axes) const;
  /// The ranks that differ from this one along `axes` only, in order of place.
  std::vector<int64_t> groupAlong(mlir::ArrayAttr axes) const;
  /// The rank at another coordinate of one axis.
  int64_t rankAt(llvm::StringRef axis, int64_t coordinate) const;

  const Tensor& tensor(mlir::Value v) const {
    return *std::get<std::shared_ptr<const Tensor>>(values_.at(v));
  }

  /// Cache `[pages, page tokens, KV, D]`; holds NaN where nothing was written.
  Tensor& cache(mlir::Value v) const {
    return *std::get<Tensor*>(values_.at(v));
  }

  const Ticket& ticket(mlir::Value v) const {
    return std::get<Ticket>(values_.at(v));
  }

  void set(mlir::Value v, Tensor tensor) {
    values_[v] = std::make_shared<const Tensor>(std::move(tensor));
  }

  void set(mlir::Value v, Tensor* cache) { values_[v] = cache; }

  void set(mlir::Value v, Ticket ticket) { values_[v] = std::move(ticket); }

  /// Gives `to` what `from` holds: an operand becomes an argument.
  void copy(mlir::Value from, mlir::Value to) {
    Cell cell = values_.at(from); // inserting moves what the map holds
    values_[to] = std::move(cell);
  }

  /// Forgets all values.
  void clear() { values_.clear(); }

private:
  using Cell = std::variant<std::shared_ptr<const Tensor>, Tensor*, Ticket>;

  int64_t rank_;
  std::vector<std::string> axes_;
  std::vector<int64_t> sizes_, coordinates_;
  llvm::DenseMap<mlir::Value, Cell> values_;
};

/// Which of the runs of a shard a rank holds.
int64_t placeOfShard(dist::ShardAttr shard, const RankState& rank);

} // namespace llmc
