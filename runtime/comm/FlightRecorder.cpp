// SPDX-License-Identifier: Apache-2.0
// Each entry is a small sequence lock: a reader that sees its sequence number
// change drops the entry.
#include "runtime/comm/FlightRecorder.h"

#include "absl/strings/str_format.h"

#include <algorithm>
#include <chrono>

namespace llmrt {
namespace {

constexpr auto kRelaxed = std::memory_order_relaxed;

int64_t nowNanos() {
  static const auto start = std::chrono::steady_clock::now();
  return std::chrono::duration_cast<std::chrono::nanoseconds>(
             std::chrono::steady_clock::now() - start)
      .count();
}

} // namespace

void FlightRecorder::begin(const CollectiveTag& tag) {
  int64_t sequence = numBegun_.load(kRelaxed);
  Entry& entry = entries_[sequence % kNumEntries];
  entry.sequence.store(-1, std::memory_order_seq_cst);
  entry.command.store(tag.command, std::memory_order_release);
  entry.kind.store(tag.kind, std::memory_order_release);
  entry.subject.store(tag.subject, std::memory_order_release);
  entry.pass.store(tag.pass, std::memory_order_release);
  entry.beginNanos.store(nowNanos(), std::memory_order_release);
  entry.endNanos.store(0, std::memory_order_release);
  entry.state.store(State::Running, std::memory_order_release);
  entry.sequence.store(sequence, std::memory_order_release);
  numBegun_.store(sequence + 1, std::memory_order_release);
}

void FlightRecorder::end(bool ok) {
  int64_t sequence = numBegun_.load(kRelaxed) - 1;
  if (sequence < 0)
    return;
  Entry& entry = entries_[sequence % kNumEntries];
  entry.endNanos.store(nowNanos(), kRelaxed);
  entry.state.store(ok ? State::Done : State::Failed,
                    std::memory_order_release);
}

std::string FlightRecorder::dump() const {
  int64_t numBegun = numBegun_.load(std::memory_order_acquire);
  std::string text;
  for (int64_t sequence = std::max<int64_t>(0, numBegun - kNumEntries);
       sequence < numBegun; ++sequence) {
    const Entry& entry = entries_[sequence % kNumEntries];
    if (entry.sequence.load(std::memory_order_acquire) != sequence)
      continue;
    // Acquire loads, so that the check of the sequence below stays below them.
    State state = entry.state.load(std::memory_order_acquire);
    int64_t command = entry.command.load(std::memory_order_acquire);
    const char* kind = entry.kind.load(std::memory_order_acquire);
    const char* subject = entry.subject.load(std::memory_order_acquire);
    const char* pass = entry.pass.load(std::memory_order_acquire);
    int64_t beginNanos = entry.beginNanos.load(std::memory_order_acquire);
    int64_t endNanos = entry.endNanos.load(std::memory_order_acquire);
    if (entry.sequence.load(std::memory_order_acquire) != sequence)
      continue;
    const char* stateName = state == State::Running ? "running"
                            : state == State::Done  ? "done"
                                                    : "failed";
    if (state == State::Running)
      endNanos = nowNanos();
    absl::StrAppendFormat(&text,
                          "rank %d  #%d +%.6f s  command %d %s %s [%s] %s "
                          "%.1f us\n",
                          rank_, sequence, beginNanos * 1e-9, command, kind,
                          subject, pass, stateName,
                          (endNanos - beginNanos) * 1e-3);
  }
  return text;
}

} // namespace llmrt
