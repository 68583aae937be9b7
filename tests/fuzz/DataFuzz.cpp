// SPDX-License-Identifier: Apache-2.0
// Fuzz target of the two readers of training data: token files, and the JSON
// lines that they are made of.
#include "runtime/data/BatchSource.h"
#include "tests/fuzz/FuzzDriver.h"

#include <algorithm>
#include <cstring>

namespace {

using llmrt::BatchSource;
using llmrt::TokenFile;

void readLines(std::string_view text) {
  llmrt::LineCutter lines(text);
  for (llmrt::DataLine line; lines.next(line);)
    for (auto objective : {llmrt::Objective::Pretrain, llmrt::Objective::Sft,
                           llmrt::Objective::Dpo}) {
      llmrt::DataRecord record;
      llmrt::RecordFault fault;
      if (!llmrt::parseRecord(line.text, objective, record, fault))
        (void)llmrt::makeRecordError(fault, "fuzz", line.number);
    }
}

void readTokens(const uint8_t* data, size_t sizeBytes) {
  // A memory map begins at a page; the fuzzer's bytes begin anywhere.
  std::vector<uint64_t> aligned((sizeBytes + 7) / 8);
  std::memcpy(aligned.data(), data, sizeBytes);
  absl::Span<const uint8_t> bytes(
      reinterpret_cast<const uint8_t*>(aligned.data()), sizeBytes);
  for (int64_t numRows : {1, 3, 64}) {
    absl::StatusOr<TokenFile> file =
        TokenFile::parse(bytes, "fuzz", {.verifiesChecksums = false});
    if (!file.ok())
      return;
    file->verifyTokens().IgnoreError();
    absl::StatusOr<BatchSource> source = BatchSource::create(
        std::move(*file), {"a"}, {.numRows = numRows, .seed = sizeBytes});
    if (!source.ok())
      continue;
    llmrt::TrainingBatch batch;
    source->fill({.batch = 2}, batch).IgnoreError();
    source->fill({.position = source->numSequences(), .batch = 2}, batch)
        .IgnoreError();
    source->trace(source->numSequences() - 1, numRows - 1)
        .status()
        .IgnoreError();
    (void)source->statistics();
  }
}

template <typename T>
void append(std::string& bytes, const T& value) {
  bytes.append(reinterpret_cast<const char*>(&value), sizeof(T));
}

// Two documents of three tokens.
std::string tokenFile(llmrt::Objective objective, uint32_t vocabSize) {
  llmrt::TokenFileHeader header;
  std::memcpy(header.magic, llmrt::kTokenFileMagic, sizeof(header.magic));
  header.version = llmrt::kTokenFileVersion;
  header.headerBytes = sizeof(header);
  header.objective = static_cast<uint32_t>(objective);
  header.vocabSize = vocabSize;
  header.tokenBytes = vocabSize <= 0x10000 ? 2 : 4;
  header.numSources = 1;
  header.numTokens = 6;
  header.numDocuments = 2;
  std::string bytes;
  append(bytes, header);
  for (uint32_t token = 0; token < 6; ++token)
    bytes.append(reinterpret_cast<const char*>(&token), header.tokenBytes);
  bytes.resize((bytes.size() + 7) / 8 * 8);
  append(bytes, llmrt::TokenFileDocument{0, 1, 0, 0});
  append(bytes, llmrt::TokenFileDocument{3, 2, 0, 0});
  if (objective != llmrt::Objective::Pretrain)
    append(bytes, uint64_t{0b110110});
  append(bytes, llmrt::TokenFileSource{10, 0});
  return bytes;
}

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t sizeBytes) {
  if (sizeBytes > 0 && data[0] == 'L')
    readTokens(data, sizeBytes);
  else
    readLines({reinterpret_cast<const char*>(data), sizeBytes});
  return 0;
}

std::vector<std::string> fuzzSeeds() {
  return {
      tokenFile(llmrt::Objective::Pretrain, 300),
      tokenFile(llmrt::Objective::Sft, 100'000),
      tokenFile(llmrt::Objective::Dpo, 300),
      "{\"text\": \"Once \\u00e9\\ud83d\\ude00\"}\r\n\n{\"prompt\": \"a\", "
      "\"completion\": \"b\"}",
      "{\"messages\": [{\"role\": \"user\", \"content\": \"x\"}, {\"role\": "
      "\"assistant\", \"content\": \"y\"}]}\n",
      "{\"prompt\": [{\"role\": \"user\", \"content\": \"x\"}], \"chosen\": "
      "\"y\", \"rejected\": [{\"role\": \"assistant\", \"content\": "
      "\"z\"}]}\n",
  };
}
