// SPDX-License-Identifier: Apache-2.0
// Philox against its published test vectors, normal() against its distribution,
// and sample against plain sorting.
#include "tests/kernels/KernelRun.h"

#include "runtime/base/Philox.h"

#include <algorithm>
#include <map>
#include <numeric>

namespace llmrt {
namespace {

using testing::Guarded;

TEST(Philox, publishedVectors) {
  // Random123 1.14.0, tests/kat_vectors: philox4x32 10.
  EXPECT_EQ(philox4x32({0, 0, 0, 0}, {0, 0}),
            (PhiloxCounter{0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8}));
  EXPECT_EQ(philox4x32({0xFFFFFFFF, 0xFFFFFFFF, 0xFFFFFFFF, 0xFFFFFFFF},
                       {0xFFFFFFFF, 0xFFFFFFFF}),
            (PhiloxCounter{0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD}));
  EXPECT_EQ(philox4x32({0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344},
                       {0xA4093822, 0x299F31D0}),
            (PhiloxCounter{0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1}));
}

TEST(Philox, normalHasItsMoments) {
  const int64_t count = 200000;
  uint64_t stream = philoxStream("model.layers.0.mlp.up_proj.weight");
  double sum = 0, square = 0, fourth = 0, product = 0, previous = 0;
  for (int64_t i = 0; i < count; ++i) {
    double v = normal(42, stream, i);
    sum += v;
    square += v * v;
    fourth += v * v * v * v;
    product += v * previous;
    previous = v;
  }
  // Five standard errors: sqrt(1/n), sqrt(2/n), sqrt(96/n), sqrt(1/n).
  double error = 5 / std::sqrt(double(count));
  EXPECT_NEAR(sum / count, 0, error);
  EXPECT_NEAR(square / count, 1, error * 1.42);
  EXPECT_NEAR(fourth / count, 3, error * 9.8);
  EXPECT_NEAR(product / count, 0, error);
  EXPECT_NE(normal(42, stream, 0), normal(43, stream, 0));
  EXPECT_NE(normal(42, stream, 0), normal(42, stream + 1, 0));
}

struct Request {
  float temperature = 1.0f;
  int32_t topK = 0;
  float topP = 1.0f;
  int64_t seed = 7;
  int32_t sequenceId = 0;
  int32_t position = 0;
};

std::vector<int32_t> sampleRows(const std::vector<float>& logits, int64_t V,
                                const std::vector<Request>& rows,
                                CpuLevel level, int threads = 1) {
  int64_t S = rows.size();
  std::vector<float> temperature, topP;
  std::vector<int32_t> topK, ids, positions;
  std::vector<int64_t> seeds;
  for (const Request& r : rows) {
    temperature.push_back(r.temperature);
    topP.push_back(r.topP);
    topK.push_back(r.topK);
    seeds.push_back(r.seed);
    ids.push_back(r.sequenceId);
    positions.push_back(r.position);
  }
  Guarded<int32_t> out(S);
  SampleArgs a = {S,
                  logits.data(),
                  temperature.data(),
                  topK.data(),
                  topP.data(),
                  seeds.data(),
                  ids.data(),
                  positions.data(),
                  out.data(),
                  V};
  testing::runKernel("sample", level, a, S, V, {threads});
  EXPECT_TRUE(out.guardsHold());
  return out.values();
}

// The definition, by a full sort.
int32_t plainSample(const float* logits, int64_t V, const Request& r) {
  std::vector<int32_t> order(V);
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(),
                   [&](int a, int b) { return logits[a] > logits[b]; });
  if (r.temperature == 0)
    return order[0];
  if (r.topK > 0 && r.topK < V)
    order.resize(r.topK);
  auto weight = [&](int32_t i) {
    return std::exp((double{logits[i]} - logits[order[0]]) / r.temperature);
  };
  double total = 0;
  for (int32_t i : order)
    total += weight(i);
  double sum = 0;
  for (size_t i = 0; i < order.size() && r.topP < 1; ++i)
    if ((sum += weight(order[i])) >= double{r.topP} * total)
      order.resize(i + 1);
  int32_t best = order[0];
  std::sort(order.begin(), order.end());
  auto weightOf = [&](int32_t i) {
    return std::exp((double{logits[i]} - logits[best]) / r.temperature);
  };
  total = 0;
  for (int32_t i : order)
    total += weightOf(i);
  PhiloxCounter words =
      philox4x32({uint32_t(r.sequenceId), uint32_t(r.position), 0, 0},
                 {uint32_t(r.seed), uint32_t(uint64_t(r.seed) >> 32)});
  double goal = uniformFromWords(words[0], words[1]) * total;
  sum = 0;
  for (int32_t i : order)
    if ((sum += weightOf(i)) > goal)
      return i;
  return order.back();
}

TEST(Sample, greedyTakesTheLowestOfEquals) {
  std::vector<float> logits = {1, 3, 2, 3, -1, NAN, 0, 0, NAN, NAN, NAN, NAN};
  EXPECT_THAT(sampleRows(logits, 6, {{0.0f}, {0.0f}}, CpuLevel::Baseline),
              ::testing::ElementsAre(1, 0));
}

TEST(Sample, equalsTheDefinition) {
  const int64_t V = 3000;
  std::vector<Request> rows;
  for (float temperature : {0.0f, 0.3f, 1.0f, 5.0f})
    for (int32_t topK : {0, 1, 2, 40, 2999, 5000})
      for (float topP : {1.0f, 0.95f, 0.5f, 1e-6f, 0.999f})
        rows.push_back({temperature, topK, topP, int64_t(rows.size()) << 33,
                        int32_t(rows.size() % 7), int32_t(rows.size())});
  std::vector<float> logits = testing::randomFloats(rows.size() * V, 1, 3.0f);
  // Ties, so that ranks by index matter.
  for (size_t i = 0; i < logits.size(); i += 3)
    logits[i] = std::round(logits[i]);
  std::vector<int32_t> expected;
  for (size_t s = 0; s < rows.size(); ++s)
    expected.push_back(plainSample(&logits[s * V], V, rows[s]));
  for (CpuLevel level : testing::levels())
    for (int threads : {1, 3})
      EXPECT_EQ(sampleRows(logits, V, rows, level, threads), expected);
}

TEST(Sample, drawsWithTheRightFrequencies) {
  std::vector<float> one = {0.0f, std::log(2.0f), std::log(5.0f)};
  std::vector<Request> rows;
  std::vector<float> logits;
  for (int32_t i = 0; i < 8000; ++i) {
    rows.push_back({1.0f, 0, 1.0f, 99, i % 3, i});
    logits.insert(logits.end(), one.begin(), one.end());
  }
  std::map<int32_t, int> counts;
  for (int32_t token : sampleRows(logits, 3, rows, CpuLevel::Baseline))
    ++counts[token];
  // Five standard deviations of a binomial.
  EXPECT_NEAR(counts[0], 1000, 5 * std::sqrt(8000 * 0.125 * 0.875));
  EXPECT_NEAR(counts[1], 2000, 5 * std::sqrt(8000 * 0.25 * 0.75));
  EXPECT_NEAR(counts[2], 5000, 5 * std::sqrt(8000 * 0.625 * 0.375));
}

TEST(Sample, topPOfZeroKeepsTheBest) {
  std::vector<float> logits = testing::randomFloats(300, 12);
  const auto best = std::max_element(logits.begin(), logits.end());
  for (CpuLevel level : testing::levels())
    EXPECT_EQ(sampleRows(logits, 300, {{2.0f, 0, 0.0f}}, level)[0],
              best - logits.begin());
}

} // namespace
} // namespace llmrt
