// SPDX-License-Identifier: Apache-2.0
// Typed reads of a parsed config.json. What decoders have in common is in
// DecoderConfig.cpp.
#include "models/ConfigReader.h"

#include "runtime/base/Error.h"
#include "runtime/base/MappedFile.h"

#include <cmath>

namespace llmc {

using llmrt::ErrorCode;
using llmrt::makeError;
using nlohmann::json;

namespace {

constexpr char kAdvice[] = "correct the field, or download the file again";

/// Value of a field for a message, cut where it gets long.
std::string brief(const json& value) {
  std::string text = value.dump(-1, ' ', /*ensure_ascii=*/true,
                                json::error_handler_t::replace);
  return text.size() > 80 ? text.substr(0, 80) + "..." : text;
}

} // namespace

absl::StatusOr<ConfigReader> ConfigReader::open(const std::string& path) {
  LLMRT_ASSIGN_OR_RETURN(llmrt::MappedFile file, llmrt::MappedFile::open(path));
  absl::Span<const uint8_t> bytes = file.bytes();
  // Printing a value is recursive, so depth is bounded here.
  bool isTooDeep = false;
  json config = json::parse(
      bytes.begin(), bytes.end(),
      [&](int depth, json::parse_event_t, json&) {
        isTooDeep = isTooDeep || depth > 64;
        return !isTooDeep;
      },
      /*allow_exceptions=*/false);
  if (isTooDeep || config.is_discarded() || !config.is_object())
    return makeError(ErrorCode::ConfigCorrupt, "not a JSON object: " + path,
                     "download the file again");
  return ConfigReader(std::move(config), path);
}

std::string ConfigReader::shown(const std::string& field) const {
  auto it = shownNames_.find(prefix_ + field);
  return it != shownNames_.end() ? it->second : prefix_ + field;
}

bool ConfigReader::has(const std::string& field) {
  used_.insert(field);
  auto it = config_.find(field);
  return it != config_.end() && !it->is_null();
}

const json* ConfigReader::find(const std::string& field) {
  return has(field) ? &config_[field] : nullptr;
}

const json* ConfigReader::need(const std::string& field) {
  const json* value = find(field);
  if (!value)
    keep(makeError(ErrorCode::ConfigFieldMissing,
                   "missing field: " + shown(field) + " in " + fileName_,
                   "add the field, or download the file again"));
  return value;
}

void ConfigReader::invalid(const std::string& field,
                           const std::string& wanted) {
  keep(makeError(ErrorCode::ConfigFieldInvalid,
                 "field " + shown(field) + " of " + fileName_ + " should be " +
                     wanted + ", got " + brief(config_[field]),
                 kAdvice));
}

int64_t ConfigReader::checkedInteger(const std::string& field,
                                     const json& value, int64_t min,
                                     int64_t max) {
  bool fits = value.is_number_unsigned()
                  ? value.get<uint64_t>() <= static_cast<uint64_t>(INT64_MAX)
                  : value.is_number_integer();
  if (fits && value.get<int64_t>() >= min && value.get<int64_t>() <= max)
    return value.get<int64_t>();
  invalid(field, "an integer from " + std::to_string(min) + " to " +
                     std::to_string(max));
  return std::max<int64_t>(min, 1);
}

double ConfigReader::checkedNumber(const std::string& field, const json& value,
                                   double min, double max) {
  if (value.is_number() && value.get<double>() >= min &&
      value.get<double>() <= max)
    return value.get<double>();
  invalid(field, absl::StrCat("a number from ", min, " to ", max));
  return std::max(min, 1e-30);
}

int64_t ConfigReader::integer(const std::string& field, int64_t min,
                              int64_t max) {
  const json* value = need(field);
  return value ? checkedInteger(field, *value, min, max)
               : std::max<int64_t>(min, 1);
}

int64_t ConfigReader::integerOr(const std::string& field, int64_t value,
                                int64_t min, int64_t max) {
  const json* found = find(field);
  return found ? checkedInteger(field, *found, min, max) : value;
}

double ConfigReader::number(const std::string& field, double min, double max) {
  const json* value = need(field);
  return value ? checkedNumber(field, *value, min, max) : std::max(min, 1e-30);
}

double ConfigReader::numberOr(const std::string& field, double value,
                              double min, double max) {
  const json* found = find(field);
  return found ? checkedNumber(field, *found, min, max) : value;
}

double ConfigReader::numberOrNull(const std::string& field, double missing,
                                  double min, double max) {
  if (config_.contains(field) && config_[field].is_null())
    return 0;
  return numberOr(field, missing, min, max);
}

bool ConfigReader::booleanOr(const std::string& field, bool value) {
  const json* found = find(field);
  if (!found)
    return value;
  if (found->is_boolean())
    return found->get<bool>();
  invalid(field, "true or false");
  return value;
}

std::string ConfigReader::textOr(const std::string& field,
                                 const std::string& value) {
  const json* found = find(field);
  if (!found)
    return value;
  if (found->is_string())
    return found->get<std::string>();
  invalid(field, "a text");
  return value;
}

std::vector<int64_t> ConfigReader::integersOrNone(const std::string& field,
                                                  int64_t min, int64_t max) {
  const json* found = find(field);
  if (!found)
    return {};
  std::vector<int64_t> values;
  if (!found->is_array())
    return {checkedInteger(field, *found, min, max)};
  for (const json& element : *found)
    values.push_back(checkedInteger(field, element, min, max));
  return values;
}

std::vector<std::string> ConfigReader::textsOrNone(const std::string& field) {
  const json* found = find(field);
  if (!found)
    return {};
  std::vector<std::string> values;
  bool isList = found->is_array();
  for (const json& element : isList ? *found : json::array()) {
    isList = isList && element.is_string();
    if (isList)
      values.push_back(element.get<std::string>());
  }
  if (!isList)
    invalid(field, "a list of texts");
  return values;
}

ConfigReader ConfigReader::object(const std::string& field) {
  const json* found = find(field);
  if (found && !found->is_object())
    invalid(field, "an object");
  ConfigReader nested(found && found->is_object() ? *found : json::object(),
                      fileName_, shownNames_);
  nested.prefix_ = prefix_ + field + ".";
  return nested;
}

void ConfigReader::require(bool holds, const std::string& what) {
  if (!holds)
    keep(makeError(ErrorCode::ConfigContradiction, what + " in " + fileName_,
                   "the fields contradict each other: correct them, or "
                   "download the file again"));
}

void ConfigReader::refuse(const std::string& field,
                          const std::string& supported) {
  keep(makeError(ErrorCode::ConfigUnsupported,
                 "field " + shown(field) + " of " + fileName_ + " is " +
                     brief(has(field) ? config_[field] : json()),
                 "supported: " + supported));
}

void ConfigReader::refuseIfTrue(const std::string& field) {
  if (booleanOr(field, false))
    refuse(field, "false");
}

} // namespace llmc
