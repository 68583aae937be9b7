// SPDX-License-Identifier: Apache-2.0
// Where the device is in the calls of one group: each call writes its number to
// pinned host memory before and after it, in stream order. The writes are kept
// in captured graphs, so a replay that hangs still names its command. The
// watcher reads the words without a call of CUDA.
#pragma once

#include "runtime/comm/Communicator.h"
#include "runtime/comm/cuda/CudaTable.h"

#include <map>
#include <memory>
#include <mutex>
#include <tuple>
#include <vector>

namespace llmrt {

/// What one call does, as far as other ranks must agree. Peers are world ranks.
struct CallSite {
  CollectiveTag tag;
  const char* operation = ""; // "all_reduce f32", equal on all ranks
  int64_t sizeBytes = 0;      // of a collective
  bool isExchange = false;
  int sendPeer = -1;
  int64_t sendBytes = 0;
  int recvPeer = -1;
  int64_t recvBytes = 0;
};

class ProgressMarks {
public:
  /// Errors  those of CudaTable::toStatus().
  static absl::StatusOr<std::unique_ptr<ProgressMarks>>
  create(const CudaTable& cuda);
  ~ProgressMarks();

  /// Returns the number of a call. Those of host memory, which return complete,
  /// share number 0; the others keep theirs, because a graph may hold it.
  uint32_t numberOf(const CallSite& site);

  /// Enqueue the marks around a call.
  absl::Status begin(void* stream, uint32_t number, bool isExchange);
  absl::Status end(void* stream, uint32_t number, bool isExchange);

  /// Sets the words of a call that writes its marks itself.
  void describe(PeerSumCall& call) const;

  /// Where the device is now.
  struct Position {
    bool isInside = false;       // between the marks of `site`
    uint32_t numCollectives = 0; // that have begun
    uint32_t numExchanges = 0;
    CallSite site; // that it is inside, or that began last of its kind

    bool isSameCallAs(const Position& other) const {
      return isInside == other.isInside &&
             numCollectives == other.numCollectives &&
             numExchanges == other.numExchanges;
    }
  };

  Position read() const;

  /// Pinned and device memory of the marks of one group.
  static int64_t reservedBytes();

private:
  // Of two kinds, because members of a group make the same collectives but not
  // the same exchanges.
  enum Line {
    BegunCollective,
    EndedCollective,
    BegunExchange,
    EndedExchange,
    kNumLines
  };

  explicit ProgressMarks(const CudaTable& cuda) : cuda_(cuda) {}

  absl::Status mark(void* stream, uint32_t number, Line line,
                    const char* doing);

  CudaTable cuda_;
  uint64_t* words_ = nullptr;  // kNumLines, pinned: count << 32 | number
  uint32_t* counts_ = nullptr; // kNumLines, on the device
  mutable std::mutex mutex_;   // of the sites
  std::vector<CallSite> sites_{1};

  using SiteKey = std::tuple<int64_t, const char*, const char*, const char*,
                             const char*, int64_t, int, int64_t, int, int64_t>;
  std::map<SiteKey, uint32_t> numbers_;
};

} // namespace llmrt
