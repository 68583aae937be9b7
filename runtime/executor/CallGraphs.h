// SPDX-License-Identifier: Apache-2.0
// Private to the executor: the calls of one entry as graphs. A call's commands
// are the same whenever its number of valid rows is, because all that differs
// lies in memory: so the first call with a number of rows runs command by
// command (which loads what is loaded at first use, and tunes), the second one
// is captured, and those after are one command each.
#pragma once

#include "runtime/device/Device.h"
#include "runtime/executor/Rank.h"

#include "absl/functional/function_ref.h"

#include <map>
#include <optional>

namespace llmrt {

class CallGraphs {
public:
  /// How a call ran.
  struct Call {
    bool isEager;
    int64_t numFetched; // outputs that it copies to the host
  };

  /// `obstacle`: why calls are never captured, as lastCall() says it; null if
  /// they are. It outlives all. `isOfGroup`: other ranks capture the same calls
  /// at the same time, and only then.
  CallGraphs(Device& device, const char* obstacle, bool isOfGroup)
      : device_(device), obstacle_(obstacle), isOfGroup_(isOfGroup) {}

  CallGraphs(const CallGraphs&) = delete;
  CallGraphs& operator=(const CallGraphs&) = delete;

  ~CallGraphs() { forget(); }

  /// Enqueues a call: by `work`, which enqueues its commands and is told
  /// whether they are kept, or a graph of what that enqueued before.
  /// `numFetched` is how many outputs `work` copies to the host: a graph that
  /// copies fewer is captured again, unless it belongs to a group. What could
  /// not be captured does not run; Device::synchronize() has the error.
  Call enqueue(int64_t validRows, int64_t numFetched,
               absl::FunctionRef<void(bool isKept)> work);

  /// Drops all graphs; the next calls are as the first ones.
  void forget();

  /// Returns how the last call ran, for people: "replayed", "eager: ..."; a
  /// text that is always valid.
  const char* lastCall() const { return lastCall_; }

private:
  /// Calls with one number of valid rows.
  struct Kind {
    std::optional<GraphId> graph;
    int64_t numFetched = 0;
    int64_t lastUse = 0;
  };

  /// Graphs of an entry: more numbers of rows than this are not worth their
  /// memory.
  static constexpr int kMostGraphs = 8;

  void capture(Kind& kind, absl::FunctionRef<void(bool)> work);
  void dropOldest();

  Device& device_;
  const char* const obstacle_;
  const bool isOfGroup_;
  std::map<int64_t, Kind> kinds_; // by valid rows
  int64_t numCalls_ = 0;
  const char* lastCall_ = "";
};

/// Returns why what this rank repeats is not captured, as lastCall() says it,
/// or null if it is. `communicates`: with other ranks.
const char* obstacleToGraphs(const Rank& rank, bool usesGraphs,
                             bool communicates);

} // namespace llmrt
