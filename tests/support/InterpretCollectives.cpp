// SPDX-License-Identifier: Apache-2.0
#include "tests/support/InterpretCollectives.h"

#include "llvm/ADT/TypeSwitch.h"

using namespace mlir;

namespace llmc {
namespace {

using Kind = Collective::Kind;

std::vector<int64_t> shapeOf(Type type) {
  return cast<RankedTensorType>(type).getShape().vec();
}

/// A reshard as the collective that it is (slices are not communication).
std::optional<Collective> ofReshard(dist::ReshardOp op) {
  std::vector<int64_t> shape = shapeOf(op.getResult().getType());
  dist::ShardingAttr from = op.getFrom(), to = op.getTo();
  if (!from.getPartial().empty()) {
    SmallVector<Attribute> axes(from.getPartial().begin(),
                                from.getPartial().end());
    return Collective{to.getSplits().empty() ? Kind::AllReduce
                                             : Kind::ReduceScatter,
                      ArrayAttr::get(op.getContext(), axes), shape};
  }
  if (from.getSplits().empty())
    return std::nullopt;
  dist::DimSplitAttr split = from.getSplits().front();
  return Collective{Kind::AllGather,
                    ArrayAttr::get(op.getContext(), {split.getAxis()}), shape,
                    split.getDim()};
}

/// The flattened runs of all ranks, then cut to the result's elements.
Tensor gatherRuns(const std::vector<const Tensor*>& parts, Tensor result) {
  size_t at = 0;
  for (const Tensor* part : parts)
    for (double value : part->values)
      if (at < result.values.size())
        result.values[at++] = value;
  return result;
}

/// Run i of what rank i holds, for all i.
Tensor gatherUpdated(const std::vector<const Tensor*>& parts, int64_t run,
                     Tensor result) {
  for (int64_t i = 0; i < result.numElements(); ++i)
    result.values[i] = parts[i / run]->values[i];
  return result;
}

/// Parts one after another along `dim`; padding beyond the end is dropped.
Tensor gatherAlong(const std::vector<const Tensor*>& parts, int64_t dim,
                   Tensor result) {
  int64_t inner = 1, offset = 0;
  for (size_t d = dim + 1; d < result.shape.size(); ++d)
    inner *= result.shape[d];
  int64_t extent = result.shape[dim];
  for (const Tensor* part : parts) {
    int64_t partExtent = part->shape[dim];
    for (int64_t i = 0; i < part->numElements(); ++i) {
      int64_t outer = i / (partExtent * inner);
      int64_t at = offset + i / inner % partExtent;
      if (at < extent)
        result.values[(outer * extent + at) * inner + i % inner] =
            part->values[i];
    }
    offset += partExtent;
  }
  return result;
}

} // namespace

std::optional<Collective> Collective::of(Operation* op) {
  return TypeSwitch<Operation*, std::optional<Collective>>(op)
      .Case<dist::ReshardOp>([](auto o) { return ofReshard(o); })
      .Case<dist::ZeroGatherOp>([](auto o) {
        return Collective{Kind::AllGather, o.getAxes(),
                          shapeOf(o.getFull().getType())};
      })
      .Case<dist::AllGatherOp>([](auto o) {
        return Collective{Kind::AllGather, o.getAxes(),
                          shapeOf(o.getResult().getType()),
                          static_cast<int64_t>(o.getDim())};
      })
      .Case<dist::AllReduceOp>([](auto o) {
        return Collective{Kind::AllReduce, o.getAxes(),
                          shapeOf(o.getResult().getType())};
      })
      .Case<dist::ReduceScatterOp>([](auto o) {
        return Collective{Kind::ReduceScatter, o.getAxes(),
                          shapeOf(o.getResult().getType())};
      })
      .Case<dist::BroadcastOp>([](auto o) {
        return Collective{Kind::Broadcast, o.getAxes(),
                          shapeOf(o.getResult().getType()), 0,
                          static_cast<int64_t>(o.getRoot())};
      })
      .Case<dist::GatherInPlaceOp>([](auto o) {
        return Collective{Kind::GatherInPlace,
                          o.getAxes(),
                          shapeOf(o.getX().getType()),
                          0,
                          0,
                          static_cast<int64_t>(o.getRun())};
      })
      .Default([](Operation*) { return std::nullopt; });
}

std::optional<Collective> Collective::of(dist::StartOp op) {
  auto axes = op.getArgs().getAs<ArrayAttr>("axes");
  auto dim = op.getArgs().getAs<IntegerAttr>("dim");
  std::vector<int64_t> shape = shapeOf(op.getPending().getType().getType());
  if (!axes)
    return std::nullopt;
  if (op.getCollective() == "all_gather")
    return Collective{Kind::AllGather, axes, shape, dim ? dim.getInt() : 0};
  if (op.getCollective() == "all_reduce")
    return Collective{Kind::AllReduce, axes, shape};
  return Collective{Kind::ReduceScatter, axes, shape};
}

FailureOr<Ticket> CollectiveBoard::join(Operation* op, const Collective& what,
                                        const Tensor* operand,
                                        const RankState& rank) {
  std::vector<int64_t> group = rank.groupAlong(what.axes);
  Ticket ticket;
  for (Attribute axis : what.axes)
    ticket.group += cast<StringAttr>(axis).getValue().str() + " ";
  ticket.group += std::to_string(group.front());
  ticket.number = joined_[{ticket.group, rank.rank()}]++;
  std::string mnemonic = op->getName().stripDialect().str();
  auto [found, isNew] = meetings_.try_emplace(
      {ticket.group, ticket.number}, Meeting{what, mnemonic, group, {}});
  Meeting& meeting = found->second;
  if (meeting.what.kind != what.kind ||
      meeting.what.resultShape != what.resultShape ||
      meeting.what.dim != what.dim || meeting.what.root != what.root ||
      meeting.what.run != what.run)
    return op->emitOpError("rank ")
           << rank.rank() << " meets a " << meeting.mnemonic
           << " of other ranks in group " << ticket.group;
  meeting.operands[rank.rank()] = operand ? *operand : Tensor();
  ++counts[mnemonic];
  return ticket;
}

Tensor CollectiveBoard::resultOf(const Meeting& meeting, int64_t place) const {
  std::vector<const Tensor*> parts;
  for (int64_t member : meeting.group)
    parts.push_back(&meeting.operands.at(member));
  const Collective& what = meeting.what;
  Tensor result(what.resultShape);
  if (what.kind == Kind::Broadcast)
    return *parts[what.root];
  if (what.kind == Kind::GatherInPlace)
    return gatherUpdated(parts, what.run, std::move(result));
  if (what.kind == Kind::AllGather && parts[0]->shape.size() == 1 &&
      result.shape.size() > 1)
    return gatherRuns(parts, std::move(result));
  if (what.kind == Kind::AllGather)
    return gatherAlong(parts, what.dim, std::move(result));
  int64_t begin =
      what.kind == Kind::ReduceScatter ? place * result.numElements() : 0;
  for (const Tensor* part : parts)
    for (int64_t i = 0; i < result.numElements(); ++i)
      if (begin + i < part->numElements()) // then padding, of a flat run
        result.values[i] += part->values[begin + i];
  return result;
}

std::optional<Tensor> CollectiveBoard::finish(const Ticket& ticket,
                                              const RankState& rank) {
  auto found = meetings_.find({ticket.group, ticket.number});
  Meeting& meeting = found->second;
  if (meeting.operands.size() < meeting.group.size())
    return std::nullopt;
  Tensor result = resultOf(meeting, rank.placeAlong(meeting.what.axes));
  if (++meeting.numFinished == static_cast<int64_t>(meeting.group.size()))
    meetings_.erase(found);
  return result;
}

void CollectiveBoard::send(int64_t from, int64_t to, Tensor message) {
  messages_[{from, to}].push_back(std::move(message));
  ++counts["send"];
}

std::optional<Tensor> CollectiveBoard::receive(int64_t from, int64_t to) {
  std::deque<Tensor>& queue = messages_[{from, to}];
  if (queue.empty())
    return std::nullopt;
  Tensor message = std::move(queue.front());
  queue.pop_front();
  ++counts["recv"];
  return message;
}

bool CollectiveBoard::isAnyPending() const {
  return !meetings_.empty() || llvm::any_of(messages_, [](const auto& m) {
    return !m.second.empty();
  });
}

} // namespace llmc
