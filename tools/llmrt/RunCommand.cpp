// SPDX-License-Identifier: Apache-2.0
// llmrt run: one prompt, a file of prompts, the logits of given tokens; what a
// plan for training does is TrainCommand's. What
// rank 0 reads and checks comes before the weights are loaded, so that mistakes
// show at once.
#include "runtime/base/Error.h"
#include "runtime/base/Logging.h"
#include "runtime/io/Npy.h"
#include "tools/llmrt/BatchClient.h"
#include "tools/llmrt/Commands.h"
#include "tools/llmrt/Interrupt.h"
#include "tools/llmrt/MemoryReportFile.h"
#include "tools/llmrt/TextClient.h"
#include "tools/llmrt/Trace.h"

#include "absl/strings/numbers.h"
#include "absl/strings/str_split.h"

#include <cerrno>
#include <unistd.h>

namespace llmrt {
namespace {

/// What rank 0 has ready before the ranks start. Filled according to the
/// options.
struct Preparation {
  LoadedPlan plan;
  std::optional<TextModel> model;
  std::unique_ptr<TextClient> text;
  std::unique_ptr<BatchClient> batch;
  std::vector<int32_t> tokens;
};

absl::StatusOr<std::string> readStandardInput(bool isQuiet) {
  if (isatty(STDIN_FILENO) && !isQuiet)
    logMessage("llmrt", "reading the prompt from the terminal, to Ctrl-D");
  std::string text;
  char buffer[1 << 16];
  while (true) {
    ssize_t count = ::read(STDIN_FILENO, buffer, sizeof(buffer));
    if (count < 0 && errno == EINTR)
      continue;
    if (count < 0)
      return makeSystemError(ErrorCode::FileNotReadable, errno, "cannot read",
                             "standard input");
    if (count == 0)
      break;
    text.append(buffer, static_cast<size_t>(count));
  }
  if (!text.empty() && text.back() == '\n') // what echo adds
    text.pop_back();
  return text;
}

absl::StatusOr<std::vector<int32_t>> parseTokens(const std::string& text) {
  std::vector<int32_t> ids;
  for (absl::string_view part : absl::StrSplit(text, ',')) {
    int32_t id = 0;
    if (!absl::SimpleAtoi(part, &id))
      return makeError(ErrorCode::BadOptionValue,
                       absl::StrCat("--tokens: '", part, "' is no token id"),
                       "write ids with commas between them, --tokens=1,2,3");
    ids.push_back(id);
  }
  return ids;
}

absl::Status prepareText(const RunOptions& options, Preparation& ready) {
  std::string text;
  if (options.prompt)
    text = *options.prompt;
  else {
    LLMRT_ASSIGN_OR_RETURN(text, readStandardInput(options.isQuiet));
  }
  std::vector<ChatTurn> turns;
  if (options.system)
    turns.push_back({"system", *options.system});
  turns.push_back({"user", text});
  LLMRT_ASSIGN_OR_RETURN(EncodedPrompt prompt,
                         options.isChat ? ready.model->encodeChat(turns)
                                        : ready.model->encodeText(text));
  if (prompt.ids.empty())
    return makeError(ErrorCode::PromptEmpty, "the prompt is empty",
                     "give it with --prompt or on standard input");
  GenerationRequest request;
  request.prompt = std::move(prompt.ids);
  request.sampling = options.sampling;
  request.stopIds = ready.model->tokenizer().eosIds();
  request.maxNewTokens = options.maxNewTokens;
  ready.text = std::make_unique<TextClient>(*ready.model, std::move(request),
                                            !options.isChat);
  return absl::OkStatus();
}

/// Where the plan says that weights and tokenizer lie.
absl::Status checkPlansInputs(const RunOptions& options, const fb::Plan& plan) {
  LLMRT_ASSIGN_OR_RETURN(std::vector<WeightLocation> weights,
                         findWeights(plan, options.session));
  std::vector<std::string> inputs;
  for (const WeightLocation& location : weights)
    inputs.push_back(location.path);
  return checkRunOutputs(options, std::move(inputs));
}

absl::Status prepare(const RunOptions& options, Preparation& ready) {
  LLMRT_ASSIGN_OR_RETURN(ready.plan, loadPlan(options.session.planPath));
  LLMRT_RETURN_IF_ERROR(checkPlansInputs(options, *ready.plan.plan));
  if (!options.tokens.empty()) {
    LLMRT_ASSIGN_OR_RETURN(ready.tokens, parseTokens(options.tokens));
    return absl::OkStatus();
  }
  LLMRT_ASSIGN_OR_RETURN(
      ready.model, TextModel::load(*ready.plan.plan, options.session,
                                   options.tokenizer, options.chatTemplate));
  if (options.promptsPath.empty())
    return prepareText(options, ready);
  LLMRT_ASSIGN_OR_RETURN(
      ready.batch, BatchClient::create(*ready.model, options, ready.plan));
  return absl::OkStatus();
}

/// Generates nothing; only asked whether to go on.
class ScoreClient final : public GenerationClient {
public:
  absl::StatusOr<std::optional<GenerationRequest>> nextRequest() override {
    return std::nullopt;
  }

  absl::StatusOr<bool> takeToken(int64_t, int32_t) override { return true; }

  absl::Status takeResult(const GenerationResult&) override {
    return absl::OkStatus();
  }

  bool isInterrupted() override { return isInterruptRequested(); }
};

absl::StatusOr<RunEnd> writeLogits(const RunOptions& options,
                                   const Preparation& ready,
                                   Generation& generation) {
  ScoreClient client;
  std::optional<NpyWriter> writer;
  LLMRT_ASSIGN_OR_RETURN(
      RunEnd how, generation.score(ready.tokens, options.logitsEntry, client,
                                   [&](int64_t, absl::Span<const float> row) {
                                     if (!writer) {
                                       auto made = NpyWriter::create(
                                           options.logitsPath, SourceType::F32,
                                           row.size());
                                       if (!made.ok())
                                         return made.status();
                                       writer = std::move(*made);
                                     }
                                     return writer->appendRow(row);
                                   }));
  if (how == RunEnd::Finished)
    LLMRT_RETURN_IF_ERROR(writer->finish());
  return how;
}

absl::StatusOr<RunEnd> generateText(const RunOptions& options,
                                    TextClient& client,
                                    Generation& generation) {
  LLMRT_ASSIGN_OR_RETURN(RunEnd how, generation.generate(client));
  LLMRT_RETURN_IF_ERROR(client.finish());
  if (!options.isQuiet)
    logMessage("llmrt", client.summary());
  return how;
}

absl::StatusOr<RunEnd> generateBatch(BatchClient& client,
                                     Generation& generation) {
  LLMRT_ASSIGN_OR_RETURN(RunEnd how, generation.generate(client));
  if (how == RunEnd::Finished)
    LLMRT_RETURN_IF_ERROR(client.finish());
  else
    client.reportInterruption();
  return how;
}

/// Returns "" for a plan that cannot be read: the run says what is wrong.
std::string modeOfPlan(const std::string& path) {
  absl::StatusOr<LoadedPlan> plan = loadPlan(path);
  return plan.ok() && plan->plan->mode() ? plan->plan->mode()->str() : "";
}

} // namespace

CommandEnd runCommand(const RunOptions& options) {
  absl::StatusOr<LaunchInfo> launch = detectLaunch();
  if (!launch.ok())
    return {launch.status()};
  std::string mode = modeOfPlan(options.session.planPath);
  if (mode == "train")
    return trainCommand(options, *launch);
  if (!mode.empty() && !options.trainingOption.empty())
    return {makeError(ErrorCode::TrainingPlanNeeded,
                      absl::StrCat(options.trainingOption,
                                   " belongs to training, which needs a plan "
                                   "of llmc compile --mode=train"),
                      "leave it out to generate text"),
            false, launch->rank == 0};
  Preparation ready;
  SessionOptions session = options.session;
  session.keepsTimeline = !options.tracePath.empty();
  session.reportsMemory = !options.memoryReportPath.empty();
  session.prepareRankZero = [&] {
    absl::Status status = prepare(options, ready);
    watchForInterrupt(); // not before standard input is read
    return status;
  };
  SessionEnd end = runSession(
      session, *launch, [&](RankZero& rankZero) -> absl::StatusOr<RunEnd> {
        if (!options.tokens.empty())
          return writeLogits(options, ready, rankZero.generation);
        if (ready.batch)
          return generateBatch(*ready.batch, rankZero.generation);
        return generateText(options, *ready.text, rankZero.generation);
      });
  if (!end.how.ok())
    return {end.how.status(), false, end.isReporter, end.recorders};
  if (auto status = writeTrace(options.tracePath, *launch, end); !status.ok())
    return {status};
  if (auto status = writeMemoryReport(options.memoryReportPath, *launch, end);
      !status.ok())
    return {status};
  return {absl::OkStatus(), *end.how == RunEnd::Interrupted};
}

} // namespace llmrt
