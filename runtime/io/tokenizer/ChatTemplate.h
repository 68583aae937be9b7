// SPDX-License-Identifier: Apache-2.0
// Turns the messages of a conversation into the text that a chat model was
// trained on. The templates of the supported families are built in; a model's
// own Jinja template is not run, only recognised. What is not recognised is
// refused, never guessed.
#pragma once

#include "absl/status/statusor.h"
#include "absl/types/span.h"

#include <string>
#include <string_view>
#include <vector>

namespace llmrt {

struct ChatMessage {
  std::string role; // "system", "user" or "assistant"
  std::string content;
};

struct RenderOptions {
  /// Ends the text where the assistant's answer begins.
  bool addGenerationPrompt = true;
  /// Begins the answer with an empty thought, where the template knows
  /// thinking.
  bool disablesThinking = false;
  /// What the template of Llama 3.1 calls today's date: its own default, so
  /// that the same messages make the same tokens tomorrow.
  std::string date = "26 Jul 2024";
};

/// The bytes of a rendered text that the model writes: an assistant's message
/// from behind its header to behind its end-of-turn mark.
struct AnswerSpan {
  size_t message = 0; // which one
  size_t begin = 0;
  size_t end = 0;
};

struct TrainingText {
  std::string text;
  std::vector<AnswerSpan> answers;
};

class ChatTemplate {
public:
  /// Returns the names that byName() knows.
  static std::vector<std::string> names();

  /// Errors  ChatTemplateUnknown.
  static absl::StatusOr<ChatTemplate> byName(std::string_view name);

  /// Recognises a model's own template (Jinja) by all that makes up its text.
  /// Errors  ChatTemplateUnknown.
  static absl::StatusOr<ChatTemplate> recognise(std::string_view jinja);

  const std::string& name() const { return name_; }

  /// Returns the text of `messages`, special tokens spelled out: encode it with
  /// parseSpecial and without addBos.
  /// Errors  ChatMessagesInvalid: no message, a role that the template does not
  ///         have, roles that do not alternate where it wants them to.
  absl::StatusOr<std::string> render(absl::Span<const ChatMessage> messages,
                                     const RenderOptions& options = {}) const;

  /// Returns the text of a whole conversation, which no answer is to follow,
  /// and where its answers are. An answer's span starts where render() of the
  /// messages before it ends. Errors as render().
  absl::StatusOr<TrainingText>
  renderForTraining(absl::Span<const ChatMessage> messages,
                    const RenderOptions& options = {}) const;

private:
  enum class Style {
    ChatMl,
    Qwen3,
    Llama2,
    Llama3,
    Llama31,
    Mistral,
    MistralSpaced,
    Gemma,
    Gemma3,
    Zephyr,
  };
  struct Known;
  static absl::Span<const Known> known();

  absl::StatusOr<TrainingText>
  renderMessages(absl::Span<const ChatMessage> messages,
                 const std::string& date) const;
  std::string answerHeader(const RenderOptions& options) const;

  std::string name_;
  Style style_ = Style::ChatMl;
  std::string
      defaultSystem_; // said where the conversation has no system message
  bool alwaysPrompts_ = false; // the answer's beginning is always added
};

} // namespace llmrt
