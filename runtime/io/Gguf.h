// SPDX-License-Identifier: Apache-2.0
// GGUF versions 2 and 3, little-endian: metadata and tensor list of one file,
// read from its bytes. It does not know what any key means; models/ and the
// tokenizer do. Format:
// https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
#pragma once

#include "runtime/io/SourceTensor.h"

#include "absl/container/flat_hash_map.h"
#include "absl/status/statusor.h"

#include <optional>
#include <string>
#include <vector>

namespace llmrt {

/// The format's own numbers.
enum class GgufValueType : uint32_t {
  U8 = 0,
  I8 = 1,
  U16 = 2,
  I16 = 3,
  U32 = 4,
  I32 = 5,
  F32 = 6,
  Bool = 7,
  String = 8,
  Array = 9,
  U64 = 10,
  I64 = 11,
  F64 = 12,
};

/// Returns the encoded bytes of a scalar; nothing for a text, an array or no
/// type.
std::optional<uint64_t> ggufScalarBytes(GgufValueType type);

/// One metadata value, still encoded: the little-endian scalar, the text
/// without its length, or the elements of an array one after the other (a text
/// with its length).
struct GgufValue {
  GgufValueType type = GgufValueType::U8;
  GgufValueType elementType = GgufValueType::U8; // of an array
  uint64_t numElements = 0;                      // of an array
  absl::Span<const uint8_t> bytes;
};

/// The parsed head of a GGUF file. Points into the bytes given to parse(),
/// which must outlive it, and never changes: any number of threads may read it.
///
/// Each read function returns the value of `key`, converted without loss.
/// Errors of each  GgufKeyMissing; GgufKeyWrongType (a value of another type, a
/// number that does not fit). The ...Or form returns its default if the key is
/// missing, never if the type is wrong.
class GgufFile {
public:
  /// Verifies the head and lists metadata and tensors; the data is not touched.
  /// `fileName` is for messages.
  /// Errors  GgufCorrupt: anything outside the file, duplicate names, sizes
  ///         that overflow, data that overlaps or leaves a hole;
  ///         GgufUnsupportedVersion (also big-endian files);
  ///         GgufUnsupportedType; GgufSplit.
  static absl::StatusOr<GgufFile> parse(absl::Span<const uint8_t> bytes,
                                        absl::string_view fileName);

  uint32_t version() const { return version_; }

  /// In file order; shapes are row-major: [out, in] for a weight.
  const std::vector<SourceTensor>& tensors() const { return tensors_; }

  const std::vector<std::string>& keys() const { return keys_; }

  bool contains(absl::string_view key) const { return values_.contains(key); }

  /// Returns the encoded value, or nullptr.
  const GgufValue* find(absl::string_view key) const;

  absl::StatusOr<bool> readBool(absl::string_view key) const;
  absl::StatusOr<bool> readBoolOr(absl::string_view key, bool value) const;
  absl::StatusOr<int64_t> readInteger(absl::string_view key) const;
  absl::StatusOr<int64_t> readIntegerOr(absl::string_view key,
                                        int64_t value) const;
  /// A floating-point value, or an integer below 2^53.
  absl::StatusOr<double> readNumber(absl::string_view key) const;
  absl::StatusOr<double> readNumberOr(absl::string_view key,
                                      double value) const;
  absl::StatusOr<absl::string_view> readText(absl::string_view key) const;
  absl::StatusOr<absl::string_view> readTextOr(absl::string_view key,
                                               absl::string_view value) const;
  absl::StatusOr<std::vector<int64_t>>
  readIntegers(absl::string_view key) const;
  absl::StatusOr<std::vector<double>> readNumbers(absl::string_view key) const;
  absl::StatusOr<std::vector<absl::string_view>>
  readTexts(absl::string_view key) const;

private:
  absl::StatusOr<const GgufValue*> require(absl::string_view key) const;
  absl::Status wrongType(absl::string_view key, absl::string_view wanted) const;

  std::string fileName_;
  uint32_t version_ = 0;
  std::vector<SourceTensor> tensors_;
  std::vector<std::string> keys_;
  absl::flat_hash_map<std::string, GgufValue> values_;
};

} // namespace llmrt
