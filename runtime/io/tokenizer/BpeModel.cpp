// SPDX-License-Identifier: Apache-2.0
#include "runtime/io/tokenizer/BpeModel.h"

#include "runtime/base/Error.h"
#include "runtime/io/tokenizer/ByteAlphabet.h"
#include "runtime/io/tokenizer/Utf8.h"

#include "absl/strings/str_format.h"

#include <algorithm>
#include <queue>

namespace llmrt {
namespace {

// Up to here looking at every pair is faster than a heap.
constexpr size_t kMaxShortSymbols = 32;
constexpr size_t kMaxCachedWords = 1 << 18;
constexpr size_t kMaxCachedWordBytes = 64;

uint64_t pairKey(int32_t left, int32_t right) {
  return static_cast<uint64_t>(static_cast<uint32_t>(left)) << 32 |
         static_cast<uint32_t>(right);
}

// A pair that could be merged, as it was when it was found.
struct Candidate {
  int32_t rank;
  int32_t left;
  int32_t right;
  uint32_t sizeBytes;
  int32_t id;

  // The best of std::priority_queue is the largest.
  bool operator<(const Candidate& other) const {
    return rank != other.rank ? rank > other.rank : left > other.left;
  }
};

// Returns true if no token holds a space marker after another character.
bool tokensStartAtSpaceMarkers(const Vocabulary& vocabulary) {
  for (int32_t id = 0; id < vocabulary.sizeTokens(); ++id) {
    if (!vocabulary.isFound(id))
      continue;
    std::string_view text = vocabulary.text(id);
    bool isLeading = true;
    while (!text.empty()) {
      bool isMarker = text.starts_with(kSpaceMarker);
      if (isMarker && !isLeading)
        return false;
      isLeading = isLeading && isMarker;
      text.remove_prefix(isMarker ? kSpaceMarker.size() : 1);
    }
  }
  return true;
}

} // namespace

void BpeModel::addMerge(int32_t left, int32_t right, int32_t merged) {
  Merge merge{static_cast<int32_t>(table_.size()), merged};
  // Of a merge that stands twice the later one holds, as in the reference.
  auto [entry, isNew] = table_.try_emplace(pairKey(left, right), merge);
  if (!isNew)
    entry->second = merge;
}

void BpeModel::finish(const Vocabulary& vocabulary) {
  vocabulary_ = &vocabulary;
  for (int byte = 0; byte < 256; ++byte) {
    char c = static_cast<char>(byte);
    byteIds_[byte] = options_.start == Start::Bytes
                         ? vocabulary.find(std::string_view(&c, 1))
                         : -1;
  }
  if (options_.start == Start::Characters) {
    // Byte tokens are not in the index: the text "<0x0A>" is not one of them.
    for (int32_t id = 0; id < vocabulary.sizeTokens(); ++id) {
      if (vocabulary.kind(id) != TokenKind::Byte)
        continue;
      std::string_view text = vocabulary.text(id);
      if (int byte = byteOfToken(text); byte >= 0)
        byteIds_[byte] = id;
    }
    bool isNeverFused = !options_.fuseUnknown || options_.byteFallback;
    cutsAtSpaceMarkers_ = isNeverFused && tokensStartAtSpaceMarkers(vocabulary);
  }
}

absl::Status BpeModel::encode(std::string_view text, WordCache& cache,
                              std::vector<int32_t>& ids) const {
  if (!cutsAtSpaceMarkers_)
    return encodeCached(text, cache, ids);
  size_t begin = 0;
  while (begin < text.size()) {
    size_t end = begin;
    while (text.substr(end).starts_with(kSpaceMarker))
      end += kSpaceMarker.size();
    end = std::min(text.find(kSpaceMarker, end), text.size());
    LLMRT_RETURN_IF_ERROR(
        encodeCached(text.substr(begin, end - begin), cache, ids));
    begin = end;
  }
  return absl::OkStatus();
}

absl::Status BpeModel::encodeCached(std::string_view word, WordCache& cache,
                                    std::vector<int32_t>& ids) const {
  if (word.size() > kMaxCachedWordBytes)
    return encodeWord(word, ids);
  absl::string_view key(word.data(), word.size());
  if (auto found = cache.words.find(key); found != cache.words.end()) {
    auto first = cache.ids.begin() + found->second.begin;
    ids.insert(ids.end(), first, first + found->second.count);
    return absl::OkStatus();
  }
  size_t before = ids.size();
  LLMRT_RETURN_IF_ERROR(encodeWord(word, ids));
  if (cache.words.size() < kMaxCachedWords) {
    cache.words[key] = {static_cast<uint32_t>(cache.ids.size()),
                        static_cast<uint32_t>(ids.size() - before)};
    cache.ids.insert(cache.ids.end(), ids.begin() + before, ids.end());
  }
  return absl::OkStatus();
}

absl::Status BpeModel::encodeWord(std::string_view word,
                                  std::vector<int32_t>& ids) const {
  if (options_.ignoreMerges) {
    if (int32_t id = vocabulary_->find(word); id >= 0) {
      ids.push_back(id);
      return absl::OkStatus();
    }
  }
  size_t wordBegin = ids.size();
  std::vector<Symbol> symbols;
  cutIntoSymbols(word, symbols);
  if (symbols.size() <= kMaxShortSymbols)
    mergeShort(word, symbols);
  else
    mergeLong(word, symbols);
  for (const Symbol& symbol : symbols) {
    if (symbol.sizeBytes == 0)
      continue;
    if (symbol.id >= 0)
      ids.push_back(symbol.id);
    else
      LLMRT_RETURN_IF_ERROR(appendUnknown(
          word.substr(symbol.begin, symbol.sizeBytes), wordBegin, ids));
  }
  return absl::OkStatus();
}

void BpeModel::cutIntoSymbols(std::string_view word,
                              std::vector<Symbol>& symbols) const {
  symbols.reserve(word.size());
  auto add = [&](size_t begin, size_t sizeBytes, int32_t id) {
    auto index = static_cast<int32_t>(symbols.size());
    symbols.push_back({static_cast<uint32_t>(begin),
                       static_cast<uint32_t>(sizeBytes), id, index - 1,
                       index + 1});
  };
  bool isTable = options_.merges == Merges::Table;
  for (size_t begin = 0; begin < word.size();) {
    if (options_.start == Start::Bytes) {
      add(begin, 1, byteIds_[static_cast<uint8_t>(word[begin])]);
      ++begin;
      continue;
    }
    size_t sizeBytes =
        std::min(utf8SizeBytes(word[begin]), word.size() - begin);
    int32_t id = vocabulary_->find(word.substr(begin, sizeBytes));
    // A run of unknown characters is one symbol where they fuse.
    bool isFused = id < 0 && isTable && options_.fuseUnknown &&
                   !options_.byteFallback && !symbols.empty() &&
                   symbols.back().id == options_.unknownId;
    if (isFused)
      symbols.back().sizeBytes += sizeBytes;
    else
      add(begin, sizeBytes,
          id < 0 && isTable && !options_.byteFallback ? options_.unknownId
                                                      : id);
    begin += sizeBytes;
  }
  if (!symbols.empty())
    symbols.back().next = -1;
}

BpeModel::Merge BpeModel::findMerge(std::string_view word, const Symbol& left,
                                    const Symbol& right) const {
  if (options_.merges == Merges::Table) {
    if (left.id < 0 || right.id < 0)
      return {};
    auto found = table_.find(pairKey(left.id, right.id));
    return found == table_.end() ? Merge{} : found->second;
  }
  int32_t id = vocabulary_->find(
      word.substr(left.begin, left.sizeBytes + right.sizeBytes));
  if (id < 0 || ranks_[id] < 0)
    return {};
  return {ranks_[id], id};
}

void BpeModel::mergeShort(std::string_view word,
                          std::vector<Symbol>& symbols) const {
  // merges[i] joins symbols i and i + 1; both lists shrink together.
  std::array<Merge, kMaxShortSymbols> merges;
  size_t count = symbols.size();
  for (size_t i = 0; i + 1 < count; ++i)
    merges[i] = findMerge(word, symbols[i], symbols[i + 1]);
  while (count > 1) {
    size_t best = 0;
    for (size_t i = 1; i + 1 < count; ++i)
      if (static_cast<uint32_t>(merges[i].rank) <
          static_cast<uint32_t>(merges[best].rank))
        best = i;
    if (merges[best].rank < 0)
      break;
    symbols[best].sizeBytes += symbols[best + 1].sizeBytes;
    symbols[best].id = merges[best].id;
    std::move(symbols.begin() + best + 2, symbols.begin() + count,
              symbols.begin() + best + 1);
    std::move(merges.begin() + best + 1, merges.begin() + count - 1,
              merges.begin() + best);
    --count;
    if (best + 1 < count)
      merges[best] = findMerge(word, symbols[best], symbols[best + 1]);
    if (best > 0)
      merges[best - 1] = findMerge(word, symbols[best - 1], symbols[best]);
  }
  symbols.resize(count);
}

void BpeModel::mergeLong(std::string_view word,
                         std::vector<Symbol>& symbols) const {
  std::priority_queue<Candidate> queue;
  auto propose = [&](int32_t left, int32_t right) {
    if (left < 0 || right < 0)
      return;
    Merge merge = findMerge(word, symbols[left], symbols[right]);
    if (merge.rank >= 0)
      queue.push({merge.rank, left, right,
                  symbols[left].sizeBytes + symbols[right].sizeBytes,
                  merge.id});
  };
  for (size_t i = 0; i + 1 < symbols.size(); ++i)
    propose(static_cast<int32_t>(i), static_cast<int32_t>(i + 1));
  while (!queue.empty()) {
    Candidate best = queue.top();
    queue.pop();
    Symbol& left = symbols[best.left];
    Symbol& right = symbols[best.right];
    // Either side changed since: this pair is no more.
    if (left.sizeBytes == 0 || right.sizeBytes == 0 ||
        left.next != best.right ||
        left.sizeBytes + right.sizeBytes != best.sizeBytes)
      continue;
    left.sizeBytes = best.sizeBytes;
    left.id = best.id;
    right.sizeBytes = 0;
    left.next = right.next;
    if (left.next >= 0)
      symbols[left.next].previous = best.left;
    propose(left.previous, best.left);
    propose(best.left, left.next);
  }
}

absl::Status BpeModel::appendUnknown(std::string_view character,
                                     size_t wordBegin,
                                     std::vector<int32_t>& ids) const {
  if (options_.byteFallback) {
    bool isComplete =
        std::all_of(character.begin(), character.end(), [&](char c) {
          return byteIds_[static_cast<uint8_t>(c)] >= 0;
        });
    if (isComplete) {
      for (char c : character)
        ids.push_back(byteIds_[static_cast<uint8_t>(c)]);
      return absl::OkStatus();
    }
  }
  if (options_.unknownId >= 0) {
    bool isFused = options_.fuseUnknown && ids.size() > wordBegin &&
                   ids.back() == options_.unknownId;
    if (!isFused)
      ids.push_back(options_.unknownId);
    return absl::OkStatus();
  }
  std::string bytes;
  for (char c : character)
    absl::StrAppendFormat(&bytes, " %02X", static_cast<uint8_t>(c));
  return makeError(
      ErrorCode::TextNotEncodable,
      absl::StrCat("the vocabulary has no token for the bytes", bytes),
      "remove them from the text");
}

} // namespace llmrt
