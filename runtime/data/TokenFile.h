// SPDX-License-Identifier: Apache-2.0
// Tokenised training data: one stream of tokens, cut into documents, each with
// the line it came from. A cache beside the data file, mapped by every rank.
// docs/reference/token-file.md gives the bytes. Sequences are BatchSource's.
#pragma once

#include "runtime/base/MappedFile.h"
#include "runtime/data/DataRecord.h"

#include "absl/status/statusor.h"
#include "absl/types/span.h"

#include <cstdint>
#include <string>

namespace llmrt {

inline constexpr char kTokenFileMagic[8] = {'L', 'L', 'M', 'C',
                                            'T', 'O', 'K', 'S'};
inline constexpr uint32_t kTokenFileVersion = 1;

/// The first bytes of a token file, little endian. Then: the tokens, padded to
/// 8 bytes; the documents; one bit a token, packed into 64-bit words (not for
/// pretrain); the sources.
struct TokenFileHeader {
  char magic[8] = {};
  uint32_t version = 0;
  uint32_t headerBytes = 0;
  uint64_t settingsFingerprint = 0; // tokenizer, template, objective, ...
  uint64_t sourceFingerprint = 0;   // sizes and contents of the data files
  uint32_t objective = 0;
  uint32_t tokenBytes = 0; // 2 if the vocabulary allows it, else 4
  uint32_t vocabSize = 0;
  uint32_t numSources = 0;
  uint64_t numTokens = 0;
  uint64_t numDocuments = 0;
  uint64_t numRecords = 0;       // lines that hold a record
  uint64_t numSkipped = 0;       // malformed lines
  uint64_t numEmpty = 0;         // records with nothing to learn
  uint64_t numMergedBorders = 0; // answers that begin or end inside a token
  uint64_t tokensChecksum = 0;   // CRC-64/XZ of the tokens
  uint64_t indexChecksum = 0;    // of all behind them
  uint64_t reserved[5] = {};
  uint64_t headerChecksum = 0; // of the header before this field
};

static_assert(sizeof(TokenFileHeader) == 160);

struct TokenFileDocument {
  uint64_t tokenBegin = 0;
  uint64_t line = 0; // counts from 1
  uint32_t source = 0;
  uint32_t reserved = 0;
};

static_assert(sizeof(TokenFileDocument) == 24);

struct TokenFileSource {
  uint64_t sizeBytes = 0;
  uint64_t checksum = 0;
};

static_assert(sizeof(TokenFileSource) == 16);

class TokenFile {
public:
  struct Checks {
    bool verifiesChecksums = true; // off only for the fuzzer
  };

  /// Maps a file and checks header and index, so that no call below can leave
  /// it. Errors  FileNotReadable, TokenFileCorrupt.
  static absl::StatusOr<TokenFile> open(const std::string& path);

  /// The same for bytes that outlive the object and begin at a multiple of 8.
  static absl::StatusOr<TokenFile> parse(absl::Span<const uint8_t> bytes,
                                         const std::string& path,
                                         Checks checks);

  /// Reads all tokens. Errors  TokenFileCorrupt if their checksum differs.
  absl::Status verifyTokens() const;

  const TokenFileHeader& header() const { return header_; }

  Objective objective() const {
    return static_cast<Objective>(header_.objective);
  }

  int64_t numTokens() const { return static_cast<int64_t>(header_.numTokens); }

  int64_t numDocuments() const {
    return static_cast<int64_t>(header_.numDocuments);
  }

  /// Returns a token as it stands, which may be outside the vocabulary if the
  /// file was damaged after open().
  int32_t token(int64_t index) const {
    return header_.tokenBytes == 2
               ? reinterpret_cast<const uint16_t*>(tokens_.data())[index]
               : reinterpret_cast<const int32_t*>(tokens_.data())[index];
  }

  /// Returns whether a token is one to predict, wherever one stands before it.
  bool isCounted(int64_t index) const {
    return counted_.empty() || (counted_[index / 64] >> (index % 64) & 1) != 0;
  }

  int64_t documentBegin(int64_t document) const {
    return document == numDocuments()
               ? numTokens()
               : static_cast<int64_t>(documents_[document].tokenBegin);
  }

  const TokenFileDocument& document(int64_t index) const {
    return documents_[index];
  }

  /// Returns the document that holds a token.
  int64_t findDocument(int64_t token) const;

  absl::Span<const TokenFileSource> sources() const { return sources_; }

  const std::string& path() const { return path_; }

private:
  absl::Status checkHeader(absl::Span<const uint8_t> bytes, Checks checks);
  absl::Status checkIndex() const;
  absl::Status corrupt(const std::string& what) const;

  MappedFile file_; // empty if made by parse()
  std::string path_;
  TokenFileHeader header_;
  absl::Span<const uint8_t> tokens_;
  absl::Span<const TokenFileDocument> documents_;
  absl::Span<const uint64_t> counted_;
  absl::Span<const TokenFileSource> sources_;
};

} // namespace llmrt
