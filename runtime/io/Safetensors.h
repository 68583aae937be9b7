// SPDX-License-Identifier: Apache-2.0
// Safetensors: reading one file, or an index, from its bytes, and writing one.
// Finding and opening the files of a checkpoint is WeightSource.h's work.
// Format: 8 bytes of header length, a JSON header, the data.
// https://huggingface.co/docs/safetensors
#pragma once

#include "runtime/io/AtomicFile.h"
#include "runtime/io/SourceTensor.h"

#include <map>
#include <string>
#include <utility>
#include <vector>

namespace llmrt {

struct SafetensorsContents {
  std::vector<SourceTensor> tensors; // in the order of their data
  std::vector<std::pair<std::string, std::string>> metadata;
};

/// Verifies a whole safetensors file and lists its tensors, which point into
/// `bytes`. The data is not touched. `fileName` is for messages.
/// Errors  SafetensorsCorrupt: header length, JSON, nesting, unknown or
///         duplicate fields and names, shapes that overflow or disagree with
///         the data size, data that overlaps, leaves a hole or ends elsewhere
///         than the file; SafetensorsUnknownType.
absl::StatusOr<SafetensorsContents>
parseSafetensors(absl::Span<const uint8_t> bytes, absl::string_view fileName);

/// Reads a model.safetensors.index.json, {"weight_map": {tensor: file}}: the
/// tensors of each file, sorted. File names are plain names of the same folder.
/// Errors  WeightIndexCorrupt.
absl::StatusOr<std::map<std::string, std::vector<std::string>>>
parseSafetensorsIndex(absl::Span<const uint8_t> bytes,
                      absl::string_view fileName);

/// A tensor that is going to be written.
struct TensorDeclaration {
  std::string name;
  SourceType type = SourceType::F32;
  std::vector<int64_t> shape;
};

/// Returns what a safetensors file begins with: the length and the JSON header,
/// padded so that the data begins at a multiple of 8. The data of the tensors
/// follows in the order given.
/// Errors  InvalidArgument for a declaration that safetensors cannot hold
///         (type, duplicate name, overflow, header too long).
absl::StatusOr<std::string> encodeSafetensorsHeader(
    const std::vector<TensorDeclaration>& tensors,
    const std::vector<std::pair<std::string, std::string>>& metadata);

/// Writes one safetensors file, streaming: the tensors are declared first, then
/// their bytes follow in the order of declaration. Nothing exists at `path`
/// before finish().
class SafetensorsWriter {
public:
  /// Errors  FileNotWritable, DiskFull; InvalidArgument for a declaration that
  ///         safetensors cannot hold (type, duplicate name, overflow).
  static absl::StatusOr<SafetensorsWriter>
  create(const std::string& path, const std::vector<TensorDeclaration>& tensors,
         const std::vector<std::pair<std::string, std::string>>& metadata);

  /// Adds the next bytes of the data, in pieces of any size.
  /// Errors  FileNotWritable, DiskFull; InvalidArgument past the declared size.
  absl::Status append(absl::Span<const uint8_t> bytes);

  /// Errors  as append(); InvalidArgument before the declared size is reached.
  absl::Status finish();

private:
  AtomicFile file_;
  int64_t endBytes_ = 0; // size of the finished file
};

} // namespace llmrt
