// SPDX-License-Identifier: Apache-2.0
// Runs the inference entries of a plan on all ranks: rank 0 decides
// (Scheduler.h), all ranks hold the same control record before each entry, the
// ids that each replica drew come back to rank 0. Text, files and signals are
// the caller's.
#pragma once

#include "runtime/executor/Executor.h"
#include "runtime/generation/ControlRecord.h"
#include "runtime/generation/MeshRoles.h"
#include "runtime/generation/Request.h"

#include "absl/functional/function_ref.h"

#include <chrono>
#include <memory>
#include <vector>

namespace llmrt {

enum class RunEnd { Finished, Interrupted };

struct GenerationOptions {
  /// At most so many tokens of a prompt in one call; 0: as many as the entry
  /// has rows.
  int64_t chunkTokens = 0;
};

/// Takes the logits of one token; `row` counts from 0.
using LogitsSink = absl::FunctionRef<absl::Status(
    int64_t row, absl::Span<const float> logits)>;

/// Returns how many tokens a sequence of a plan holds, prompt and completion:
/// the cache of a sequence, or less if the model knows fewer positions.
int64_t contextTokensOf(const fb::Plan& plan);

class Generation {
public:
  /// Makes the communicators of the control plane: called by every rank, after
  /// Executor::create(). The plan, executor and fabric outlive it.
  /// Errors  PlanModeUnsupported, EntryTooLarge; those of createCommunicator().
  static absl::StatusOr<std::unique_ptr<Generation>>
  create(const fb::Plan& plan, Executor& executor, Fabric& fabric,
         const GenerationOptions& options);

  /// Rank 0: runs sequences until the client has no more and all are finished.
  /// Errors  EntryMissing, CacheTooSmall, those of Scheduler, of the client and
  /// of the
  ///         executor. After an error the caller aborts the fabric.
  absl::StatusOr<RunEnd> generate(GenerationClient& client);

  /// Rank 0: feeds `tokens` as one sequence and gives out the logits of every
  /// row. `entry` is "score" (in chunks) or "decode" (one at a time). Errors
  /// EntryMissing, PromptEmpty, PromptTooLong, TokenOutOfRange.
  absl::StatusOr<RunEnd> score(absl::Span<const int32_t> tokens,
                               absl::string_view entry,
                               GenerationClient& client, LogitsSink sink);

  /// Rank 0: lets the other ranks return from follow().
  absl::Status end(RunEnd how);

  /// Other ranks: executes what rank 0 decides until it ends the run.
  absl::StatusOr<RunEnd> follow();

  /// Tokens of one sequence, prompt and completion.
  int64_t contextTokens() const { return contextTokens_; }

private:
  Generation(const fb::Plan& plan, Executor& executor, MeshRoles roles,
             ControlRecord record, const GenerationOptions& options);

  absl::Status makeCommunicators(Fabric& fabric);
  absl::StatusOr<int> requireEntry(absl::string_view name) const;
  absl::StatusOr<int64_t> cachePages(const EntryShape& decode) const;
  absl::Status checkTokens(absl::Span<const int32_t> tokens) const;
  void planScore(int entry, absl::Span<const int32_t> tokens, int64_t begin,
                 int64_t count);
  absl::Status agree();
  absl::Status execute();
  absl::Status writeInputs(int entry, ReplicaInputs& inputs);
  absl::Status gatherIds(int entry);
  absl::Status moveLogits(int entry);

  const fb::Plan& plan_;
  Executor& executor_;
  MeshRoles roles_;
  ControlRecord record_;
  GenerationOptions options_;
  int rank_ = 0;
  int64_t round_ = 0;
  int64_t contextTokens_ = 0;
  int64_t logitsColumns_ = 0;
  std::unique_ptr<Communicator> control_; // all ranks
  std::unique_ptr<Communicator> leaders_; // null: one replica, or no leader
  std::unique_ptr<Communicator>
      logitsPair_;                        // null: rank 0 has them, or no part
  std::vector<std::vector<int32_t>> ids_; // [replicas][S], on leaders
  std::vector<int32_t> gathered_;
  std::vector<float> logits_; // [S*R, V], on rank 0
};

} // namespace llmrt
