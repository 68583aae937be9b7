// SPDX-License-Identifier: Apache-2.0
// Every training fixture reads and agrees with itself, with the checkpoint it
// trains and with docs/design/training.md, so that a failing training test is
// not a broken fixture.
#include "tests/support/TrainingFixture.h"

#include "runtime/io/WeightSource.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <memory>

namespace llmrt::testing {
namespace {

// A gradient is rounded to float32, its norm is not.
constexpr double kRounding = 1.0 / (1 << 24);

class TrainingFixtures : public ::testing::TestWithParam<std::string> {
protected:
  void SetUp() override {
    auto fixture = readTrainingFixture(GetParam());
    ASSERT_TRUE(fixture.ok()) << fixture.status();
    fixture_ = *std::move(fixture);
    auto weights = WeightSource::open(fixture_.checkpoint);
    ASSERT_TRUE(weights.ok()) << weights.status();
    weights_ = *std::move(weights);
  }

  int64_t vocabulary() const {
    for (const SourceTensor& tensor : weights_->tensors())
      if (tensor.name == "model.embed_tokens.weight" ||
          tensor.name == "wte.weight")
        return tensor.shape[0];
    return 0;
  }

  TrainingFixture fixture_;
  std::unique_ptr<WeightSource> weights_;
};

/// Rows of a document follow one another; its start is in its sequence.
void expectRow(const TrainingBatch& batch, int64_t row) {
  int64_t inSequence = row % batch.numRows;
  int32_t start = batch.starts[row];
  ASSERT_EQ(batch.positions[row], inSequence - start);
  if (batch.positions[row] > 0) {
    ASSERT_EQ(batch.starts[row - 1], start);
  }
}

TEST_P(TrainingFixtures, BatchesAreDocumentsOfTheVocabulary) {
  ASSERT_EQ(fixture_.batches.size(), 10u);
  int64_t numTokens = vocabulary();
  for (size_t step = 0; step < fixture_.batches.size(); ++step) {
    const TrainingBatch& batch = fixture_.batches[step];
    // Divisible by the data ranks and micro-batches of every mesh tested.
    ASSERT_EQ(batch.numSequences % 12, 0);
    int64_t counted = 0;
    for (size_t row = 0; row < batch.ids.size(); ++row) {
      expectRow(batch, row);
      ASSERT_GE(batch.ids[row], 0);
      ASSERT_LT(batch.ids[row], numTokens);
      ASSERT_LT(batch.labels[row], numTokens);
      ASSERT_TRUE(batch.labels[row] >= 0 || batch.labels[row] == -100);
      counted += batch.labels[row] >= 0;
    }
    EXPECT_EQ(counted, fixture_.countedTokens[step]);
  }
}

TEST_P(TrainingFixtures, GradientsAreThoseOfTheCheckpointsParameters) {
  double squares = 0;
  for (const auto& [name, norm] : fixture_.gradientNorms) {
    EXPECT_NE(weights_->find(name), nullptr) << name;
    squares += norm * norm;
  }
  EXPECT_EQ(fixture_.gradientNorms.size(), weights_->tensors().size());
  EXPECT_NEAR(std::sqrt(squares) / fixture_.norms[0], 1, 1e-12);
  if (fixture_.gradients.empty())
    return;
  ASSERT_EQ(fixture_.gradients.size(), fixture_.gradientNorms.size());
  for (const auto& [name, values] : fixture_.gradients) {
    ASSERT_EQ(static_cast<int64_t>(values.size()),
              weights_->find(name)->numElements());
    double sum = 0;
    for (float x : values)
      sum += static_cast<double>(x) * x;
    EXPECT_NEAR(std::sqrt(sum) / fixture_.gradientNorms[name], 1, kRounding);
  }
}

TEST_P(TrainingFixtures, LossesMoveAndMostStepsAreClipped) {
  int numClipped = 0;
  for (double norm : fixture_.norms)
    numClipped += norm > fixture_.optimizer.clip;
  EXPECT_GE(numClipped, 8);
  EXPECT_LT(fixture_.losses.back(), 0.9 * fixture_.losses.front());
}

TEST_P(TrainingFixtures, DpoReportsArePairs) {
  bool isDpo = fixture_.objective == "dpo";
  ASSERT_EQ(fixture_.pairs.size(), isDpo ? fixture_.batches.size() : 0);
  for (size_t step = 0; step < fixture_.pairs.size(); ++step) {
    const PairReport& pairs = fixture_.pairs[step];
    size_t numPairs = fixture_.batches[step].numSequences / 2;
    ASSERT_EQ(pairs.losses.size(), numPairs);
    double sum = 0;
    for (double loss : pairs.losses)
      sum += loss;
    EXPECT_NEAR(sum / numPairs, fixture_.losses[step], 1e-12);
    for (size_t i = 0; i < numPairs; ++i)
      EXPECT_NEAR(pairs.chosenRewards[i],
                  fixture_.dpo.beta *
                      (pairs.chosenLogProbabilities[i] -
                       pairs.referenceChosenLogProbabilities[i]),
                  1e-12);
  }
}

std::string caseName(const ::testing::TestParamInfo<std::string>& info) {
  std::string name = info.param;
  for (char& c : name)
    if (!std::isalnum(static_cast<unsigned char>(c)))
      c = '_';
  return name;
}

INSTANTIATE_TEST_SUITE_P(All, TrainingFixtures,
                         ::testing::ValuesIn(trainingFixtureNames()), caseName);

TEST(TrainingFixture, AllAreFound) {
  EXPECT_EQ(trainingFixtureNames().size(), 25u);
}

TEST(TrainingFixture, AnUnknownNameIsAnError) {
  EXPECT_FALSE(readTrainingFixture("llama9/pretrain").ok());
}

TEST(WorstGradient, SmallGradientsAreMeasuredByTheGlobalNorm) {
  GradientsByName reference = {{"a", {3, 4}}, {"b", {0, 0}}};
  auto worst = worstGradient(reference, {{"a", {3, 4}}, {"b", {0, 1e-3f}}});
  ASSERT_TRUE(worst.ok());
  EXPECT_EQ(worst->name, "b");
  EXPECT_NEAR(worst->error, 0.2, 1e-6);
  worst = worstGradient(reference, {{"a", {3, 4.5}}, {"b", {0, 0}}});
  EXPECT_EQ(worst->name, "a");
  EXPECT_NEAR(worst->error, 0.1, 1e-6);
}

TEST(WorstGradient, NanIsTheWorstAndOtherParametersAreErrors) {
  GradientsByName reference = {{"a", {3, 4}}, {"b", {1}}};
  float nan = std::numeric_limits<float>::quiet_NaN();
  auto worst = worstGradient(reference, {{"a", {3, nan}}, {"b", {9}}});
  EXPECT_EQ(worst->name, "a");
  EXPECT_FALSE(worstGradient(reference, {{"a", {3, 4}}}).ok());
  EXPECT_FALSE(worstGradient(reference, {{"a", {3}}, {"b", {1}}}).ok());
  EXPECT_FALSE(
      worstGradient(reference, {{"a", {3, 4}}, {"b", {1}}, {"c", {1}}}).ok());
}

} // namespace
} // namespace llmrt::testing
