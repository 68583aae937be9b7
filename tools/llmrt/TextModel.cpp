// SPDX-License-Identifier: Apache-2.0
#include "tools/llmrt/TextModel.h"

#include "runtime/base/Error.h"

#include "absl/strings/match.h"
#include "absl/strings/str_join.h"

namespace llmrt {
namespace {

absl::StatusOr<std::string> findTokenizer(const fb::Plan& plan,
                                          const SessionOptions& session,
                                          const std::string& path) {
  if (!path.empty())
    return path;
  const fb::ModelCard* model = plan.model();
  if (model && model->tokenizer() && model->tokenizer()->size() > 0)
    return besidePlan(session.planPath, model->tokenizer()->str());
  absl::StatusOr<std::vector<WeightLocation>> weights =
      findWeights(plan, session);
  if (weights.ok())
    for (const WeightLocation& location : *weights)
      if (location.set == "model" &&
          !absl::StartsWith(location.path, "random:"))
        return location.path;
  return makeError(ErrorCode::TokenizerUnspecified,
                   "the plan names no tokenizer",
                   "add --tokenizer=PATH, or give --tokens instead of text");
}

} // namespace

absl::StatusOr<TextModel> TextModel::load(const fb::Plan& plan,
                                          const SessionOptions& session,
                                          const std::string& path,
                                          const std::string& templateName) {
  LLMRT_ASSIGN_OR_RETURN(std::string found, findTokenizer(plan, session, path));
  TextModel model;
  LLMRT_ASSIGN_OR_RETURN(model.tokenizer_, Tokenizer::load(found));
  model.templateName_ = templateName;
  if (templateName.empty() && plan.model() && plan.model()->chat_template())
    model.templateName_ = plan.model()->chat_template()->str();
  return model;
}

absl::StatusOr<EncodedPrompt>
TextModel::encodeText(const std::string& text) const {
  EncodedPrompt prompt{text, {}};
  LLMRT_ASSIGN_OR_RETURN(prompt.ids, tokenizer_->encode(text));
  return prompt;
}

absl::StatusOr<ChatTemplate> TextModel::findTemplate() const {
  if (!templateName_.empty())
    return ChatTemplate::byName(templateName_);
  if (!tokenizer_->chatTemplateText().empty())
    return ChatTemplate::recognise(tokenizer_->chatTemplateText());
  return makeError(ErrorCode::ChatTemplateUnknown,
                   "neither the plan nor the tokenizer names a chat template",
                   absl::StrCat("add --chat-template=NAME, one of ",
                                absl::StrJoin(ChatTemplate::names(), ", ")));
}

absl::StatusOr<EncodedPrompt>
TextModel::encodeChat(const std::vector<ChatTurn>& turns) const {
  LLMRT_ASSIGN_OR_RETURN(ChatTemplate chat, findTemplate());
  std::vector<ChatMessage> messages;
  for (const ChatTurn& turn : turns)
    messages.push_back({turn.role, turn.content});
  EncodedPrompt prompt;
  LLMRT_ASSIGN_OR_RETURN(prompt.text, chat.render(messages));
  // The template writes the ids that go around a text itself.
  LLMRT_ASSIGN_OR_RETURN(prompt.ids,
                         tokenizer_->encode(prompt.text, {.addBos = false}));
  return prompt;
}

} // namespace llmrt
