// SPDX-License-Identifier: Apache-2.0
// Communication between virtual ranks: who takes part, what has arrived, what
// comes out.
#pragma once

#include "tests/support/InterpreterValues.h"

#include <deque>
#include <map>
#include <optional>

namespace llmc {

/// What a collective does, whichever op asks for it.
struct Collective {
  enum class Kind {
    AllGather,
    AllReduce,
    ReduceScatter,
    Broadcast,
    GatherInPlace
  };

  Kind kind;
  mlir::ArrayAttr axes;
  std::vector<int64_t> resultShape;
  int64_t dim = 0;  // of an all-gather
  int64_t root = 0; // of a broadcast
  int64_t run = 0;  // elements, of a gather in place

  /// The collective that a mechanism op, a `reshard` or a `zero_gather` stands
  /// for; none for other ops.
  static std::optional<Collective> of(mlir::Operation* op);
  /// The collective of a `start`.
  static std::optional<Collective> of(dist::StartOp op);
};

/// Collectives of every group of ranks, matched in the order in which each rank
/// issues them, and messages between two ranks, which are never lost and keep
/// their order.
class CollectiveBoard {
public:
  /// Joins the group's next collective.
  /// Errors  another rank of the group joined it with another kind or shape: a
  /// diagnostic.
  mlir::FailureOr<Ticket> join(mlir::Operation* op, const Collective& what,
                               const Tensor* operand, const RankState& rank);
  /// Returns this rank's result, or nothing before all ranks have joined.
  std::optional<Tensor> finish(const Ticket& ticket, const RankState& rank);

  void send(int64_t from, int64_t to, Tensor message);
  std::optional<Tensor> receive(int64_t from, int64_t to);

  /// True if a collective or message is left over.
  bool isAnyPending() const;

  std::map<std::string, int64_t> counts; // by mnemonic, each rank counted

private:
  struct Meeting {
    Collective what;
    std::string mnemonic;
    std::vector<int64_t> group;
    std::map<int64_t, Tensor> operands; // by rank
    int64_t numFinished = 0;
  };

  Tensor resultOf(const Meeting& meeting, int64_t place) const;

  std::map<std::pair<std::string, int64_t>, Meeting> meetings_;
  std::map<std::pair<std::string, int64_t>, int64_t> joined_; // group, rank
  std::map<std::pair<int64_t, int64_t>, std::deque<Tensor>> messages_;
};

} // namespace llmc
