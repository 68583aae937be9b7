// SPDX-License-Identifier: Apache-2.0
// A sequence has no fixed row of the block: its cache is found through its
// block table, so each round packs the sequences that take part into the first
// rows and runs no more than those. Which row a sequence gets cannot change its
// result (the arithmetic contract).
#include "runtime/generation/Scheduler.h"

#include "runtime/base/Error.h"
#include "runtime/kernels/KernelAbi.h"

#include <algorithm>

namespace llmrt {

struct Scheduler::Sequence {
  GenerationRequest request;
  std::vector<int32_t> pages;
  std::vector<int32_t> tokens; // generated
  int64_t numFed = 0;          // tokens in the cache
  int64_t numPlanned = 0;      // tokens that the planned round feeds
  FinishReason reason = FinishReason::Stop;

  int64_t promptLeft() const {
    return static_cast<int64_t>(request.prompt.size()) - numFed;
  }
};

struct Scheduler::Replica {
  explicit Replica(int64_t numPages) : pages(numPages) {}

  PageAllocator pages;
  std::list<Sequence> sequences; // in flight, in order of admission
  std::vector<Sequence*> rows;   // sequences of the planned round
};

Scheduler::Scheduler(const SchedulerOptions& options, int64_t numReplicas,
                     std::vector<EntryShape> entries)
    : options_(options), entries_(std::move(entries)) {
  for (int64_t i = 0; i < numReplicas; ++i)
    replicas_.push_back(std::make_unique<Replica>(options.pagesPerReplica));
}

Scheduler::~Scheduler() = default;

absl::Status Scheduler::checkRequest(const GenerationRequest& request) const {
  auto numTokens = static_cast<int64_t>(request.prompt.size());
  if (numTokens == 0)
    return makeError(ErrorCode::PromptEmpty,
                     absl::StrCat("prompt ", request.index, " has no token"),
                     "give at least one character");
  if (numTokens >= options_.contextTokens && request.maxNewTokens > 0)
    return makeError(ErrorCode::PromptTooLong,
                     absl::StrCat("prompt ", request.index, " has ", numTokens,
                                  " tokens, and a sequence of this plan holds ",
                                  options_.contextTokens,
                                  " with its completion"),
                     "shorten the prompt, or compile the plan with a larger "
                     "--seq, up to the "
                     "model's context");
  for (int32_t id : request.prompt)
    if (id < 0 || id >= options_.vocabSize)
      return makeError(ErrorCode::TokenOutOfRange,
                       absl::StrCat("token ", id,
                                    " is not in the vocabulary "
                                    "of ",
                                    options_.vocabSize),
                       "use the tokenizer that belongs to the model");
  return absl::OkStatus();
}

Scheduler::Replica* Scheduler::leastLoaded() {
  Replica* best = nullptr;
  for (auto& replica : replicas_)
    if (!best || replica->sequences.size() < best->sequences.size())
      best = replica.get();
  return best;
}

absl::Status Scheduler::admit(GenerationClient& client) {
  int64_t batch = entries_[options_.decodeEntry].S;
  while (true) {
    Replica* replica = leastLoaded();
    if (static_cast<int64_t>(replica->sequences.size()) >= batch)
      return absl::OkStatus();
    LLMRT_ASSIGN_OR_RETURN(std::optional<GenerationRequest> request,
                           client.nextRequest());
    if (!request)
      return absl::OkStatus();
    LLMRT_RETURN_IF_ERROR(checkRequest(*request));
    if (request->maxNewTokens <= 0) {
      LLMRT_RETURN_IF_ERROR(
          client.takeResult({request->index, {}, FinishReason::Length}));
      continue;
    }
    auto numPrompt = static_cast<int64_t>(request->prompt.size());
    int64_t limit = options_.contextTokens - numPrompt;
    int64_t numTokens = numPrompt + std::min(request->maxNewTokens, limit);
    auto pages =
        replica->pages.allocate((numTokens + kPageTokens - 1) / kPageTokens);
    if (!pages) // pagesPerReplica is checked to hold a full batch
      return makeError(ErrorCode::CacheTooSmall,
                       absl::StrCat("no ", numTokens,
                                    " tokens left in a cache "
                                    "of ",
                                    options_.pagesPerReplica, " pages"),
                       "compile the plan again");
    Sequence& sequence = replica->sequences.emplace_back();
    sequence.request = std::move(*request);
    sequence.pages = std::move(*pages);
  }
}

void fillSequenceInputs(ReplicaInputs& inputs, int64_t s,
                        const GenerationRequest& request,
                        absl::Span<const int32_t> pages) {
  int64_t P = inputs.blockTable.size() / inputs.sequenceRows.size();
  // Places beyond the sequence's pages are never read; they hold a valid page.
  for (int64_t p = 0; p < P; ++p)
    inputs.blockTable[s * P + p] =
        pages[std::min<int64_t>(p, static_cast<int64_t>(pages.size()) - 1)];
  inputs.temperature[s] = request.sampling.temperature;
  inputs.topK[s] = request.sampling.topK;
  inputs.topP[s] = request.sampling.topP;
  inputs.seed[s] = request.sampling.seed;
  inputs.sequence[s] = static_cast<int32_t>(request.index);
}

bool Scheduler::planPrefill(ControlRecord& record, Replica& replica,
                            int64_t index) {
  const EntryShape& shape = entries_[options_.prefillEntry];
  int64_t chunk = options_.chunkTokens > 0
                      ? std::min(options_.chunkTokens, shape.R)
                      : shape.R;
  ReplicaInputs inputs = record.replica(index);
  for (Sequence& sequence : replica.sequences) {
    auto s = static_cast<int64_t>(replica.rows.size());
    if (s == shape.S)
      break;
    int64_t count = std::min(chunk, sequence.promptLeft());
    if (count <= 0)
      continue;
    fillSequenceInputs(inputs, s, sequence.request, sequence.pages);
    for (int64_t r = 0; r < count; ++r) {
      inputs.ids[s * shape.R + r] =
          sequence.request.prompt[sequence.numFed + r];
      inputs.positions[s * shape.R + r] =
          static_cast<int32_t>(sequence.numFed + r);
    }
    inputs.sequenceRows[s] = static_cast<int32_t>(count);
    inputs.validRows = shape.S == 1 ? count : (s + 1) * shape.R;
    sequence.numPlanned = count;
    plannedRows_ += count;
    replica.rows.push_back(&sequence);
  }
  return !replica.rows.empty();
}

bool Scheduler::planDecode(ControlRecord& record, Replica& replica,
                           int64_t index) {
  const EntryShape& shape = entries_[options_.decodeEntry];
  ReplicaInputs inputs = record.replica(index);
  for (Sequence& sequence : replica.sequences) {
    auto s = static_cast<int64_t>(replica.rows.size());
    fillSequenceInputs(inputs, s, sequence.request, sequence.pages);
    inputs.ids[s * shape.R] = sequence.tokens.back();
    inputs.positions[s * shape.R] = static_cast<int32_t>(sequence.numFed);
    inputs.sequenceRows[s] = 1;
    inputs.validRows = (s + 1) * shape.R;
    sequence.numPlanned = 1;
    ++plannedRows_;
    replica.rows.push_back(&sequence);
  }
  return !replica.rows.empty();
}

bool Scheduler::plan(ControlRecord& record, int64_t round) {
  bool hasPrefill = false;
  for (auto& replica : replicas_) {
    replica->rows.clear();
    for (Sequence& sequence : replica->sequences)
      hasPrefill |= sequence.promptLeft() > 0;
  }
  plannedRows_ = 0;
  record.begin(ControlAction::Execute,
               hasPrefill ? options_.prefillEntry : options_.decodeEntry,
               round);
  bool hasWork = false;
  for (size_t i = 0; i < replicas_.size(); ++i)
    hasWork |= hasPrefill ? planPrefill(record, *replicas_[i], i)
                          : planDecode(record, *replicas_[i], i);
  return hasWork;
}

absl::StatusOr<bool> Scheduler::takeToken(Sequence& sequence, int32_t id,
                                          GenerationClient& client) {
  const GenerationRequest& request = sequence.request;
  sequence.reason = FinishReason::Stop;
  if (std::find(request.stopIds.begin(), request.stopIds.end(), id) !=
      request.stopIds.end())
    return true;
  sequence.tokens.push_back(id);
  LLMRT_ASSIGN_OR_RETURN(bool goesOn, client.takeToken(request.index, id));
  if (!goesOn)
    return true;
  auto numTokens = static_cast<int64_t>(sequence.tokens.size());
  sequence.reason = FinishReason::Length;
  if (numTokens >= request.maxNewTokens)
    return true;
  sequence.reason = FinishReason::Context;
  return static_cast<int64_t>(request.prompt.size()) + numTokens >=
         options_.contextTokens;
}

absl::Status
Scheduler::accept(absl::Span<const std::vector<int32_t>> idsByReplica,
                  GenerationClient& client) {
  for (size_t i = 0; i < replicas_.size(); ++i) {
    Replica& replica = *replicas_[i];
    for (size_t s = 0; s < replica.rows.size(); ++s) {
      Sequence* sequence = replica.rows[s];
      sequence->numFed += sequence->numPlanned;
      if (sequence->promptLeft() > 0)
        continue; // a chunk of the prompt: what it drew means nothing
      LLMRT_ASSIGN_OR_RETURN(bool isDone,
                             takeToken(*sequence, idsByReplica[i][s], client));
      if (!isDone)
        continue;
      replica.pages.release(sequence->pages);
      LLMRT_RETURN_IF_ERROR(
          client.takeResult({sequence->request.index,
                             std::move(sequence->tokens), sequence->reason}));
      replica.sequences.remove_if(
          [&](const Sequence& other) { return &other == sequence; });
    }
    replica.rows.clear();
  }
  return absl::OkStatus();
}

} // namespace llmrt
