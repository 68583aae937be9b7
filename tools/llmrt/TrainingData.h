// SPDX-License-Identifier: Apache-2.0
// The training data of a run in one process: tokenised by rank 0 before the
// ranks start, opened by each of them.
#pragma once

#include "runtime/data/BatchSource.h"
#include "runtime/data/BuildTokenFile.h"
#include "tools/llmrt/Options.h"
#include "tools/llmrt/TextModel.h"

#include <mutex>
#include <optional>

namespace llmrt {

/// Returns what the plan trains for. Errors  PlanInvalid.
absl::StatusOr<Objective> objectiveOf(const fb::Plan& plan);

struct OpenedData {
  BatchSource source;
  std::string fingerprint; // of contents and settings
  std::string tokenFile;   // its path
};

/// The training data (no name), or held-out data.
struct DataSet {
  std::string name;
  std::vector<std::string> files;
};

/// Returns the sets of --eval-data=[NAME=]FILE, in the order of their first
/// files. Errors  BadOptionValue: an empty path, or the name "train".
absl::StatusOr<std::vector<DataSet>>
heldOutSets(const std::vector<std::string>& evaluationData);

/// Calls of open() may come from several ranks of the process.
class TrainingData {
public:
  /// `options` outlive the object.
  explicit TrainingData(const RunOptions& options) : options_(options) {}

  /// Makes the token files, with a progress bar, and says what is in them. Rank
  /// 0. Errors  those of TextModel::load() and buildTokenFile();
  ///         VocabularyMismatch; Cancelled after Ctrl-C.
  absl::Status build(const fb::Plan& plan);

  /// `isEvaluation`: in file order, once. Errors  those of openTokenFile() and
  /// BatchSource::create().
  absl::StatusOr<OpenedData> open(const fb::Plan& plan, const DataSet& set,
                                  bool isEvaluation);

  DataSet trainingSet() const { return {"", options_.training.data}; }

private:
  absl::Status loadOnce(const fb::Plan& plan);
  absl::Status buildSet(const fb::Plan& plan, const DataSet& set);
  absl::Status checkVocabulary(const fb::Plan& plan,
                               const DataOptions& data) const;
  DataOptions optionsOf(const DataSet& set) const;

  const RunOptions& options_;
  std::mutex mutex_;
  std::optional<TextModel> model_;
  DataOptions data_; // without files
};

} // namespace llmrt
