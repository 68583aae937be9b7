// SPDX-License-Identifier: Apache-2.0
// What of the cuda device needs no GPU: which code it chooses, and what it says
// where it cannot run.
#include "runtime/device/Device.h"
#include "runtime/device/cuda/ChooseCudaCode.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace llmrt {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

int chosen(const std::vector<CodeOption>& options, int level) {
  auto best = chooseCudaCode(options, level);
  EXPECT_TRUE(best.ok()) << best.status();
  return best.ok() ? *best : -1;
}

TEST(ChooseCudaCode, takesTheNewestCubinOfTheGeneration) {
  const std::vector<CodeOption> options = {
      {"cuda", 80}, {"cuda", 86}, {"cuda", 90}, {"cuda-ptx", 80}};
  EXPECT_EQ(chosen(options, 80), 0);
  EXPECT_EQ(chosen(options, 86), 1);
  EXPECT_EQ(chosen(options, 89), 1);
  EXPECT_EQ(chosen(options, 90), 2);
}

TEST(ChooseCudaCode, takesPtxForLaterGenerations) {
  const std::vector<CodeOption> options = {
      {"cuda-ptx", 80}, {"cuda", 80}, {"cuda-ptx", 90}, {"cuda-ptx", 120}};
  EXPECT_EQ(chosen(options, 100), 2);
  EXPECT_EQ(chosen(options, 86), 1); // machine code before text
  EXPECT_EQ(chosen(options, 121), 3);
}

TEST(ChooseCudaCode, saysWhatIsNeededAndWhatIsThere) {
  const std::vector<CodeOption> options = {{"cuda", 90}, {"cuda-ptx", 100}};
  EXPECT_THAT(chooseCudaCode(options, 86).status().message(),
              AllOf(HasSubstr("LLMC-E0805"), HasSubstr("sm_86"),
                    HasSubstr("sm_90"), HasSubstr("PTX for sm_100")));
  const std::vector<CodeOption> cpuOnly = {{"cpu", 2}};
  EXPECT_THAT(chooseCudaCode(cpuOnly, 90).status().message(),
              HasSubstr("none for cuda"));
}

TEST(CudaDevice, saysWhatIsNeededWhereItCannotRun) {
  auto device = createCudaDevice({.gpu = 1000});
  ASSERT_FALSE(device.ok());
  EXPECT_THAT(device.status().message(),
              AllOf(HasSubstr("LLMC-E0805"), HasSubstr("CUDA")));
}

} // namespace
} // namespace llmrt
