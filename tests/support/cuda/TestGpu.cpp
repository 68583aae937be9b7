// SPDX-License-Identifier: Apache-2.0
#include "tests/support/cuda/TestGpu.h"

#include "tests/support/RunSeed.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <random>

namespace llmrt::testing {
namespace {

bool onGpu = false;

struct Gpu {
  std::unique_ptr<Device> device;
  std::string why;
};

// Never destroyed: the driver may be gone when the program ends.
Gpu& theGpu() {
  static Gpu& gpu = *[] {
    auto* made = new Gpu();
    auto device = createCudaDevice({});
    if (device.ok())
      made->device = *std::move(device);
    else
      made->why = std::string(device.status().message());
    return made;
  }();
  return gpu;
}

/// Skips every test of a program that has no GPU to run on.
class SkipWithoutGpu final : public ::testing::EmptyTestEventListener {
  void OnTestStart(const ::testing::TestInfo&) override {
    if (!whyNoGpu().empty())
      GTEST_SKIP() << whyNoGpu();
  }
};

} // namespace

bool isOnGpu() { return onGpu; }

const std::string& whyNoGpu() { return theGpu().why; }

Device* gpuOfTests() { return theGpu().device.get(); }

int runTests(int argc, char** argv, bool alwaysOnGpu) {
  ::testing::InitGoogleMock(&argc, argv);
  onGpu = alwaysOnGpu;
  bool hasSeed = false;
  for (int i = 1; i < argc; ++i) {
    if (std::strcmp(argv[i], "--on-gpu") == 0) {
      onGpu = true;
    } else if (std::strncmp(argv[i], "--seed=", 7) == 0) {
      runSeed() = static_cast<uint32_t>(std::strtoul(argv[i] + 7, nullptr, 10));
      hasSeed = true;
    } else {
      std::fprintf(stderr, "unknown option %s\n", argv[i]);
      return 2;
    }
  }
  if (onGpu) {
    if (!hasSeed)
      runSeed() = std::random_device()() % 1000000;
    std::printf("random inputs: --seed=%u\n", runSeed());
    ::testing::UnitTest::GetInstance()->listeners().Append(
        new SkipWithoutGpu()); // owned by the list
  }
  return RUN_ALL_TESTS();
}

} // namespace llmrt::testing
