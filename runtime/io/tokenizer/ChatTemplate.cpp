// SPDX-License-Identifier: Apache-2.0
// Rendering: one function for each style, in the order of the template's own
// text. Recognition is in ChatTemplateRecognition.cpp.
#include "runtime/io/tokenizer/ChatTemplate.h"

#include "runtime/base/Error.h"
#include "runtime/io/tokenizer/Utf8.h"

#include <algorithm>

namespace llmrt {
namespace {

using Messages = absl::Span<const ChatMessage>;

absl::Status invalid(const std::string& what, std::string_view advice) {
  return makeError(ErrorCode::ChatMessagesInvalid, what, advice);
}

// Python's str.strip(), which templates call trim: White_Space and four
// separators.
std::string_view strip(std::string_view text) {
  auto isSpaceAt = [&](size_t at) {
    char32_t c = readUtf8(text.substr(at)).codePoint;
    return isWhiteSpace(c) || (c >= 0x1C && c <= 0x1F);
  };
  while (!text.empty() && isSpaceAt(0))
    text.remove_prefix(readUtf8(text).sizeBytes);
  while (!text.empty()) {
    size_t last = text.size() - 1;
    while (last > 0 && (static_cast<uint8_t>(text[last]) & 0xC0) == 0x80)
      --last;
    if (!isSpaceAt(last))
      break;
    text = text.substr(0, last);
  }
  return text;
}

std::string_view stripNewlines(std::string_view text, bool left, bool right) {
  while (left && text.starts_with('\n'))
    text.remove_prefix(1);
  while (right && text.ends_with('\n'))
    text.remove_suffix(1);
  return text;
}

std::string join(std::initializer_list<std::string_view> parts) {
  std::string text;
  for (std::string_view part : parts)
    text += part;
  return text;
}

absl::Status checkRoles(Messages messages, const std::string& name) {
  if (messages.empty())
    return invalid("the conversation has no messages", "give at least one");
  for (const ChatMessage& message : messages)
    if (message.role != "system" && message.role != "user" &&
        message.role != "assistant")
      return invalid(absl::StrCat("the chat template ", name,
                                  " does not know the role ", message.role),
                     "use system, user or assistant");
  return absl::OkStatus();
}

// Checks that user and assistant take turns, the user first.
absl::Status checkTurns(Messages messages, const std::string& name) {
  for (size_t i = 0; i < messages.size(); ++i)
    if (messages[i].role != (i % 2 == 0 ? "user" : "assistant"))
      return invalid(absl::StrCat("the chat template ", name, " has ",
                                  i % 2 == 0 ? "user" : "assistant",
                                  " at message ", i + 1, ", the conversation ",
                                  messages[i].role),
                     "let user and assistant take turns, the user first");
  return absl::OkStatus();
}

// The text so far; answers are marked as they are written.
class Writer {
public:
  void add(std::initializer_list<std::string_view> parts) {
    for (std::string_view part : parts)
      made_.text += part;
  }

  /// Adds an answer with its end mark; white space behind the mark belongs to
  /// the template and not to the answer.
  void addAnswer(size_t message, std::initializer_list<std::string_view> parts,
                 std::string_view behind = "") {
    size_t begin = made_.text.size();
    add(parts);
    made_.answers.push_back({message, begin, made_.text.size()});
    add({behind});
  }

  /// Adds what follows a message's header: an answer or another's words.
  void addBody(size_t message, std::string_view role,
               std::initializer_list<std::string_view> parts,
               std::string_view behind) {
    if (role == "assistant")
      return addAnswer(message, parts, behind);
    add(parts);
    add({behind});
  }

  TrainingText finish() { return std::move(made_); }

private:
  TrainingText made_;
};

void renderChatMl(Messages messages, const std::string& defaultSystem,
                  Writer& out) {
  if (!defaultSystem.empty() && messages[0].role != "system")
    out.add({"<|im_start|>system\n", defaultSystem, "<|im_end|>\n"});
  for (size_t i = 0; i < messages.size(); ++i) {
    const auto& [role, content] = messages[i];
    out.add({"<|im_start|>", role, "\n"});
    out.addBody(i, role, {content, "<|im_end|>"}, "\n");
  }
}

// Thoughts of answers before the last question are left out, later ones are
// marked.
void renderQwen3(Messages messages, Writer& out) {
  size_t lastQuestion = messages.size() - 1;
  for (size_t i = messages.size(); i-- > 0;) {
    const ChatMessage& message = messages[i];
    bool isToolResponse = message.content.starts_with("<tool_response>") &&
                          message.content.ends_with("</tool_response>");
    if (message.role == "user" && !isToolResponse) {
      lastQuestion = i;
      break;
    }
  }
  for (size_t i = 0; i < messages.size(); ++i) {
    std::string_view content = messages[i].content;
    std::string_view thought;
    std::string marked;
    out.add({"<|im_start|>", messages[i].role, "\n"});
    if (messages[i].role == "assistant") {
      if (size_t end = content.find("</think>"); end != content.npos) {
        thought = stripNewlines(content.substr(0, end), false, true);
        if (size_t begin = thought.rfind("<think>"); begin != thought.npos)
          thought.remove_prefix(begin + 7);
        thought = stripNewlines(thought, true, false);
        content.remove_prefix(content.rfind("</think>") + 8);
        content = stripNewlines(content, true, false);
      }
      bool isLast = i + 1 == messages.size();
      if (i > lastQuestion && (isLast || !thought.empty())) {
        marked = join({"<think>\n", stripNewlines(thought, true, true),
                       "\n</think>\n\n"});
        content = stripNewlines(content, true, false);
      }
    }
    out.addBody(i, messages[i].role, {marked, content, "<|im_end|>"}, "\n");
  }
}

// `first`: the number of the first message given.
void renderLlama3(Messages messages, size_t first, Writer& out) {
  for (size_t i = 0; i < messages.size(); ++i) {
    const auto& [role, content] = messages[i];
    out.add({"<|start_header_id|>", role, "<|end_header_id|>\n\n"});
    out.addBody(first + i, role, {strip(content), "<|eot_id|>"}, "");
  }
}

void renderLlama31(Messages messages, const std::string& date, Writer& out) {
  std::string_view system;
  bool hasSystem = messages[0].role == "system";
  if (hasSystem) {
    system = strip(messages[0].content);
    messages.remove_prefix(1);
  }
  out.add({"<|start_header_id|>system<|end_header_id|>\n\n"
           "Cutting Knowledge Date: December 2023\nToday Date: ",
           date, "\n\n", system, "<|eot_id|>"});
  renderLlama3(messages, hasSystem ? 1 : 0, out);
}

absl::Status renderLlama2(Messages messages, const std::string& name,
                          Writer& out) {
  std::string system;
  size_t first = 0;
  if (messages[0].role == "system") {
    system = join({"<<SYS>>\n", messages[0].content, "\n<</SYS>>\n\n"});
    messages.remove_prefix(1);
    first = 1;
  }
  LLMRT_RETURN_IF_ERROR(checkTurns(messages, name));
  for (size_t i = 0; i < messages.size(); ++i) {
    std::string content = (i == 0 ? system : "") + messages[i].content;
    if (i % 2 == 0)
      out.add({"<s>[INST] ", strip(content), " [/INST]"});
    else
      out.addAnswer(first + i, {" ", strip(content), " </s>"});
  }
  return absl::OkStatus();
}

absl::Status renderMistral(Messages messages, std::string_view behind,
                           const std::string& name, Writer& out) {
  LLMRT_RETURN_IF_ERROR(checkTurns(messages, name));
  out.add({"<s>"});
  for (size_t i = 0; i < messages.size(); ++i) {
    if (i % 2 == 0)
      out.add({"[INST] ", messages[i].content, " [/INST]"});
    else
      out.addAnswer(i, {messages[i].content, "</s>"}, behind);
  }
  return absl::OkStatus();
}

// `hasSystem`: a system message goes before the first question; else it is
// refused.
absl::Status renderGemma(Messages messages, bool hasSystem,
                         const std::string& name, Writer& out) {
  std::string system;
  size_t first = 0;
  if (hasSystem && messages[0].role == "system") {
    system = messages[0].content + "\n\n";
    messages.remove_prefix(1);
    first = 1;
  }
  LLMRT_RETURN_IF_ERROR(checkTurns(messages, name));
  out.add({"<bos>"});
  for (size_t i = 0; i < messages.size(); ++i) {
    const auto& [role, content] = messages[i];
    out.add({"<start_of_turn>", i % 2 == 0 ? "user\n" : "model\n"});
    out.addBody(first + i, role,
                {i == 0 ? system : "", strip(content), "<end_of_turn>"}, "\n");
  }
  return absl::OkStatus();
}

void renderZephyr(Messages messages, Writer& out) {
  for (size_t i = 0; i < messages.size(); ++i) {
    const auto& [role, content] = messages[i];
    out.add({"<|", role, "|>\n"});
    out.addBody(i, role, {content, "</s>"}, "\n");
  }
}

} // namespace

absl::StatusOr<std::string>
ChatTemplate::render(absl::Span<const ChatMessage> messages,
                     const RenderOptions& options) const {
  LLMRT_ASSIGN_OR_RETURN(TrainingText rendered,
                         renderMessages(messages, options.date));
  return std::move(rendered.text) + answerHeader(options);
}

absl::StatusOr<TrainingText>
ChatTemplate::renderForTraining(absl::Span<const ChatMessage> messages,
                                const RenderOptions& options) const {
  return renderMessages(messages, options.date);
}

absl::StatusOr<TrainingText>
ChatTemplate::renderMessages(absl::Span<const ChatMessage> messages,
                             const std::string& date) const {
  LLMRT_RETURN_IF_ERROR(checkRoles(messages, name_));
  Writer out;
  switch (style_) {
  case Style::ChatMl:
    renderChatMl(messages, defaultSystem_, out);
    break;
  case Style::Qwen3:
    renderQwen3(messages, out);
    break;
  case Style::Llama3:
    out.add({"<|begin_of_text|>"});
    renderLlama3(messages, 0, out);
    break;
  case Style::Llama31:
    out.add({"<|begin_of_text|>"});
    renderLlama31(messages, date, out);
    break;
  case Style::Llama2:
    LLMRT_RETURN_IF_ERROR(renderLlama2(messages, name_, out));
    break;
  case Style::Mistral:
    LLMRT_RETURN_IF_ERROR(renderMistral(messages, "", name_, out));
    break;
  case Style::MistralSpaced:
    LLMRT_RETURN_IF_ERROR(renderMistral(messages, " ", name_, out));
    break;
  case Style::Gemma:
  case Style::Gemma3:
    LLMRT_RETURN_IF_ERROR(
        renderGemma(messages, style_ == Style::Gemma3, name_, out));
    break;
  case Style::Zephyr:
    renderZephyr(messages, out);
    break;
  }
  return out.finish();
}

// What stands before an answer that is still to come.
std::string ChatTemplate::answerHeader(const RenderOptions& options) const {
  bool isLlama3 = style_ == Style::Llama3 || style_ == Style::Llama31;
  if (!options.addGenerationPrompt && !(isLlama3 && alwaysPrompts_))
    return "";
  switch (style_) {
  case Style::ChatMl:
    return "<|im_start|>assistant\n";
  case Style::Qwen3:
    return options.disablesThinking
               ? "<|im_start|>assistant\n<think>\n\n</think>\n\n"
               : "<|im_start|>assistant\n";
  case Style::Llama3:
  case Style::Llama31:
    return "<|start_header_id|>assistant<|end_header_id|>\n\n";
  case Style::Gemma:
  case Style::Gemma3:
    return "<start_of_turn>model\n";
  case Style::Zephyr:
    return "<|assistant|>\n";
  // These have no mark before an answer.
  case Style::Llama2:
  case Style::Mistral:
  case Style::MistralSpaced:
    return "";
  }
  return "";
}

} // namespace llmrt
