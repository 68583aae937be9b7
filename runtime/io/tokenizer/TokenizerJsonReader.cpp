// SPDX-License-Identifier: Apache-2.0
// A SAX handler. Members are told apart by their path: model.vocab and
// model.merges go to lists, top-level integers (an encoder.json) too, all else
// into the tree.
#include "runtime/io/tokenizer/TokenizerJsonReader.h"

#include "runtime/base/Error.h"

namespace llmrt {
namespace {

using nlohmann::json;

// Real files are six levels deep.
constexpr size_t kMaxDepth = 32;

class Handler {
public:
  explicit Handler(TokenizerDocument& document) : document_(document) {}

  const std::string& problem() const { return problem_; }

  bool null() { return addValue(json()); }

  bool boolean(bool value) { return addValue(json(value)); }

  bool number_float(double value, const std::string&) {
    return addValue(json(value));
  }

  bool number_integer(int64_t value) { return addInteger(value); }

  bool number_unsigned(uint64_t value) {
    return addInteger(value > INT64_MAX ? INT64_MAX
                                        : static_cast<int64_t>(value));
  }

  bool string(std::string& value) {
    if (place_ == Place::Merges) {
      document_.merges.add(value);
      ++mergeTexts_;
      return isMergeShape(/*isPair=*/false);
    }
    if (place_ == Place::MergePair) {
      document_.merges.add(value);
      if (++mergeTexts_ > 2)
        return fail("a merge is not two tokens");
      return true;
    }
    return addValue(json(std::move(value)));
  }

  bool binary(json::binary_t&) { return fail("binary data"); }

  bool start_object(size_t) {
    if (place_ == Place::Model && key_ == "vocab") {
      document_.hasModelVocabulary = true;
      place_ = Place::Vocabulary;
      return true;
    }
    if (place_ != Place::Tree && place_ != Place::Model)
      return fail("an object where a token or merge should be");
    bool isModel =
        stack_.size() == 1 && key_ == "model" && stack_[0].value.is_object();
    if (!push(json::object()))
      return false;
    if (isModel) {
      place_ = Place::Model;
      modelDepth_ = stack_.size();
    }
    return true;
  }

  bool key(std::string& value) {
    key_ = std::move(value);
    return true;
  }

  bool end_object() {
    if (place_ == Place::Vocabulary) {
      place_ = Place::Model;
      return true;
    }
    return pop();
  }

  bool start_array(size_t) {
    if (place_ == Place::Model && key_ == "merges") {
      place_ = Place::Merges;
      return true;
    }
    if (place_ == Place::Merges) {
      place_ = Place::MergePair;
      mergeTexts_ = 0;
      return true;
    }
    if (place_ != Place::Tree && place_ != Place::Model)
      return fail("an array where a token or merge should be");
    return push(json::array());
  }

  bool end_array() {
    if (place_ == Place::MergePair) {
      place_ = Place::Merges;
      if (mergeTexts_ != 2)
        return fail("a merge is not two tokens");
      return isMergeShape(/*isPair=*/true);
    }
    if (place_ == Place::Merges) {
      place_ = Place::Model;
      return true;
    }
    return pop();
  }

  bool parse_error(size_t position, const std::string&,
                   const nlohmann::detail::exception&) {
    return fail(absl::StrCat("no valid JSON at byte offset ", position));
  }

private:
  enum class Place { Tree, Model, Vocabulary, Merges, MergePair };

  struct Level {
    json value;
    std::string key; // under which it goes into the level above
  };

  bool fail(std::string what) {
    if (problem_.empty())
      problem_ = std::move(what);
    return false;
  }

  bool isMergeShape(bool isPair) {
    bool isFirst = document_.merges.size() == (isPair ? 2u : 1u);
    if (isFirst)
      document_.mergesArePairs = isPair;
    return document_.mergesArePairs == isPair ||
           fail("merges are written in two ways");
  }

  bool addInteger(int64_t value) {
    bool isEncoder = place_ == Place::Tree && stack_.size() == 1 &&
                     stack_[0].value.is_object();
    if (place_ != Place::Vocabulary && !isEncoder)
      return addValue(json(value));
    auto& vocabulary =
        isEncoder ? document_.encoder : document_.modelVocabulary;
    vocabulary.tokens.add(key_);
    vocabulary.ids.push_back(value);
    return true;
  }

  bool addValue(json value) {
    if (place_ != Place::Tree && place_ != Place::Model)
      return fail("a token's id or a merge is of another type");
    if (stack_.empty()) {
      document_.fields = std::move(value);
      return true;
    }
    json& parent = stack_.back().value;
    if (parent.is_array())
      parent.push_back(std::move(value));
    else
      parent[key_] = std::move(value);
    return true;
  }

  bool push(json value) {
    if (stack_.size() >= kMaxDepth)
      return fail("nested too deeply");
    stack_.push_back({std::move(value), key_});
    if (place_ == Place::Model)
      place_ = Place::Tree;
    return true;
  }

  bool pop() {
    Level level = std::move(stack_.back());
    stack_.pop_back();
    key_ = std::move(level.key);
    bool wasModel = modelDepth_ == stack_.size() + 1;
    if (wasModel)
      modelDepth_ = 0;
    place_ = modelDepth_ != 0 && stack_.size() == modelDepth_ ? Place::Model
                                                              : Place::Tree;
    return addValue(std::move(level.value));
  }

  TokenizerDocument& document_;
  std::vector<Level> stack_;
  std::string key_;
  Place place_ = Place::Tree;
  size_t modelDepth_ = 0; // of the stack inside "model", 0 outside
  int mergeTexts_ = 0;
  std::string problem_;
};

} // namespace

absl::StatusOr<TokenizerDocument> readTokenizerDocument(std::string_view text) {
  TokenizerDocument document;
  Handler handler(document);
  bool isRead =
      json::sax_parse(text.data(), text.data() + text.size(), &handler);
  if (!isRead)
    return makeError(ErrorCode::TokenizerCorrupt,
                     absl::StrCat("the tokenizer's JSON cannot be read: ",
                                  handler.problem()),
                     "get the tokenizer file again");
  return document;
}

} // namespace llmrt
