// SPDX-License-Identifier: Apache-2.0
// Private to the executor: the host's copies of inputs and outputs, on devices
// whose memory the host cannot reach. Inputs are written to the copy and sent
// before an entry runs, if they have changed; outputs are fetched when somebody
// asks for them.
#pragma once

#include "runtime/executor/Rank.h"

#include "absl/status/statusor.h"

#include <map>
#include <vector>

namespace llmrt {

class HostCopies {
public:
  explicit HostCopies(Rank& rank) : rank_(rank) {}

  HostCopies(const HostCopies&) = delete;
  HostCopies& operator=(const HostCopies&) = delete;
  ~HostCopies();

  /// Makes the copies of all inputs of all entries. Errors  OutOfMemory.
  absl::Status prepare();

  /// Returns the copy of an input.
  uint8_t* input(int buffer) { return inputs_.at(buffer).host; }

  /// Enqueues the inputs of an entry that have changed since they were sent.
  void sendInputs(int entry);

  /// The same for all entries: those of a training step.
  void sendAllInputs();

  /// Returns a copy of an output that is complete, valid until it is fetched
  /// again.
  absl::StatusOr<const uint8_t*> fetchOutput(int buffer);

private:
  struct Input {
    uint8_t* host;             // pinned
    std::vector<uint8_t> sent; // empty: nothing yet
  };

  void send(int buffer);

  Rank& rank_;
  std::map<int, Input> inputs_;             // by buffer
  std::map<int, std::vector<int>> byEntry_; // buffers of inputs
  std::map<int, uint8_t*> outputs_;         // by buffer; pinned
};

} // namespace llmrt
