// SPDX-License-Identifier: Apache-2.0
// The lines of a data file, and what one line says: a JSON object in one of
// the four shapes that people have. Text only; tokens are RecordTokenizer's.
#pragma once

#include "runtime/base/Error.h"
#include "runtime/io/tokenizer/ChatTemplate.h"

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace llmrt {

/// What a plan trains for.
enum class Objective : uint32_t { Pretrain = 0, Sft = 1, Dpo = 2 };

/// Returns "pretrain", "sft" or "dpo".
const char* objectiveName(Objective objective);

enum class RecordShape : uint32_t {
  Text = 0,       // text
  Completion = 1, // prompt, completion
  Messages = 2,   // messages
  Preference = 3, // prompt, chosen, rejected
};

/// Returns the fields of a shape, for messages.
const char* shapeFields(RecordShape shape);

/// A text, or the messages of a conversation.
struct Passage {
  bool isConversation = false;
  std::string text;
  std::vector<ChatMessage> messages;
};

/// One line. Text and Messages fill `answer` alone.
struct DataRecord {
  RecordShape shape = RecordShape::Text;
  Passage prompt;
  Passage answer;   // the text, the messages, the completion or the chosen one
  Passage rejected; // of a Preference
};

/// What is wrong with a line. DataLineMalformed may be skipped, others not.
struct RecordFault {
  ErrorCode code = ErrorCode::DataLineMalformed;
  std::string what;
};

/// Reads the fields that `objective` needs and leaves all others alone: data
/// sets carry many. Returns true, or false with a fault.
bool parseRecord(std::string_view line, Objective objective, DataRecord& record,
                 RecordFault& fault);

/// Makes the error of a fault.
absl::Status makeRecordError(const RecordFault& fault, const std::string& path,
                             int64_t lineNumber);

struct DataLine {
  int64_t number = 0; // counts from 1
  std::string_view text;
};

/// Cuts bytes at line feeds. A byte order mark at the beginning and blank lines
/// are left out, and counted as lines.
class LineCutter {
public:
  explicit LineCutter(std::string_view bytes);

  /// Returns false after the last line.
  bool next(DataLine& line);

  /// Returns the bytes behind the reader.
  int64_t positionBytes() const { return static_cast<int64_t>(at_); }

private:
  std::string_view bytes_;
  size_t at_ = 0;
  int64_t number_ = 0;
};

} // namespace llmrt
