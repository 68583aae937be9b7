// SPDX-License-Identifier: Apache-2.0
// The reader. The index is checked once, whole, so that batches are made
// without a check; tokens are only checked when asked, since they are most of
// the file and every rank opens it.
#include "runtime/data/TokenFile.h"

#include "runtime/base/Crc64.h"
#include "runtime/base/Error.h"

#include <algorithm>
#include <cstddef>
#include <cstring>

namespace llmrt {
namespace {

constexpr uint64_t kMaxVocabSize = uint64_t{1} << 31;

template <typename T>
absl::Span<const T> takeArray(absl::Span<const uint8_t>& bytes,
                              uint64_t count) {
  absl::Span<const T> array(reinterpret_cast<const T*>(bytes.data()), count);
  bytes.remove_prefix(count * sizeof(T));
  return array;
}

// Counts are below the file's size in bytes before this is asked, so that
// nothing overflows.
uint64_t fileSizeBytes(const TokenFileHeader& header) {
  uint64_t numWords =
      static_cast<Objective>(header.objective) == Objective::Pretrain
          ? 0
          : (header.numTokens + 63) / 64;
  return sizeof(TokenFileHeader) +
         (header.numTokens * header.tokenBytes + 7) / 8 * 8 +
         header.numDocuments * sizeof(TokenFileDocument) + numWords * 8 +
         header.numSources * sizeof(TokenFileSource);
}

} // namespace

absl::StatusOr<TokenFile> TokenFile::open(const std::string& path) {
  LLMRT_ASSIGN_OR_RETURN(MappedFile mapped, MappedFile::open(path));
  LLMRT_ASSIGN_OR_RETURN(TokenFile file, parse(mapped.bytes(), path, {}));
  file.file_ = std::move(mapped);
  return file;
}

absl::StatusOr<TokenFile> TokenFile::parse(absl::Span<const uint8_t> bytes,
                                           const std::string& path,
                                           Checks checks) {
  TokenFile file;
  file.path_ = path;
  LLMRT_RETURN_IF_ERROR(file.checkHeader(bytes, checks));
  const TokenFileHeader& header = file.header_;
  bytes.remove_prefix(sizeof(TokenFileHeader));
  file.tokens_ = bytes.first(header.numTokens * header.tokenBytes);
  bytes.remove_prefix((file.tokens_.size() + 7) / 8 * 8);
  if (checks.verifiesChecksums && crc64(bytes) != header.indexChecksum)
    return file.corrupt("its index has another checksum");
  file.documents_ = takeArray<TokenFileDocument>(bytes, header.numDocuments);
  if (file.objective() != Objective::Pretrain)
    file.counted_ = takeArray<uint64_t>(bytes, (header.numTokens + 63) / 64);
  file.sources_ = takeArray<TokenFileSource>(bytes, header.numSources);
  LLMRT_RETURN_IF_ERROR(file.checkIndex());
  return file;
}

absl::Status TokenFile::checkHeader(absl::Span<const uint8_t> bytes,
                                    Checks checks) {
  if (bytes.size() < sizeof(header_))
    return corrupt("it is shorter than a header");
  std::memcpy(&header_, bytes.data(), sizeof(header_));
  if (std::memcmp(header_.magic, kTokenFileMagic, sizeof(kTokenFileMagic)) != 0)
    return corrupt("it is no token file");
  if (header_.version != kTokenFileVersion)
    return corrupt(absl::StrCat("it has version ", header_.version,
                                ", this program writes ", kTokenFileVersion));
  uint64_t checksum =
      crc64(bytes.first(offsetof(TokenFileHeader, headerChecksum)));
  if (checks.verifiesChecksums && checksum != header_.headerChecksum)
    return corrupt("its header has another checksum");
  uint64_t vocabSize = header_.vocabSize;
  if (header_.headerBytes != sizeof(header_) ||
      header_.objective > static_cast<uint32_t>(Objective::Dpo) ||
      vocabSize == 0 || vocabSize > kMaxVocabSize ||
      header_.tokenBytes != (vocabSize <= 0x10000 ? 2u : 4u) ||
      header_.numTokens > bytes.size() || header_.numDocuments > bytes.size() ||
      header_.numSources > bytes.size())
    return corrupt("its header contradicts itself");
  if (fileSizeBytes(header_) != bytes.size())
    return corrupt(absl::StrCat("it has ", bytes.size(), " bytes instead of ",
                                fileSizeBytes(header_)));
  return absl::OkStatus();
}

absl::Status TokenFile::checkIndex() const {
  uint64_t end = 0;
  for (const TokenFileDocument& document : documents_) {
    bool isFirst = &document == &documents_[0];
    if (isFirst ? document.tokenBegin != 0 : document.tokenBegin <= end)
      return corrupt("its documents are not in order");
    end = document.tokenBegin;
    if (document.source >= header_.numSources)
      return corrupt("a document names no source");
  }
  if (documents_.empty() ? header_.numTokens != 0 : end >= header_.numTokens)
    return corrupt("its last document is empty");
  if (objective() == Objective::Dpo && documents_.size() % 2 != 0)
    return corrupt("half a pair is missing");
  return absl::OkStatus();
}

absl::Status TokenFile::verifyTokens() const {
  if (crc64(tokens_) != header_.tokensChecksum)
    return corrupt("its tokens have another checksum");
  return absl::OkStatus();
}

int64_t TokenFile::findDocument(int64_t token) const {
  auto after = std::upper_bound(
      documents_.begin(), documents_.end(), static_cast<uint64_t>(token),
      [](uint64_t value, const TokenFileDocument& document) {
        return value < document.tokenBegin;
      });
  return after - documents_.begin() - 1;
}

absl::Status TokenFile::corrupt(const std::string& what) const {
  return makeError(ErrorCode::TokenFileCorrupt,
                   absl::StrCat("token file ", path_, ": ", what),
                   "delete it: it is made again");
}

} // namespace llmrt
