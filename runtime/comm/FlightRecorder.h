// SPDX-License-Identifier: Apache-2.0
// The last commands of one rank, always on: what a run that hangs or stops was
// doing. Not a profiler: it keeps a fixed number of entries and forgets the
// rest.
#pragma once

#include "runtime/comm/Communicator.h"

#include <array>
#include <atomic>

namespace llmrt {

/// Written by the one thread that issues this rank's commands; dump() may be
/// called by any thread at any time, also while a command runs or hangs.
/// Lock-free.
class FlightRecorder {
public:
  static constexpr int kNumEntries = 256;

  explicit FlightRecorder(int rank) : rank_(rank) {}

  /// Starts an entry. The texts of `tag` must outlive the recorder or 256 more
  /// commands.
  void begin(const CollectiveTag& tag);
  /// Ends the entry of the last begin().
  void end(bool ok = true);
  /// Returns the entries as text, oldest first, one line for each:
  /// "rank 1  #812 +3.204512 s  command 17 all_gather layers.3.mlp
  /// [lower-collectives] done 12.5 us"; state running, done or failed; running
  /// ones with their age.
  std::string dump() const;

private:
  enum class State : uint8_t { Running, Done, Failed };

  struct Entry {
    std::atomic<int64_t> sequence{-1}; // -1 while it is being overwritten
    std::atomic<int64_t> command{0};
    std::atomic<const char*> kind{""};
    std::atomic<const char*> subject{""};
    std::atomic<const char*> pass{""};
    std::atomic<int64_t> beginNanos{0};
    std::atomic<int64_t> endNanos{0};
    std::atomic<State> state{State::Done};
  };

  int rank_;
  std::atomic<int64_t> numBegun_{0};
  std::array<Entry, kNumEntries> entries_;
};

} // namespace llmrt
