// SPDX-License-Identifier: Apache-2.0
// A sum of a small message over GPUs that reach each other's memory, in one
// kernel: every rank puts its elements where the others see them, tells them,
// waits for theirs, and adds all in rank order. Limits, memory and arguments,
// for C++ and for nvcc; the kernel is PeerSum.cuh.
#pragma once

#include <cstdint>

namespace llmrt {

/// A block adds one 16-byte access of each of its threads.
inline constexpr int kPeerSumThreads = 256;
inline constexpr int64_t kPeerSumBlockBytes = kPeerSumThreads * 16;
inline constexpr int kMaxPeerSumBlocks = 64;
/// The largest message, 256 KiB: above it every rank would read more than by
/// a ring. Also the most ranks: each reads what all others have.
inline constexpr int64_t kMaxPeerSumBytes =
    kMaxPeerSumBlocks * kPeerSumBlockBytes;
inline constexpr int kMaxPeers = 8;

/// What a rank shows the others of its GPU's memory, zero at the begin. A block
/// uses two places in turns: who writes one of them again has been told by
/// every other rank that it has gone on to the other.
struct PeerMemory {
  /// By block and rank: turn << 32 | size, as that rank wrote it.
  uint64_t arrived[kMaxPeerSumBlocks][kMaxPeers];
  uint32_t turns[kMaxPeerSumBlocks]; // that a block has done; this rank's own
  uint32_t blocksDone;               // of this call; this rank's own
  alignas(4096)
      uint8_t staging[2][kMaxPeerSumBlocks][kPeerSumBlockBytes]; // [turn % 2]
};

/// One call on one rank.
struct PeerSumCall {
  void* data; // in place
  int64_t numElements;
  bool isBf16;
  int rank; // in the group
  int numRanks;
  PeerMemory* peers[kMaxPeers]; // by rank, this one's among them
  const uint32_t* isAborted;    // pinned: the call ends when it is not 0
  // As CudaTable::mark before and behind the call.
  uint32_t number;
  uint64_t* beginWord;
  uint32_t* beginCount;
  uint64_t* endWord;
  uint32_t* endCount;
};

inline int peerSumBlocks(const PeerSumCall& call) {
  const int64_t sizeBytes = call.numElements * (call.isBf16 ? 2 : 4);
  return static_cast<int>((sizeBytes + kPeerSumBlockBytes - 1) /
                          kPeerSumBlockBytes);
}

} // namespace llmrt
