// SPDX-License-Identifier: Apache-2.0
// Data files to a token file: made once, used again while sources and settings
// are the same. With several ranks, one calls buildTokenFile(), then all wait
// for it, then all call openTokenFile().
#pragma once

#include "runtime/data/TokenFile.h"
#include "runtime/io/tokenizer/Tokenizer.h"

#include <functional>
#include <optional>
#include <string>
#include <vector>

namespace llmrt {

struct DataOptions {
  std::vector<std::string> files; // JSON lines
  Objective objective = Objective::Pretrain;
  const Tokenizer* tokenizer = nullptr;
  /// For conversations; nothing: they are refused.
  std::optional<ChatTemplate> chatTemplate;
  /// Nothing: findEndToken().
  std::optional<int32_t> endToken;
  /// Reads special tokens where a text spells them.
  bool parsesSpecial = true;
  /// Leaves malformed lines out and counts them.
  bool skipsBadRecords = false;
  /// Where the token file lies; "": beside the first data file.
  std::string cacheFolder;
};

struct BuildProgress {
  int64_t bytesDone = 0;
  int64_t bytesTotal = 0;
  int64_t numRecords = 0;
};

/// Returns false to stop.
using BuildProgressFunction = std::function<bool(const BuildProgress&)>;

struct BuildReport {
  bool isReused = false;
  /// Why a file that was there is not used; "" if there was none.
  std::string rebuildReason;
  /// The errors of the first ten lines that were skipped.
  std::vector<std::string> skippedLines;
  TokenFileHeader header;
};

/// Returns the path of the token file.
std::string tokenFilePath(const DataOptions& options);

/// Makes the token file, unless the one that is there is whole and was made of
/// the same contents with the same settings.
/// Errors  FileNotReadable, FileNotWritable, DiskFull, DataLineMalformed,
///         DataNotJsonLines, DataShapeUnfit, DataShapesMixed, DataEmpty,
///         DataTemplateMissing; Cancelled if `progress` returned false.
absl::StatusOr<BuildReport>
buildTokenFile(const DataOptions& options,
               const BuildProgressFunction& progress = nullptr);

/// Opens what buildTokenFile() made, without reading the data files again.
/// Errors  FileNotReadable, TokenFileCorrupt, TokenFileStale.
absl::StatusOr<TokenFile> openTokenFile(const DataOptions& options);

} // namespace llmrt
