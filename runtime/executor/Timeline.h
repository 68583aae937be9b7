// SPDX-License-Identifier: Apache-2.0
// When one rank did what: entries, commands and waits with their times, for
// --trace. Off unless asked for; the flight recorder, which is always on,
// remembers only the last commands.
#pragma once

#include <array>
#include <chrono>
#include <cstdint>
#include <vector>

namespace llmrt {

/// Events of one row never overlap.
enum class TimelineRow : uint8_t {
  Entries = 0,
  Compute = 1,
  Communication = 2
};
inline constexpr int kNumTimelineRows = 3;

/// Texts live as long as the plan.
struct TimelineEvent {
  TimelineRow row;
  // The compute stream stood still for a collective, which the texts name.
  bool isWait = false;
  const char* name = ""; // an entry, a kernel, "AllGather"
  // The parameter or tensor, or the op of the model; of an entry: how a device
  // with graphs ran it.
  const char* subject = "";
  const char* pass = ""; // that put the command there
  int64_t number = 0;    // of the command in its program; entries: valid rows
  std::chrono::steady_clock::time_point begin;
  std::chrono::steady_clock::time_point end;
};

/// Each row is written by one thread at a time; read it when all have ended.
class Timeline {
public:
  static constexpr size_t kMostEvents = size_t{1} << 20; // of a row

  void add(const TimelineEvent& event) {
    std::vector<TimelineEvent>& row = rows_[static_cast<int>(event.row)];
    if (row.size() < kMostEvents)
      row.push_back(event);
    else
      ++numDropped_[static_cast<int>(event.row)];
  }

  const std::vector<TimelineEvent>& row(TimelineRow row) const {
    return rows_[static_cast<int>(row)];
  }

  /// Events that came when their row was full.
  int64_t numDropped() const {
    int64_t sum = 0;
    for (int64_t dropped : numDropped_)
      sum += dropped;
    return sum;
  }

private:
  std::array<std::vector<TimelineEvent>, kNumTimelineRows> rows_;
  std::array<int64_t, kNumTimelineRows> numDropped_{};
};

} // namespace llmrt
