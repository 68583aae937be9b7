// SPDX-License-Identifier: Apache-2.0
// Bit-equality with gguf.quants.dequantize (Golden.inc) and, for the small
// floating-point types, with values computed in double for every bit pattern.
#include "runtime/io/Dequantize.h"

#include "tests/runtime/io/Golden.h"

#include <cmath>
#include <gmock/gmock.h>

namespace llmrt {
namespace {

using ::testing::HasSubstr;

uint32_t bitsOf(float value) { return std::bit_cast<uint32_t>(value); }

std::optional<SourceType> typeNamed(absl::string_view name) {
  for (uint32_t number = 0; number < 64; ++number)
    if (std::optional<SourceType> type = findGgufType(number);
        type && sourceTypeInfo(*type).name == name)
      return type;
  return std::nullopt;
}

SourceTensor tensorOf(SourceType type, absl::string_view bytes) {
  SourceTensor tensor;
  tensor.name.push_back('t'); // gcc 12 warns wrongly about "t"
  tensor.type = type;
  const SourceTypeInfo& info = sourceTypeInfo(type);
  tensor.shape = {static_cast<int64_t>(bytes.size()) / info.blockBytes *
                  info.blockElements};
  tensor.bytes = testing::bytesOf(bytes);
  return tensor;
}

TEST(DequantizeTest, EqualsTheReferenceInEveryBit) {
  std::vector<testing::Golden> blocks =
      testing::readGolden(testing::GoldenKind::Blocks);
  ASSERT_EQ(blocks.size(), 8u);
  for (const testing::Golden& golden : blocks) {
    SCOPED_TRACE(golden.name);
    std::optional<SourceType> type = typeNamed(golden.name);
    ASSERT_TRUE(type);
    SourceTensor tensor = tensorOf(*type, golden.input);
    ASSERT_EQ(tensor.numElements(), static_cast<int64_t>(golden.values.size()));
    std::vector<float> values(golden.values.size());
    ASSERT_TRUE(
        readElements(tensor, 0, tensor.numElements(), values.data()).ok());
    for (size_t i = 0; i < values.size(); ++i)
      ASSERT_EQ(bitsOf(values[i]), bitsOf(golden.values[i])) << i;
  }
}

// Every begin and length, across block borders, with a guard element on both
// sides.
TEST(DequantizeTest, AnyRunGivesTheSameElements) {
  for (const testing::Golden& golden :
       testing::readGolden(testing::GoldenKind::Blocks)) {
    SCOPED_TRACE(golden.name);
    SourceTensor tensor = tensorOf(*typeNamed(golden.name), golden.input);
    int64_t numElements = tensor.numElements();
    for (int64_t begin = 0; begin <= numElements; begin += 7)
      for (int64_t count = 0; count <= numElements - begin; count += 13) {
        std::vector<float> run(static_cast<size_t>(count) + 2, 12345.0f);
        ASSERT_TRUE(readElements(tensor, begin, count, run.data() + 1).ok());
        ASSERT_EQ(run.front(), 12345.0f);
        ASSERT_EQ(run.back(), 12345.0f);
        for (int64_t i = 0; i < count; ++i)
          ASSERT_EQ(bitsOf(run[i + 1]), bitsOf(golden.values[begin + i]));
      }
  }
}

TEST(DequantizeTest, F16IsExactForEveryPattern) {
  for (uint32_t bits = 0; bits < 0x10000; ++bits) {
    float value = floatFromF16(static_cast<uint16_t>(bits));
    int exponent = (bits >> 10) & 31;
    double mantissa = bits & 1023;
    double expected =
        exponent == 31
            ? (mantissa == 0 ? INFINITY : NAN)
            : (exponent == 0 ? std::ldexp(mantissa, -24)
                             : std::ldexp(1024 + mantissa, exponent - 25));
    if (std::isnan(expected))
      EXPECT_TRUE(std::isnan(value)) << bits;
    else
      EXPECT_EQ(value,
                static_cast<float>(expected) * (bits & 0x8000 ? -1.0f : 1.0f))
          << bits;
    EXPECT_EQ(std::signbit(value), (bits & 0x8000) != 0) << bits;
  }
}

TEST(DequantizeTest, FloatTypesOfOddAlignment) {
  std::string bytes;
  bytes.push_back('x'); // everything is one byte off
  for (float value : {1.5f, -0.25f, 3e38f})
    bytes.append(reinterpret_cast<const char*>(&value), 4);
  absl::string_view odd = absl::string_view(bytes).substr(1);
  std::vector<float> values(6);
  ASSERT_TRUE(
      readElements(tensorOf(SourceType::F32, odd), 1, 2, values.data()).ok());
  EXPECT_EQ(values[0], -0.25f);
  EXPECT_EQ(values[1], 3e38f);
  ASSERT_TRUE(
      readElements(tensorOf(SourceType::BF16, odd), 0, 6, values.data()).ok());
  EXPECT_EQ(values[1], 1.5f);
  EXPECT_EQ(values[3], -0.25f);
  ASSERT_TRUE(
      readElements(tensorOf(SourceType::F16, odd), 0, 6, values.data()).ok());
  EXPECT_EQ(values[1], floatFromF16(0x3fc0));

  double wide = 0.1;
  absl::string_view wideBytes(reinterpret_cast<const char*>(&wide), 8);
  ASSERT_TRUE(
      readElements(tensorOf(SourceType::F64, wideBytes), 0, 1, values.data())
          .ok());
  EXPECT_EQ(values[0], 0.1f);
}

// The nearest of the two neighbours, ties to the even one, computed in double.
TEST(DequantizeTest, Bf16RoundsToNearestEven) {
  EXPECT_EQ(bf16FromFloat(NAN), 0x7fc0);
  EXPECT_EQ(bf16FromFloat(-NAN), 0x7fc0);
  EXPECT_EQ(bf16FromFloat(INFINITY), 0x7f80);
  EXPECT_EQ(bf16FromFloat(-INFINITY), 0xff80);
  EXPECT_EQ(bf16FromFloat(3.4028235e38f), 0x7f80);
  std::vector<float> inputs;
  for (uint32_t high = 0; high < 0x7f80; high += 3)
    for (uint32_t low : {0u, 1u, 0x7fffu, 0x8000u, 0x8001u, 0xffffu})
      inputs.push_back(std::bit_cast<float>((high << 16) | low));
  std::vector<uint16_t> outputs(inputs.size());
  convertToBf16(inputs.data(), static_cast<int64_t>(inputs.size()),
                outputs.data());
  for (size_t i = 0; i < inputs.size(); ++i) {
    uint16_t below = static_cast<uint16_t>(bitsOf(inputs[i]) >> 16);
    double down = inputs[i] - static_cast<double>(floatFromBf16(below));
    double up = below == 0x7f7f
                    ? std::ldexp(1.0, 128) - inputs[i]
                    : floatFromBf16(below + 1) - static_cast<double>(inputs[i]);
    uint16_t expected = below;
    if (up < down || (up == down && below % 2 == 1))
      ++expected;
    ASSERT_EQ(outputs[i], expected) << i;
    ASSERT_EQ(bf16FromFloat(-inputs[i]), expected | 0x8000) << i;
  }
}

TEST(DequantizeTest, RefusesWhatItCannotRead) {
  std::string bytes(256, '\0');
  float value = 0;
  absl::Status status =
      readElements(tensorOf(SourceType::IQ4_NL, bytes), 0, 1, &value);
  EXPECT_EQ(status.code(), absl::StatusCode::kUnimplemented);
  EXPECT_THAT(status.message(),
              HasSubstr("LLMC-E0307: tensor t is stored as IQ4_NL"));
  EXPECT_FALSE(canReadElements(SourceType::I64));
  SourceTensor tensor = tensorOf(SourceType::F32, bytes);
  EXPECT_TRUE(readElements(tensor, 64, 0, &value).ok());
  EXPECT_TRUE(absl::IsOutOfRange(readElements(tensor, 64, 1, &value)));
  EXPECT_TRUE(absl::IsOutOfRange(readElements(tensor, -1, 1, &value)));
  EXPECT_TRUE(absl::IsOutOfRange(readElements(tensor, 1, INT64_MAX, &value)));
}

} // namespace
} // namespace llmrt
