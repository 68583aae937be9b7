// SPDX-License-Identifier: Apache-2.0
// Lines are found once and parsed when asked for, so that a long file needs
// little memory. Fields that have no meaning here are left alone: data sets
// carry many.
#include "runtime/generation/PromptFile.h"

#include "runtime/base/Error.h"

#include <cmath>
#include <cstring>

namespace llmrt {
namespace {

using Json = nlohmann::ordered_json;

bool isBlank(const char* begin, const char* end) {
  for (; begin < end; ++begin)
    if (*begin != ' ' && *begin != '\t' && *begin != '\r')
      return false;
  return true;
}

/// Returns what is wrong, or "".
std::string readTurns(const Json& messages, std::vector<ChatTurn>& turns) {
  if (!messages.is_array() || messages.empty())
    return "\"messages\" is not a list with at least one message";
  for (const Json& message : messages) {
    if (!message.is_object() || !message.contains("role") ||
        !message.contains("content") || !message["role"].is_string() ||
        !message["content"].is_string())
      return "a message is not {\"role\": text, \"content\": text}";
    turns.push_back({message["role"].get<std::string>(),
                     message["content"].get<std::string>()});
  }
  return "";
}

template <typename T>
std::string readInteger(const Json& json, const char* name, int64_t least,
                        std::optional<T>& value) {
  if (!json.contains(name))
    return "";
  const Json& field = json[name];
  bool fits = field.is_number_integer() &&
              (!field.is_number_unsigned() ||
               field.get<uint64_t>() <=
                   static_cast<uint64_t>(std::numeric_limits<T>::max())) &&
              field.get<int64_t>() >= least &&
              field.get<int64_t>() <= std::numeric_limits<T>::max();
  if (!fits)
    return absl::StrCat("\"", name, "\" is not a whole number from ", least,
                        " on");
  value = field.get<T>();
  return "";
}

std::string readReal(const Json& json, const char* name, double least,
                     double most, std::optional<float>& value) {
  if (!json.contains(name))
    return "";
  const Json& field = json[name];
  if (!field.is_number() || !(field.get<double>() >= least) ||
      !(field.get<double>() <= most))
    return absl::StrCat("\"", name, "\" is not a number from ", least, " to ",
                        most);
  value = field.get<float>();
  return "";
}

std::string readSampling(const Json& json, PromptLine& line) {
  for (const std::string& wrong :
       {readInteger(json, "max_new_tokens", 0, line.maxNewTokens),
        readInteger(json, "top_k", 0, line.topK),
        readInteger(json, "seed", std::numeric_limits<int64_t>::min(),
                    line.seed),
        readReal(json, "temperature", 0, kMaxTemperature, line.temperature),
        readReal(json, "top_p", 0, 1, line.topP)})
    if (!wrong.empty())
      return wrong;
  return "";
}

std::string readPrompt(const Json& json, PromptLine& line) {
  int numFields = json.contains("text") + json.contains("prompt") +
                  json.contains("messages");
  if (numFields != 1)
    return absl::StrCat("it has ", numFields == 0 ? "none" : "several",
                        " of \"text\", \"prompt\" and \"messages\"");
  if (json.contains("messages"))
    return readTurns(json["messages"], line.turns);
  const char* name = json.contains("text") ? "text" : "prompt";
  if (!json[name].is_string())
    return absl::StrCat("\"", name, "\" is not a text");
  line.text = json[name].get<std::string>();
  return line.text.empty() ? absl::StrCat("\"", name, "\" is empty") : "";
}

absl::Status makeLineError(const std::string& path, int64_t number,
                           const std::string& what) {
  return makeError(ErrorCode::PromptLineMalformed,
                   absl::StrCat(path, ": line ", number, ": ", what),
                   "write one JSON object a line, with \"text\", \"prompt\" or "
                   "\"messages\"");
}

} // namespace

absl::StatusOr<PromptFile> PromptFile::open(const std::string& path) {
  LLMRT_ASSIGN_OR_RETURN(MappedFile file, MappedFile::open(path));
  PromptFile prompts = parse(file.bytes(), path);
  prompts.file_ = std::move(file);
  return prompts;
}

PromptFile PromptFile::parse(absl::Span<const uint8_t> bytes,
                             std::string path) {
  PromptFile prompts;
  prompts.bytes_ = bytes;
  prompts.path_ = std::move(path);
  const char* text = reinterpret_cast<const char*>(bytes.data());
  auto sizeBytes = static_cast<int64_t>(bytes.size());
  int64_t number = 0;
  for (int64_t begin = 0; begin < sizeBytes;) {
    const void* found = std::memchr(text + begin, '\n', sizeBytes - begin);
    int64_t end = found ? static_cast<const char*>(found) - text : sizeBytes;
    ++number;
    if (!isBlank(text + begin, text + end))
      prompts.lines_.push_back({number, begin, end});
    begin = end + 1;
  }
  return prompts;
}

absl::StatusOr<PromptLine> PromptFile::read(int64_t index) const {
  const Line& at = lines_[index];
  const char* text = reinterpret_cast<const char*>(bytes_.data());
  PromptLine line;
  line.number = at.number;
  auto malformed = [&](const std::string& what) {
    return makeLineError(path_, at.number, what);
  };
  Json json = Json::parse(text + at.begin, text + at.end, nullptr, false);
  if (json.is_discarded())
    return malformed("it is not JSON");
  if (!json.is_object())
    return malformed("it is not a JSON object");
  std::string wrong = readPrompt(json, line);
  if (wrong.empty())
    wrong = readSampling(json, line);
  line.id = json.contains("id") ? json["id"] : Json(at.number);
  if (!line.id.is_string() && !line.id.is_number_integer())
    wrong = "\"id\" is not a text or an integer of 64 bits";
  if (!wrong.empty())
    return malformed(wrong);
  return line;
}

} // namespace llmrt
