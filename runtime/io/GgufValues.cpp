// SPDX-License-Identifier: Apache-2.0
// Decoding GGUF metadata values that GgufFile::parse() has already verified.
#include "runtime/io/Gguf.h"

#include "runtime/base/Error.h"

#include "absl/strings/str_cat.h"

#include <cstring>
#include <limits>

namespace llmrt {

std::optional<uint64_t> ggufScalarBytes(GgufValueType type) {
  switch (type) {
  case GgufValueType::U8:
  case GgufValueType::I8:
  case GgufValueType::Bool:
    return 1;
  case GgufValueType::U16:
  case GgufValueType::I16:
    return 2;
  case GgufValueType::U32:
  case GgufValueType::I32:
  case GgufValueType::F32:
    return 4;
  case GgufValueType::U64:
  case GgufValueType::I64:
  case GgufValueType::F64:
    return 8;
  case GgufValueType::String:
  case GgufValueType::Array:
    break;
  }
  return std::nullopt;
}

const GgufValue* GgufFile::find(absl::string_view key) const {
  auto found = values_.find(key);
  return found == values_.end() ? nullptr : &found->second;
}

absl::StatusOr<const GgufValue*>
GgufFile::require(absl::string_view key) const {
  if (const GgufValue* value = find(key))
    return value;
  return makeError(ErrorCode::GgufKeyMissing,
                   absl::StrCat(fileName_, " has no key ", key),
                   "convert the model again with a current converter");
}

absl::Status GgufFile::wrongType(absl::string_view key,
                                 absl::string_view wanted) const {
  return makeError(
      ErrorCode::GgufKeyWrongType,
      absl::StrCat("key ", key, " of ", fileName_, " is not ", wanted),
      "convert the model again with a current converter");
}

namespace {

template <class T>
T loadAs(const uint8_t* bytes) {
  T value;
  std::memcpy(&value, bytes, sizeof(T));
  return value;
}

std::optional<int64_t> asInteger(GgufValueType type, const uint8_t* bytes) {
  switch (type) {
  case GgufValueType::U8:
    return loadAs<uint8_t>(bytes);
  case GgufValueType::I8:
    return loadAs<int8_t>(bytes);
  case GgufValueType::U16:
    return loadAs<uint16_t>(bytes);
  case GgufValueType::I16:
    return loadAs<int16_t>(bytes);
  case GgufValueType::U32:
    return loadAs<uint32_t>(bytes);
  case GgufValueType::I32:
    return loadAs<int32_t>(bytes);
  case GgufValueType::I64:
    return loadAs<int64_t>(bytes);
  case GgufValueType::U64:
    if (uint64_t value = loadAs<uint64_t>(bytes);
        value <= static_cast<uint64_t>(std::numeric_limits<int64_t>::max()))
      return static_cast<int64_t>(value);
    return std::nullopt;
  default:
    return std::nullopt;
  }
}

std::optional<double> asNumber(GgufValueType type, const uint8_t* bytes) {
  if (type == GgufValueType::F32)
    return loadAs<float>(bytes);
  if (type == GgufValueType::F64)
    return loadAs<double>(bytes);
  constexpr int64_t kExact = int64_t{1} << 53;
  std::optional<int64_t> value = asInteger(type, bytes);
  if (!value || *value > kExact || *value < -kExact)
    return std::nullopt;
  return static_cast<double>(*value);
}

// Decodes the elements of an array of scalars; nothing if one does not convert.
template <class T, class Convert>
std::optional<std::vector<T>> asArray(const GgufValue& value, Convert convert) {
  std::optional<uint64_t> elementBytes = ggufScalarBytes(value.elementType);
  if (value.type != GgufValueType::Array || !elementBytes)
    return std::nullopt;
  std::vector<T> elements;
  elements.reserve(value.numElements);
  for (uint64_t i = 0; i < value.numElements; ++i) {
    std::optional<T> element =
        convert(value.elementType, value.bytes.data() + i * *elementBytes);
    if (!element)
      return std::nullopt;
    elements.push_back(*element);
  }
  return elements;
}

absl::string_view asText(absl::Span<const uint8_t> bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

} // namespace

absl::StatusOr<bool> GgufFile::readBool(absl::string_view key) const {
  LLMRT_ASSIGN_OR_RETURN(const GgufValue* value, require(key));
  if (value->type != GgufValueType::Bool)
    return wrongType(key, "true or false");
  return value->bytes[0] != 0;
}

absl::StatusOr<int64_t> GgufFile::readInteger(absl::string_view key) const {
  LLMRT_ASSIGN_OR_RETURN(const GgufValue* value, require(key));
  std::optional<int64_t> number = asInteger(value->type, value->bytes.data());
  if (!number)
    return wrongType(key, "an integer of at most 63 bits");
  return *number;
}

absl::StatusOr<double> GgufFile::readNumber(absl::string_view key) const {
  LLMRT_ASSIGN_OR_RETURN(const GgufValue* value, require(key));
  std::optional<double> number = asNumber(value->type, value->bytes.data());
  if (!number)
    return wrongType(key, "a number");
  return *number;
}

absl::StatusOr<absl::string_view>
GgufFile::readText(absl::string_view key) const {
  LLMRT_ASSIGN_OR_RETURN(const GgufValue* value, require(key));
  if (value->type != GgufValueType::String)
    return wrongType(key, "a text");
  return asText(value->bytes);
}

absl::StatusOr<std::vector<int64_t>>
GgufFile::readIntegers(absl::string_view key) const {
  LLMRT_ASSIGN_OR_RETURN(const GgufValue* value, require(key));
  std::optional<std::vector<int64_t>> numbers =
      asArray<int64_t>(*value, asInteger);
  if (!numbers)
    return wrongType(key, "an array of integers");
  return *std::move(numbers);
}

absl::StatusOr<std::vector<double>>
GgufFile::readNumbers(absl::string_view key) const {
  LLMRT_ASSIGN_OR_RETURN(const GgufValue* value, require(key));
  std::optional<std::vector<double>> numbers =
      asArray<double>(*value, asNumber);
  if (!numbers)
    return wrongType(key, "an array of numbers");
  return *std::move(numbers);
}

absl::StatusOr<std::vector<absl::string_view>>
GgufFile::readTexts(absl::string_view key) const {
  LLMRT_ASSIGN_OR_RETURN(const GgufValue* value, require(key));
  if (value->type != GgufValueType::Array ||
      value->elementType != GgufValueType::String)
    return wrongType(key, "an array of texts");
  // parse() has walked these bytes, so that every length fits.
  std::vector<absl::string_view> texts;
  texts.reserve(value->numElements);
  const uint8_t* next = value->bytes.data();
  for (uint64_t i = 0; i < value->numElements; ++i) {
    uint64_t length = loadAs<uint64_t>(next);
    texts.emplace_back(reinterpret_cast<const char*>(next + 8), length);
    next += 8 + length;
  }
  return texts;
}

absl::StatusOr<bool> GgufFile::readBoolOr(absl::string_view key,
                                          bool value) const {
  return contains(key) ? readBool(key) : value;
}

absl::StatusOr<int64_t> GgufFile::readIntegerOr(absl::string_view key,
                                                int64_t value) const {
  return contains(key) ? readInteger(key) : value;
}

absl::StatusOr<double> GgufFile::readNumberOr(absl::string_view key,
                                              double value) const {
  return contains(key) ? readNumber(key) : value;
}

absl::StatusOr<absl::string_view>
GgufFile::readTextOr(absl::string_view key, absl::string_view value) const {
  return contains(key) ? readText(key) : value;
}

} // namespace llmrt
