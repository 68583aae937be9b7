// SPDX-License-Identifier: Apache-2.0
// The emulation itself: lanes, barriers, fragments against plain products, and
// that it reports what a GPU would not survive.
#include "tests/support/cuda/CudaEmulation.h"

#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include <random>

namespace llmrt {
namespace {

using emulation::runGrid;
using ::testing::HasSubstr;

TEST(CudaEmulation, lanesExchangeValues) {
  std::vector<int> xored(64), up(64), first(64);
  EXPECT_EQ(runGrid({.threads = 64},
                    [&] {
                      const int i = threadIdx.x;
                      for (int repeat = 0; repeat < 3; ++repeat) {
                        xored[i] = __shfl_xor_sync(0xFFFFFFFFu, i, 5);
                        up[i] = __shfl_up_sync(0xFFFFFFFFu, i, 3);
                        first[i] = __shfl_sync(0xFFFFFFFFu, i, 0);
                      }
                    }),
            "");
  for (int i = 0; i < 64; ++i) {
    EXPECT_EQ(xored[i], i ^ 5);
    EXPECT_EQ(up[i], i % 32 < 3 ? i : i - 3);
    EXPECT_EQ(first[i], i / 32 * 32);
  }
}

TEST(CudaEmulation, blocksMeetAtBarriers) {
  std::vector<int> sums;
  EXPECT_EQ(runGrid({.gridX = 2, .gridY = 3, .threads = 70, .sharedBytes = 280},
                    [&] {
                      int* shared =
                          reinterpret_cast<int*>(cuda::sharedMemory());
                      shared[threadIdx.x] = static_cast<int>(
                          threadIdx.x + 100 * blockIdx.x + 1000 * blockIdx.y);
                      __syncthreads();
                      if (threadIdx.x != 0)
                        return;
                      int sum = 0;
                      for (unsigned i = 0; i < blockDim.x; ++i)
                        sum += shared[i];
                      sums.push_back(sum);
                    }),
            "");
  ASSERT_EQ(sums.size(), 6u);
  EXPECT_EQ(sums[0], 69 * 35);
  EXPECT_EQ(sums[5], 69 * 35 + 70 * 2100);
}

TEST(CudaEmulation, reportsWhatWouldHang) {
  EXPECT_THAT(runGrid({.threads = 32},
                      [] {
                        if (threadIdx.x < 7)
                          __syncthreads();
                      }),
              HasSubstr("wait for ever"));
  EXPECT_THAT(runGrid({.threads = 64},
                      [] {
                        if (threadIdx.x % 2)
                          __syncthreads();
                        else
                          __shfl_xor_sync(0xFFFFFFFFu, 1, 1);
                      }),
              HasSubstr("wait for ever"));
}

TEST(CudaEmulation, reportsWritesBehindSharedMemory) {
  EXPECT_THAT(runGrid({.threads = 1, .sharedBytes = 16},
                      [] { cuda::sharedMemory()[16] = 0; }),
              HasSubstr("behind shared memory"));
}

TEST(CudaEmulation, roundsToBf16) {
  EXPECT_EQ(cuda::packBf16(1.0f, -2.0f), 0xC0003F80u);
  EXPECT_EQ(cuda::packBf16(1.00390625f, 1.01171875f),
            0x3F823F80u); // ties to even
  EXPECT_EQ(cuda::packBf16(NAN, HUGE_VALF), 0x7F807FFFu);
}

// The matrices of one product, loaded as fragments from row-major memory.
TEST(CudaEmulation, fragmentsMultiplyAsMatrices) {
  std::mt19937 bits(1);
  std::vector<float> a(16 * 16), b(16 * 8), c(16 * 8, 1.0f);
  alignas(16) uint16_t rows[16 * 16], turned[8 * 16], plain[16 * 8];
  for (float& v : a)
    v = static_cast<float>(static_cast<int>(bits() % 17) - 8);
  for (float& v : b)
    v = static_cast<float>(static_cast<int>(bits() % 17) - 8);
  auto narrow = [](float x) {
    return static_cast<uint16_t>(cuda::packBf16(x, 0));
  };
  for (int i = 0; i < 16; ++i)
    for (int k = 0; k < 16; ++k)
      rows[i * 16 + k] = narrow(a[i * 16 + k]);
  for (int k = 0; k < 16; ++k)
    for (int j = 0; j < 8; ++j) {
      turned[j * 16 + k] = narrow(b[k * 8 + j]);
      plain[k * 8 + j] = narrow(b[k * 8 + j]);
    }
  for (bool isTransposed : {false, true}) {
    EXPECT_EQ(
        runGrid(
            {.threads = 32},
            [&] {
              const int lane = threadIdx.x;
              uint32_t first[4], second[4];
              cuda::loadMatrices(rows + lane % 16 * 16 + lane / 16 * 8, first);
              if (isTransposed)
                cuda::loadMatricesTransposed(plain + lane % 16 * 8, second);
              else
                cuda::loadMatrices(turned + lane % 8 * 16 + lane / 8 % 2 * 8,
                                   second);
              float sum[4] = {1, 1, 1, 1};
              cuda::multiplyMatrices(sum, first, second[0], second[1]);
              for (int i = 0; i < 4; ++i)
                c[(lane / 4 + i / 2 * 8) * 8 + lane % 4 * 2 + i % 2] = sum[i];
            }),
        "");
    for (int i = 0; i < 16; ++i)
      for (int j = 0; j < 8; ++j) {
        float expected = 1.0f;
        for (int k = 0; k < 16; ++k)
          expected += a[i * 16 + k] * b[k * 8 + j];
        EXPECT_EQ(c[i * 8 + j], expected) << i << " " << j;
      }
  }
}

} // namespace
} // namespace llmrt
