// SPDX-License-Identifier: Apache-2.0
// Tables and checked arithmetic about tensors of weight files.
#include "runtime/io/SourceTensor.h"

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

namespace llmrt {
namespace {

constexpr SourceTypeInfo kTypes[] = {
#define LLMRT_SOURCE_TYPE(name, safetensors, gguf, elements, bytes)            \
  {SourceType::name, #name, safetensors, gguf, elements, bytes},
#include "runtime/io/SourceTypes.def"
#undef LLMRT_SOURCE_TYPE
};

} // namespace

const SourceTypeInfo& sourceTypeInfo(SourceType type) {
  return kTypes[static_cast<size_t>(type)];
}

std::optional<SourceType> findSafetensorsType(absl::string_view name) {
  for (const SourceTypeInfo& info : kTypes)
    if (!name.empty() && info.safetensorsName == name)
      return info.type;
  return std::nullopt;
}

std::optional<SourceType> findGgufType(uint32_t number) {
  for (const SourceTypeInfo& info : kTypes)
    if (info.ggufNumber >= 0 &&
        static_cast<uint32_t>(info.ggufNumber) == number)
      return info.type;
  return std::nullopt;
}

int64_t SourceTensor::numElements() const {
  int64_t product = 1;
  for (int64_t extent : shape)
    product *= extent;
  return product;
}

std::optional<int64_t> countElements(absl::Span<const int64_t> shape) {
  int64_t product = 1;
  for (int64_t extent : shape)
    if (extent < 0 || __builtin_mul_overflow(product, extent, &product))
      return std::nullopt;
  return product;
}

std::optional<int64_t> sourceSizeBytes(SourceType type,
                                       absl::Span<const int64_t> shape) {
  const SourceTypeInfo& info = sourceTypeInfo(type);
  std::optional<int64_t> numElements = countElements(shape);
  int64_t innermost = shape.empty() ? 1 : shape.back();
  if (!numElements || innermost % info.blockElements != 0)
    return std::nullopt;
  int64_t sizeBytes = 0;
  if (__builtin_mul_overflow(*numElements / info.blockElements, info.blockBytes,
                             &sizeBytes))
    return std::nullopt;
  return sizeBytes;
}

std::string shapeText(absl::Span<const int64_t> shape) {
  return absl::StrCat("[", absl::StrJoin(shape, ", "), "]");
}

} // namespace llmrt
