// SPDX-License-Identifier: Apache-2.0
// Byte-pair encoding of one word: starts from bytes or characters and merges
// the pair of best rank, leftmost first, until no pair merges. Not the
// splitting of a text into words (PreTokenizer.h), nor the reading of files.
#pragma once

#include "runtime/io/tokenizer/Vocabulary.h"

#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"

#include <array>
#include <cstdint>
#include <string_view>
#include <vector>

namespace llmrt {

class BpeModel {
public:
  /// What a word is cut into before the first merge.
  enum class Start : uint8_t { Bytes, Characters };
  /// Where a pair finds its merge.
  enum class Merges : uint8_t {
    Table,      // a list of merges in order of rank (Hugging Face, GPT-2)
    Vocabulary, // any two neighbours that together are a token (tiktoken,
                // SentencePiece), at that token's rank
  };

  struct Options {
    Start start = Start::Bytes;
    Merges merges = Merges::Table;
    bool ignoreMerges = false; // a word that is a token is that token
    bool byteFallback = false; // unknown characters become <0x..> tokens
    bool fuseUnknown = false;  // a run of unknown characters is one token
    int32_t unknownId = -1;
  };

  /// Prepares for addMerge().
  void setOptions(const Options& options) { options_ = options; }

  const Options& options() const { return options_; }

  void reserveMerges(size_t numMerges) { table_.reserve(numMerges); }

  size_t numMerges() const { return table_.size(); }

  /// Adds the next merge of the table; the first one has the best rank.
  void addMerge(int32_t left, int32_t right, int32_t merged);

  /// Gives the rank of each id (-1: merging never makes it), for
  /// Merges::Vocabulary.
  void setTokenRanks(std::vector<int32_t> ranks) { ranks_ = std::move(ranks); }

  /// Looks up the start tokens and the safe places to cut. Call once, when the
  /// vocabulary is complete. It must outlive the model.
  void finish(const Vocabulary& vocabulary);

  /// Words of an earlier call, by their bytes, which must outlive the cache.
  struct WordCache {
    struct Ids {
      uint32_t begin = 0;
      uint32_t count = 0;
    };

    absl::flat_hash_map<absl::string_view, Ids> words;
    std::vector<int32_t> ids;
  };

  /// Appends the ids of `text`, which the model must not merge beyond.
  /// Errors  TextNotEncodable.
  absl::Status encode(std::string_view text, WordCache& cache,
                      std::vector<int32_t>& ids) const;

private:
  struct Merge {
    int32_t rank = -1; // -1: none
    int32_t id = -1;
  };

  struct Symbol {
    uint32_t begin = 0;
    uint32_t sizeBytes = 0; // 0: merged into its left neighbour
    int32_t id = -1;        // -1: no token
    int32_t previous = -1;
    int32_t next = -1;
  };

  absl::Status encodeCached(std::string_view word, WordCache& cache,
                            std::vector<int32_t>& ids) const;
  absl::Status encodeWord(std::string_view word,
                          std::vector<int32_t>& ids) const;
  void cutIntoSymbols(std::string_view word,
                      std::vector<Symbol>& symbols) const;
  Merge findMerge(std::string_view word, const Symbol& left,
                  const Symbol& right) const;
  void mergeShort(std::string_view word, std::vector<Symbol>& symbols) const;
  void mergeLong(std::string_view word, std::vector<Symbol>& symbols) const;
  absl::Status appendUnknown(std::string_view character, size_t wordBegin,
                             std::vector<int32_t>& ids) const;

  Options options_;
  const Vocabulary* vocabulary_ = nullptr;
  absl::flat_hash_map<uint64_t, Merge> table_;
  std::vector<int32_t> ranks_;
  std::array<int32_t, 256> byteIds_{};
  // No token holds a space marker after another character, so that a text can
  // be cut there without changing a merge.
  bool cutsAtSpaceMarkers_ = false;
};

} // namespace llmrt
