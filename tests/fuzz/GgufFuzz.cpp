// SPDX-License-Identifier: Apache-2.0
// Fuzz target of the GGUF reader: head, every way to read every value,
// dequantisation.
#include "runtime/io/Gguf.h"

#include "tests/fuzz/FuzzDriver.h"
#include "tests/fuzz/TouchTensor.h"
#include "tests/runtime/io/Golden.h"
#include "tests/support/GgufWriter.h"

using llmrt::SourceType;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t sizeBytes) {
  absl::StatusOr<llmrt::GgufFile> file =
      llmrt::GgufFile::parse({data, sizeBytes}, "fuzz");
  if (!file.ok())
    return 0;
  size_t total = 0;
  for (const std::string& key : file->keys()) {
    total += file->readBool(key).ok() + file->readInteger(key).ok() +
             file->readNumber(key).ok() + file->readIntegers(key).ok() +
             file->readNumbers(key).ok();
    if (absl::StatusOr<absl::string_view> text = file->readText(key); text.ok())
      total += std::string(*text).size();
    if (auto texts = file->readTexts(key); texts.ok())
      for (absl::string_view text : *texts)
        total += std::string(text).size();
  }
  for (const llmrt::SourceTensor& tensor : file->tensors())
    llmrt::testing::touchTensor(tensor);
  volatile size_t sink = total;
  (void)sink;
  return 0;
}

std::vector<std::string> fuzzSeeds() {
  std::vector<std::string> seeds;
  for (const llmrt::testing::Golden& golden :
       llmrt::testing::readGolden(llmrt::testing::GoldenKind::Gguf))
    seeds.push_back(golden.input);
  seeds.push_back(llmrt::testing::GgufWriter().serialize());
  llmrt::testing::GgufWriter types;
  types.alignment = 8;
  types.version = 2;
  for (SourceType type :
       {SourceType::F16, SourceType::BF16, SourceType::F64, SourceType::Q4_0,
        SourceType::Q4_1, SourceType::Q5_0, SourceType::Q5_1, SourceType::Q8_0,
        SourceType::Q4_K, SourceType::Q5_K, SourceType::Q6_K,
        SourceType::IQ4_NL, SourceType::I64}) {
    const llmrt::SourceTypeInfo& info = llmrt::sourceTypeInfo(type);
    types.addTensor(info.name, type, {2, info.blockElements},
                    std::string(2 * info.blockBytes, '\x35'));
  }
  seeds.push_back(types.serialize());
  llmrt::testing::GgufWriter nested;
  std::string payload;
  for (uint32_t element : {9, 8}) { // an array of one array of texts
    llmrt::testing::appendNumber<uint32_t>(payload, element);
    llmrt::testing::appendNumber<uint64_t>(payload, 1);
  }
  llmrt::testing::appendText(payload, "abc");
  nested.addEncoded("nested", 9, payload);
  nested.addTensor("", SourceType::F32, {}, "abcd");
  nested.addTensor("b", SourceType::I8, {1, 1, 1, 3}, "abc");
  seeds.push_back(nested.serialize());
  return seeds;
}
