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
  WaitCommand(Device& device, EventId event, Stream stream)
      : device_(device), event_(event), stream_(stream) {}

  void enqueue() override { device_.wait(stream_, event_); }

private:
  Device& device_;
  EventId event_;
  Stream stream_;
};

} // namespace

CommandPtr prepareEvent(const fb::Command& command, PrepareContext& context) {
  EventId event = context.events[command.event()];
  Stream stream = static_cast<Stream>(command.stream());
  if (command.kind() == fb::CommandKind::RecordEvent)
    return std::make_unique<RecordCommand>(context.rank.device, event, stream);
  return std::make_unique<WaitCommand>(context.rank.device, event, stream);
}

} // namespace llmrt
