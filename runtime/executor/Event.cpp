// SPDX-License-Identifier: Apache-2.0
// Commands: record an event on a stream, or make a stream wait for one.
#include "runtime/executor/Command.h"

namespace llmrt {
namespace {

class RecordCommand final : public Command {
public:
  RecordCommand(Device& device, EventId event, Stream stream)
      : device_(device), event_(event), stream_(stream) {}

  void enqueue() override { device_.record(event_, stream_); }

private:
  Device& device_;
  EventId event_;
  Stream stream_;
};

class WaitCommand final : public Command {
public:
  WaitCommand(Rank& rank, EventId event, Stream stream,
              const CollectiveTag& tag)
      : rank_(rank), event_(event), stream_(stream), tag_(tag) {}

  void enqueue() override {
    if (!rank_.timeline || stream_ != Stream::Compute)
      return rank_.device.wait(stream_, event_);
    auto begin = std::chrono::steady_clock::now();
    rank_.device.wait(stream_, event_);
    addWait(rank_, tag_, begin);
  }

private:
  Rank& rank_;
  EventId event_;
  Stream stream_;
  CollectiveTag tag_; // of the collective before the event
};

} // namespace

void addWait(Rank& rank, const CollectiveTag& tag,
             std::chrono::steady_clock::time_point begin) {
  if (rank.timeline)
    rank.timeline->add({TimelineRow::Compute, /*isWait=*/true, tag.kind,
                        tag.subject, tag.pass, tag.command, begin,
                        std::chrono::steady_clock::now()});
}

CommandPtr prepareEvent(const fb::Command& command, PrepareContext& context) {
  EventId event = context.events[command.event()];
  Stream stream = static_cast<Stream>(command.stream());
  context.eventTags.resize(context.events.size());
  CollectiveTag& tag = context.eventTags[command.event()];
  if (command.kind() == fb::CommandKind::RecordEvent) {
    tag = context.lastCollective;
    return std::make_unique<RecordCommand>(context.rank.device, event, stream);
  }
  return std::make_unique<WaitCommand>(context.rank, event, stream, tag);
}

} // namespace llmrt
