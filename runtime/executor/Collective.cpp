// SPDX-License-Identifier: Apache-2.0
// Commands of communication: one call of a communicator, on either stream. A
// failure aborts the fabric, so that no rank waits for this one. On a device
// with streams of its own run() only enqueues.
#include "runtime/executor/Program.h"

#include <chrono>
#include <cstring>

namespace llmrt {
namespace {

/// A communication command with its addresses.
struct CollectiveArgs {
  fb::CommandKind kind;
  Communicator* communicator; // null: this rank is alone
  uint8_t* send;              // null if the command has none
  uint8_t* recv;
  int64_t sizeBytes;
  DType dtype;
  int root;
  int peer;
  int recvPeer;
  std::vector<BucketPart> parts; // AllGather, ReduceScatter: all of a bucket
};

class CollectiveCommand final : public Command, public StreamCall {
public:
  CollectiveCommand(Rank& rank, Stream stream, const CollectiveArgs& args,
                    const CollectiveTag& tag, int checkedProgram)
      : rank_(rank), stream_(stream), args_(args), tag_(tag),
        checkedProgram_(checkedProgram) {}

  void enqueue() override {
    if (!rank_.timeline || stream_ != Stream::Compute)
      return rank_.device.call(stream_, *this);
    auto begin = std::chrono::steady_clock::now();
    rank_.device.call(stream_, *this);
    addWait(rank_, tag_, begin);
  }

  absl::Status run() override {
    if (rank_.checked && stream_ == Stream::Communication)
      rank_.checked->markCommunication(checkedProgram_, tag_.command);
    auto begin = std::chrono::steady_clock::now();
    rank_.communicationRecorder.begin(tag_);
    absl::Status status = args_.communicator ? communicate() : stayAlone();
    rank_.communicationRecorder.end(status.ok());
    auto end = std::chrono::steady_clock::now();
    rank_.communicationSeconds +=
        std::chrono::duration<double>(end - begin).count();
    if (rank_.timeline)
      rank_.timeline->add({TimelineRow::Communication, /*isWait=*/false,
                           tag_.kind, tag_.subject, tag_.pass, tag_.command,
                           begin, end});
    if (!status.ok())
      rank_.fabric.abort(status);
    return status;
  }

private:
  absl::Status communicate() {
    Communicator& group = *args_.communicator;
    const CollectiveArgs& a = args_;
    int64_t numElements = a.sizeBytes / dtypeBytes(a.dtype);
    switch (a.kind) {
    case fb::CommandKind::AllGather:
      return group.allGatherBucket(a.parts, tag_);
    case fb::CommandKind::ReduceScatter:
      return group.reduceScatterBucket(a.parts, a.dtype, tag_);
    case fb::CommandKind::AllReduce:
      copyIfApart();
      return group.allReduce(a.recv, numElements, a.dtype, tag_);
    case fb::CommandKind::AllToAll:
      return group.allToAll(a.send, a.recv, a.sizeBytes, tag_);
    case fb::CommandKind::Broadcast:
      if (group.rank() == a.root)
        copyIfApart();
      return group.broadcast(a.recv, a.sizeBytes, a.root, tag_);
    case fb::CommandKind::Send:
      return group.send(a.send, a.sizeBytes, a.peer, tag_);
    case fb::CommandKind::Recv:
      return group.recv(a.recv, a.sizeBytes, a.peer, tag_);
    case fb::CommandKind::Exchange:
      return group.exchange(a.send, a.sizeBytes, a.peer, a.recv, a.sizeBytes,
                            a.recvPeer, tag_);
    default:
      return absl::InternalError("not a communication command");
    }
  }

  // A group of one: every collective is a copy.
  absl::Status stayAlone() {
    if (args_.parts.empty())
      copyIfApart();
    int64_t unitBytes = args_.kind == fb::CommandKind::ReduceScatter
                            ? dtypeBytes(args_.dtype)
                            : 1;
    for (const BucketPart& part : args_.parts)
      if (part.recv != part.send)
        move(part.recv, part.send, part.size * unitBytes);
    return absl::OkStatus();
  }

  void copyIfApart() {
    if (args_.send && args_.recv && args_.send != args_.recv)
      move(args_.recv, args_.send, args_.sizeBytes);
  }

  void move(void* to, const void* from, int64_t sizeBytes) {
    if (tag_.stream)
      rank_.device.copy(stream_, to, from, sizeBytes);
    else
      std::memmove(to, from, sizeBytes);
  }

  Rank& rank_;
  Stream stream_;
  CollectiveArgs args_;
  CollectiveTag tag_;
  int checkedProgram_;
};

/// The parts of a bucket: the command's own buffers, then three words for each
/// further part (plan.fbs).
std::vector<BucketPart> partsOf(const fb::Command& command,
                                const CollectiveArgs& args,
                                const PrepareContext& context) {
  int64_t unitBytes = 1;
  if (command.kind() == fb::CommandKind::ReduceScatter)
    unitBytes = dtypeBytes(args.dtype);
  else if (command.kind() != fb::CommandKind::AllGather)
    return {};
  std::vector<BucketPart> parts = {
      {args.send, args.recv, args.sizeBytes / unitBytes}};
  unsigned numWords = command.words() ? command.words()->size() : 0;
  auto address = [&](const fb::Word* word) {
    return context.rank.address(word->index(), context.slots) + word->value();
  };
  for (unsigned i = 0; i + 2 < numWords; i += 3)
    parts.push_back({address(command.words()->Get(i)),
                     address(command.words()->Get(i + 1)),
                     command.words()->Get(i + 2)->value() / unitBytes});
  return parts;
}

/// True if members of the group belong to different data replicas.
bool cutsTheBatch(const fb::Plan& plan, const fb::Command& command) {
  for (int axis : spanOf(command.axes()))
    if (plan.axes()->Get(axis)->name()->string_view().substr(
            0, kDataAxisPrefix.size()) ==
        std::string_view(kDataAxisPrefix.data(), kDataAxisPrefix.size()))
      return true;
  return false;
}

} // namespace

CommandPtr prepareCollective(const fb::Command& command,
                             PrepareContext& context) {
  const Rank& rank = context.rank;
  CollectiveArgs args;
  args.kind = command.kind();
  args.communicator = rank.communicators.find(spanOf(command.axes()));
  if (args.communicator)
    context.program.needCommunication(cutsTheBatch(rank.plan, command));
  args.send = nullptr;
  args.recv = nullptr;
  if (command.send_buffer() >= 0)
    args.send = rank.address(command.send_buffer(), context.slots) +
                atCoordinates(command.send_offset(), rank.coordinates, 0);
  if (command.recv_buffer() >= 0)
    args.recv = rank.address(command.recv_buffer(), context.slots);
  args.sizeBytes = command.bytes();
  args.dtype = static_cast<DType>(command.dtype());
  args.root = command.root();
  args.peer = command.peer();
  args.recvPeer = command.recv_peer();
  args.parts = partsOf(command, args, context);
  auto stream = static_cast<Stream>(command.stream());
  CollectiveTag tag = tagOf(command, context);
  tag.stream = rank.device.nativeStream(stream);
  context.lastCollective = tag;
  return std::make_unique<CollectiveCommand>(context.rank, stream, args, tag,
                                             context.program.checkedNumber());
}

} // namespace llmrt
