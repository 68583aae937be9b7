// SPDX-License-Identifier: Apache-2.0
#include "tools/llmrt/TextModel.h"

#include "runtime/base/Error.h"

#include "absl/strings/match.h"

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
                                          const std::string& path) {
  LLMRT_ASSIGN_OR_RETURN(std::string found, findTokenizer(plan, session, path));
  TextModel model;
  LLMRT_ASSIGN_OR_RETURN(model.tokenizer_, Tokenizer::load(found));
  if (plan.model() && plan.model()->chat_template())
    model.templateName_ = plan.model()->chat_template()->str();
  return model;
}

absl::StatusOr<EncodedPrompt>
TextModel::encodeText(const std::string& text) const {
  EncodedPrompt prompt{text, {}};
  LLMRT_ASSIGN_OR_RETURN(prompt.ids, tokenizer_->encode(text));
  return prompt;
}

absl::StatusOr<EncodedPrompt>
TextModel::encodeChat(const std::vector<ChatTurn>& turns) const {
  return makeError(ErrorCode::ChatTemplateUnknown,
                   "chat templates are not built in yet", "use --prompt");
}

} // namespace llmrt
