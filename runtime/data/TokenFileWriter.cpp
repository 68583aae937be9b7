// SPDX-License-Identifier: Apache-2.0
#include "runtime/data/TokenFileWriter.h"

#include "runtime/base/Crc64.h"
#include "runtime/base/Error.h"

#include <cstddef>
#include <cstring>

namespace llmrt {
namespace {

template <typename T>
absl::Span<const uint8_t> bytesOf(const T& value) {
  return {reinterpret_cast<const uint8_t*>(&value), sizeof(T)};
}

} // namespace

absl::StatusOr<TokenFileWriter>
TokenFileWriter::create(const std::string& path,
                        const TokenFileHeader& header) {
  TokenFileWriter writer;
  LLMRT_ASSIGN_OR_RETURN(writer.file_, AtomicFile::create(path));
  writer.header_ = header;
  std::memcpy(writer.header_.magic, kTokenFileMagic, sizeof(kTokenFileMagic));
  writer.header_.version = kTokenFileVersion;
  writer.header_.headerBytes = sizeof(TokenFileHeader);
  writer.header_.tokenBytes = header.vocabSize <= 0x10000 ? 2 : 4;
  LLMRT_RETURN_IF_ERROR(writer.file_.append(bytesOf(writer.header_)));
  return writer;
}

absl::Status TokenFileWriter::append(const SampleTokens& sample,
                                     uint32_t source, int64_t line) {
  TokenFileDocument document;
  document.tokenBegin = header_.numTokens;
  document.line = static_cast<uint64_t>(line);
  document.source = source;
  packed_.clear();
  packed_.reserve(sample.ids.size() * header_.tokenBytes);
  for (int32_t id : sample.ids) {
    if (id < 0 || static_cast<uint32_t>(id) >= header_.vocabSize)
      return makeError(ErrorCode::TokenOutOfRange,
                       absl::StrCat("the tokenizer gives id ", id,
                                    ", and its vocabulary has ",
                                    header_.vocabSize),
                       "use the tokenizer of the model");
    auto bytes = bytesOf(id).first(header_.tokenBytes); // little endian
    packed_.insert(packed_.end(), bytes.begin(), bytes.end());
  }
  header_.tokensChecksum = crc64(packed_, header_.tokensChecksum);
  LLMRT_RETURN_IF_ERROR(file_.append(packed_));
  if (header_.objective != static_cast<uint32_t>(Objective::Pretrain)) {
    counted_.resize((header_.numTokens + sample.ids.size() + 63) / 64, 0);
    for (size_t i = 0; i < sample.ids.size(); ++i)
      if (sample.counted[i])
        counted_[(header_.numTokens + i) / 64] |=
            uint64_t{1} << ((header_.numTokens + i) % 64);
  }
  header_.numTokens += sample.ids.size();
  ++header_.numDocuments;
  documents_.push_back(document);
  return absl::OkStatus();
}

absl::Status TokenFileWriter::appendIndex(const void* data, size_t sizeBytes) {
  absl::Span<const uint8_t> bytes(static_cast<const uint8_t*>(data), sizeBytes);
  header_.indexChecksum = crc64(bytes, header_.indexChecksum);
  return file_.append(bytes);
}

absl::Status
TokenFileWriter::commit(const std::vector<TokenFileSource>& sources) {
  const uint8_t zeros[8] = {};
  size_t padBytes = (8 - header_.numTokens * header_.tokenBytes % 8) % 8;
  LLMRT_RETURN_IF_ERROR(file_.append(absl::MakeConstSpan(zeros, padBytes)));
  header_.numSources = static_cast<uint32_t>(sources.size());
  LLMRT_RETURN_IF_ERROR(appendIndex(
      documents_.data(), documents_.size() * sizeof(TokenFileDocument)));
  LLMRT_RETURN_IF_ERROR(
      appendIndex(counted_.data(), counted_.size() * sizeof(uint64_t)));
  LLMRT_RETURN_IF_ERROR(
      appendIndex(sources.data(), sources.size() * sizeof(TokenFileSource)));
  header_.headerChecksum =
      crc64(bytesOf(header_).first(offsetof(TokenFileHeader, headerChecksum)));
  LLMRT_RETURN_IF_ERROR(file_.overwrite(0, bytesOf(header_)));
  return file_.commit();
}

} // namespace llmrt
