// SPDX-License-Identifier: Apache-2.0
#include "runtime/io/tokenizer/JsonFields.h"

#include "runtime/base/Error.h"

#include <limits>

namespace llmrt {

using nlohmann::json;

absl::Status fieldError(const char* name, const char* what) {
  return makeError(
      ErrorCode::TokenizerCorrupt,
      absl::StrCat("the field of a tokenizer file ", what, ": ", name),
      "get the tokenizer files again");
}

const json* findField(const json& object, const char* name) {
  if (!object.is_object())
    return nullptr;
  auto found = object.find(name);
  return found == object.end() || found->is_null() ? nullptr : &*found;
}

absl::StatusOr<bool> readBoolField(const json& object, const char* name,
                                   bool value) {
  const json* field = findField(object, name);
  if (!field)
    return value;
  if (!field->is_boolean())
    return fieldError(name, "is not true or false");
  return field->get<bool>();
}

absl::StatusOr<std::string> readTextField(const json& object,
                                          const char* name) {
  const json* field = findField(object, name);
  if (!field)
    return std::string();
  if (!field->is_string())
    return fieldError(name, "is not a text");
  return field->get<std::string>();
}

absl::StatusOr<int32_t> readIdField(const json& object, const char* name) {
  const json* field = findField(object, name);
  if (!field || !field->is_number_integer())
    return fieldError(name, "is not an integer");
  auto value = field->get<int64_t>();
  if (value < 0 || value > std::numeric_limits<int32_t>::max())
    return fieldError(name, "is no token id");
  return static_cast<int32_t>(value);
}

} // namespace llmrt
