// SPDX-License-Identifier: Apache-2.0
// llmrt export: a checkpoint of training as a Hugging Face folder.
#include "runtime/base/Error.h"
#include "runtime/base/Logging.h"
#include "runtime/checkpoint/ExportHuggingFace.h"
#include "runtime/training/TrainingCheckpoint.h"
#include "tools/llmrt/Commands.h"

#include "absl/strings/str_format.h"

#include <cstdio>
#include <filesystem>

namespace llmrt {
namespace {

/// Returns the checkpoint itself, or the newest whole one of a folder.
absl::StatusOr<std::string> findCheckpoint(const std::string& path) {
  std::error_code ignored;
  if (std::filesystem::exists(path + "/checkpoint.json", ignored))
    return path;
  LLMRT_ASSIGN_OR_RETURN(FoundCheckpoint found,
                         findNewestCheckpoint(path, nullptr));
  for (const std::string& message : found.messages)
    logMessage("llmrt", message);
  return found.path;
}

void showProgress(int64_t doneBytes, int64_t totalBytes) {
  if (!isProgressTerminal() || totalBytes == 0)
    return;
  std::string text =
      absl::StrFormat("\rexporting: %d %%\x1b[K", 100 * doneBytes / totalBytes);
  std::fwrite(text.data(), 1, text.size(), stderr);
}

absl::Status runExport(const ExportOptions& options) {
  ExportRequest request;
  LLMRT_ASSIGN_OR_RETURN(request.checkpoint,
                         findCheckpoint(options.checkpoint));
  request.source = options.source;
  std::error_code ignored;
  if (!options.source.empty() &&
      !std::filesystem::exists(options.source + "/config.json", ignored))
    return makeError(
        ErrorCode::ExportSourceUnsupported,
        absl::StrCat("--source=", options.source, " has no config.json"),
        "name the Hugging Face folder that training started from");
  if (request.source.empty()) {
    LLMRT_ASSIGN_OR_RETURN(auto checkpoint,
                           Checkpoint::open(request.checkpoint));
    request.source = sourceFolderOf(checkpoint->meta());
  }
  request.out = options.out;
  if (options.dtype != "as-is")
    request.dtype =
        options.dtype == "bf16" ? SourceType::BF16 : SourceType::F32;
  request.progress = showProgress;
  absl::StatusOr<ExportResult> result = exportHuggingFace(request);
  if (isProgressTerminal())
    std::fputs("\r\x1b[K", stderr);
  LLMRT_RETURN_IF_ERROR(result.status());
  for (const std::string& message : result->messages)
    logMessage("llmrt", message);
  logMessage("llmrt", absl::StrCat("exported ", result->checkpoint, ": ",
                                   result->numTensors, " tensors, ",
                                   result->sizeBytes, " bytes"));
  return absl::OkStatus();
}

} // namespace

CommandEnd exportCommand(const ExportOptions& options) {
  return {runExport(options)};
}

} // namespace llmrt
