// SPDX-License-Identifier: Apache-2.0
// fillNormal() against normal() of Philox.h, which is written with the C
// library.
#include "runtime/executor/RandomNormal.h"
#include "runtime/base/Philox.h"

#include <cmath>
#include <cstdlib>
#include <gtest/gtest.h>
#include <vector>

namespace llmrt {
namespace {

TEST(RandomNormal, IsTheStreamOfPhilox) {
  constexpr int64_t kElements = 1000000;
  uint64_t stream = philoxStream("layers.0.attn.q");
  std::vector<float> all(kElements);
  fillNormal(7, stream, 0, kElements, 1.0f, all.data());
  int64_t numDifferent = 0;
  for (int64_t i = 0; i < kElements; ++i) {
    float wanted = normal(7, stream, i);
    numDifferent += all[i] != wanted;
    // One unit in the last place: 1e-15 of error can only move a tie.
    ASSERT_LE(std::abs(all[i] - wanted),
              std::abs(std::nextafterf(wanted, 10.0f) - wanted) * 1.01f)
        << i;
  }
  // The chance to be that near a tie is about 1e-15 / 2^-24 * 2 = 3e-8.
  EXPECT_LE(numDifferent, 2);
}

TEST(RandomNormal, DoesNotDependOnTheCut) {
  uint64_t stream = philoxStream("x");
  int64_t far = (int64_t{1} << 40) - 700;
  for (int64_t base : {int64_t{0}, far}) {
    std::vector<float> all(3000);
    fillNormal(~uint64_t{0}, stream, base, all.size(), 0.02f, all.data());
    for (int64_t begin : {0, 1, 511, 512, 513, 1234})
      for (int64_t count : {1, 2, 511, 512, 1025}) {
        std::vector<float> part(count);
        fillNormal(~uint64_t{0}, stream, base + begin, count, 0.02f,
                   part.data());
        for (int64_t i = 0; i < count; ++i)
          ASSERT_EQ(part[i], all[begin + i]) << begin << " " << i;
      }
    EXPECT_NEAR(all[17], 0.02f * normal(~uint64_t{0}, stream, base + 17), 1e-8);
  }
}

TEST(RandomNormal, HasTheMomentsOfANormal) {
  std::vector<float> all(1 << 20);
  fillNormal(3, 4, 0, all.size(), 1.0f, all.data());
  double sum = 0, squares = 0, fourths = 0;
  for (double x : all) {
    sum += x;
    squares += x * x;
    fourths += x * x * x * x;
  }
  // Five standard errors: 1, sqrt(2), sqrt(96), over 2^10.
  EXPECT_NEAR(sum / all.size(), 0.0, 5.0 / 1024);
  EXPECT_NEAR(squares / all.size(), 1.0, 5 * 1.4143 / 1024);
  EXPECT_NEAR(fourths / all.size(), 3.0, 5 * 9.8 / 1024);
}

} // namespace
} // namespace llmrt
