// SPDX-License-Identifier: Apache-2.0
// Writes a token file: tokens as they come, the index at the end. The file
// appears whole or not at all.
#pragma once

#include "runtime/data/RecordTokenizer.h"
#include "runtime/data/TokenFile.h"
#include "runtime/io/AtomicFile.h"

#include <vector>

namespace llmrt {

class TokenFileWriter {
public:
  /// `header` gives fingerprints, objective and vocabSize; the rest is filled
  /// here. Errors as AtomicFile::create().
  static absl::StatusOr<TokenFileWriter> create(const std::string& path,
                                                const TokenFileHeader& header);

  /// Adds a document, which is not empty, of a line of a source.
  /// Errors as AtomicFile::append(); TokenOutOfRange for an id outside the
  /// vocabulary.
  absl::Status append(const SampleTokens& sample, uint32_t source,
                      int64_t line);

  /// The counts of the header are the caller's until commit().
  TokenFileHeader& header() { return header_; }

  /// Writes index and header and gives the file its name.
  absl::Status commit(const std::vector<TokenFileSource>& sources);

private:
  absl::Status appendIndex(const void* data, size_t sizeBytes);

  AtomicFile file_;
  TokenFileHeader header_;
  std::vector<TokenFileDocument> documents_;
  std::vector<uint64_t> counted_;
  std::vector<uint8_t> packed_;
};

} // namespace llmrt
