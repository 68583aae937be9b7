// SPDX-License-Identifier: Apache-2.0
// sample on CUDA chooses what the cpu kernel chooses.
#include "tests/kernels/cuda/CudaKernelCase.h"

namespace llmrt {
namespace {

using testing::Guarded;

struct Options {
  float temperature = 1.0f;
  int32_t topK = 0;
  float topP = 1.0f;
};

void expectSameChoices(const std::vector<float>& row, const Options& o,
                       int64_t draws) {
  const int64_t V = row.size();
  std::vector<float> logits;
  std::vector<float> temperature(draws, o.temperature), topP(draws, o.topP);
  std::vector<int32_t> topK(draws, o.topK), ids, positions;
  std::vector<int64_t> seeds;
  for (int64_t i = 0; i < draws; ++i) {
    logits.insert(logits.end(), row.begin(), row.end());
    ids.push_back(static_cast<int32_t>(i % 3));
    positions.push_back(static_cast<int32_t>(i));
    seeds.push_back(1000 + i / 7);
  }
  Guarded<int32_t> cpu(draws), cuda(draws);
  SampleArgs a = {
      draws,        logits.data(), temperature.data(), topK.data(), topP.data(),
      seeds.data(), ids.data(),    positions.data(),   cpu.data(),  V};
  testing::runCpu("sample", a, draws, V);
  a.out = cuda.data();
  testing::runCuda("sample", a, draws, V);
  EXPECT_EQ(cpu.values(), cuda.values())
      << "V " << V << " temperature " << o.temperature << " topK " << o.topK
      << " topP " << o.topP;
  EXPECT_TRUE(cuda.guardsHold());
}

const std::vector<Options> kOptions = {
    {0.0f, 0, 1.0f},    {1.0f, 0, 1.0f},     {0.7f, 5, 1.0f}, {1.0f, 40, 0.9f},
    {1.3f, 0, 0.5f},    {1.0f, 1, 1.0f},     {2.0f, 0, 0.0f}, {0.01f, 0, 0.99f},
    {1.0f, 900, 0.99f}, {1.0f, 100000, 1.0f}};

TEST(CudaSample, normalLogits) {
  for (int64_t V : {3, 31, 1000, 5003})
    for (const Options& o : kOptions)
      expectSameChoices(testing::randomFloats(V, 11, 3.0f), o, 5);
}

TEST(CudaSample, equalLogits) {
  std::vector<float> few(700);
  for (size_t i = 0; i < few.size(); ++i)
    few[i] = static_cast<float>(i * 7 % 5) - 2.0f; // both zeros' neighbours
  few[3] = -0.0f;
  for (const Options& o : kOptions) {
    expectSameChoices(few, o, 5);
    expectSameChoices(std::vector<float>(130, 1.5f), o, 5);
  }
}

TEST(CudaSample, notNumbersAndInfinities) {
  std::vector<float> logits = testing::randomFloats(300, 12);
  for (size_t i = 0; i < logits.size(); i += 3)
    logits[i] = NAN;
  logits[1] = -HUGE_VALF;
  for (const Options& o : kOptions) {
    expectSameChoices(logits, o, 3);
    expectSameChoices(std::vector<float>(40, NAN), o, 2);
    expectSameChoices(std::vector<float>(40, -HUGE_VALF), o, 2);
  }
  logits[17] = HUGE_VALF;
  expectSameChoices(logits, {1.0f, 0, 0.9f}, 2);
}

} // namespace
} // namespace llmrt
