// SPDX-License-Identifier: Apache-2.0
// Private to the executor: prepared commands. One file for each kind; preparing
// looks everything up, so that enqueuing only hands it to the device.
#pragma once

#include "runtime/comm/Communicator.h"
#include "runtime/executor/Rank.h"

#include <memory>

namespace llmrt {

class Program;

class Command {
public:
  virtual ~Command() = default;
  /// Hands the command to its stream. Errors appear in Device::synchronize().
  virtual void enqueue() = 0;
};

using CommandPtr = std::unique_ptr<Command>;

/// What the commands of one program are prepared with.
struct PrepareContext {
  Rank& rank;
  Program& program;
  std::vector<EventId>& events; // by number in the program
  int64_t commandIndex;
  const Slots& slots;
  CollectiveTag lastCollective{};            // before this command
  std::vector<CollectiveTag> eventTags = {}; // what came before each event
};

CommandPtr prepareLaunch(const fb::Command& command, PrepareContext& context);
CommandPtr prepareCollective(const fb::Command& command,
                             PrepareContext& context);
CommandPtr prepareCopy(const fb::Command& command, PrepareContext& context);
CommandPtr prepareEvent(const fb::Command& command, PrepareContext& context);

/// Adds what the compute stream waited for to the timeline, if there is one.
void addWait(Rank& rank, const CollectiveTag& tag,
             std::chrono::steady_clock::time_point begin);

/// Returns what the recorder shows of a command; its texts belong to the plan.
CollectiveTag tagOf(const fb::Command& command, const PrepareContext& context);

} // namespace llmrt
