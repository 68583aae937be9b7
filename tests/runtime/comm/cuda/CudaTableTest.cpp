// SPDX-License-Identifier: Apache-2.0
// The table over the CUDA runtime, on whatever machine this is.
#include "runtime/comm/cuda/CudaTable.h"

#include <cuda_runtime_api.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace llmrt::testing {
namespace {

using ::testing::HasSubstr;

// A machine without a GPU is told what is missing; one with a GPU has a table.
TEST(CudaRuntimeTable, SaysWhatIsMissing) {
  auto table = loadCudaTable(0);
  int numDevices = 0;
  if (cudaGetDeviceCount(&numDevices) == cudaSuccess) {
    EXPECT_TRUE(table.ok()) << table.status();
    EXPECT_THAT(std::string(loadCudaTable(numDevices).status().message()),
                HasSubstr("is needed, this host has"));
    return;
  }
  EXPECT_THAT(std::string(table.status().message()),
              HasSubstr("LLMC-E0805: no GPU can be used: "));
}

} // namespace
} // namespace llmrt::testing
