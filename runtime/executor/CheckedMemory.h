// SPDX-License-Identifier: Apache-2.0
// Private to the executor: the memory of a rank that is checked
// (--check-memory). Every buffer, and every slot of one, has pages of its own
// with closed pages between them, which are open only while the plan's commands
// use the buffer, and begin with values that spoil results. So an access
// outside its lifetime or its bounds is caught, and what was touched is known:
// words that commands wrote of buffers that come and go, pages that anything
// touched of those that stay. Where the device traps no access, closed memory
// is looked at instead: around the buffers of a command behind it, in a buffer
// before it is used again, everywhere at the end of a call. Then writes are
// caught, and of what stays words that have changed are known.
#pragma once

#include "runtime/device/Device.h"
#include "runtime/executor/BufferLifetimes.h"

#include <map>
#include <memory>
#include <set>
#include <string>

namespace llmrt {

class CheckedMemory {
public:
  /// Errors  those of Device::allocateGuarded().
  static absl::StatusOr<std::unique_ptr<CheckedMemory>>
  create(const fb::Plan& plan, const fb::Stage& stage,
         absl::Span<const int> coordinates, int rank, Device& device);

  /// Address of a slot of a buffer (of the buffer if it has none).
  uint8_t* address(int buffer, int slot) const;

  /// Prepares the checks of a program and returns its number. `entry` is null
  /// for the initialise program. `slots` that it works on, by SlotKind.
  /// Errors  MemoryMisuse.
  absl::StatusOr<int> addProgram(const fb::Program& program,
                                 const fb::Entry* entry,
                                 absl::Span<const int> slots);
  /// Prepares the lifetimes of slots in actions that run one after another, and
  /// returns their number.
  int addSchedule(const std::vector<const fb::Action*>& actions);

  // In the order of a run. A call is one execute() or one step.
  void beginCall();
  void beginAction(int schedule, int64_t action);
  void beforeCommand(int program, int64_t command);
  /// isFull: every row of the call is valid, so that all has to be written.
  void afterCommand(int program, int64_t command, bool isFull);
  void endAction(int schedule, int64_t action);
  /// Everything enqueued has run. Errors  MemoryMisuse: the first of this call.
  absl::Status endCall();

  /// The first error of the device that looking at its memory met. After it
  /// nothing is looked at, and nothing more is to be enqueued.
  absl::Status status() const { return pages_->status(); }

  /// Called by the thread of the communication stream before it does the
  /// command.
  void markCommunication(int program, int64_t command);

  /// Bytes of the arena by class that were touched, in all calls together.
  BytesByClass touchedBytes() const;
  /// The end of the highest of them.
  int64_t highestOffset() const;

private:
  static constexpr uint32_t kPattern = GuardedMemory::kPattern;

  /// A buffer or one slot of it.
  struct Part {
    int buffer;
    int slot; // -1: the whole buffer
    int64_t arenaOffset;
    int64_t sizeBytes;
    int64_t offset;      // into the pages, so that it ends where they end
    int64_t pagesOffset; // of the first page
    int64_t pagesBytes;
    int64_t requiredBytes; // what follows is padding: nobody has to touch it
    int64_t touched = 0;   // the most bytes from its begin
    bool isOpen = false;   // of what comes and goes
  };

  struct CheckedProgram {
    const fb::Program* program;
    std::string entry;
    std::vector<std::vector<int>> births; // buffers, by command
    std::vector<std::vector<int>> deaths;
    std::vector<std::set<int>> named; // parts, by command
  };

  struct SlotLifetimes {
    std::vector<std::vector<int>> births; // parts, by action
    std::vector<std::vector<int>> deaths;
  };

  CheckedMemory(const fb::Plan& plan, const fb::Stage& stage, int rank)
      : plan_(plan), stage_(stage), rank_(rank) {}

  void layOut();
  void findShardPadding(absl::Span<const int> coordinates);
  int partOf(int buffer, int slot) const;
  bool isKept(const Part& part) const;
  void open(int part);
  void close(int part, bool mustBeWritten);
  uint32_t patternOf(const Part& part) const;
  void lookAtKept(Part& part);
  void lookAtClosed(const Part& part);
  static void touch(Part& part, int64_t bytes);
  int64_t writtenBytes(const Part& part) const;
  void checkBorders(const Part& part, const std::string& who);
  std::string describe(const CheckedProgram& program, int64_t command) const;
  std::string describeMark(int64_t mark) const;
  std::string describeLast() const;
  std::string describeFault(const AccessFault& fault) const;
  std::string nameOf(const Part& part) const;
  std::string outsideOf(const Part& part, int64_t offset) const;
  std::string outsideLifetime(const Part& part, int64_t offset) const;
  void report(std::string misuse);

  const fb::Plan& plan_;
  const fb::Stage& stage_;
  int rank_;
  std::unique_ptr<GuardedMemory> pages_;
  int64_t totalBytes_ = 0;
  std::vector<Part> parts_;
  std::vector<int> firstPart_;      // by buffer
  std::vector<Lifespan> lifespans_; // by buffer
  std::vector<CheckedProgram> programs_;
  std::vector<SlotLifetimes> schedules_;
  int64_t mark_ = -1;  // of the compute stream
  std::string misuse_; // the first of this call
};

} // namespace llmrt
