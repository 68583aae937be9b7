// SPDX-License-Identifier: Apache-2.0
// A tensor as it lies in a weight file: safetensors, GGUF or npy. It points
// into the file's bytes and owns none of them. Converting its elements is
// Dequantize.h's work.
#pragma once

#include "absl/strings/string_view.h"
#include "absl/types/span.h"

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace llmrt {

/// Element types of weight files. Not stored anywhere: only names and GGUF
/// numbers are.
enum class SourceType : uint8_t {
#define LLMRT_SOURCE_TYPE(name, safetensors, gguf, elements, bytes) name,
#include "runtime/io/SourceTypes.def"
#undef LLMRT_SOURCE_TYPE
};

/// What SourceTypes.def says about one type.
struct SourceTypeInfo {
  SourceType type;
  absl::string_view name;            // as in the enum: "Q4_1"
  absl::string_view safetensorsName; // empty if safetensors has no such type
  int ggufNumber;                    // -1 if GGUF has no such type
  int64_t blockElements;             // 1 unless quantised
  int64_t blockBytes;
};

/// Returns the row of SourceTypes.def of `type`.
const SourceTypeInfo& sourceTypeInfo(SourceType type);

/// Returns the type that safetensors calls `name`.
std::optional<SourceType> findSafetensorsType(absl::string_view name);

/// Returns the type that GGUF numbers `number`.
std::optional<SourceType> findGgufType(uint32_t number);

struct SourceTensor {
  std::string name;
  SourceType type = SourceType::F32;
  /// Row-major, outermost first; [out, in] for a weight. Empty for a scalar.
  std::vector<int64_t> shape;
  /// Exactly sourceSizeBytes(type, shape) bytes, of any alignment.
  absl::Span<const uint8_t> bytes;

  /// Returns the product of the shape.
  int64_t numElements() const;
};

/// Returns the number of elements of `shape`, or nothing if a dimension is
/// negative or the product overflows int64.
std::optional<int64_t> countElements(absl::Span<const int64_t> shape);

/// Returns the bytes a tensor occupies, or nothing if it overflows, or if the
/// innermost dimension is not a whole number of blocks.
std::optional<int64_t> sourceSizeBytes(SourceType type,
                                       absl::Span<const int64_t> shape);

/// Returns "[4096, 11008]".
std::string shapeText(absl::Span<const int64_t> shape);

} // namespace llmrt
