// SPDX-License-Identifier: Apache-2.0
// The tokenizer and the chat template of the model of a plan.
#pragma once

#include "runtime/generation/PromptFile.h"
#include "runtime/io/tokenizer/ChatTemplate.h"
#include "runtime/io/tokenizer/Tokenizer.h"
#include "tools/llmrt/Session.h"

namespace llmrt {

/// A prompt as text and as ids.
struct EncodedPrompt {
  std::string text;
  std::vector<int32_t> ids;
};

class TextModel {
public:
  /// Loads the tokenizer from `path` if that is given, else from where the plan
  /// says, else from where the weights are. Errors  TokenizerUnspecified; those
  /// of Tokenizer::load().
  static absl::StatusOr<TextModel> load(const fb::Plan& plan,
                                        const SessionOptions& session,
                                        const std::string& path,
                                        const std::string& templateName);

  /// Errors  those of Tokenizer::encode().
  absl::StatusOr<EncodedPrompt> encodeText(const std::string& text) const;
  /// Applies the chat template of the model, up to where the assistant speaks.
  /// Errors  ChatTemplateUnknown, ChatMessagesInvalid; as encodeText().
  absl::StatusOr<EncodedPrompt>
  encodeChat(const std::vector<ChatTurn>& turns) const;

  const Tokenizer& tokenizer() const { return *tokenizer_; }

  /// Returns the template that was named, the plan's, or the tokenizer's.
  /// Errors  ChatTemplateUnknown.
  absl::StatusOr<ChatTemplate> findTemplate() const;

private:
  std::unique_ptr<Tokenizer> tokenizer_;
  std::string templateName_; // may be empty
};

} // namespace llmrt
