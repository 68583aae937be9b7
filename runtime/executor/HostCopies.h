// SPDX-License-Identifier: Apache-2.0
// Private to the executor: the host's copies of inputs and outputs, in pinned
// memory, on devices whose memory the host cannot reach. Inputs are written to
// the copy and sent before an entry runs; what an entry's caller asks for of
// its outputs is fetched behind every later call of it, so that it waits for
// the device once.
#pragma once

#include "runtime/executor/Rank.h"

#include "absl/status/statusor.h"

#include <map>
#include <vector>

namespace llmrt {

class HostCopies {
public:
  /// In the place of an entry: the outputs and states of a training step.
  static constexpr int kStep = -1;

  explicit HostCopies(Rank& rank) : rank_(rank) {}

  HostCopies(const HostCopies&) = delete;
  HostCopies& operator=(const HostCopies&) = delete;
  ~HostCopies();

  /// Makes the copies of all inputs of all entries. Errors  OutOfMemory.
  absl::Status prepare();

  /// Returns the copy of an input.
  uint8_t* input(int buffer) { return inputs_.at(buffer); }

  /// Enqueues the inputs of an entry: those that have changed since they were
  /// sent, or `all`.
  void sendInputs(int entry, bool all);
  /// The same for the inputs of all entries: those of a training step.
  void sendStepInputs(bool all);
  /// A graph has sent inputs of the entry, or of a step, as they then were.
  void forgetSent(int entry);
  void forgetSentOfStep();

  /// Enqueues copies of those outputs of an entry that have been asked for.
  void fetchOutputs(int entry);

  /// Returns a number that grows with them.
  int64_t numFetched(int entry) { return outputsByEntry_[entry].size(); }

  /// What was fetched before is out of date.
  void beginCall();
  /// The call copies the first `count` outputs that were asked for.
  void setFetched(int entry, int64_t count);

  /// Returns a copy of an output of the last call that is complete, valid until
  /// the next one.
  absl::StatusOr<const uint8_t*> output(int entry, int buffer);

private:
  /// Neighbours in the arena that the same entries read: one copy sends them.
  struct Piece {
    uint8_t* host; // pinned
    uint8_t* device;
    int64_t sizeBytes;
    std::vector<uint8_t> sent; // empty: nothing yet
  };

  struct Output {
    uint8_t* host; // pinned
    bool isThere = false;
  };

  void send(Piece& piece, bool all);
  absl::Status addPiece(const std::vector<int>& buffers);
  void enqueueFetch(int buffer, const Output& output);

  Rank& rank_;
  std::vector<Piece> pieces_;
  std::map<int, std::vector<int>> byEntry_; // pieces
  std::map<int, uint8_t*> inputs_;          // by buffer: in a piece
  std::map<int, Output> outputs_;           // by buffer
  std::map<int, std::vector<int>> outputsByEntry_;
};

} // namespace llmrt
