// SPDX-License-Identifier: Apache-2.0
// Makes small GGUF files for tests, valid or deliberately wrong. Not a
// converter: it quantises nothing, and the runtime never writes GGUF.
#pragma once

#include "runtime/io/Gguf.h"

#include <cstdint>
#include <string>
#include <vector>

namespace llmrt::testing {

/// Collects metadata and tensors, then gives the bytes of the file:
///   GgufWriter writer;
///   writer.addText("general.architecture", "llama");
///   writer.addTensor("output.weight", SourceType::F32, {4, 8}, bytes);
///   std::string file = writer.serialize();
class GgufWriter {
public:
  uint32_t version = 3;
  /// Added as general.alignment when not 32.
  uint32_t alignment = 32;

  void addU32(absl::string_view key, uint32_t value);
  void addI64(absl::string_view key, int64_t value);
  void addF32(absl::string_view key, float value);
  void addBool(absl::string_view key, bool value);
  void addText(absl::string_view key, absl::string_view value);
  void addTexts(absl::string_view key, const std::vector<std::string>& values);
  void addI32s(absl::string_view key, const std::vector<int32_t>& values);
  void addF32s(absl::string_view key, const std::vector<float>& values);
  /// Any value, `payload` as the format encodes it after the type.
  void addEncoded(absl::string_view key, uint32_t type,
                  absl::string_view payload);

  /// Adds a tensor; `shape` is row-major, `bytes` its data as stored.
  void addTensor(absl::string_view name, SourceType type,
                 const std::vector<int64_t>& shape, absl::string_view bytes);
  /// The same with any type number, for tests of types that nobody knows.
  void addTensorOfNumber(absl::string_view name, uint32_t ggufNumber,
                         const std::vector<int64_t>& shape,
                         absl::string_view bytes);

  std::string serialize() const;

private:
  uint64_t numValues_ = 0;
  std::string values_;

  struct Tensor {
    std::string head; // name, rank, shape, type
    std::string bytes;
  };

  std::vector<Tensor> tensors_;
};

/// Appends the little-endian bytes of a number.
template <class T>
void appendNumber(std::string& out, T value) {
  out.append(reinterpret_cast<const char*>(&value), sizeof(value));
}

/// Appends a text as GGUF encodes it: its length in 8 bytes, then its
/// characters.
void appendText(std::string& out, absl::string_view text);

/// Writes `contents` to `path`; returns false if that fails.
bool writeFile(const std::string& path, absl::string_view contents);

} // namespace llmrt::testing
