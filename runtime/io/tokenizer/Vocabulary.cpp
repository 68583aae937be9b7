// SPDX-License-Identifier: Apache-2.0
#include "runtime/io/tokenizer/Vocabulary.h"

#include "runtime/base/Error.h"

#include <functional>

namespace llmrt {
namespace {

// The largest vocabulary in use has 262144 tokens; a larger id than this is a
// corrupt file, refused before memory is asked for.
constexpr int32_t kMaxTokens = 1 << 20;
constexpr size_t kMaxTextBytes = size_t{1} << 31;

} // namespace

absl::Status Vocabulary::set(int32_t id, std::string_view text, TokenKind kind,
                             bool isFound) {
  if (id < 0 || id >= kMaxTokens)
    return makeError(ErrorCode::TokenizerCorrupt,
                     absl::StrCat("a token id is out of range: ", id),
                     "get the tokenizer file again");
  if (arena_.size() + text.size() > kMaxTextBytes)
    return makeError(ErrorCode::TokenizerCorrupt,
                     "the tokens' texts are larger than 2 GiB together",
                     "get the tokenizer file again");
  if (id >= sizeTokens())
    tokens_.resize(id + 1);
  tokens_[id] = {static_cast<uint32_t>(arena_.size()),
                 static_cast<uint32_t>(text.size()), kind, isFound};
  arena_ += text;
  return absl::OkStatus();
}

void Vocabulary::buildIndex() {
  size_t capacity = 16;
  while (capacity < tokens_.size() * 2)
    capacity *= 2;
  slots_.assign(capacity, -1);
  for (int32_t id = 0; id < sizeTokens(); ++id) {
    if (!tokens_[id].isFound)
      continue;
    std::string_view wanted = text(id);
    size_t slot = std::hash<std::string_view>()(wanted) & (capacity - 1);
    // Of two tokens with the same bytes the later one is found, as in the
    // reference's maps.
    while (slots_[slot] >= 0 && text(slots_[slot]) != wanted)
      slot = (slot + 1) & (capacity - 1);
    slots_[slot] = id;
  }
}

int32_t Vocabulary::find(std::string_view wanted) const {
  if (slots_.empty())
    return -1;
  size_t slot = std::hash<std::string_view>()(wanted) & (slots_.size() - 1);
  while (slots_[slot] >= 0 && text(slots_[slot]) != wanted)
    slot = (slot + 1) & (slots_.size() - 1);
  return slots_[slot];
}

} // namespace llmrt
