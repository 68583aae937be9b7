// SPDX-License-Identifier: Apache-2.0
// Descriptions of wrong results must be right themselves.
#include "tests/support/WrongElements.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <vector>

namespace llmrt::test {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;

TEST(WrongElements, EveryEighthColumn) {
  const std::vector<float> expected(64, 1);
  std::vector<float> actual = expected;
  for (size_t i = 5; i < actual.size(); i += 8)
    actual[i] = 3;
  EXPECT_EQ(describeWrong(expected, expected), "");
  const std::string text = describeWrong(actual, expected);
  EXPECT_THAT(text, StartsWith("8 of 64 elements are off by more than 0.01, "
                               "at most by 2; first 5, last 61, distances are "
                               "multiples of 8: [5] 3 for 1, [13] 3 for 1"));
  EXPECT_THAT(describeWrong(actual, expected, 16),
              HasSubstr("first row 0 column 5, last row 3 column 13"));
}

TEST(WrongElements, SmallErrorsEverywhereShowTheLargest) {
  const std::vector<float> expected(4, 1);
  const std::vector<float> actual = {1.0001f, 1, 1.001f, 1};
  EXPECT_THAT(describeWrong(actual, expected),
              StartsWith("1 of 4 elements are off by more than 0.0005"));
}

TEST(WrongElements, WhatWasNotWrittenAndWhatShouldNotBe) {
  const std::vector<float> expected = {1, 2, NAN, NAN};
  EXPECT_EQ(describeWrong(expected, expected), "");
  const std::string text = describeWrong({1, NAN, 7, NAN}, expected);
  EXPECT_THAT(text, HasSubstr("1 NaN that should be numbers"));
  EXPECT_THAT(text, HasSubstr("1 that should not be written"));
  EXPECT_THAT(text, Not(HasSubstr("are 0")));
  EXPECT_THAT(describeWrong({0, 0, NAN, NAN}, expected),
              HasSubstr("all of them are 0"));
  EXPECT_THAT(describeWrong({1, INFINITY, NAN, NAN}, expected),
              StartsWith("1 of 4 elements"));
  EXPECT_EQ(describeWrong({1}, expected), "1 elements instead of 4");
}

TEST(WrongElements, OtherBits) {
  const std::vector<uint8_t> first(12, 0);
  std::vector<uint8_t> second = first;
  EXPECT_EQ(describeOtherBits(first, second), "");
  second[7] = 0x40; // 2.0f of the second word
  second[9] = 1;
  EXPECT_EQ(describeOtherBits(first, second),
            "2 of 12 bytes, first 7, last 9; as floats there 0 and 2");
}

} // namespace
} // namespace llmrt::test
