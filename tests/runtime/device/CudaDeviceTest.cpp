// SPDX-License-Identifier: Apache-2.0
// What of the cuda device needs no GPU: which code it chooses, what a GPU has
// and the environment takes away, and what it says where it cannot run.
#include "runtime/device/Device.h"
#include "runtime/device/cuda/ChooseCudaCode.h"
#include "runtime/kernels/KernelArgs.h"
#include "runtime/kernels/cuda/CudaKernelRegistry.h"

#include <cstdlib>
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

/// Sets a variable of the environment for the time of a test.
class Variable {
public:
  Variable(const char* name, const char* value) : name_(name) {
    ::setenv(name, value, 1);
  }

  ~Variable() { ::unsetenv(name_); }

private:
  const char* name_;
};

TEST(CudaFeatures, areThoseOfTheGeneration) {
  EXPECT_FALSE(cudaFeaturesOf(80).hasWgmma);
  EXPECT_FALSE(cudaFeaturesOf(89).hasEarlyLaunch);
  EXPECT_TRUE(cudaFeaturesOf(90).hasWgmma);
  EXPECT_TRUE(cudaFeaturesOf(90).hasEarlyLaunch);
  EXPECT_FALSE(cudaFeaturesOf(100).hasWgmma);
  EXPECT_TRUE(cudaFeaturesOf(100).hasEarlyLaunch);
}

TEST(CudaFeatures, areTakenAwayOneByOne) {
  {
    const Variable wgmma("LLMRT_CUDA_WGMMA", "off");
    EXPECT_FALSE(cudaFeaturesOf(90).hasWgmma);
    EXPECT_TRUE(cudaFeaturesOf(90).hasEarlyLaunch);
  }
  const Variable early("LLMRT_CUDA_EARLY_LAUNCH", "off");
  EXPECT_TRUE(cudaFeaturesOf(90).hasWgmma);
  EXPECT_FALSE(cudaFeaturesOf(90).hasEarlyLaunch);
  EXPECT_FALSE(cudaFeaturesOf(100).hasEarlyLaunch);
  const Variable other("LLMRT_CUDA_EARLY_LAUNCH", "on");
  EXPECT_TRUE(cudaFeaturesOf(90).hasEarlyLaunch);
}

// Decode's attention reads nothing of the launch before it until that has
// ended; that of many rows knows nothing of other launches.
TEST(CudaFeatures, withoutEarlyLaunchesNoLaunchBeginsEarly) {
  AttentionArgs a = {};
  a.rows = 1;
  a.R = a.H = a.KV = a.group = a.pages = 1;
  a.D = 64;
  for (bool hasEarlyLaunch : {false, true})
    for (int64_t rowsOfSequence : {1, 64}) {
      a.R = rowsOfSequence;
      auto shape = cudaLaunchShape(*findCudaKernel("attention"),
                                   reinterpret_cast<const uint64_t*>(&a), a.R,
                                   1, {.hasEarlyLaunch = hasEarlyLaunch});
      ASSERT_TRUE(shape.ok()) << shape.status();
      EXPECT_EQ(shape->mayBeginEarly, hasEarlyLaunch && a.R == 1);
    }
}

TEST(CudaDevice, saysWhatIsNeededWhereItCannotRun) {
  auto device = createCudaDevice({.gpu = 1000});
  ASSERT_FALSE(device.ok());
  EXPECT_THAT(device.status().message(),
              AllOf(HasSubstr("LLMC-E0805"), HasSubstr("CUDA")));
}

} // namespace
} // namespace llmrt
