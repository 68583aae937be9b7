// SPDX-License-Identifier: Apache-2.0
// A read-only memory map of a whole file. The readers of safetensors, GGUF and
// plans take a span of bytes, so that tests and fuzzers need no file.
#pragma once

#include "absl/status/statusor.h"
#include "absl/types/span.h"

#include <cstdint>
#include <string>

namespace llmrt {

class MappedFile {
public:
  /// Maps `path` read-only. Pages are read when touched.
  /// Errors  FileNotReadable.
  static absl::StatusOr<MappedFile> open(const std::string& path);

  MappedFile() = default;
  MappedFile(MappedFile&& other) noexcept;
  MappedFile& operator=(MappedFile&& other) noexcept;
  ~MappedFile();

  absl::Span<const uint8_t> bytes() const { return {data_, sizeBytes_}; }

  const std::string& path() const { return path_; }

private:
  const uint8_t* data_ = nullptr;
  size_t sizeBytes_ = 0;
  std::string path_;
};

} // namespace llmrt
