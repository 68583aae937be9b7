// SPDX-License-Identifier: Apache-2.0
// Private to the executor: the prepared commands of one entry, with the
// argument blocks of its launches in one piece of device memory. Only words
// that depend on the number of valid rows change between calls.
#pragma once

#include "runtime/executor/Command.h"

#include "absl/status/statusor.h"

#include <algorithm>
#include <vector>

namespace llmrt {

class Program {
public:
  /// Prepares `program` for the slots given; `entry` is null for the initialise
  /// program.
  static absl::StatusOr<std::unique_ptr<Program>>
  create(const fb::Program& program, const fb::Entry* entry, Rank& rank,
         const Slots& slots = {});
  ~Program();

  /// Enqueues what the number of valid rows changes in the argument blocks,
  /// from ordinary memory.
  void setRows(int64_t validRows);
  /// Enqueues every command. They are the same whenever the rows are.
  void enqueue(int64_t validRows);

  int64_t numCommands() const { return commands_.size(); }

  /// True if a command talks to other ranks, or to those of other data
  /// replicas.
  bool communicates() const { return communicates_; }

  bool communicatesAmongReplicas() const { return communicatesAmongReplicas_; }

  /// Its number in the check of memory, if there is one.
  int checkedNumber() const { return checkedNumber_; }

  // For preparing launches.
  /// Takes the next `numWords` words of argument memory and returns the first's
  /// number.
  int64_t takeWords(int64_t numWords);
  /// Sets word `number` to what `word` says; `slotWords` are the first words of
  /// the blocks of the launch's slots.
  void setWord(int64_t number, const fb::Word& word, const fb::Command& command,
               absl::Span<const int64_t> slotWords);

  uint64_t deviceAddress(int64_t number) const {
    return reinterpret_cast<uint64_t>(deviceWords_ + number);
  }

  /// Returns the host's copy of a word; during preparation with all rows valid.
  const uint64_t* hostWord(int64_t number) const { return &words_[number]; }

  void needCommunication(bool isAmongReplicas) {
    communicates_ = true;
    communicatesAmongReplicas_ |= isAmongReplicas;
  }

  void needScratch(int64_t sizeBytes) {
    scratchBytes_ = std::max(scratchBytes_, sizeBytes);
  }

private:
  /// A word that depends on the valid rows.
  struct RowWord {
    int64_t number;
    int64_t firstRow; // of this rank's run
    int64_t numRows;  // of the run
    int64_t factor;
  };

  Program(Rank& rank, const fb::Entry* entry, const Slots& slots)
      : rank_(rank), entry_(entry), slots_(slots) {}

  void enqueueChecked(int64_t validRows);

  Rank& rank_;
  const fb::Entry* entry_;
  Slots slots_;
  std::vector<CommandPtr> commands_;
  std::vector<uint64_t> words_; // as the device will hold them
  uint64_t* deviceWords_ = nullptr;
  int64_t numTaken_ = 0;
  int64_t scratchBytes_ = 0; // the most that a launch needs
  std::vector<RowWord> rowWords_;
  std::vector<EventId> events_;
  int64_t validRows_ = -1; // that the words are set for
  int checkedNumber_ = -1;
  bool communicates_ = false;
  bool communicatesAmongReplicas_ = false;
};

} // namespace llmrt
