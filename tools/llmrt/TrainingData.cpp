// SPDX-License-Identifier: Apache-2.0
#include "tools/llmrt/TrainingData.h"

#include "runtime/base/Error.h"
#include "runtime/base/Logging.h"
#include "tools/llmrt/Interrupt.h"

#include "absl/strings/str_format.h"

#include <chrono>
#include <cstdio>

namespace llmrt {
namespace {

/// A bar over the bytes of the data files, on a terminal only.
class BuildBar {
public:
  explicit BuildBar(bool isQuiet)
      : isShown_(!isQuiet && isProgressTerminal()) {}

  ~BuildBar() {
    if (isDrawn_)
      std::fputs("\r\x1b[K", stderr);
  }

  bool show(const BuildProgress& progress) {
    auto now = std::chrono::steady_clock::now();
    if (isShown_ && now - last_ > std::chrono::milliseconds(200)) {
      last_ = now;
      isDrawn_ = true;
      double share = progress.bytesTotal > 0
                         ? 100.0 * static_cast<double>(progress.bytesDone) /
                               static_cast<double>(progress.bytesTotal)
                         : 100;
      std::string text =
          absl::StrFormat("\rtokenising: %.0f %%, %d records\x1b[K", share,
                          progress.numRecords);
      std::fwrite(text.data(), 1, text.size(), stderr);
    }
    return !isInterruptRequested();
  }

private:
  bool isShown_;
  bool isDrawn_ = false;
  std::chrono::steady_clock::time_point last_;
};

std::string summaryOf(const DataStatistics& s) {
  std::string text =
      absl::StrFormat("data: %d records, %d tokens, %d sequences an epoch",
                      s.numRecords, s.numTokens, s.numSequences);
  const std::pair<int64_t, const char*> counts[] = {
      {s.numSkipped, " malformed lines skipped"},
      {s.numEmpty, " empty records"},
      {s.layout.numTruncated, " samples truncated"},
      {s.layout.numDropped, " samples dropped"},
      {s.numMergedBorders, " borders inside a token"}};
  for (const auto& [count, what] : counts)
    if (count > 0)
      absl::StrAppend(&text, ", ", count, what);
  return text;
}

} // namespace

// The plan carries the compile options as text: objective = "sft".
absl::StatusOr<Objective> objectiveOf(const fb::Plan& plan) {
  std::string options = plan.options() ? plan.options()->str() : "";
  constexpr std::string_view kKey = "objective = \"";
  size_t at = options.find(kKey);
  if (at == std::string::npos)
    return Objective::Pretrain;
  std::string name = options.substr(at + kKey.size());
  name = name.substr(0, name.find('"'));
  for (Objective objective :
       {Objective::Pretrain, Objective::Sft, Objective::Dpo})
    if (name == objectiveName(objective))
      return objective;
  return makeError(
      ErrorCode::PlanInvalid,
      absl::StrCat("the plan trains for an unknown objective, '", name, "'"),
      "use a newer version of llmrt");
}

absl::Status TrainingData::loadOnce(const fb::Plan& plan) {
  std::lock_guard lock(mutex_);
  if (model_)
    return absl::OkStatus();
  LLMRT_ASSIGN_OR_RETURN(Objective objective, objectiveOf(plan));
  LLMRT_ASSIGN_OR_RETURN(TextModel model,
                         TextModel::load(plan, options_.session,
                                         options_.tokenizer,
                                         options_.chatTemplate));
  absl::StatusOr<ChatTemplate> chat = model.findTemplate();
  if (!chat.ok() && !options_.chatTemplate.empty())
    return chat.status();
  model_ = std::move(model);
  data_.files = options_.training.data;
  data_.objective = objective;
  data_.tokenizer = &model_->tokenizer();
  // Without one, only conversations are refused.
  if (chat.ok() && objective != Objective::Pretrain)
    data_.chatTemplate = *std::move(chat);
  data_.skipsBadRecords = options_.training.skipsBadRecords;
  data_.cacheFolder = options_.training.cacheFolder;
  return absl::OkStatus();
}

absl::Status TrainingData::build(const fb::Plan& plan) {
  LLMRT_RETURN_IF_ERROR(loadOnce(plan));
  absl::StatusOr<BuildReport> report = [&] {
    BuildBar bar(options_.isQuiet);
    return buildTokenFile(data_, [&](const BuildProgress& progress) {
      return bar.show(progress);
    });
  }();
  LLMRT_RETURN_IF_ERROR(report.status());
  for (const std::string& line : report->skippedLines)
    logMessage("llmrt", "skipped: " + line);
  LLMRT_RETURN_IF_ERROR(checkVocabulary(plan));
  LLMRT_ASSIGN_OR_RETURN(OpenedData opened, open(plan));
  if (!options_.isQuiet)
    logMessage("llmrt", summaryOf(opened.source.statistics()));
  return absl::OkStatus();
}

// A tokenizer may know more ids than the model; what counts is the data.
absl::Status TrainingData::checkVocabulary(const fb::Plan& plan) const {
  int64_t size = plan.model() ? plan.model()->vocab_size() : 0;
  LLMRT_ASSIGN_OR_RETURN(TokenFile file, openTokenFile(data_));
  if (size <= 0 || file.header().vocabSize <= static_cast<uint64_t>(size))
    return absl::OkStatus();
  for (int64_t i = 0; i < file.numTokens(); ++i) {
    if (file.token(i) < size)
      continue;
    const TokenFileDocument& document = file.document(file.findDocument(i));
    return makeError(
        ErrorCode::VocabularyMismatch,
        absl::StrCat("the tokenizer writes id ", file.token(i), " in line ",
                     document.line, " of ", data_.files[document.source],
                     ", and the model's vocabulary has ", size, " ids"),
        "name the tokenizer of this model with --tokenizer=PATH");
  }
  return absl::OkStatus();
}

absl::StatusOr<OpenedData> TrainingData::open(const fb::Plan& plan) {
  LLMRT_RETURN_IF_ERROR(loadOnce(plan));
  std::lock_guard lock(mutex_);
  LLMRT_ASSIGN_OR_RETURN(TokenFile file, openTokenFile(data_));
  std::string fingerprint =
      absl::StrFormat("%016x-%016x", file.header().settingsFingerprint,
                      file.header().sourceFingerprint);
  LLMRT_ASSIGN_OR_RETURN(BatchSource source,
                         BatchSource::create(std::move(file), data_.files,
                                             {.numRows = plan.cache_tokens(),
                                              .seed = static_cast<uint64_t>(
                                                  options_.sampling.seed)}));
  return OpenedData{std::move(source), fingerprint};
}

} // namespace llmrt
