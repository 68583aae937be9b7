// SPDX-License-Identifier: Apache-2.0
#include "tools/llmrt/TrainingData.h"

#include "runtime/base/Error.h"
#include "runtime/base/Logging.h"
#include "tools/llmrt/Interrupt.h"
#include "tools/llmrt/Session.h"

#include "absl/strings/str_format.h"

#include <algorithm>
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
      absl::StrFormat("%d records, %d tokens, %d sequences an epoch",
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

absl::StatusOr<Objective> objectiveOf(const fb::Plan& plan) {
  std::string name = planOption(plan, "objective");
  if (name.empty())
    return Objective::Pretrain;
  for (Objective objective :
       {Objective::Pretrain, Objective::Sft, Objective::Dpo})
    if (name == objectiveName(objective))
      return objective;
  return makeError(
      ErrorCode::PlanInvalid,
      absl::StrCat("the plan trains for an unknown objective, '", name, "'"),
      "use a newer version of llmrt");
}

absl::StatusOr<std::vector<DataSet>>
heldOutSets(const std::vector<std::string>& evaluationData) {
  std::vector<DataSet> sets;
  for (const std::string& text : evaluationData) {
    std::string name = "eval", path = text;
    size_t equals = text.find('=');
    constexpr const char* kNameCharacters =
        "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-";
    if (equals != std::string::npos &&
        text.find_first_not_of(kNameCharacters) == equals) {
      name = text.substr(0, equals);
      path = text.substr(equals + 1);
    }
    if (name.empty() || name == "train" || path.empty())
      return makeError(ErrorCode::BadOptionValue,
                       absl::StrCat("--eval-data=", text),
                       "write --eval-data=[NAME=]FILE; the name train is that "
                       "of --data");
    auto found =
        std::find_if(sets.begin(), sets.end(),
                     [&](const DataSet& set) { return set.name == name; });
    if (found == sets.end())
      found = sets.insert(sets.end(), {name, {}});
    found->files.push_back(path);
  }
  return sets;
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
  data_.objective = objective;
  data_.tokenizer = &model_->tokenizer();
  // Without one, only conversations are refused.
  if (chat.ok() && objective != Objective::Pretrain)
    data_.chatTemplate = *std::move(chat);
  data_.skipsBadRecords = options_.training.skipsBadRecords;
  data_.cacheFolder = options_.training.cacheFolder;
  return absl::OkStatus();
}

DataOptions TrainingData::optionsOf(const DataSet& set) const {
  DataOptions data = data_;
  data.files = set.files;
  return data;
}

absl::Status TrainingData::build(const fb::Plan& plan) {
  LLMRT_RETURN_IF_ERROR(loadOnce(plan));
  LLMRT_RETURN_IF_ERROR(buildSet(plan, trainingSet()));
  LLMRT_ASSIGN_OR_RETURN(std::vector<DataSet> heldOut,
                         heldOutSets(options_.training.evaluationData));
  for (const DataSet& set : heldOut)
    LLMRT_RETURN_IF_ERROR(buildSet(plan, set));
  return absl::OkStatus();
}

absl::Status TrainingData::buildSet(const fb::Plan& plan, const DataSet& set) {
  DataOptions data = optionsOf(set);
  absl::StatusOr<BuildReport> report = [&] {
    BuildBar bar(options_.isQuiet);
    return buildTokenFile(data, [&](const BuildProgress& progress) {
      return bar.show(progress);
    });
  }();
  LLMRT_RETURN_IF_ERROR(report.status());
  for (const std::string& line : report->skippedLines)
    logMessage("llmrt", "skipped: " + line);
  LLMRT_RETURN_IF_ERROR(checkVocabulary(plan, data));
  LLMRT_ASSIGN_OR_RETURN(OpenedData opened, open(plan, set, !set.name.empty()));
  if (!options_.isQuiet)
    logMessage("llmrt", absl::StrCat(set.name.empty() ? "data" : set.name, ": ",
                                     summaryOf(opened.source.statistics())));
  return absl::OkStatus();
}

// A tokenizer may know more ids than the model; what counts is the data.
absl::Status TrainingData::checkVocabulary(const fb::Plan& plan,
                                           const DataOptions& data) const {
  int64_t size = plan.model() ? plan.model()->vocab_size() : 0;
  LLMRT_ASSIGN_OR_RETURN(TokenFile file, openTokenFile(data));
  if (size <= 0 || file.header().vocabSize <= static_cast<uint64_t>(size))
    return absl::OkStatus();
  for (int64_t i = 0; i < file.numTokens(); ++i) {
    if (file.token(i) < size)
      continue;
    const TokenFileDocument& document = file.document(file.findDocument(i));
    return makeError(
        ErrorCode::VocabularyMismatch,
        absl::StrCat("the tokenizer writes id ", file.token(i), " in line ",
                     document.line, " of ", data.files[document.source],
                     ", and the model's vocabulary has ", size, " ids"),
        "name the tokenizer of this model with --tokenizer=PATH");
  }
  return absl::OkStatus();
}

absl::StatusOr<OpenedData> TrainingData::open(const fb::Plan& plan,
                                              const DataSet& set,
                                              bool isEvaluation) {
  LLMRT_RETURN_IF_ERROR(loadOnce(plan));
  std::lock_guard lock(mutex_);
  DataOptions data = optionsOf(set);
  LLMRT_ASSIGN_OR_RETURN(TokenFile file, openTokenFile(data));
  std::string fingerprint =
      absl::StrFormat("%016x-%016x", file.header().settingsFingerprint,
                      file.header().sourceFingerprint);
  LLMRT_ASSIGN_OR_RETURN(BatchSource source,
                         BatchSource::create(std::move(file), set.files,
                                             {.numRows = plan.cache_tokens(),
                                              .seed = static_cast<uint64_t>(
                                                  options_.sampling.seed),
                                              .isEvaluation = isEvaluation}));
  return OpenedData{std::move(source), fingerprint, tokenFilePath(data)};
}

} // namespace llmrt
