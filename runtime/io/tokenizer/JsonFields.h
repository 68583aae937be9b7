// SPDX-License-Identifier: Apache-2.0
// Reading fields of a parsed JSON value without exceptions: a missing field and
// null are the default, a field of another type is an error that names it.
#pragma once

#include "absl/status/statusor.h"

#include <nlohmann/json.hpp>

#include <cstdint>
#include <optional>
#include <string>

namespace llmrt {

/// Returns the member, or nullptr if `object` is no object, has none or it is
/// null.
const nlohmann::json* findField(const nlohmann::json& object, const char* name);

/// Errors of each  TokenizerCorrupt naming the field.
absl::StatusOr<bool> readBoolField(const nlohmann::json& object,
                                   const char* name, bool value);
absl::StatusOr<std::string> readTextField(const nlohmann::json& object,
                                          const char* name);
absl::StatusOr<int32_t> readIdField(const nlohmann::json& object,
                                    const char* name);

/// Makes a TokenizerCorrupt error about a field.
absl::Status fieldError(const char* name, const char* what);

} // namespace llmrt
