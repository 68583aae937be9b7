// SPDX-License-Identifier: Apache-2.0
// What a caller asks of the generation engine, and what it gets back. Text is
// not here: a client turns it into ids and back.
#pragma once

#include "absl/status/statusor.h"
#include "absl/types/span.h"

#include <cstdint>
#include <optional>
#include <vector>

namespace llmrt {

/// How the next token is chosen. Temperature 0 takes the most likely one.
struct SamplingParameters {
  float temperature = 0;
  int32_t topK = 0; // 0: all
  float topP = 1;   // 1: all
  int64_t seed = 0;
};

/// One sequence. The random numbers of a token are keyed by seed, `index` and
/// its position, so that they do not depend on what else is in the batch.
struct GenerationRequest {
  int64_t index = 0;
  std::vector<int32_t> prompt;
  SamplingParameters sampling;
  std::vector<int32_t> stopIds;
  int64_t maxNewTokens = 0;
};

enum class FinishReason {
  Stop,    // a stop id, or the client said so
  Length,  // maxNewTokens
  Context, // the cache of a sequence is full
};

/// Returns "stop", "length", "context".
const char* finishReasonName(FinishReason reason);

/// The largest temperature that is taken for a wish and not for a mistake.
inline constexpr float kMaxTemperature = 100;

struct GenerationResult {
  int64_t index = 0;
  std::vector<int32_t> tokens; // without the stop id
  FinishReason reason = FinishReason::Stop;
};

/// One execution of an entry on all ranks, as rank 0 saw it.
struct RoundStatistics {
  int entry = -1;
  double seconds = 0; // agreement, execution and gathering of the ids
  int64_t rows = 0;   // tokens fed, over all replicas
};

/// Gives requests and takes results; called on rank 0 only, between rounds.
class GenerationClient {
public:
  virtual ~GenerationClient() = default;

  /// Returns the next sequence to start, or nullopt if there is none left.
  virtual absl::StatusOr<std::optional<GenerationRequest>> nextRequest() = 0;

  /// Takes one token of a sequence; stop ids are not given out. Returns false
  /// to end the sequence with this token as its last.
  virtual absl::StatusOr<bool> takeToken(int64_t index, int32_t id) = 0;

  virtual absl::Status takeResult(const GenerationResult& result) = 0;

  virtual void takeRound(const RoundStatistics&) {}

  /// Asked before every round: true ends the run on all ranks; sequences that
  /// are not finished get no result.
  virtual bool isInterrupted() { return false; }
};

} // namespace llmrt
