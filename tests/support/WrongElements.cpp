// SPDX-License-Identifier: Apache-2.0
#include "tests/support/WrongElements.h"

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <numeric>
#include <vector>

namespace llmrt::test {
namespace {

constexpr double kFarOfRms = 1e-2;
constexpr size_t kNumShown = 8;

bool isNanOnce(float a, float b) { return std::isnan(a) != std::isnan(b); }

/// NaN in both counts as the same: it is how tests mark what nobody writes.
double difference(float a, float b) {
  if (std::isnan(a) || std::isnan(b) || a == b)
    return 0;
  return std::abs(double{a} - b);
}

double rootMeanSquare(absl::Span<const float> values) {
  double sum = 0;
  int64_t count = 0;
  for (float value : values)
    if (std::isfinite(value)) {
      sum += double{value} * value;
      ++count;
    }
  return count == 0 ? 0 : std::sqrt(sum / static_cast<double>(count));
}

std::string placeOf(size_t index, int64_t width) {
  if (width == 0)
    return absl::StrCat(index);
  return absl::StrCat("row ", index / width, " column ", index % width);
}

/// The places, and what is regular about them.
std::string describePlaces(const std::vector<size_t>& places, int64_t width) {
  std::string text = absl::StrCat("first ", placeOf(places.front(), width),
                                  ", last ", placeOf(places.back(), width));
  size_t step = 0;
  for (size_t place : places)
    step = std::gcd(step, place - places.front());
  if (step > 1)
    absl::StrAppend(&text, ", distances are multiples of ", step);
  return text;
}

} // namespace

std::string describeWrong(absl::Span<const float> actual,
                          absl::Span<const float> expected, int64_t width) {
  if (actual.size() != expected.size())
    return absl::StrCat(actual.size(), " elements instead of ",
                        expected.size());
  double largest = 0;
  int64_t numLost = 0, numFound = 0;
  for (size_t i = 0; i < actual.size(); ++i) {
    largest = std::max(largest, difference(actual[i], expected[i]));
    numLost += std::isnan(actual[i]) && !std::isnan(expected[i]);
    numFound += !std::isnan(actual[i]) && std::isnan(expected[i]);
  }
  double far = kFarOfRms * rootMeanSquare(expected);
  if (largest <= far)
    far = largest / 2;
  std::vector<size_t> places;
  for (size_t i = 0; i < actual.size(); ++i)
    if (isNanOnce(actual[i], expected[i]) ||
        difference(actual[i], expected[i]) > far)
      places.push_back(i);
  if (places.empty())
    return "";
  std::string text = absl::StrFormat(
      "%d of %d elements are off by more than %.3g, at most by %.3g; %s",
      places.size(), actual.size(), far, largest,
      describePlaces(places, width));
  if (numLost)
    absl::StrAppend(&text, "; ", numLost, " NaN that should be numbers");
  if (numFound)
    absl::StrAppend(&text, "; ", numFound, " that should not be written");
  if (std::all_of(places.begin(), places.end(),
                  [&](size_t i) { return actual[i] == 0; }))
    absl::StrAppend(&text, "; all of them are 0");
  for (size_t i = 0; i < std::min(places.size(), kNumShown); ++i)
    absl::StrAppendFormat(&text, "%s [%s] %.7g for %.7g", i ? "," : ":",
                          placeOf(places[i], width), actual[places[i]],
                          expected[places[i]]);
  return text;
}

std::string describeOtherBits(absl::Span<const uint8_t> first,
                              absl::Span<const uint8_t> second) {
  size_t count = 0, begin = 0, last = 0;
  for (size_t i = 0; i < first.size(); ++i)
    if (first[i] != second[i]) {
      if (count++ == 0)
        begin = i;
      last = i;
    }
  if (count == 0)
    return "";
  std::string text = absl::StrFormat("%d of %d bytes, first %d, last %d", count,
                                     first.size(), begin, last);
  const size_t word = begin / sizeof(float) * sizeof(float);
  if (word + sizeof(float) <= first.size()) {
    float a = 0, b = 0;
    std::memcpy(&a, first.data() + word, sizeof a);
    std::memcpy(&b, second.data() + word, sizeof b);
    absl::StrAppendFormat(&text, "; as floats there %.9g and %.9g", a, b);
  }
  return text;
}

} // namespace llmrt::test
