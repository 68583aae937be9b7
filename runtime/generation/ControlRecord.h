// SPDX-License-Identifier: Apache-2.0
// The control record: what all ranks agree on before each round. Rank 0 fills
// it and broadcasts it; every rank then holds the same bytes and runs the same
// entry with the inputs of its own replica. A record has one size for a plan,
// so that one broadcast carries it. It decides nothing: see Scheduler.h.
#pragma once

#include "runtime/plan/PlanFile.h"

#include "absl/status/statusor.h"
#include "absl/types/span.h"

#include <array>
#include <cstdint>
#include <vector>

namespace llmrt {

enum class ControlAction : int32_t {
  Execute = 1,   // run `entry`
  Finish = 2,    // no work is left: end
  Interrupt = 3, // the user asked to stop: end
};

/// The inputs of one replica for one round: views into a record. Sequences
/// without work have validRows 0 and positions -1.
struct ReplicaInputs {
  int64_t& validRows;      // of the call: word 0 of the kernels; 0: masked
  absl::Span<int32_t> ids; // [S, R]
  absl::Span<int32_t> positions;    // [S, R]
  absl::Span<int32_t> sequenceRows; // [S]
  absl::Span<int32_t> blockTable;   // [S, P]
  absl::Span<float> temperature;    // [S]
  absl::Span<int32_t> topK;         // [S]
  absl::Span<float> topP;           // [S]
  absl::Span<int64_t> seed;         // [S]
  absl::Span<int32_t> sequence;     // [S]
};

/// Shape of the block of an entry.
struct EntryShape {
  int64_t S = 0; // sequences
  int64_t R = 0; // rows of each
  int64_t P = 0; // pages of each
};

class ControlRecord {
public:
  /// Makes a record for plans with these entries and `numReplicas` data
  /// replicas. Errors  EntryTooLarge.
  static absl::StatusOr<ControlRecord> create(std::vector<EntryShape> entries,
                                              int64_t numReplicas);

  /// Bytes to broadcast.
  absl::Span<uint8_t> bytes() {
    return {reinterpret_cast<uint8_t*>(words_.data()), words_.size() * 8};
  }

  /// Starts a record of `entry` in which every replica is masked.
  void begin(ControlAction action, int entry, int64_t round);

  /// Checks what was received: a known action, an entry of the plan, the round
  /// that this rank is in, valid rows that fit. Errors  ControlRecordMismatch.
  absl::Status check(int64_t round) const;

  ControlAction action() const;
  int entry() const;

  /// Rows of replica 0 whose logits rank 0 wants, from row 0 on.
  int64_t logitRows() const { return words_[4]; }

  void wantLogits(int64_t numRows) { words_[4] = numRows; }

  const EntryShape& shape(int entry) const { return entries_[entry]; }

  int64_t numReplicas() const { return numReplicas_; }

  /// Inputs of a replica for the entry of this record.
  ReplicaInputs replica(int64_t index);

private:
  std::vector<EntryShape> entries_;
  int64_t numReplicas_ = 0;
  int64_t replicaWords_ = 0;
  std::vector<int64_t> words_;
};

} // namespace llmrt
