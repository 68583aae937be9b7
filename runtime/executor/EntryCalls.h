// SPDX-License-Identifier: Apache-2.0
// Private to the executor: the calls of a plan's entries, each with its
// program, its graphs, and the host's copies of its inputs and outputs.
#pragma once

#include "runtime/executor/CallGraphs.h"
#include "runtime/executor/HostCopies.h"
#include "runtime/executor/Program.h"

namespace llmrt {

class EntryCalls {
public:
  explicit EntryCalls(Rank& rank) : rank_(rank) {}

  /// Prepares the programs of this rank's stage. `copies`: null where the host
  /// shares the memory; outlives this.
  absl::Status prepare(HostCopies* copies, bool usesGraphs);

  /// True if this stage has the entry.
  bool has(int entry) const {
    return entry >= 0 && entry < static_cast<int>(entries_.size()) &&
           entries_[entry].program;
  }

  /// Enqueues a call: its commands, or a graph of them. Returns how many
  /// commands that are.
  int64_t enqueue(int entry, int64_t validRows);

  /// Returns how the last call of an entry ran (CallGraphs::lastCall()).
  const char* lastCall(int entry) const {
    return entries_[entry].graphs->lastCall();
  }

  /// Graphs may hold what is about to change.
  void forgetGraphs();

private:
  struct Entry {
    std::unique_ptr<Program> program; // null: of another stage
    std::unique_ptr<CallGraphs> graphs;
  };

  const char* obstacleTo(const Program& program, bool usesGraphs) const;

  Rank& rank_;
  HostCopies* copies_ = nullptr;
  std::vector<Entry> entries_;
};

} // namespace llmrt
