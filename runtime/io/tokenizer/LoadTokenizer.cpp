// SPDX-License-Identifier: Apache-2.0
// Tokenizer::load(): finds the files of a tokenizer, and tells the formats
// apart by their content.
#include "runtime/base/Crc64.h"
#include "runtime/base/Error.h"
#include "runtime/base/MappedFile.h"
#include "runtime/io/Gguf.h"
#include "runtime/io/tokenizer/GgufTokenizer.h"
#include "runtime/io/tokenizer/Tokenizer.h"
#include "runtime/io/tokenizer/TokenizerParts.h"
#include "runtime/io/tokenizer/TokenizerReaders.h"

#include <algorithm>
#include <filesystem>

namespace llmrt {
namespace {

namespace fs = std::filesystem;

std::string_view textOf(const MappedFile& file) {
  return {reinterpret_cast<const char*>(file.bytes().data()),
          file.bytes().size()};
}

bool isFile(const fs::path& path) {
  std::error_code ignored;
  return fs::is_regular_file(path, ignored);
}

// Returns true if the first line is a base64 text, a space and a number.
bool isTiktoken(std::string_view text) {
  std::string_view line =
      text.substr(0, std::min(text.find('\n'), text.size()));
  size_t space = line.find(' ');
  if (space == std::string_view::npos || space == 0 || space + 1 == line.size())
    return false;
  auto isBase64 = [](char c) {
    return (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') ||
           (c >= 'a' && c <= 'z') || c == '+' || c == '/' || c == '=';
  };
  auto isDigit = [](char c) { return c >= '0' && c <= '9'; };
  return std::all_of(line.begin(), line.begin() + space, isBase64) &&
         std::all_of(line.begin() + space + 1, line.end(), isDigit);
}

absl::StatusOr<std::unique_ptr<TokenizerParts>>
readEncoderFile(const TokenizerDocument& encoder, const fs::path& directory,
                const TokenizerConfig& config) {
  for (const char* name : {"vocab.bpe", "merges.txt"}) {
    if (!isFile(directory / name))
      continue;
    LLMRT_ASSIGN_OR_RETURN(MappedFile merges,
                           MappedFile::open((directory / name).string()));
    return readEncoderAndMerges(encoder, textOf(merges), config);
  }
  return makeError(ErrorCode::TokenizerNotFound,
                   absl::StrCat("a vocabulary without its merges: neither "
                                "vocab.bpe nor merges.txt is in ",
                                directory.string()),
                   "put that file beside it");
}

absl::StatusOr<std::unique_ptr<TokenizerParts>>
readFile(const MappedFile& file, const TokenizerConfig& config) {
  std::string_view text = textOf(file);
  fs::path directory = fs::path(file.path()).parent_path();
  size_t first = text.find_first_not_of(" \t\r\n\xEF\xBB\xBF");
  if (text.starts_with("#version")) {
    for (const char* name : {"encoder.json", "vocab.json"}) {
      if (!isFile(directory / name))
        continue;
      LLMRT_ASSIGN_OR_RETURN(MappedFile vocabulary,
                             MappedFile::open((directory / name).string()));
      LLMRT_ASSIGN_OR_RETURN(TokenizerDocument encoder,
                             readTokenizerDocument(textOf(vocabulary)));
      return readEncoderAndMerges(encoder, text, config);
    }
    return makeError(ErrorCode::TokenizerNotFound,
                     absl::StrCat("merges without their vocabulary: neither "
                                  "encoder.json nor vocab.json is in ",
                                  directory.string()),
                     "put that file beside it");
  }
  if (isTiktoken(text))
    return readTiktokenModel(text, config);
  // A SentencePiece model starts with the tag of its first piece, a line feed.
  if (text.starts_with("\n") && text.size() > 1 && text[1] != '{')
    return readSentencePieceModel(text, config);
  if (first != std::string_view::npos && text[first] == '{') {
    LLMRT_ASSIGN_OR_RETURN(TokenizerDocument document,
                           readTokenizerDocument(text));
    bool isEncoder =
        document.encoder.tokens.size() > 0 && document.fields.empty();
    if (isEncoder)
      return readEncoderFile(document, directory, config);
    return readTokenizerJson(document, config);
  }
  return makeError(ErrorCode::TokenizerFormatUnknown,
                   absl::StrCat("not a tokenizer file: ", file.path()),
                   "name a tokenizer.json, tokenizer.model, encoder.json or "
                   "GGUF file, or a model's directory");
}

absl::StatusOr<fs::path> findTokenizerFile(const fs::path& directory) {
  for (const char* name :
       {"tokenizer.json", "tokenizer.model", "vocab.json", "encoder.json"})
    if (isFile(directory / name))
      return directory / name;
  return makeError(ErrorCode::TokenizerNotFound,
                   absl::StrCat("no tokenizer.json, tokenizer.model, "
                                "vocab.json or encoder.json in ",
                                directory.string()),
                   "copy the tokenizer's files there");
}

// The checksum of the file and of those beside it that may be read with it.
absl::StatusOr<uint64_t> fingerprintFiles(const MappedFile& file) {
  fs::path directory = fs::path(file.path()).parent_path();
  uint64_t checksum = crc64(file.bytes());
  for (const char* name :
       {"vocab.bpe", "merges.txt", "encoder.json", "vocab.json",
        "tokenizer_config.json", "generation_config.json", "config.json",
        "chat_template.jinja"}) {
    if (!isFile(directory / name))
      continue;
    LLMRT_ASSIGN_OR_RETURN(MappedFile beside,
                           MappedFile::open((directory / name).string()));
    checksum = crc64(std::string_view(name), checksum);
    checksum = crc64(beside.bytes(), checksum);
  }
  return checksum;
}

// A GGUF file's metadata stand before its tensors.
uint64_t fingerprintMetadata(const MappedFile& mapped, const GgufFile& gguf) {
  size_t sizeBytes = mapped.bytes().size();
  for (const SourceTensor& tensor : gguf.tensors())
    if (!tensor.bytes.empty())
      sizeBytes = std::min<size_t>(sizeBytes,
                                   tensor.bytes.data() - mapped.bytes().data());
  return crc64(mapped.bytes().first(sizeBytes));
}

} // namespace

absl::StatusOr<std::unique_ptr<Tokenizer>>
Tokenizer::load(const std::string& path) {
  fs::path file = path;
  std::error_code ignored;
  if (fs::is_directory(file, ignored)) {
    LLMRT_ASSIGN_OR_RETURN(file, findTokenizerFile(file));
  }
  LLMRT_ASSIGN_OR_RETURN(MappedFile mapped, MappedFile::open(file.string()));
  if (textOf(mapped).starts_with("GGUF")) {
    LLMRT_ASSIGN_OR_RETURN(GgufFile gguf,
                           GgufFile::parse(mapped.bytes(), mapped.path()));
    LLMRT_ASSIGN_OR_RETURN(std::unique_ptr<Tokenizer> tokenizer,
                           loadTokenizerFromGguf(gguf));
    tokenizer->parts_->fingerprint = fingerprintMetadata(mapped, gguf);
    return tokenizer;
  }
  LLMRT_ASSIGN_OR_RETURN(TokenizerConfig config,
                         readTokenizerConfig(file.parent_path().string()));
  LLMRT_ASSIGN_OR_RETURN(std::unique_ptr<TokenizerParts> parts,
                         readFile(mapped, config));
  LLMRT_ASSIGN_OR_RETURN(parts->fingerprint, fingerprintFiles(mapped));
  return create(std::move(parts));
}

} // namespace llmrt
