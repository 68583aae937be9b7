// SPDX-License-Identifier: Apache-2.0
#include "runtime/data/RecordTokenizer.h"

#include "absl/strings/str_cat.h"

#include <algorithm>

namespace llmrt {
namespace {

// Tokens that end a text in the supported families; their other end tokens end
// a turn.
constexpr std::string_view kTextEnds[] = {"<|endoftext|>", "<|end_of_text|>",
                                          "</s>", "<eos>"};

// A text is followed by one message of the other side's role.
std::vector<ChatMessage> messagesOf(const Passage& passage,
                                    std::string_view role) {
  if (passage.isConversation)
    return passage.messages;
  return {{std::string(role), passage.text}};
}

bool isSameMessage(const ChatMessage& a, const ChatMessage& b) {
  return a.role == b.role && a.content == b.content;
}

size_t commonPrefix(const std::vector<int32_t>& a,
                    const std::vector<int32_t>& b) {
  size_t count = std::min(a.size(), b.size());
  return std::mismatch(a.begin(), a.begin() + count, b.begin()).first -
         a.begin();
}

bool hasCounted(const SampleTokens& sample) {
  return std::find(sample.counted.begin(), sample.counted.end(), true) !=
         sample.counted.end();
}

bool needsTemplate(const DataRecord& record) {
  return record.prompt.isConversation || record.answer.isConversation ||
         record.rejected.isConversation;
}

} // namespace

std::optional<int32_t> findEndToken(const Tokenizer& tokenizer) {
  for (std::string_view text : kTextEnds)
    for (int32_t id : tokenizer.eosIds())
      if (tokenizer.tokenText(id) == text)
        return id;
  if (!tokenizer.eosIds().empty())
    return tokenizer.eosIds().front();
  return std::nullopt;
}

absl::StatusOr<RecordTokenizer>
RecordTokenizer::create(const Tokenizer& tokenizer,
                        RecordTokenizerOptions options) {
  RecordTokenizer made(tokenizer, std::move(options));
  // What the tokenizer's files put after a text is the end token's place; only
  // what they put before it is kept. A vocabulary without these letters has no
  // answer, and a prefix is then not looked for.
  for (const char* probe : {"a", "1", " "}) {
    absl::StatusOr<std::vector<int32_t>> bare =
        tokenizer.encode(probe, {.addBos = false});
    absl::StatusOr<std::vector<int32_t>> full = tokenizer.encode(probe);
    if (!bare.ok() || !full.ok() || bare->empty())
      continue;
    auto at =
        std::search(full->begin(), full->end(), bare->begin(), bare->end());
    if (at == full->end())
      continue;
    made.prefixIds_.assign(full->begin(), at);
    break;
  }
  return made;
}

bool RecordTokenizer::tokenize(const DataRecord& record,
                               std::vector<SampleTokens>& samples,
                               RecordFault& fault) {
  fault = {};
  if (needsTemplate(record) && !options_.chatTemplate) {
    fault.code = ErrorCode::DataTemplateMissing;
    fault.what = "it is a conversation, and there is no chat template";
    return false;
  }
  samples.assign(record.shape == RecordShape::Preference ? 2 : 1, {});
  absl::Status status;
  if (record.shape == RecordShape::Text)
    status = tokenizeText(record.answer.text, samples[0]);
  else if (record.shape == RecordShape::Messages)
    status = tokenizeConversation(record.answer.messages, 0, samples[0]);
  else
    status = tokenizePassages(record.prompt, record.answer, samples[0]);
  if (status.ok() && record.shape == RecordShape::Preference)
    status = tokenizePassages(record.prompt, record.rejected, samples[1]);
  if (!status.ok()) {
    fault.what = std::string(status.message());
    return false;
  }
  bool isEmpty = false;
  for (const SampleTokens& sample : samples)
    isEmpty |= record.shape == RecordShape::Text ? sample.ids.empty()
                                                 : !hasCounted(sample);
  if (isEmpty)
    samples.clear();
  return true;
}

absl::StatusOr<std::vector<int32_t>>
RecordTokenizer::encode(std::string_view text, bool parsesSpecial) const {
  return tokenizer_->encode(text,
                            {.addBos = false, .parseSpecial = parsesSpecial});
}

absl::Status RecordTokenizer::tokenizeText(const std::string& text,
                                           SampleTokens& sample) {
  LLMRT_ASSIGN_OR_RETURN(std::vector<int32_t> ids,
                         encode(text, options_.parsesSpecial));
  if (ids.empty())
    return absl::OkStatus();
  sample.ids = prefixIds_;
  sample.ids.insert(sample.ids.end(), ids.begin(), ids.end());
  if (options_.endToken)
    sample.ids.push_back(*options_.endToken);
  return absl::OkStatus();
}

absl::Status RecordTokenizer::tokenizeAnswer(const std::string& prompt,
                                             const std::string& answer,
                                             SampleTokens& sample) {
  std::string text = prompt + answer;
  LLMRT_ASSIGN_OR_RETURN(std::vector<int32_t> ids,
                         encode(text, options_.parsesSpecial));
  LLMRT_ASSIGN_OR_RETURN(size_t border, findBorder(text, ids, prompt.size(),
                                                   options_.parsesSpecial));
  sample.ids = prefixIds_;
  sample.ids.insert(sample.ids.end(), ids.begin(), ids.end());
  sample.counted.assign(prefixIds_.size() + border, false);
  if (options_.endToken)
    sample.ids.push_back(*options_.endToken);
  sample.counted.resize(sample.ids.size(), true);
  return absl::OkStatus();
}

absl::Status
RecordTokenizer::tokenizeConversation(const std::vector<ChatMessage>& messages,
                                      size_t firstCounted,
                                      SampleTokens& sample) {
  LLMRT_ASSIGN_OR_RETURN(TrainingText rendered,
                         options_.chatTemplate->renderForTraining(messages));
  // Whatever the option says: a template marks its turns by special tokens.
  LLMRT_ASSIGN_OR_RETURN(sample.ids, encode(rendered.text, true));
  sample.counted.assign(sample.ids.size(), false);
  bool hasAnswer = false;
  for (const AnswerSpan& answer : rendered.answers) {
    if (answer.message < firstCounted)
      continue;
    hasAnswer = true;
    LLMRT_ASSIGN_OR_RETURN(size_t begin, findBorder(rendered.text, sample.ids,
                                                    answer.begin, true));
    LLMRT_ASSIGN_OR_RETURN(
        size_t end, findBorder(rendered.text, sample.ids, answer.end, true));
    for (size_t i = begin; i < end; ++i)
      sample.counted[i] = true;
  }
  if (!hasAnswer)
    return absl::InvalidArgumentError("it has no message of the assistant");
  return absl::OkStatus();
}

absl::Status RecordTokenizer::tokenizePassages(const Passage& prompt,
                                               const Passage& answer,
                                               SampleTokens& sample) {
  if (!prompt.isConversation && !answer.isConversation)
    return tokenizeAnswer(prompt.text, answer.text, sample);
  // Some data sets repeat the prompt at the beginning of each answer.
  std::vector<ChatMessage> messages = messagesOf(prompt, "user");
  std::vector<ChatMessage> added = messagesOf(answer, "assistant");
  size_t numPrompt = messages.size();
  bool isRepeated =
      added.size() >= numPrompt && std::equal(messages.begin(), messages.end(),
                                              added.begin(), isSameMessage);
  messages.insert(messages.end(), added.begin() + (isRepeated ? numPrompt : 0),
                  added.end());
  return tokenizeConversation(messages, numPrompt, sample);
}

// Returns how many ids lie before `offsetBytes` of the text: those that the
// text up to there has too.
absl::StatusOr<size_t>
RecordTokenizer::findBorder(std::string_view text,
                            const std::vector<int32_t>& ids, size_t offsetBytes,
                            bool parsesSpecial) {
  if (offsetBytes >= text.size())
    return ids.size();
  LLMRT_ASSIGN_OR_RETURN(std::vector<int32_t> before,
                         encode(text.substr(0, offsetBytes), parsesSpecial));
  size_t border = commonPrefix(before, ids);
  if (border < before.size())
    ++numMergedBorders_;
  return border;
}

} // namespace llmrt
