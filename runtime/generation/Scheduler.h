// SPDX-License-Identifier: Apache-2.0
// Continuous batching on rank 0: which sequences are in flight on which
// replica, and what the next control record says. Replicas proceed in lock
// step: one entry a round, and a replica that has nothing for it is masked. It
// knows no executor and no text.
#pragma once

#include "runtime/generation/ControlRecord.h"
#include "runtime/generation/PageAllocator.h"
#include "runtime/generation/Request.h"

#include <list>
#include <memory>

namespace llmrt {

struct SchedulerOptions {
  int prefillEntry = -1;
  int decodeEntry = -1;
  int64_t contextTokens = 0;   // of one sequence, prompt and completion
  int64_t pagesPerReplica = 0; // of the cache
  int64_t vocabSize = 0;
  int64_t chunkTokens =
      0; // at most so many prompt tokens a call; 0: the entry's
};

class Scheduler {
public:
  Scheduler(const SchedulerOptions& options, int64_t numReplicas,
            std::vector<EntryShape> entries);
  ~Scheduler();

  /// Takes requests from the client until every slot is taken or none is left.
  /// A request for 0 tokens is finished at once. Errors  PromptEmpty,
  /// PromptTooLong, TokenOutOfRange; those of the client.
  absl::Status admit(GenerationClient& client);

  /// Fills the record of the next round: a prefill if any sequence has prompt
  /// tokens left, else a decode. Returns false if no sequence is in flight.
  bool plan(ControlRecord& record, int64_t round);

  /// Tokens that the last planned round feeds, over all replicas.
  int64_t plannedRows() const { return plannedRows_; }

  /// Takes the ids that the planned round drew, [S] for each replica, and ends
  /// the sequences that are complete.
  absl::Status accept(absl::Span<const std::vector<int32_t>> idsByReplica,
                      GenerationClient& client);

private:
  struct Sequence;
  struct Replica;

  bool planPrefill(ControlRecord& record, Replica& replica, int64_t index);
  bool planDecode(ControlRecord& record, Replica& replica, int64_t index);
  absl::Status checkRequest(const GenerationRequest& request) const;
  absl::StatusOr<bool> takeToken(Sequence& sequence, int32_t id,
                                 GenerationClient& client);
  Replica* leastLoaded();

  SchedulerOptions options_;
  std::vector<EntryShape> entries_;
  std::vector<std::unique_ptr<Replica>> replicas_;
  int64_t plannedRows_ = 0;
};

/// Writes what does not change from call to call of a sequence into row s of a
/// replica's inputs.
void fillSequenceInputs(ReplicaInputs& inputs, int64_t s,
                        const GenerationRequest& request,
                        absl::Span<const int32_t> pages);

} // namespace llmrt
