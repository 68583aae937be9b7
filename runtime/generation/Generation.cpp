// SPDX-License-Identifier: Apache-2.0
// One round: agree on a record, write this replica's inputs, execute, bring ids
// and logits to rank 0. Every rank makes the same collectives in the same order
// because each of them follows from the record alone.
#include "runtime/generation/Generation.h"

#include "runtime/base/Error.h"
#include "runtime/generation/Scheduler.h"
#include "runtime/plan/Mesh.h"

#include <algorithm>
#include <cstring>
#include <numeric>

namespace llmrt {
namespace {

using Clock = std::chrono::steady_clock;

constexpr CollectiveTag kControlTag{-1, "broadcast", "control record",
                                    "generation"};
constexpr CollectiveTag kIdsTag{-1, "all_gather", "sampled ids", "generation"};
constexpr CollectiveTag kLogitsTag{-1, "send", "logits", "generation"};

std::vector<EntryShape> entryShapes(const fb::Plan& plan) {
  std::vector<EntryShape> shapes;
  for (const fb::Entry* entry : *plan.entries())
    shapes.push_back({entry->sequences(), entry->rows_per_sequence(),
                      entry->pages_per_sequence()});
  return shapes;
}

int findPlanEntry(const fb::Plan& plan, absl::string_view name) {
  for (unsigned i = 0; i < plan.entries()->size(); ++i) {
    const auto* entryName = plan.entries()->Get(i)->name();
    if (absl::string_view(entryName->data(), entryName->size()) == name)
      return static_cast<int>(i);
  }
  return -1;
}

/// Returns the position of the last valid row of each sequence; 0 for a masked
/// one.
std::vector<int32_t> lastPositions(const ReplicaInputs& inputs) {
  size_t R = inputs.ids.size() / inputs.sequenceRows.size();
  std::vector<int32_t> positions(inputs.sequenceRows.size(), 0);
  for (size_t s = 0; s < positions.size(); ++s)
    if (inputs.sequenceRows[s] > 0)
      positions[s] = inputs.positions[s * R + inputs.sequenceRows[s] - 1];
  return positions;
}

} // namespace

int64_t contextTokensOf(const fb::Plan& plan) {
  int64_t model = plan.model() ? plan.model()->context_length() : 0;
  return model > 0 ? std::min(plan.cache_tokens(), model) : plan.cache_tokens();
}

Generation::Generation(const fb::Plan& plan, Executor& executor,
                       MeshRoles roles, ControlRecord record,
                       const GenerationOptions& options)
    : plan_(plan), executor_(executor), roles_(std::move(roles)),
      record_(std::move(record)), options_(options) {}

absl::StatusOr<std::unique_ptr<Generation>>
Generation::create(const fb::Plan& plan, Executor& executor, Fabric& fabric,
                   const GenerationOptions& options) {
  if (!plan.mode() || plan.mode()->string_view() != "infer")
    return makeError(ErrorCode::PlanModeUnsupported,
                     absl::StrCat("this plan is for --mode=",
                                  plan.mode() ? plan.mode()->str() : "?"),
                     "compile the model with --mode=infer");
  MeshRoles roles =
      makeMeshRoles(plan, fabric.rank(), findPlanEntry(plan, "score"));
  LLMRT_ASSIGN_OR_RETURN(
      ControlRecord record,
      ControlRecord::create(entryShapes(plan), roles.numReplicas));
  std::unique_ptr<Generation> generation(new Generation(
      plan, executor, std::move(roles), std::move(record), options));
  generation->rank_ = fabric.rank();
  generation->contextTokens_ = plan.cache_tokens();
  if (plan.model() && plan.model()->context_length() > 0)
    generation->contextTokens_ =
        std::min(generation->contextTokens_, plan.model()->context_length());
  LLMRT_RETURN_IF_ERROR(generation->makeCommunicators(fabric));
  return generation;
}

absl::Status Generation::makeCommunicators(Fabric& fabric) {
  std::vector<int> all(fabric.size());
  std::iota(all.begin(), all.end(), 0);
  LLMRT_ASSIGN_OR_RETURN(control_, fabric.createCommunicator(all));
  bool isLeader = std::find(roles_.leaders.begin(), roles_.leaders.end(),
                            rank_) != roles_.leaders.end();
  if (roles_.numReplicas > 1 && isLeader) {
    LLMRT_ASSIGN_OR_RETURN(leaders_, fabric.createCommunicator(roles_.leaders));
  }
  bool hasPart = rank_ == 0 || rank_ == roles_.logitsRank;
  if (roles_.logitsRank != 0 && hasPart) {
    LLMRT_ASSIGN_OR_RETURN(logitsPair_,
                           fabric.createCommunicator({0, roles_.logitsRank}));
  }
  return absl::OkStatus();
}

absl::StatusOr<int> Generation::requireEntry(absl::string_view name) const {
  int entry = executor_.findEntry(name);
  if (entry < 0)
    return makeError(ErrorCode::EntryMissing,
                     absl::StrCat("this plan has no entry \"", name, "\""),
                     "compile the model again with --mode=infer");
  return entry;
}

absl::StatusOr<int64_t> Generation::cachePages(const EntryShape& decode) const {
  int64_t pages = decode.S * decode.P;
  for (const fb::Stage* stage : *plan_.stages())
    if (stage->caches())
      for (const fb::Cache* cache : *stage->caches())
        pages = std::min(pages, cache->pages());
  if (pages < decode.S * decode.P || decode.P * kPageTokens < contextTokens_)
    return makeError(ErrorCode::CacheTooSmall,
                     absl::StrCat("a cache of ", pages, " pages, ", decode.P,
                                  " for each of ", decode.S,
                                  " sequences, does not hold ", contextTokens_,
                                  " tokens of each"),
                     "compile the plan again");
  return pages;
}

absl::Status Generation::agree() {
  absl::Span<uint8_t> bytes = record_.bytes();
  LLMRT_RETURN_IF_ERROR(
      control_->broadcast(bytes.data(), bytes.size(), 0, kControlTag));
  return rank_ == 0 ? absl::OkStatus() : record_.check(round_);
}

absl::Status Generation::writeInputs(int entry, ReplicaInputs& inputs) {
  absl::Status status;
  auto write = [&](const char* name, auto values) {
    absl::Span<uint8_t> to = executor_.input(entry, name);
    size_t sizeBytes = values.size() * sizeof(values[0]);
    if (to.empty() || !status.ok())
      return;
    if (to.size() != sizeBytes)
      status =
          makeError(ErrorCode::EntryMissing,
                    absl::StrCat("input \"", name, "\" of entry ", entry,
                                 " has ", to.size(), " bytes, not ", sizeBytes),
                    "compile the plan again");
    else
      std::memcpy(to.data(), values.data(), sizeBytes);
  };
  write("ids", inputs.ids);
  write("positions", inputs.positions);
  write("valid_rows", inputs.sequenceRows);
  write("block_table", inputs.blockTable);
  write("temperature", inputs.temperature);
  write("top_k", inputs.topK);
  write("top_p", inputs.topP);
  write("seed", inputs.seed);
  write("sequence", inputs.sequence);
  write("sample_positions", lastPositions(inputs));
  return status;
}

absl::Status Generation::gatherIds(int entry) {
  bool isLeader = rank_ == 0 || leaders_;
  if (!isLeader || !findOutput(plan_, 0, entry, "next_ids"))
    return absl::OkStatus();
  absl::Span<const uint8_t> own = executor_.output(entry, "next_ids");
  auto S = static_cast<size_t>(record_.shape(entry).S);
  if (own.size() != S * sizeof(int32_t))
    return makeError(ErrorCode::EntryMissing,
                     absl::StrCat("entry ", entry, " gives ", own.size(),
                                  " bytes of ids for ", S, " sequences"),
                     "compile the plan again");
  gathered_.resize(S * roles_.numReplicas);
  if (leaders_)
    LLMRT_RETURN_IF_ERROR(
        leaders_->allGather(own.data(), gathered_.data(), own.size(), kIdsTag));
  else
    std::memcpy(gathered_.data(), own.data(), own.size());
  ids_.resize(roles_.numReplicas);
  for (int i = 0; i < roles_.numReplicas; ++i)
    ids_[i].assign(gathered_.begin() + i * S, gathered_.begin() + (i + 1) * S);
  return absl::OkStatus();
}

absl::Status Generation::moveLogits(int entry) {
  int64_t numRows = record_.logitRows();
  if (numRows == 0 || (rank_ != 0 && rank_ != roles_.logitsRank))
    return absl::OkStatus();
  int stage =
      stageOfCoordinates(plan_, coordinatesOfRank(plan_, roles_.logitsRank));
  const fb::NamedBuffer* buffer = findOutput(plan_, stage, entry, "logits");
  if (!buffer || !buffer->shape() || buffer->shape()->size() == 0)
    return makeError(ErrorCode::EntryMissing,
                     absl::StrCat("entry ", entry, " gives no logits"),
                     "compile the plan again");
  logitsColumns_ = buffer->shape()->Get(buffer->shape()->size() - 1);
  int64_t sizeBytes = numRows * logitsColumns_ * sizeof(float);
  if (rank_ == 0)
    logits_.resize(numRows * logitsColumns_);
  if (rank_ == 0 && logitsPair_)
    return logitsPair_->recv(logits_.data(), sizeBytes, 1, kLogitsTag);
  absl::Span<const uint8_t> own = executor_.output(entry, "logits");
  if (static_cast<int64_t>(own.size()) < sizeBytes)
    return makeError(ErrorCode::EntryMissing,
                     absl::StrCat("entry ", entry, " gives ", own.size(),
                                  " bytes of logits, not ", sizeBytes),
                     "compile the plan again");
  if (logitsPair_)
    return logitsPair_->send(own.data(), sizeBytes, 0, kLogitsTag);
  std::memcpy(logits_.data(), own.data(), sizeBytes);
  return absl::OkStatus();
}

absl::Status Generation::execute() {
  int entry = record_.entry();
  ReplicaInputs inputs = record_.replica(roles_.replica);
  LLMRT_RETURN_IF_ERROR(writeInputs(entry, inputs));
  LLMRT_RETURN_IF_ERROR(executor_.execute(entry, inputs.validRows, nullptr));
  LLMRT_RETURN_IF_ERROR(gatherIds(entry));
  LLMRT_RETURN_IF_ERROR(moveLogits(entry));
  ++round_;
  return absl::OkStatus();
}

absl::StatusOr<RunEnd> Generation::generate(GenerationClient& client) {
  SchedulerOptions options;
  LLMRT_ASSIGN_OR_RETURN(options.prefillEntry, requireEntry("prefill"));
  LLMRT_ASSIGN_OR_RETURN(options.decodeEntry, requireEntry("decode"));
  LLMRT_ASSIGN_OR_RETURN(options.pagesPerReplica,
                         cachePages(record_.shape(options.decodeEntry)));
  options.contextTokens = contextTokens_;
  options.vocabSize = plan_.model()->vocab_size();
  options.chunkTokens = options_.chunkTokens;
  Scheduler scheduler(options, roles_.numReplicas, entryShapes(plan_));
  while (true) {
    if (client.isInterrupted())
      return RunEnd::Interrupted;
    LLMRT_RETURN_IF_ERROR(scheduler.admit(client));
    if (!scheduler.plan(record_, round_))
      return RunEnd::Finished;
    Clock::time_point begin = Clock::now();
    LLMRT_RETURN_IF_ERROR(agree());
    LLMRT_RETURN_IF_ERROR(execute());
    std::chrono::duration<double> seconds = Clock::now() - begin;
    client.takeRound(
        {record_.entry(), seconds.count(), scheduler.plannedRows()});
    LLMRT_RETURN_IF_ERROR(scheduler.accept(ids_, client));
  }
}

absl::Status Generation::checkTokens(absl::Span<const int32_t> tokens) const {
  if (tokens.empty())
    return makeError(ErrorCode::PromptEmpty, "there is no token to score",
                     "give at least one");
  if (static_cast<int64_t>(tokens.size()) > contextTokens_)
    return makeError(
        ErrorCode::PromptTooLong,
        absl::StrCat(tokens.size(),
                     " tokens, and a sequence of "
                     "this plan holds ",
                     contextTokens_),
        "give fewer, or compile the plan with a larger --seq, up to the "
        "model's context");
  for (int32_t id : tokens)
    if (id < 0 || id >= plan_.model()->vocab_size())
      return makeError(ErrorCode::TokenOutOfRange,
                       absl::StrCat("token ", id,
                                    " is not in the vocabulary "
                                    "of ",
                                    plan_.model()->vocab_size()),
                       "give ids from 0 to one less than that");
  return absl::OkStatus();
}

void Generation::planScore(int entry, absl::Span<const int32_t> tokens,
                           int64_t begin, int64_t count) {
  record_.begin(ControlAction::Execute, entry, round_);
  record_.wantLogits(count);
  ReplicaInputs inputs = record_.replica(0);
  // The one sequence in flight: it owns the first pages of the cache.
  std::vector<int32_t> pages(record_.shape(entry).P);
  std::iota(pages.begin(), pages.end(), 0);
  fillSequenceInputs(inputs, 0, GenerationRequest(), pages);
  for (int64_t r = 0; r < count; ++r) {
    inputs.ids[r] = tokens[begin + r];
    inputs.positions[r] = static_cast<int32_t>(begin + r);
  }
  inputs.sequenceRows[0] = static_cast<int32_t>(count);
  inputs.validRows = count;
}

absl::StatusOr<RunEnd> Generation::score(absl::Span<const int32_t> tokens,
                                         absl::string_view entryName,
                                         GenerationClient& client,
                                         LogitsSink sink) {
  LLMRT_ASSIGN_OR_RETURN(int entry, requireEntry(entryName));
  LLMRT_RETURN_IF_ERROR(cachePages(record_.shape(entry)).status());
  LLMRT_RETURN_IF_ERROR(checkTokens(tokens));
  int64_t chunk = record_.shape(entry).R;
  if (options_.chunkTokens > 0)
    chunk = std::min(chunk, options_.chunkTokens);
  auto numTokens = static_cast<int64_t>(tokens.size());
  for (int64_t begin = 0; begin < numTokens; begin += chunk) {
    if (client.isInterrupted())
      return RunEnd::Interrupted;
    int64_t count = std::min(chunk, numTokens - begin);
    planScore(entry, tokens, begin, count);
    LLMRT_RETURN_IF_ERROR(agree());
    LLMRT_RETURN_IF_ERROR(execute());
    for (int64_t r = 0; r < count; ++r)
      LLMRT_RETURN_IF_ERROR(
          sink(begin + r, {logits_.data() + r * logitsColumns_,
                           static_cast<size_t>(logitsColumns_)}));
  }
  return RunEnd::Finished;
}

absl::Status Generation::end(RunEnd how) {
  record_.begin(how == RunEnd::Interrupted ? ControlAction::Interrupt
                                           : ControlAction::Finish,
                -1, round_);
  return agree();
}

absl::StatusOr<RunEnd> Generation::follow() {
  while (true) {
    LLMRT_RETURN_IF_ERROR(agree());
    if (record_.action() == ControlAction::Finish)
      return RunEnd::Finished;
    if (record_.action() == ControlAction::Interrupt)
      return RunEnd::Interrupted;
    LLMRT_RETURN_IF_ERROR(execute());
  }
}

} // namespace llmrt
