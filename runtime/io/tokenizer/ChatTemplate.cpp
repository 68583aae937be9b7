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

std::string renderChatMl(Messages messages, const std::string& defaultSystem) {
  std::string text;
  if (!defaultSystem.empty() && messages[0].role != "system")
    text = join({"<|im_start|>system\n", defaultSystem, "<|im_end|>\n"});
  for (const ChatMessage& message : messages)
    text += join(
        {"<|im_start|>", message.role, "\n", message.content, "<|im_end|>\n"});
  return text;
}

// Thoughts of answers before the last question are left out, later ones are
// marked.
std::string renderQwen3(Messages messages) {
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
  std::string text;
  for (size_t i = 0; i < messages.size(); ++i) {
    std::string_view content = messages[i].content;
    std::string_view thought;
    text += join({"<|im_start|>", messages[i].role, "\n"});
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
        text += join({"<think>\n", stripNewlines(thought, true, true),
                      "\n</think>\n\n"});
        content = stripNewlines(content, true, false);
      }
    }
    text += join({content, "<|im_end|>\n"});
  }
  return text;
}

std::string renderLlama3(Messages messages) {
  std::string text;
  for (const ChatMessage& message : messages)
    text += join({"<|start_header_id|>", message.role, "<|end_header_id|>\n\n",
                  strip(message.content), "<|eot_id|>"});
  return text;
}

std::string renderLlama31(Messages messages, const std::string& date) {
  std::string_view system;
  if (messages[0].role == "system") {
    system = strip(messages[0].content);
    messages.remove_prefix(1);
  }
  return join({"<|start_header_id|>system<|end_header_id|>\n\n"
               "Cutting Knowledge Date: December 2023\nToday Date: ",
               date, "\n\n", system, "<|eot_id|>", renderLlama3(messages)});
}

absl::StatusOr<std::string> renderLlama2(Messages messages,
                                         const std::string& name) {
  std::string system;
  if (messages[0].role == "system") {
    system = join({"<<SYS>>\n", messages[0].content, "\n<</SYS>>\n\n"});
    messages.remove_prefix(1);
  }
  LLMRT_RETURN_IF_ERROR(checkTurns(messages, name));
  std::string text;
  for (size_t i = 0; i < messages.size(); ++i) {
    std::string content = (i == 0 ? system : "") + messages[i].content;
    if (i % 2 == 0)
      text += join({"<s>[INST] ", strip(content), " [/INST]"});
    else
      text += join({" ", strip(content), " </s>"});
  }
  return text;
}

absl::StatusOr<std::string> renderMistral(Messages messages,
                                          std::string_view afterAnswer,
                                          const std::string& name) {
  LLMRT_RETURN_IF_ERROR(checkTurns(messages, name));
  std::string text = "<s>";
  for (size_t i = 0; i < messages.size(); ++i) {
    if (i % 2 == 0)
      text += join({"[INST] ", messages[i].content, " [/INST]"});
    else
      text += join({messages[i].content, afterAnswer});
  }
  return text;
}

// `hasSystem`: a system message goes before the first question; else it is
// refused.
absl::StatusOr<std::string> renderGemma(Messages messages, bool hasSystem,
                                        const std::string& name) {
  std::string system;
  if (hasSystem && messages[0].role == "system") {
    system = messages[0].content + "\n\n";
    messages.remove_prefix(1);
  }
  LLMRT_RETURN_IF_ERROR(checkTurns(messages, name));
  std::string text = "<bos>";
  for (size_t i = 0; i < messages.size(); ++i)
    text += join({"<start_of_turn>", i % 2 == 0 ? "user\n" : "model\n",
                  i == 0 ? system : "", strip(messages[i].content),
                  "<end_of_turn>\n"});
  return text;
}

std::string renderZephyr(Messages messages) {
  std::string text;
  for (const ChatMessage& message : messages)
    text += join({"<|", message.role, "|>\n", message.content, "</s>\n"});
  return text;
}

} // namespace

absl::StatusOr<std::string>
ChatTemplate::render(absl::Span<const ChatMessage> messages,
                     const RenderOptions& options) const {
  LLMRT_RETURN_IF_ERROR(checkRoles(messages, name_));
  bool prompts = options.addGenerationPrompt;
  switch (style_) {
  case Style::ChatMl:
    return renderChatMl(messages, defaultSystem_) +
           (prompts ? "<|im_start|>assistant\n" : "");
  case Style::Qwen3:
    return renderQwen3(messages) + (prompts ? "<|im_start|>assistant\n" : "") +
           (prompts && options.disablesThinking ? "<think>\n\n</think>\n\n"
                                                : "");
  case Style::Llama3:
  case Style::Llama31:
    return "<|begin_of_text|>" +
           (style_ == Style::Llama3 ? renderLlama3(messages)
                                    : renderLlama31(messages, options.date)) +
           (prompts || alwaysPrompts_
                ? "<|start_header_id|>assistant<|end_header_id|>\n\n"
                : "");
  // These two have no mark before an answer.
  case Style::Llama2:
    return renderLlama2(messages, name_);
  case Style::Mistral:
    return renderMistral(messages, "</s>", name_);
  case Style::MistralSpaced:
    return renderMistral(messages, "</s> ", name_);
  case Style::Gemma:
  case Style::Gemma3: {
    LLMRT_ASSIGN_OR_RETURN(
        std::string text,
        renderGemma(messages, style_ == Style::Gemma3, name_));
    return text + (prompts ? "<start_of_turn>model\n" : "");
  }
  case Style::Zephyr:
    return renderZephyr(messages) + (prompts ? "<|assistant|>\n" : "");
  }
  return invalid("the chat template has no style", "report this");
}

} // namespace llmrt
