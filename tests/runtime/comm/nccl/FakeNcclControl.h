// SPDX-License-Identifier: Apache-2.0
// What a test may tell libfakenccl.so, and ask it. Found with dlsym as
// "fakeNcclControl".
#pragma once

#include <atomic>

namespace llmrt::testing {

struct FakeNcclControl {
  std::atomic<int> version{22809};
  /// Ranks of a communicator; -1: none.
  std::atomic<int> hangInitRank{-1};
  std::atomic<int> failInitRank{-1};
  /// The communicators of this rank report `asyncError`, and their calls hang.
  std::atomic<int> asyncErrorRank{-1};
  std::atomic<int> asyncError{6};
  /// Before each call of this rank runs.
  std::atomic<int> delayRank{-1};
  std::atomic<int> delayMillis{0};
  /// How often a call answers "in progress" before it is enqueued.
  std::atomic<int> pollsToSettle{1};

  // Counters.
  std::atomic<int> numCreated{0};
  std::atomic<int> numDestroyed{0};
  std::atomic<int> numAborted{0};
  std::atomic<int> numMisuses{0}; // calls that NCCL forbids

  void reset() {
    version = 22809;
    hangInitRank = failInitRank = asyncErrorRank = delayRank = -1;
    asyncError = 6;
    delayMillis = 0;
    pollsToSettle = 1;
    numCreated = numDestroyed = numAborted = numMisuses = 0;
  }
};

} // namespace llmrt::testing

extern "C" llmrt::testing::FakeNcclControl* fakeNcclControl();
