// SPDX-License-Identifier: Apache-2.0
#include "tools/llmrt/ReferenceModel.h"

#include "runtime/base/Crc64.h"
#include "runtime/base/Logging.h"
#include "runtime/checkpoint/RankGroup.h"
#include "tools/llmrt/Interrupt.h"
#include "tools/llmrt/WeightIdentity.h"

#include "absl/strings/str_format.h"

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <numeric>

namespace llmrt {
namespace {

namespace fs = std::filesystem;

/// Names, sizes and times of the files of a checkpoint; a seed is its own text.
std::string describeWeights(const std::string& path) {
  std::vector<std::string> files;
  auto add = [&](const fs::path& file) {
    std::error_code error;
    files.push_back(absl::StrCat(
        file.filename().string(), " ", fs::file_size(file, error), " ",
        fs::last_write_time(file, error).time_since_epoch().count()));
  };
  std::error_code error;
  if (fs::is_directory(path, error)) {
    for (const fs::directory_entry& entry : fs::directory_iterator(path, error))
      if (entry.is_regular_file(error))
        add(entry.path());
  } else if (fs::exists(path, error)) {
    add(path);
  }
  std::sort(files.begin(), files.end());
  std::string text = path;
  for (const std::string& file : files)
    absl::StrAppend(&text, "\n", file);
  return text;
}

/// A line now and then: such a pass takes minutes.
class PassProgress {
public:
  explicit PassProgress(bool isQuiet) : isQuiet_(isQuiet) {}

  void show(int64_t done, int64_t total) {
    auto now = std::chrono::steady_clock::now();
    bool isDue = now - last_ > std::chrono::seconds(10) || done == total;
    if (isQuiet_ || !isDue)
      return;
    last_ = now;
    logMessage("llmrt", absl::StrCat("reference model: ", done, " of ", total,
                                     " sequences"));
  }

private:
  bool isQuiet_;
  std::chrono::steady_clock::time_point last_ =
      std::chrono::steady_clock::now();
};

} // namespace

absl::Status ReferenceModel::prepare() {
  if (!referencePath_.empty())
    return absl::OkStatus();
  if (rank_.fabric.size() > 1) {
    std::vector<int> everyone(rank_.fabric.size());
    std::iota(everyone.begin(), everyone.end(), 0);
    LLMRT_ASSIGN_OR_RETURN(all_, rank_.fabric.createCommunicator(everyone));
  }
  LLMRT_ASSIGN_OR_RETURN(weights_, findWeights(rank_.plan, options_.session));
  referencePath_ = referencePathOf(weights_);
  // Rank 0's view counts: files of other hosts have other times.
  std::vector<int64_t> number = {
      static_cast<int64_t>(crc64(describeWeights(referencePath_)))};
  LLMRT_RETURN_IF_ERROR(
      RankGroup(all_.get()).broadcast(number, "reference weights"));
  weightsNumber_ = number[0];
  return absl::OkStatus();
}

std::string ReferenceModel::fingerprintOf(const OpenedData& data) const {
  return absl::StrFormat("%s-%016x-%016x-%s-%d", data.fingerprint,
                         crc64(describeModel(rank_.plan)), weightsNumber_,
                         planOption(rank_.plan, "dtype"),
                         rank_.plan.cache_tokens());
}

absl::StatusOr<const ReferenceLosses*>
ReferenceModel::lossesOf(const OpenedData& data) {
  if (planOption(rank_.plan, "reference") != "precompute")
    return nullptr;
  LLMRT_RETURN_IF_ERROR(prepare());
  std::string path = data.tokenFile + ".reference";
  std::string fingerprint = fingerprintOf(data);
  absl::StatusOr<ReferenceLosses> found =
      ReferenceLosses::open(path, fingerprint, data.source);
  // All ranks look before one of them replaces the file.
  absl::Status isThere;
  LLMRT_RETURN_IF_ERROR(
      RankGroup(all_.get()).share(found.status(), "reference losses", isThere));
  if (!isThere.ok()) {
    LLMRT_RETURN_IF_ERROR(compute(data, path, fingerprint));
    found = ReferenceLosses::open(path, fingerprint, data.source);
    LLMRT_RETURN_IF_ERROR(found.status());
  }
  losses_.push_back(*std::move(found));
  return &losses_.back();
}

absl::Status ReferenceModel::compute(const OpenedData& data,
                                     const std::string& path,
                                     const std::string& fingerprint) {
  LLMRT_RETURN_IF_ERROR(loadReference());
  PassProgress progress(options_.isQuiet);
  return computeReferenceLosses(
      {.plan = rank_.plan,
       .executor = rank_.executor,
       .all = all_.get(),
       .data = data.source,
       .path = path,
       .fingerprint = fingerprint,
       .progress = [&](int64_t done,
                       int64_t total) { progress.show(done, total); },
       .isStopRequested = isInterruptRequested});
}

absl::Status ReferenceModel::loadReference() {
  bool isOther = std::any_of(weights_.begin(), weights_.end(),
                             [](const WeightLocation& location) {
                               return location.set == "reference";
                             });
  if (isReferenceLoaded_ || !isOther)
    return absl::OkStatus();
  isReferenceLoaded_ = true;
  return rank_.executor.reloadWeights({{"model", referencePath_}});
}

absl::Status ReferenceModel::restoreWeights() {
  if (!isReferenceLoaded_)
    return absl::OkStatus();
  isReferenceLoaded_ = false;
  return rank_.executor.reloadWeights(weights_);
}

} // namespace llmrt
