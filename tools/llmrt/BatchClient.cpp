// SPDX-License-Identifier: Apache-2.0
// Lines are encoded twice, once to check them and once to run them: that is
// quick beside running them, and keeps no prompt in memory.
#include "tools/llmrt/BatchClient.h"

#include "runtime/base/Error.h"
#include "runtime/base/Logging.h"
#include "tools/llmrt/Interrupt.h"
#include "tools/llmrt/StandardOutput.h"

#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"

namespace llmrt {
namespace {

/// Stands for all that decides the results, but not for how they are computed.
std::string fingerprintOf(const RunOptions& options, const LoadedPlan& plan,
                          const PromptFile& prompts) {
  std::string settings = absl::StrCat(
      options.sampling.temperature, "|", options.sampling.topK, "|",
      options.sampling.topP, "|", options.sampling.seed, "|",
      options.maxNewTokens, "|", options.tokenizer, "|", options.chatTemplate,
      "|", absl::StrJoin(options.session.weights, "|"));
  uint64_t hash = crc64(plan.file.bytes());
  hash = crc64(prompts.bytes(), hash);
  hash = crc64(
      {reinterpret_cast<const uint8_t*>(settings.data()), settings.size()},
      hash);
  return absl::StrFormat("%016x", hash);
}

} // namespace

absl::StatusOr<std::unique_ptr<BatchClient>>
BatchClient::create(const TextModel& model, const RunOptions& options,
                    const LoadedPlan& plan) {
  std::unique_ptr<BatchClient> client(new BatchClient(model, options));
  LLMRT_ASSIGN_OR_RETURN(client->prompts_,
                         PromptFile::open(options.promptsPath));
  LLMRT_RETURN_IF_ERROR(client->checkLines(contextTokensOf(*plan.plan)));
  int64_t numDone = 0;
  if (!options.outputPath.empty()) {
    LLMRT_ASSIGN_OR_RETURN(
        client->results_,
        ResultFile::open(options.outputPath, client->prompts_.numPrompts(),
                         fingerprintOf(options, plan, client->prompts_)));
    numDone = client->results_->numDone();
  }
  client->progress_.emplace(client->prompts_.numPrompts(), numDone,
                            options.isQuiet);
  return client;
}

absl::StatusOr<EncodedPrompt>
BatchClient::encode(const PromptLine& line) const {
  return line.turns.empty() ? model_.encodeText(line.text)
                            : model_.encodeChat(line.turns);
}

absl::Status BatchClient::checkLines(int64_t contextTokens) {
  for (int64_t index = 0; index < prompts_.numPrompts(); ++index) {
    LLMRT_ASSIGN_OR_RETURN(PromptLine line, prompts_.read(index));
    absl::StatusOr<EncodedPrompt> prompt = encode(line);
    if (!prompt.ok()) // has a code of its own: text, or chat template
      return absl::Status(prompt.status().code(),
                          absl::StrCat(prompt.status().message(), " (",
                                       options_.promptsPath, ", line ",
                                       line.number, ")"));
    auto numTokens = static_cast<int64_t>(prompt->ids.size());
    if (numTokens >= contextTokens)
      return makeError(
          ErrorCode::PromptTooLong,
          absl::StrCat(options_.promptsPath, ": line ", line.number, " has ",
                       numTokens,
                       " tokens, and a sequence of this plan "
                       "holds ",
                       contextTokens, " with its completion"),
          "shorten it, or compile the plan with a larger --seq, up to the "
          "model's context");
    if (isInterruptRequested())
      break;
  }
  return absl::OkStatus();
}

absl::StatusOr<std::optional<GenerationRequest>> BatchClient::nextRequest() {
  while (results_ && next_ < prompts_.numPrompts() && results_->isDone(next_))
    ++next_;
  if (next_ == prompts_.numPrompts())
    return std::nullopt;
  LLMRT_ASSIGN_OR_RETURN(PromptLine line, prompts_.read(next_));
  LLMRT_ASSIGN_OR_RETURN(EncodedPrompt prompt, encode(line));
  GenerationRequest request;
  request.index = next_++;
  request.prompt = std::move(prompt.ids);
  request.sampling = options_.sampling;
  request.sampling.temperature =
      line.temperature.value_or(options_.sampling.temperature);
  request.sampling.topK = line.topK.value_or(options_.sampling.topK);
  request.sampling.topP = line.topP.value_or(options_.sampling.topP);
  request.sampling.seed = line.seed.value_or(options_.sampling.seed);
  request.maxNewTokens = line.maxNewTokens.value_or(options_.maxNewTokens);
  request.stopIds = model_.tokenizer().eosIds();
  return request;
}

absl::StatusOr<bool> BatchClient::takeToken(int64_t, int32_t) { return true; }

absl::Status BatchClient::takeResult(const GenerationResult& result) {
  LLMRT_ASSIGN_OR_RETURN(PromptLine line, prompts_.read(result.index));
  LLMRT_ASSIGN_OR_RETURN(EncodedPrompt prompt, encode(line));
  nlohmann::ordered_json json;
  json["id"] = line.id;
  json["prompt"] = prompt.text;
  json["completion"] = model_.tokenizer().decode(
      result.tokens,
      {.skipSpecial = true, .isContinuation = line.turns.empty()});
  json["tokens"] = result.tokens;
  json["finish_reason"] = finishReasonName(result.reason);
  std::string text = json.dump();
  progress_->addPrompt();
  if (results_)
    return results_->add(result.index, text);
  waiting_[result.index] = std::move(text);
  return writeInOrder();
}

absl::Status BatchClient::writeInOrder() {
  while (!waiting_.empty() && waiting_.begin()->first == nextToPrint_) {
    LLMRT_RETURN_IF_ERROR(writeStandardOutput(waiting_.begin()->second + "\n"));
    waiting_.erase(waiting_.begin());
    ++nextToPrint_;
  }
  return absl::OkStatus();
}

void BatchClient::takeRound(const RoundStatistics& round) {
  progress_->addTokens(round.rows);
}

bool BatchClient::isInterrupted() { return isInterruptRequested(); }

absl::Status BatchClient::finish() {
  progress_->finish();
  return results_ ? results_->finish() : absl::OkStatus();
}

void BatchClient::reportInterruption() {
  progress_->finish();
  if (results_)
    logMessage("llmrt",
               absl::StrFormat("interrupted: %d of %d prompts are "
                               "done; run the same command to go on",
                               results_->numDone(), prompts_.numPrompts()));
}

} // namespace llmrt
