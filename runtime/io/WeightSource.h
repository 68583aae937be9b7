// SPDX-License-Identifier: Apache-2.0
// The weights of a model, wherever they lie: a Hugging Face folder, a
// safetensors file, a GGUF file. Names are those of the files; models/ knows
// what they mean. Files are memory-mapped: a page is read when it is touched,
// so a rank reads only its own bytes. A file must not be cut short while it is
// open.
#pragma once

#include "runtime/base/MappedFile.h"
#include "runtime/io/Gguf.h"
#include "runtime/io/SourceTensor.h"

#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace llmrt {

class WeightSource {
public:
  /// Opens a file by what it begins with (GGUF, else safetensors; a name ending
  /// in .index.json is a safetensors index), or a folder: its
  /// model.safetensors.index.json, else its model.safetensors, else its only
  /// .safetensors, else its only .gguf.
  /// Errors  FileNotReadable, WeightsNotFound, WeightsAmbiguous,
  ///         WeightIndexCorrupt, and those of parseSafetensors() and
  ///         GgufFile::parse().
  static absl::StatusOr<std::unique_ptr<WeightSource>>
  open(const std::string& path);

  /// In file order; of an index, by file name and then by tensor name.
  const std::vector<SourceTensor>& tensors() const { return tensors_; }

  std::vector<absl::string_view> names() const;

  /// Returns the tensor, or nullptr.
  const SourceTensor* find(absl::string_view name) const;
  /// Errors  TensorNotFound, with the name that is nearest.
  absl::StatusOr<const SourceTensor*> require(absl::string_view name) const;

  /// Returns the metadata if the weights are a GGUF file, else nullptr.
  const GgufFile* gguf() const { return gguf_ ? &*gguf_ : nullptr; }

  const std::string& path() const { return path_; }

private:
  WeightSource() = default;
  absl::Status openFile(const std::string& path);
  absl::Status openIndex(const std::string& path);
  absl::Status openFolder(const std::string& path);

  std::string path_;
  std::vector<MappedFile> files_;
  std::vector<SourceTensor> tensors_;
  std::optional<GgufFile> gguf_;
  absl::flat_hash_map<std::string, size_t> indexByName_;
};

} // namespace llmrt
