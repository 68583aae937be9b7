// SPDX-License-Identifier: Apache-2.0
// Fuzz target of the safetensors reader and of the index reader.
#include "runtime/io/Safetensors.h"

#include "tests/fuzz/FuzzDriver.h"
#include "tests/fuzz/TouchTensor.h"
#include "tests/runtime/io/Golden.h"
#include "tests/support/GgufWriter.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t sizeBytes) {
  absl::Span<const uint8_t> bytes(data, sizeBytes);
  absl::StatusOr<llmrt::SafetensorsContents> contents =
      llmrt::parseSafetensors(bytes, "fuzz");
  if (contents.ok())
    for (const llmrt::SourceTensor& tensor : contents->tensors)
      llmrt::testing::touchTensor(tensor);
  if (!bytes.empty() && bytes[0] == '{')
    llmrt::parseSafetensorsIndex(bytes, "fuzz").IgnoreError();
  return 0;
}

std::vector<std::string> fuzzSeeds() {
  std::vector<std::string> seeds;
  for (const llmrt::testing::Golden& golden :
       llmrt::testing::readGolden(llmrt::testing::GoldenKind::Safetensors))
    seeds.push_back(golden.input);
  for (const char* header :
       {"{}", R"({"__metadata__":{"a":"b"}})",
        R"({"a":{"dtype":"BF16","shape":[2,2],"data_offsets":[0,8]},)"
        R"("b":{"dtype":"U8","shape":[],"data_offsets":[8,9]}})"}) {
    std::string& seed = seeds.emplace_back();
    llmrt::testing::appendNumber<uint64_t>(seed, std::strlen(header));
    seed += header;
    if (std::strstr(header, "BF16"))
      seed += "123456789";
  }
  seeds.push_back(R"({"metadata":{"total_size":8},"weight_map":)"
                  R"({"a":"model-1.safetensors","b":"model-2.safetensors"}})");
  return seeds;
}
