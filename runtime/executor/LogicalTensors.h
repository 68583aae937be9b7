// SPDX-License-Identifier: Apache-2.0
// What a training run has to keep, as logical tensors that know no mesh: the
// weights and Adam's moments, and which of their elements this rank holds. The
// inverse of loading weights, and loading for any box, shard and layout. It
// knows nothing of checkpoint files.
#pragma once

#include "runtime/executor/Executor.h"

#include "absl/functional/function_ref.h"
#include "absl/status/statusor.h"

#include <string>
#include <vector>

namespace llmrt {

enum class LogicalRole : uint8_t { Weight, Moment1, Moment2 };

/// A whole tensor of the weight set "model". A weight is f32 where it is
/// trained (its f32 master if the plan computes in bf16), else as the plan
/// holds it.
struct LogicalTensor {
  std::string parameter; // logical name
  LogicalRole role = LogicalRole::Weight;
  DType dtype = DType::F32;
  std::vector<int64_t> shape;
  /// The parameter of the plan that says where the weight came from.
  const fb::Parameter* source = nullptr;
};

/// Rows x columns of a logical tensor: all dimensions but the last are rows;
/// one dimension is one row.
struct LogicalBox {
  int64_t rowBegin = 0;
  int64_t numRows = 0;
  int64_t colBegin = 0;
  int64_t numCols = 0;
};

/// Takes, or gives, element (rowBegin + i, colBegin + j) of tensor number
/// `tensor` at values[i * rowStride + j].
using TakeElements = absl::FunctionRef<absl::Status(
    int tensor, const LogicalBox& box, const float* values, int64_t rowStride)>;
using GiveElements = absl::FunctionRef<absl::Status(
    int tensor, const LogicalBox& box, float* values, int64_t rowStride)>;

class LogicalTensors {
public:
  /// Plan and executor outlive the object; the executor is initialised.
  static LogicalTensors create(const fb::Plan& plan, Executor& executor);

  /// Of all stages, in an order that is the same on every rank and mesh with
  /// the same layers in the same order: weights, then moments.
  const std::vector<LogicalTensor>& tensors() const { return tensors_; }

  /// Passes on the elements that this rank has to write. Over all ranks of the
  /// mesh every element is passed on exactly once: replicated ones by
  /// coordinate 0, those that several tensor ranks hold by the first, those of
  /// a tied weight by the first stage that trains it.
  /// Errors  those of `take` and of Executor::readMemory(), at once.
  absl::Status write(TakeElements take) const;

  /// Fills everything that this rank holds, copies of tied weights too. What
  /// lies beyond the logical tensors stays as it is: zero.
  /// Errors  those of `give` and of Executor::writeMemory(), at once.
  absl::Status read(GiveElements give);

  /// Returns the number of the first weight with a gradient that is not finite
  /// in this rank's part, or -1. Errors  those of Executor::readMemory().
  absl::StatusOr<int> findNonFiniteGradient() const;

private:
  /// Part of a tensor in memory of this rank.
  struct Part {
    int tensor = -1; // -1: a gradient
    const fb::Parameter* parameter = nullptr;
    DType dtype = DType::F32;
    absl::Span<const int> shardAxes;
    int64_t shardBytes = 0;
    absl::Span<uint8_t> memory;
    bool isHome = false; // this one is written, not a copy of it
  };

  LogicalTensors(const fb::Plan& plan, Executor& executor)
      : plan_(plan), executor_(&executor),
        coordinates_(executor.coordinates().begin(),
                     executor.coordinates().end()) {}

  void listTensors();
  void listParts();
  void addStates(int parameter, Part part);
  int findTensor(const fb::Parameter& parameter, LogicalRole role) const;
  bool isWriter(const Part& part) const;
  absl::Status visitPart(const Part& part, bool isChanged,
                         GiveElements give) const;

  const fb::Plan& plan_;
  Executor* executor_;
  std::vector<int> coordinates_;
  std::vector<LogicalTensor> tensors_;
  /// Of each weight: the stage and the number of the parameter that is home.
  std::vector<std::pair<int, int>> homes_;
  std::vector<Part> parts_;
  std::vector<std::pair<int, absl::Span<uint8_t>>> gradients_;
};

} // namespace llmrt
