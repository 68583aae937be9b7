// SPDX-License-Identifier: Apache-2.0
// Turns a checkpoint of training into a Hugging Face folder that transformers,
// and llmc import, load.
#pragma once

#include "runtime/checkpoint/Checkpoint.h"

#include <functional>
#include <optional>

namespace llmrt {

/// Notes of a checkpoint whose training began with no Hugging Face folder:
/// config.json as text, and the tokenizer's folder or file (may be empty).
inline constexpr const char* kConfigNote = "config";
inline constexpr const char* kTokenizerNote = "tokenizer";

struct ExportRequest {
  /// A checkpoint step-..., or a folder of them: then the newest whole one.
  std::string checkpoint;
  /// The Hugging Face folder that training started from, or its
  /// model.safetensors: gives config.json and the tokenizer. Not needed, and
  /// not used, if it has no config.json and the checkpoint has a note of one.
  std::string source;
  /// Made by the export; may exist if it is empty.
  std::string out;
  /// Of all tensors; absent: as in the checkpoint. config.json then says so.
  std::optional<SourceType> dtype = {};
  /// Called now and then with the bytes of weights done and their total.
  std::function<void(int64_t doneBytes, int64_t totalBytes)> progress = {};
  int64_t maxFileBytes = kMaxCheckpointFileBytes;
};

struct ExportResult {
  std::string checkpoint; // the one that was exported
  int64_t numTensors = 0;
  int64_t sizeBytes = 0; // of the weights
  std::vector<std::string> messages;
};

/// Writes the parameters under the names, shapes and transpositions of the
/// source: the inverse of CheckpointMeta::sources; of a GGUF file under their
/// Hugging Face names, with the rows of queries and keys in that order. Logical
/// tensors that are rows of one source tensor are put together again; a tied
/// weight is written once. `out` appears whole or not at all. Errors
/// ExportTargetNotEmpty, ExportSourceUnsupported (no
///         config.json; gpt2 from GGUF), ExportMapInvalid, ConfigCorrupt,
///         FileNotReadable, FileNotWritable, DiskFull, those of Checkpoint;
///         InvalidArgument for a dtype that is not F32 or BF16.
absl::StatusOr<ExportResult> exportHuggingFace(const ExportRequest& request);

} // namespace llmrt
