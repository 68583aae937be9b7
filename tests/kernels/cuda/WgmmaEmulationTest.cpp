// SPDX-License-Identifier: Apache-2.0
// The emulation of wgmma: every form of descriptor that kernels use against
// plain products of matrices that lie where the figures of the PTX ISA say; and
// that it reports each thing that a GPU leaves undefined.
#include "tests/support/cuda/CudaEmulation.h"

#include "runtime/kernels/cuda/Wgmma.cuh"
#include "tests/kernels/cuda/CudaPages.h"

#include "gmock/gmock.h"
#include "gtest/gtest-spi.h"
#include "gtest/gtest.h"

#include <random>

namespace llmrt {
namespace {

using emulation::runGrid;
using ::testing::HasSubstr;

constexpr int kPanel = 64 * 128; // bytes of 64 rows

using testing::kPieces;

uint16_t narrow(float x) { return static_cast<uint16_t>(cuda::packBf16(x, 0)); }

/// Small whole numbers, so that sums are exact.
std::vector<float> randomMatrix(int rows, int cols, int seed) {
  std::mt19937 bits(seed);
  std::vector<float> m(rows * cols);
  for (float& v : m)
    v = static_cast<float>(static_cast<int>(bits() % 9) - 4);
  return m;
}

/// The 16 bytes at place `place` of row `row` of panel `panel`.
uint4 placed(const std::vector<float>& m, int cols, int panel, int row,
             int place) {
  uint16_t eight[8];
  for (int i = 0; i < 8; ++i)
    eight[i] =
        narrow(m[row * cols + panel * 64 + kPieces[row % 8][place] * 8 + i]);
  uint4 raw;
  std::memcpy(&raw, eight, 16);
  return raw;
}

/// Threads of a warpgroup write a matrix of 64-element panels to `to`.
void writePanels(const std::vector<float>& m, int rows, int cols, uint8_t* to) {
  for (int e = threadIdx.x; e < rows * cols / 8; e += 128) {
    const int panel = e / 8 / rows, row = e / 8 % rows, place = e % 8;
    cuda::storeShared16(to + panel * rows * 128 + row * 128 + place * 16,
                        placed(m, cols, panel, row, place));
  }
}

/// What a warpgroup's threads hold, as a matrix.
template <int kParts>
void putSums(const float (&sums)[kParts][4], int cols, int firstCol,
             std::vector<float>& out) {
  const int row = threadIdx.x / 32 * 16 + threadIdx.x % 32 / 4;
  for (int j = 0; j < kParts; ++j)
    for (int i = 0; i < 4; ++i)
      out[(row + i / 2 * 8) * cols + firstCol + j * 8 + threadIdx.x % 4 * 2 +
          i % 2] = sums[j][i];
}

// The bits that public kernels have for panels of 128 bytes: swizzle 1, stride
// 64 units, leading 1.
TEST(WgmmaEmulation, descriptorsHaveTheBitsOfTheIsa) {
  EXPECT_EQ(cuda::panelDescriptor(1024), 0x4000004000010040u);
  EXPECT_EQ(cuda::panelDescriptor(0x12C00, kPanel), 0x40000040020012C0u);
  EXPECT_EQ(cuda::behind(cuda::panelDescriptor(1024), 2048),
            0x40000040000100C0u);
  EXPECT_EQ(cuda::pieceOffset(64, 0, 7), 112);
  EXPECT_EQ(cuda::pieceOffset(64, 9, 10), kPanel + 9 * 128 + 3 * 16);
}

// Queries times keys: depth 128, in two panels.
TEST(WgmmaEmulation, multipliesRowsOfDepth) {
  const std::vector<float> a = randomMatrix(64, 128, 1);
  const std::vector<float> b = randomMatrix(64, 128, 2);
  std::vector<float> out(64 * 64);
  EXPECT_EQ(runGrid({.threads = 128, .sharedBytes = 4 * kPanel + 1024},
                    [&] {
                      uint8_t* shared = cuda::sharedPanels();
                      writePanels(a, 64, 128, shared);
                      writePanels(b, 64, 128, shared + 2 * kPanel);
                      cuda::publishShared();
                      __syncthreads();
                      const uint32_t at = cuda::sharedAddress(shared);
                      float sums[8][4] = {};
                      cuda::beginProducts();
                      for (int k = 0; k < 128; k += 16) {
                        const int offset = k / 64 * kPanel + k % 64 * 2;
                        cuda::multiplyShared(
                            sums, cuda::panelDescriptor(at + offset),
                            cuda::behind(cuda::panelDescriptor(at + 2 * kPanel),
                                         offset),
                            k > 0);
                      }
                      cuda::endProducts();
                      cuda::waitProducts<0>();
                      putSums(sums, 64, 0, out);
                    }),
            "");
  for (int i = 0; i < 64; ++i)
    for (int j = 0; j < 64; ++j) {
      float expected = 0;
      for (int k = 0; k < 128; ++k)
        expected += a[i * 128 + k] * b[j * 128 + k];
      ASSERT_EQ(out[i * 64 + j], expected) << i << " " << j;
    }
}

/// Weights in registers times values of `kCols` columns, which are added to
/// ones, by products of kWidth columns.
template <int kCols, int kWidth>
void expectProductOfRegisters() {
  SCOPED_TRACE(kCols);
  const std::vector<float> a = randomMatrix(64, 64, 3);
  const std::vector<float> b = randomMatrix(64, kCols, 4);
  std::vector<float> out(64 * kCols);
  EXPECT_EQ(runGrid({.threads = 128, .sharedBytes = kCols * 128 + 1024},
                    [&] {
                      uint8_t* shared = cuda::sharedPanels();
                      writePanels(b, 64, kCols, shared);
                      cuda::publishShared();
                      __syncthreads();
                      const int row =
                          threadIdx.x / 32 * 16 + threadIdx.x % 32 / 4;
                      float sums[kCols / kWidth][kWidth / 8][4];
                      for (auto& chunk : sums)
                        for (auto& part : chunk)
                          for (float& sum : part)
                            sum = 1;
                      uint32_t weights[4][4];
                      for (int t = 0; t < 4; ++t)
                        for (int i = 0; i < 4; ++i) {
                          const float* from = a.data() +
                                              (row + i % 2 * 8) * 64 + t * 16 +
                                              threadIdx.x % 4 * 2 + i / 2 * 8;
                          weights[t][i] = cuda::packBf16(from[0], from[1]);
                        }
                      cuda::beginProducts();
                      for (int t = 0; t < 4; ++t)
                        for (int c = 0; c < kCols / kWidth; ++c)
                          cuda::multiplyRegisters(
                              sums[c], weights[t],
                              cuda::panelDescriptor(
                                  cuda::sharedAddress(shared) + t * 2048 +
                                      c * kWidth / 64 * kPanel,
                                  kPanel));
                      cuda::endProducts();
                      cuda::waitProducts<0>();
                      for (int c = 0; c < kCols / kWidth; ++c)
                        putSums(sums[c], kCols, c * kWidth, out);
                    }),
            "");
  for (int i = 0; i < 64; ++i)
    for (int j = 0; j < kCols; ++j) {
      float expected = 1;
      for (int k = 0; k < 64; ++k)
        expected += a[i * 64 + k] * b[k * kCols + j];
      ASSERT_EQ(out[i * kCols + j], expected) << i << " " << j;
    }
}

TEST(WgmmaEmulation, multipliesRegistersAndRowsOfOutputs) {
  expectProductOfRegisters<64, 64>();
  expectProductOfRegisters<128, 128>();
  expectProductOfRegisters<256, 128>();
}

/// What a thread does wrong.
enum class Mistake {
  None,
  NoFence,
  NoWait,
  EarlyUse,
  NoPublish,
  NoBarrier,
  PlainStore,
  Overwrite,
  NoCopyWait,
  OtherDescriptor,
  OtherSwizzle,
  BesideMemory
};

std::string productWith(Mistake mistake) {
  static const std::vector<float> ones(64 * 64, 1.0f);
  return runGrid({.threads = 128, .sharedBytes = 2 * kPanel + 1024}, [mistake] {
    alignas(16) static const uint16_t kOnes[8] = {
        0x3F80, 0x3F80, 0x3F80, 0x3F80, 0x3F80, 0x3F80, 0x3F80, 0x3F80};
    uint8_t* shared = cuda::sharedPanels();
    writePanels(ones, 64, 64, shared);
    uint8_t* last = shared + kPanel - 16;
    if (mistake == Mistake::PlainStore && threadIdx.x == 0)
      *(last + 16) = 0; // the next panel is read below
    if (mistake == Mistake::NoCopyWait && threadIdx.x == 127) {
      cuda::copyAsync16(last, kOnes, true);
      cuda::endCopies();
    }
    if (mistake != Mistake::NoPublish)
      cuda::publishShared();
    if (mistake != Mistake::NoBarrier)
      __syncthreads();
    uint64_t b = cuda::panelDescriptor(cuda::sharedAddress(shared));
    if (mistake == Mistake::PlainStore)
      b = cuda::behind(b, kPanel);
    if (mistake == Mistake::BesideMemory)
      b = cuda::behind(b, 3 * kPanel);
    if (mistake == Mistake::OtherDescriptor && threadIdx.x == 77)
      b = cuda::behind(b, 32);
    if (mistake == Mistake::OtherSwizzle)
      b ^= uint64_t{3} << 62;
    float sums[8][4] = {};
    if (mistake != Mistake::NoFence)
      cuda::beginProducts();
    cuda::multiplyShared(sums, b, b, false);
    cuda::multiplyShared(sums, cuda::behind(b, 96), cuda::behind(b, 96), true);
    cuda::endProducts();
    if (mistake == Mistake::EarlyUse)
      sums[3][2] = 0;
    if (mistake == Mistake::Overwrite && threadIdx.x == 0)
      cuda::storeShared16(last, make_uint4(0, 0, 0, 0));
    if (mistake != Mistake::NoWait)
      cuda::waitProducts<0>();
    if (mistake == Mistake::NoCopyWait)
      cuda::waitCopies<0>();
  });
}

TEST(WgmmaEmulation, reportsWhatIsUndefined) {
  EXPECT_EQ(productWith(Mistake::None), "");
  EXPECT_THAT(productWith(Mistake::NoFence), HasSubstr("beginProducts"));
  EXPECT_THAT(productWith(Mistake::NoWait), HasSubstr("under way"));
  EXPECT_THAT(productWith(Mistake::EarlyUse), HasSubstr("sums were touched"));
  EXPECT_THAT(productWith(Mistake::NoPublish), HasSubstr("not published"));
  EXPECT_THAT(productWith(Mistake::NoBarrier), HasSubstr("without a barrier"));
  EXPECT_THAT(productWith(Mistake::PlainStore), HasSubstr("nobody wrote"));
  EXPECT_THAT(productWith(Mistake::Overwrite), HasSubstr("is written while"));
  EXPECT_THAT(productWith(Mistake::NoCopyWait), HasSubstr("not published"));
  EXPECT_THAT(productWith(Mistake::OtherDescriptor),
              HasSubstr("different products"));
  EXPECT_THAT(productWith(Mistake::OtherSwizzle), HasSubstr("swizzle"));
  EXPECT_THAT(productWith(Mistake::BesideMemory), HasSubstr("beside shared"));
}

// A thread may work with sums that are done while later ones are under way.
TEST(WgmmaEmulation, waitsForAllButTheLastGroups) {
  const std::vector<float> ones(64 * 64, 1.0f);
  EXPECT_EQ(runGrid({.threads = 128, .sharedBytes = kPanel + 1024},
                    [&] {
                      uint8_t* shared = cuda::sharedPanels();
                      writePanels(ones, 64, 64, shared);
                      cuda::publishShared();
                      __syncthreads();
                      const uint64_t d =
                          cuda::panelDescriptor(cuda::sharedAddress(shared));
                      float first[8][4] = {}, second[8][4] = {};
                      cuda::beginProducts();
                      cuda::multiplyShared(first, d, d, false);
                      cuda::endProducts();
                      cuda::multiplyShared(second, d, d, false);
                      cuda::multiplyShared(second, d, d, true);
                      cuda::endProducts();
                      cuda::waitProducts<1>();
                      EXPECT_EQ(first[7][3], 16.0f);
                      EXPECT_TRUE(std::isnan(second[7][3]));
                      cuda::waitProducts<0>();
                      EXPECT_EQ(second[7][3], 32.0f);
                    }),
            "");
}

// Copies are zeros where nothing is to be copied, and there only behind the
// wait.
TEST(WgmmaEmulation, copiesAsynchronously) {
  alignas(16) const float from[4] = {1, 2, 3, 4};
  EXPECT_EQ(runGrid({.threads = 1, .sharedBytes = 32},
                    [&] {
                      auto* to = reinterpret_cast<float*>(cuda::sharedMemory());
                      cuda::copyAsync16(to, from, true);
                      cuda::endCopies();
                      cuda::copyAsync16(to + 4, from, false);
                      cuda::endCopies();
                      EXPECT_TRUE(std::isnan(to[3]));
                      cuda::waitCopies<1>();
                      EXPECT_EQ(to[3], 4.0f);
                      EXPECT_TRUE(std::isnan(to[4]));
                      cuda::waitCopies<0>();
                      EXPECT_EQ(to[4], 0.0f);
                    }),
            "");
}

/// What a block does wrong with bulk copies.
enum class BulkMistake {
  None,
  NoInit,
  NoInitBarrier,
  NoWait,
  NoBarrier,
  OtherArrives,
  NobodyArrives,
  NobodyWaits,
  Twice,
  NotPublished,
  OverProduct,
  OddBytes
};

/// A warpgroup copies a panel of ones, in two halves, and then one of twos to
/// the same place, and multiplies both with themselves.
std::string bulkCopyWith(BulkMistake mistake, std::vector<float>* sumsOut) {
  alignas(16) static uint16_t ones[64 * 64], twos[64 * 64];
  std::fill(std::begin(ones), std::end(ones), 0x3F80);
  std::fill(std::begin(twos), std::end(twos), 0x4000);
  return runGrid({.threads = 128, .sharedBytes = kPanel + 1024 + 32}, [=] {
    uint8_t* shared = cuda::sharedPanels();
    auto* barrier = reinterpret_cast<uint64_t*>(shared + kPanel);
    // Any thread may be the one that copies, and others may wait before it.
    const bool isCopier = threadIdx.x == 77;
    if (isCopier && mistake != BulkMistake::NoInit) {
      cuda::initBarrier(barrier);
      cuda::publishShared();
    }
    if (mistake == BulkMistake::NotPublished)
      cuda::storeShared16(shared + threadIdx.x * 16, make_uint4(0, 0, 0, 0));
    if (mistake != BulkMistake::NoInitBarrier)
      __syncthreads();
    auto copy = [&](const uint16_t* from) {
      if (!isCopier)
        return;
      const int half = mistake == BulkMistake::OddBytes ? 100 : kPanel / 2;
      cuda::copyBulk(shared, from, half, barrier);
      cuda::copyBulk(shared + kPanel / 2, from + 32 * 64, kPanel / 2, barrier);
      if (mistake == BulkMistake::Twice)
        cuda::copyBulk(shared, from, kPanel / 2, barrier);
    };
    auto end = [&] {
      if (mistake != BulkMistake::NobodyArrives &&
          threadIdx.x == (mistake == BulkMistake::OtherArrives ? 100 : 77))
        cuda::arrive(barrier);
    };
    const uint64_t d = cuda::panelDescriptor(cuda::sharedAddress(shared));
    float sums[8][4] = {};
    copy(ones);
    end();
    if (mistake == BulkMistake::NobodyWaits)
      return;
    if (mistake != BulkMistake::NoWait)
      cuda::waitBarrier(barrier, 0);
    if (mistake != BulkMistake::NoBarrier)
      __syncthreads();
    cuda::beginProducts();
    cuda::multiplyShared(sums, d, d, false);
    cuda::endProducts();
    if (mistake == BulkMistake::OverProduct)
      copy(twos);
    cuda::waitProducts<0>();
    EXPECT_EQ(sums[7][3], 16.0f);
    __syncthreads();
    copy(twos);
    end();
    cuda::waitBarrier(barrier, 1);
    __syncthreads();
    cuda::beginProducts();
    cuda::multiplyShared(sums, d, d, true);
    cuda::endProducts();
    cuda::waitProducts<0>();
    if (sumsOut)
      (*sumsOut)[threadIdx.x] = sums[threadIdx.x % 8][threadIdx.x % 4];
  });
}

TEST(WgmmaEmulation, copiesInBulk) {
  std::vector<float> sums(128);
  EXPECT_EQ(bulkCopyWith(BulkMistake::None, &sums), "");
  for (float sum : sums)
    EXPECT_EQ(sum, 16.0f + 64.0f);
}

TEST(WgmmaEmulation, reportsWrongBulkCopies) {
  auto reportOf = [](BulkMistake mistake) {
    std::string report;
    // What is wrong gives other sums too.
    ::testing::TestPartResultArray ignored;
    ::testing::ScopedFakeTestPartResultReporter ignoring(&ignored);
    report = bulkCopyWith(mistake, nullptr);
    return report;
  };
  EXPECT_THAT(reportOf(BulkMistake::NoInit), HasSubstr("nobody made"));
  EXPECT_THAT(reportOf(BulkMistake::NoInitBarrier),
              HasSubstr("a barrier is used"));
  EXPECT_THAT(reportOf(BulkMistake::NoWait), HasSubstr("is under way"));
  EXPECT_THAT(reportOf(BulkMistake::NoBarrier),
              HasSubstr("without a barrier behind its writer"));
  EXPECT_THAT(reportOf(BulkMistake::OtherArrives),
              HasSubstr("another thread arrives"));
  EXPECT_THAT(reportOf(BulkMistake::NobodyArrives), HasSubstr("wait for ever"));
  EXPECT_THAT(reportOf(BulkMistake::NobodyWaits),
              HasSubstr("ended with bulk copies"));
  EXPECT_THAT(reportOf(BulkMistake::Twice), HasSubstr("another copy"));
  EXPECT_THAT(reportOf(BulkMistake::NotPublished), HasSubstr("not published"));
  EXPECT_THAT(reportOf(BulkMistake::OverProduct),
              HasSubstr("where products read"));
  EXPECT_THAT(reportOf(BulkMistake::OddBytes), HasSubstr("whole 16 bytes"));
}

} // namespace
} // namespace llmrt
