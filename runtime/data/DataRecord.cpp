// SPDX-License-Identifier: Apache-2.0
#include "runtime/data/DataRecord.h"

#include "runtime/io/tokenizer/Utf8.h"

#include "absl/strings/str_cat.h"
#include "nlohmann/json.hpp"

#include <algorithm>
#include <optional>

namespace llmrt {
namespace {

using Json = nlohmann::json;

constexpr std::string_view kBlank = " \t\r\n";

bool isObjectWith(const Json& json, const char* name) {
  auto found = json.find(name);
  return found != json.end() && !found->is_null();
}

bool hasFields(const Json& json, RecordShape shape) {
  switch (shape) {
  case RecordShape::Text:
    return isObjectWith(json, "text");
  case RecordShape::Completion:
    return isObjectWith(json, "prompt") && isObjectWith(json, "completion");
  case RecordShape::Messages:
    return isObjectWith(json, "messages");
  case RecordShape::Preference:
    return isObjectWith(json, "prompt") && isObjectWith(json, "chosen") &&
           isObjectWith(json, "rejected");
  }
  return false;
}

bool fits(Objective objective, RecordShape shape) {
  switch (objective) {
  case Objective::Pretrain:
    return shape == RecordShape::Text;
  case Objective::Sft:
    return shape == RecordShape::Completion || shape == RecordShape::Messages;
  case Objective::Dpo:
    return shape == RecordShape::Preference;
  }
  return false;
}

const char* wantedFields(Objective objective) {
  switch (objective) {
  case Objective::Pretrain:
    return "\"text\"";
  case Objective::Sft:
    return "\"prompt\" and \"completion\", or \"messages\"";
  case Objective::Dpo:
    return "\"prompt\", \"chosen\" and \"rejected\"";
  }
  return "";
}

/// Returns the shape of a record, or nothing with a fault.
std::optional<RecordShape> findShape(const Json& json, Objective objective,
                                     RecordFault& fault) {
  std::optional<RecordShape> wanted, other;
  for (RecordShape shape : {RecordShape::Preference, RecordShape::Completion,
                            RecordShape::Messages, RecordShape::Text}) {
    if (!hasFields(json, shape))
      continue;
    if (!fits(objective, shape)) {
      other = other.value_or(shape);
      continue;
    }
    if (wanted) {
      fault.what = "it has \"completion\" and \"messages\": which one is meant "
                   "is not clear";
      return std::nullopt;
    }
    wanted = shape;
  }
  if (wanted)
    return wanted;
  if (other) {
    fault.code = ErrorCode::DataShapeUnfit;
    fault.what = absl::StrCat("it has ", shapeFields(*other),
                              ", and the objective ", objectiveName(objective),
                              " needs ", wantedFields(objective));
    return std::nullopt;
  }
  fault.what = absl::StrCat("it lacks ", wantedFields(objective));
  return std::nullopt;
}

bool readPassage(const Json& json, const char* name, Passage& passage,
                 RecordFault& fault) {
  const Json& field = json[name];
  if (field.is_string()) {
    passage.text = field.get_ref<const std::string&>();
    return true;
  }
  if (!field.is_array() || field.empty()) {
    fault.what = absl::StrCat(
        "\"", name, "\" is not a text or a list with at least one message");
    return false;
  }
  passage.isConversation = true;
  for (const Json& message : field) {
    if (!message.is_object() || !message.contains("role") ||
        !message.contains("content") || !message["role"].is_string() ||
        !message["content"].is_string()) {
      fault.what =
          absl::StrCat("message ", passage.messages.size() + 1, " of \"", name,
                       "\" is not {\"role\": text, \"content\": "
                       "text}");
      return false;
    }
    passage.messages.push_back({message["role"].get<std::string>(),
                                message["content"].get<std::string>()});
  }
  return true;
}

bool readFields(const Json& json, DataRecord& record, RecordFault& fault) {
  switch (record.shape) {
  case RecordShape::Text:
    if (!json["text"].is_string()) {
      fault.what = "\"text\" is not a text";
      return false;
    }
    record.answer.text = json["text"].get_ref<const std::string&>();
    return true;
  case RecordShape::Messages:
    if (json["messages"].is_string()) {
      fault.what = "\"messages\" is not a list";
      return false;
    }
    return readPassage(json, "messages", record.answer, fault);
  case RecordShape::Completion:
    return readPassage(json, "prompt", record.prompt, fault) &&
           readPassage(json, "completion", record.answer, fault);
  case RecordShape::Preference:
    return readPassage(json, "prompt", record.prompt, fault) &&
           readPassage(json, "chosen", record.answer, fault) &&
           readPassage(json, "rejected", record.rejected, fault);
  }
  return false;
}

} // namespace

const char* objectiveName(Objective objective) {
  switch (objective) {
  case Objective::Pretrain:
    return "pretrain";
  case Objective::Sft:
    return "sft";
  case Objective::Dpo:
    return "dpo";
  }
  return "";
}

const char* shapeFields(RecordShape shape) {
  switch (shape) {
  case RecordShape::Text:
    return "\"text\"";
  case RecordShape::Completion:
    return "\"prompt\" and \"completion\"";
  case RecordShape::Messages:
    return "\"messages\"";
  case RecordShape::Preference:
    return "\"prompt\", \"chosen\" and \"rejected\"";
  }
  return "";
}

bool parseRecord(std::string_view line, Objective objective, DataRecord& record,
                 RecordFault& fault) {
  record = {};
  fault = {};
  if (size_t at = findInvalidUtf8(line); at != line.npos) {
    fault.what = absl::StrCat("it is not valid UTF-8 at byte ", at + 1);
    return false;
  }
  if (size_t first = line.find_first_not_of(kBlank);
      first == line.npos || line[first] != '{') {
    fault.what = "it is not a JSON object";
    return false;
  }
  Json json = Json::parse(line.begin(), line.end(), nullptr,
                          /*allow_exceptions=*/false);
  if (!json.is_object()) {
    fault.what = "it is not JSON";
    return false;
  }
  std::optional<RecordShape> shape = findShape(json, objective, fault);
  if (!shape)
    return false;
  record.shape = *shape;
  return readFields(json, record, fault);
}

absl::Status makeRecordError(const RecordFault& fault, const std::string& path,
                             int64_t lineNumber) {
  std::string what =
      absl::StrCat(path, ": line ", lineNumber, ": ", fault.what);
  switch (fault.code) {
  case ErrorCode::DataNotJsonLines:
    return makeError(fault.code, what, "write one JSON object a line");
  case ErrorCode::DataShapeUnfit:
    return makeError(fault.code, what, "choose other data or the objective");
  case ErrorCode::DataShapesMixed:
    return makeError(fault.code, what, "convert all records to one shape");
  case ErrorCode::DataTemplateMissing:
    return makeError(fault.code, what,
                     "name a chat template, or write prompt and completion");
  default:
    return makeError(ErrorCode::DataLineMalformed, what,
                     "correct the line, or skip such lines with "
                     "--skip-bad-records");
  }
}

LineCutter::LineCutter(std::string_view bytes) : bytes_(bytes) {
  if (bytes_.starts_with("\xEF\xBB\xBF"))
    at_ = 3;
}

bool LineCutter::next(DataLine& line) {
  while (at_ < bytes_.size()) {
    size_t end = std::min(bytes_.find('\n', at_), bytes_.size());
    line.text = bytes_.substr(at_, end - at_);
    line.number = ++number_;
    at_ = std::min(end + 1, bytes_.size());
    if (line.text.find_first_not_of(kBlank) != line.text.npos)
      return true;
  }
  return false;
}

} // namespace llmrt
