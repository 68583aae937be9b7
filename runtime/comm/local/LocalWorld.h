// SPDX-License-Identifier: Apache-2.0
// What the rank threads of one process share: who waits for whom, the abort,
// and the memory of each group. Private to runtime/comm/local.
#pragma once

#include "runtime/comm/Communicator.h"

#include "absl/functional/function_ref.h"

#include <atomic>
#include <map>
#include <memory>
#include <mutex>
#include <vector>

namespace llmrt::local {

/// Two cache lines, because processors fetch lines in pairs.
inline constexpr int64_t kLineBytes = 128;

/// A counter that threads wait for: they spin for a while, then sleep in the
/// kernel.
struct alignas(kLineBytes) WaitWord {
  std::atomic<uint32_t> value{0};
  std::atomic<uint32_t> numSleepers{0};

  bool reached(uint32_t target) const {
    uint32_t ahead = value.load(std::memory_order_acquire) - target;
    return static_cast<int32_t>(ahead) >= 0;
  }

  /// Adds one; wakes the sleepers if the sum is `wakeAt`.
  void advance(uint32_t wakeAt);
  void wakeSleepers();
};

/// What a rank says about the collective it entered. Two of each, used in
/// turns: a rank is at most one phase ahead of the slowest.
struct alignas(kLineBytes) Post {
  const void* data = nullptr;
  int64_t sizeBytes = 0;
  uint32_t operation = 0;
};

/// The way from one rank to another.
struct Channel {
  WaitWord numPosted;
  WaitWord numTaken;
  const void* data = nullptr;
  int64_t sizeBytes = 0;
};

/// The memory of one group.
struct Group {
  /// Messages up to this size are copied to staging memory, which saves two of
  /// three meetings.
  static constexpr int64_t kStagedBytes = 32768;

  Group(std::vector<int> worldRanks);

  int size() const { return static_cast<int>(worldRanks.size()); }

  uint8_t* staging(uint32_t phase, int rank) {
    return staging_.get() +
           ((phase & 1) * worldRanks.size() + rank) * kStagedBytes;
  }

  Post& post(uint32_t phase, int rank) {
    return posts_[(phase & 1) * worldRanks.size() + rank];
  }

  Channel& channel(int from, int to) {
    return channels_[from * worldRanks.size() + to];
  }

  int64_t reservedBytes() const;

  const std::vector<int> worldRanks;
  WaitWord numArrived; // size() for each phase

  struct alignas(kLineBytes) RankState {
    std::atomic<uint32_t> numArrived{0}; // names the missing ones
    std::atomic<bool> isReading{false};  // another rank's buffer
  };

  std::vector<RankState> rankStates;

private:
  struct AlignedDelete {
    void operator()(uint8_t* p) const {
      ::operator delete(p, std::align_val_t(kLineBytes));
    }
  };

  std::vector<Post> posts_;
  std::vector<Channel> channels_;
  std::unique_ptr<uint8_t, AlignedDelete>
      staging_; // touched first by its owner
};

class World {
public:
  World(int numRanks, const FabricOptions& options);

  /// Joins the `occurrence`-th group of exactly these ranks.
  std::shared_ptr<Group> joinGroup(const std::vector<int>& worldRanks,
                                   int occurrence);
  void abort(int rank, const absl::Status& reason);

  bool isAborted() const { return isAborted_.load(std::memory_order_seq_cst); }

  absl::Status abortStatus() const;

  /// Returns when `word` reaches `target`. `firstMissing` names a world rank
  /// that keeps it from there, or -1. A rank that itself waits for another is
  /// not the culprit of a time-out: the chain is followed to its end.
  absl::Status waitFor(WaitWord& word, uint32_t target, int worldRank,
                       const CollectiveTag& tag,
                       absl::FunctionRef<int()> firstMissing) {
    if (word.reached(target))
      return absl::OkStatus();
    return waitSlowly(word, target, worldRank, tag, firstMissing);
  }

  /// Sleeps as long as the simulated link needs for these bytes.
  void crossLink(int64_t sizeBytes) const;

  const int numRanks;
  const FabricOptions options;

private:
  absl::Status waitSlowly(WaitWord& word, uint32_t target, int worldRank,
                          const CollectiveTag& tag,
                          absl::FunctionRef<int()> firstMissing);
  int followChain(int firstMissing) const;

  int64_t spinNanos_;
  std::vector<std::atomic<int>> waitsFor_; // world rank, or -1
  std::atomic<bool> isAborted_{false};
  mutable std::mutex mutex_; // of the members below
  absl::Status abortStatus_;

  struct Joining {
    std::shared_ptr<Group> group;
    int numJoined = 0;
  };

  std::map<std::pair<std::vector<int>, int>, Joining> joining_;
  std::vector<std::weak_ptr<Group>> groups_;
};

} // namespace llmrt::local
