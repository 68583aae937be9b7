// SPDX-License-Identifier: Apache-2.0
// Command: copy between buffers of this rank.
#include "runtime/executor/Command.h"

namespace llmrt {
namespace {

class CopyCommand final : public Command {
public:
  CopyCommand(Device& device, Stream stream, void* to, const void* from,
              int64_t sizeBytes)
      : device_(device), stream_(stream), to_(to), from_(from),
        sizeBytes_(sizeBytes) {}

  void enqueue() override { device_.copy(stream_, to_, from_, sizeBytes_); }

private:
  Device& device_;
  Stream stream_;
  void* to_;
  const void* from_;
  int64_t sizeBytes_;
};

} // namespace

CommandPtr prepareCopy(const fb::Command& command, PrepareContext& context) {
  const Rank& rank = context.rank;
  return std::make_unique<CopyCommand>(
      context.rank.device, static_cast<Stream>(command.stream()),
      rank.address(command.recv_buffer(), context.slots),
      rank.address(command.send_buffer(), context.slots) +
          atCoordinates(command.send_offset(), rank.coordinates, 0),
      command.bytes());
}

} // namespace llmrt
