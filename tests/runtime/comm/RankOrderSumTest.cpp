// SPDX-License-Identifier: Apache-2.0
// What the conformance suite does not reach: values at the edges of bf16, and
// that the position of an element in its vector changes nothing.
#include "runtime/comm/RankOrderSum.h"

#include <bit>
#include <gtest/gtest.h>
#include <limits>
#include <vector>

namespace llmrt {
namespace {

uint16_t addBf16(std::vector<uint16_t> values) {
  std::vector<const void*> blocks;
  for (uint16_t& value : values)
    blocks.push_back(&value);
  uint16_t sum = 0;
  addInRankOrder(&sum, blocks, 1, DType::BF16);
  return sum;
}

TEST(RankOrderSum, EdgesOfBf16) {
  EXPECT_EQ(addBf16({0x3f80, 0x3b80}), 0x3f80) << "1 + 2^-8: tie to even";
  EXPECT_EQ(addBf16({0x3f81, 0x3b80}), 0x3f82) << "odd + half: tie to even";
  EXPECT_EQ(addBf16({0x3f80, 0x3b80, 0x3b80}), 0x3f81)
      << "the sum is rounded once, not after each summand";
  EXPECT_EQ(addBf16({0x7f7f, 0x7f7f}), 0x7f80) << "overflow is infinity";
  EXPECT_EQ(addBf16({0x8000, 0x8000}), 0x8000) << "-0 + -0 = -0";
  uint16_t nan = addBf16({0x7f80, 0xff80});
  EXPECT_EQ(nan & 0x7f80, 0x7f80);
  EXPECT_NE(nan & 0x007f, 0) << "inf - inf stays a NaN";
}

TEST(RankOrderSum, BodyAndTailAgree) {
  const float tiny = std::numeric_limits<float>::denorm_min();
  for (int numRanks : {2, 3, 5}) {
    for (int64_t n = 1; n <= 67; ++n) {
      std::vector<std::vector<float>> data(numRanks, std::vector<float>(n));
      std::vector<const void*> blocks;
      float expected = 0;
      for (int r = 0; r < numRanks; ++r) {
        float value = r == 1 ? tiny : 0.1f * float(r + 1);
        data[r].assign(n, value);
        expected = r == 0 ? value : expected + value;
        blocks.push_back(data[r].data());
      }
      // In place over the last summand.
      addInRankOrder(data.back().data(), blocks, n, DType::F32);
      for (float sum : data.back())
        ASSERT_EQ(std::bit_cast<uint32_t>(sum),
                  std::bit_cast<uint32_t>(expected));
    }
  }
}

} // namespace
} // namespace llmrt
