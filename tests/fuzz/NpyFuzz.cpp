// SPDX-License-Identifier: Apache-2.0
// Fuzz target of the npy reader.
#include "runtime/io/Npy.h"

#include "tests/fuzz/FuzzDriver.h"
#include "tests/fuzz/TouchTensor.h"
#include "tests/runtime/io/Golden.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t sizeBytes) {
  absl::StatusOr<llmrt::SourceTensor> array =
      llmrt::parseNpy({data, sizeBytes}, "fuzz");
  if (array.ok())
    llmrt::testing::touchTensor(*array);
  return 0;
}

std::vector<std::string> fuzzSeeds() {
  std::vector<std::string> seeds;
  for (const llmrt::testing::Golden& golden :
       llmrt::testing::readGolden(llmrt::testing::GoldenKind::Npy))
    seeds.push_back(golden.input);
  const std::string dictionary =
      "{\"descr\": '|u1', 'shape': (3,), 'fortran_order': True}\n";
  std::string seed("\x93NUMPY\1\0", 8);
  seed += static_cast<char>(dictionary.size());
  seed += '\0';
  seeds.push_back(seed + dictionary + "abc");
  return seeds;
}
