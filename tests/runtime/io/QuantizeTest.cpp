// SPDX-License-Identifier: Apache-2.0
// Blocks against those of gguf.quants.quantize (Golden.inc), bit for bit;
// halves against the exact neighbours of every number between two.
#include "runtime/io/Quantize.h"

#include "runtime/io/Dequantize.h"
#include "tests/runtime/io/Golden.h"

#include <cmath>
#include <gtest/gtest.h>

namespace llmrt {
namespace {

struct Blocks {
  std::vector<uint8_t> elements;
  std::vector<uint16_t> factors;

  Blocks(SourceType type, int64_t count)
      : elements(count * quantizedElementBytes(type)), factors(count) {}
};

SourceType typeNamed(const std::string& name) {
  return name == "Q8_0" ? SourceType::Q8_0 : SourceType::Q4_0;
}

TEST(QuantizeTest, EqualsTheReferenceInEveryBit) {
  std::vector<testing::Golden> all =
      testing::readGolden(testing::GoldenKind::Quantized);
  ASSERT_EQ(all.size(), 2u);
  for (const testing::Golden& golden : all) {
    SCOPED_TRACE(golden.name);
    const SourceType type = typeNamed(golden.name);
    const auto count =
        static_cast<int64_t>(golden.values.size()) / kQuantizedElements;
    ASSERT_GT(count, 8);
    Blocks made(type, count), wanted(type, count);
    quantizeBlocks(type, golden.values.data(), count, made.elements.data(),
                   made.factors.data());
    separateBlocks(type, testing::bytesOf(golden.input).data(), count,
                   wanted.elements.data(), wanted.factors.data());
    EXPECT_EQ(made.factors, wanted.factors);
    EXPECT_EQ(made.elements, wanted.elements);
  }
}

// Blocks taken apart are what the reader of the file makes of them.
TEST(QuantizeTest, SeparatesElementsFromFactors) {
  for (const testing::Golden& golden :
       testing::readGolden(testing::GoldenKind::Blocks)) {
    if (golden.name != "Q8_0" && golden.name != "Q4_0")
      continue;
    SCOPED_TRACE(golden.name);
    const SourceType type = typeNamed(golden.name);
    const auto count =
        static_cast<int64_t>(golden.values.size()) / kQuantizedElements;
    Blocks blocks(type, count);
    separateBlocks(type, testing::bytesOf(golden.input).data(), count,
                   blocks.elements.data(), blocks.factors.data());
    for (int64_t i = 0; i < count * kQuantizedElements; ++i) {
      const int64_t block = i / kQuantizedElements, at = i % kQuantizedElements;
      int element;
      if (type == SourceType::Q8_0)
        element = static_cast<int8_t>(blocks.elements[i]);
      else
        element =
            (blocks.elements[block * 16 + at % 16] >> (at / 16 * 4) & 15) - 8;
      EXPECT_EQ(static_cast<float>(element) *
                    floatFromF16(blocks.factors[block]),
                golden.values[i])
          << i;
    }
  }
}

TEST(QuantizeTest, KeepsWhatIsNotFinite) {
  for (SourceType type : {SourceType::Q8_0, SourceType::Q4_0})
    for (float value : {NAN, INFINITY, -INFINITY}) {
      std::vector<float> in(kQuantizedElements, 1.0f);
      in[7] = value;
      Blocks blocks(type, 1);
      quantizeBlocks(type, in.data(), 1, blocks.elements.data(),
                     blocks.factors.data());
      EXPECT_TRUE(std::isnan(floatFromF16(blocks.factors[0])));
    }
}

TEST(QuantizeTest, RoundsToTheNearestHalf) {
  for (uint32_t bits = 0; bits < 0x7C00; ++bits) {
    const float half = floatFromF16(static_cast<uint16_t>(bits));
    // Of infinity: what the next half would be.
    const float next = bits + 1 < 0x7C00
                           ? floatFromF16(static_cast<uint16_t>(bits + 1))
                           : 65536.0f;
    const float middle = half + (next - half) / 2; // exact
    const uint32_t even = bits % 2 == 0 ? bits : bits + 1;
    for (uint32_t sign : {0u, 0x8000u}) {
      auto rounded = [&](float x) {
        return uint32_t{f16FromFloat(sign ? -x : x)};
      };
      ASSERT_EQ(rounded(half), sign | bits);
      ASSERT_EQ(rounded(middle), sign | even);
      ASSERT_EQ(rounded(std::nextafter(middle, 0.0f)), sign | bits);
      ASSERT_EQ(rounded(std::nextafter(middle, 1e9f)), sign | (bits + 1));
    }
  }
  EXPECT_EQ(f16FromFloat(INFINITY), 0x7C00);
  EXPECT_EQ(f16FromFloat(1e30f), 0x7C00);
  EXPECT_TRUE(std::isnan(floatFromF16(f16FromFloat(NAN))));
}

} // namespace
} // namespace llmrt
