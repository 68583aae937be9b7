// SPDX-License-Identifier: Apache-2.0
// Contents are compared by checksum and not by time: copies and checkouts
// change times, and a wrong reuse would train on other data without a word.
#include "runtime/data/BuildTokenFile.h"

#include "runtime/base/Crc64.h"
#include "runtime/base/Error.h"
#include "runtime/data/RecordTokenizer.h"
#include "runtime/data/TokenFileWriter.h"

#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"

#include <filesystem>

namespace llmrt {
namespace {

namespace fs = std::filesystem;

constexpr int64_t kProgressBytes = 1 << 20;
constexpr size_t kMaxSkippedLines = 10;

struct Source {
  MappedFile file;
  TokenFileSource entry;
};

std::string_view textOf(const MappedFile& file) {
  return {reinterpret_cast<const char*>(file.bytes().data()),
          file.bytes().size()};
}

std::optional<int32_t> endTokenOf(const DataOptions& options) {
  return options.endToken ? options.endToken : findEndToken(*options.tokenizer);
}

uint64_t fingerprintSettings(const DataOptions& options) {
  return crc64(
      absl::StrCat("version ", kTokenFileVersion, " objective ",
                   objectiveName(options.objective), " tokenizer ",
                   options.tokenizer->fingerprint(), " vocabulary ",
                   options.tokenizer->vocabSize(), " template ",
                   options.chatTemplate ? options.chatTemplate->name() : "",
                   " end ", endTokenOf(options).value_or(-1), " special ",
                   options.parsesSpecial, " skip ", options.skipsBadRecords));
}

absl::StatusOr<std::vector<Source>> openSources(const DataOptions& options) {
  std::vector<Source> sources;
  for (const std::string& path : options.files) {
    Source& source = sources.emplace_back();
    LLMRT_ASSIGN_OR_RETURN(source.file, MappedFile::open(path));
    source.entry.sizeBytes = source.file.bytes().size();
    source.entry.checksum = crc64(source.file.bytes());
  }
  return sources;
}

uint64_t fingerprintSources(const std::vector<Source>& sources) {
  uint64_t checksum = 0;
  for (const Source& source : sources)
    checksum = crc64(
        absl::StrCat(source.entry.sizeBytes, " ", source.entry.checksum, ";"),
        checksum);
  return checksum;
}

/// Returns why the token file at `path` cannot be used, or "".
std::string findFault(const std::string& path, const TokenFileHeader& wanted,
                      TokenFileHeader& found) {
  absl::StatusOr<TokenFile> file = TokenFile::open(path);
  if (!file.ok())
    return std::string(file.status().message());
  found = file->header();
  if (found.settingsFingerprint != wanted.settingsFingerprint)
    return "it was made with other settings or another tokenizer";
  if (found.sourceFingerprint != wanted.sourceFingerprint)
    return "the data have changed";
  return std::string(file->verifyTokens().message());
}

// Reads the lines of all sources into one writer.
class Builder {
public:
  Builder(const DataOptions& options, RecordTokenizer tokenizer,
          TokenFileWriter writer, const BuildProgressFunction& progress)
      : options_(options), tokenizer_(std::move(tokenizer)),
        writer_(std::move(writer)), progress_(progress) {}

  absl::StatusOr<BuildReport> build(const std::vector<Source>& sources) {
    for (const Source& source : sources)
      state_.bytesTotal += static_cast<int64_t>(source.entry.sizeBytes);
    std::vector<TokenFileSource> entries;
    for (const Source& source : sources) {
      LLMRT_RETURN_IF_ERROR(addSource(textOf(source.file), entries.size()));
      entries.push_back(source.entry);
    }
    TokenFileHeader& header = writer_.header();
    header.numMergedBorders =
        static_cast<uint64_t>(tokenizer_.numMergedBorders());
    if (header.numDocuments == 0)
      return makeEmptyError(header);
    LLMRT_RETURN_IF_ERROR(writer_.commit(entries));
    if (progress_)
      progress_(state_);
    report_.header = header;
    return std::move(report_);
  }

private:
  absl::Status addSource(std::string_view text, size_t source) {
    int64_t bytesBefore = state_.bytesDone;
    int64_t nextReport = bytesBefore;
    LineCutter lines(text);
    for (DataLine line; lines.next(line);) {
      RecordFault fault;
      absl::Status status;
      if (!addLine(line, static_cast<uint32_t>(source), fault, status))
        status = skip(fault, options_.files[source], line.number);
      LLMRT_RETURN_IF_ERROR(status);
      state_.bytesDone = bytesBefore + lines.positionBytes();
      if (progress_ && state_.bytesDone >= nextReport) {
        nextReport = state_.bytesDone + kProgressBytes;
        if (!progress_(state_))
          return absl::CancelledError("stopped while reading the data");
      }
    }
    state_.bytesDone = bytesBefore + static_cast<int64_t>(text.size());
    return absl::OkStatus();
  }

  // Returns false with a fault of the line; `status` is of the file written.
  bool addLine(const DataLine& line, uint32_t source, RecordFault& fault,
               absl::Status& status) {
    if (!parseRecord(line.text, options_.objective, record_, fault)) {
      nameForeignFormat(line, fault);
      return false;
    }
    if (shape_ && *shape_ != record_.shape) {
      fault.code = ErrorCode::DataShapesMixed;
      fault.what = absl::StrCat("it has ", shapeFields(record_.shape),
                                ", the records before ", shapeFields(*shape_));
      return false;
    }
    if (!tokenizer_.tokenize(record_, samples_, fault))
      return false;
    shape_ = record_.shape;
    ++state_.numRecords;
    ++writer_.header().numRecords;
    writer_.header().numEmpty += samples_.empty();
    for (const SampleTokens& sample : samples_)
      if (status = writer_.append(sample, source, line.number); !status.ok())
        break;
    return true;
  }

  // A file whose first line opens no object is of another format: its other
  // lines are not worth counting.
  void nameForeignFormat(const DataLine& line, RecordFault& fault) const {
    size_t first = line.text.find_first_not_of(" \t\r");
    if (line.number != 1 || options_.skipsBadRecords ||
        first == line.text.npos || line.text[first] == '{')
      return;
    fault.code = ErrorCode::DataNotJsonLines;
    fault.what = line.text[first] == '['
                     ? "the file is one JSON list and not JSON lines"
                     : "the file is not JSON lines: it begins with something "
                       "other than a JSON object";
  }

  absl::Status skip(const RecordFault& fault, const std::string& path,
                    int64_t number) {
    absl::Status error = makeRecordError(fault, path, number);
    if (fault.code != ErrorCode::DataLineMalformed || !options_.skipsBadRecords)
      return error;
    ++writer_.header().numSkipped;
    if (report_.skippedLines.size() < kMaxSkippedLines)
      report_.skippedLines.emplace_back(error.message());
    return absl::OkStatus();
  }

  absl::Status makeEmptyError(const TokenFileHeader& header) const {
    return makeError(ErrorCode::DataEmpty,
                     absl::StrCat("nothing to train on in ",
                                  absl::StrJoin(options_.files, ", "), ": ",
                                  header.numRecords, " records, of which ",
                                  header.numEmpty, " are empty, and ",
                                  header.numSkipped, " skipped lines"),
                     "name files that hold records");
  }

  const DataOptions& options_;
  RecordTokenizer tokenizer_;
  TokenFileWriter writer_;
  const BuildProgressFunction& progress_;
  BuildProgress state_;
  BuildReport report_;
  std::optional<RecordShape> shape_;
  DataRecord record_;
  std::vector<SampleTokens> samples_;
};

} // namespace

std::string tokenFilePath(const DataOptions& options) {
  if (options.files.empty())
    return "";
  std::string more =
      options.files.size() > 1
          ? absl::StrCat("+", options.files.size() - 1, ".tokens")
          : ".tokens";
  if (options.cacheFolder.empty())
    return options.files[0] + more;
  // Files of one name from several folders may share a cache folder.
  std::string paths;
  for (const std::string& file : options.files) {
    std::error_code ignored;
    absl::StrAppend(&paths, fs::absolute(file, ignored).string(), "\n");
  }
  return (fs::path(options.cacheFolder) /
          absl::StrFormat("%s.%08x%s",
                          fs::path(options.files[0]).filename().string(),
                          static_cast<uint32_t>(crc64(paths)), more))
      .string();
}

absl::StatusOr<BuildReport>
buildTokenFile(const DataOptions& options,
               const BuildProgressFunction& progress) {
  if (options.files.empty())
    return makeError(ErrorCode::DataEmpty, "no data file is named",
                     "name one with --data");
  LLMRT_ASSIGN_OR_RETURN(std::vector<Source> sources, openSources(options));
  TokenFileHeader header;
  header.objective = static_cast<uint32_t>(options.objective);
  header.vocabSize = static_cast<uint32_t>(options.tokenizer->vocabSize());
  header.settingsFingerprint = fingerprintSettings(options);
  header.sourceFingerprint = fingerprintSources(sources);

  std::string path = tokenFilePath(options);
  std::string reason;
  std::error_code ignored;
  if (fs::exists(path, ignored)) {
    BuildReport report;
    reason = options.tokenizer->fingerprint() == 0
                 ? "the tokenizer came from no file that could be compared"
                 : findFault(path, header, report.header);
    report.isReused = true;
    if (reason.empty())
      return report;
  }
  RecordTokenizerOptions tokenizerOptions;
  tokenizerOptions.objective = options.objective;
  tokenizerOptions.chatTemplate = options.chatTemplate;
  tokenizerOptions.endToken = endTokenOf(options);
  tokenizerOptions.parsesSpecial = options.parsesSpecial;
  LLMRT_ASSIGN_OR_RETURN(
      RecordTokenizer tokenizer,
      RecordTokenizer::create(*options.tokenizer, tokenizerOptions));
  LLMRT_ASSIGN_OR_RETURN(TokenFileWriter writer,
                         TokenFileWriter::create(path, header));
  Builder builder(options, std::move(tokenizer), std::move(writer), progress);
  LLMRT_ASSIGN_OR_RETURN(BuildReport report, builder.build(sources));
  report.rebuildReason = reason;
  return report;
}

absl::StatusOr<TokenFile> openTokenFile(const DataOptions& options) {
  LLMRT_ASSIGN_OR_RETURN(TokenFile file,
                         TokenFile::open(tokenFilePath(options)));
  bool isSame =
      file.header().settingsFingerprint == fingerprintSettings(options) &&
      file.sources().size() == options.files.size();
  for (size_t i = 0; isSame && i < options.files.size(); ++i) {
    std::error_code error;
    uint64_t sizeBytes = fs::file_size(options.files[i], error);
    // A rank that cannot see the data file takes the token file's word.
    isSame = error || sizeBytes == file.sources()[i].sizeBytes;
  }
  if (!isSame)
    return makeError(ErrorCode::TokenFileStale,
                     absl::StrCat("token file ", file.path(),
                                  ": it was made of other data or with other "
                                  "settings than this rank's"),
                     "let all ranks see the same files, and give each run its "
                     "own cache folder");
  return file;
}

} // namespace llmrt
