// SPDX-License-Identifier: Apache-2.0
// Plans with bf16 weights and caches: logits of every family against PyTorch's
// float64 run of the unrounded weights, and meshes against one rank.
#include "tests/e2e/PlanRunner.h"

#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>

namespace llmrt {
namespace {

// Rounding to bf16 (8 bits of significand) changes a value by at most 2^-9 of
// itself; taken as uniform, its standard deviation is 2^-9 / sqrt(3). Sums are
// in float32 and count for nothing beside that.
const double kMostRounding = std::ldexp(1.0, -9);

// Rounded values that a path from a token to a logit is multiplied with: the
// embedding; in each layer norm, q/k/v, cache, output projection, norm, gate
// and up, down; the last norm and the head. Biases, post-norms and q/k norms
// add to these without being a path of their own: they are counted as two more
// in each layer.
double numRoundings(double numLayers) { return 9 * numLayers + 3; }

// First order: the roundings of a path add up, and what they change is not
// larger than the largest logit.
double mostError(double numLayers) {
  return numRoundings(numLayers) * kMostRounding;
}

// Independent roundings add up as squares: of the root mean square logit. A
// change of q or k changes a score by as much of itself, and a softmax of
// scores of one to a few units by more than that: twice (1.77 is the largest
// that was seen).
double typicalError(double numLayers) {
  return 2 * std::sqrt(numRoundings(numLayers) / 3) * kMostRounding;
}

double rootMeanSquareError(const Logits& a, const Logits& reference) {
  double error = 0, scale = 0;
  for (size_t r = 0; r < reference.size(); ++r)
    for (size_t c = 0; c < reference[r].size(); ++c) {
      double difference = double(a[r][c]) - reference[r][c];
      error += difference * difference;
      scale += double(reference[r][c]) * reference[r][c];
    }
  return std::sqrt(error / scale);
}

struct Model {
  const char* fixture;
  int numLayers;
};

void PrintTo(const Model& model, std::ostream* os) { *os << model.fixture; }

class Bf16 : public testing::TestWithParam<Model> {
protected:
  void SetUp() override {
    folder_ = environment("LLMC_SOURCE_DIR") + "/tests/fixtures/" +
              GetParam().fixture;
    model_ = folder_;
    if (std::filesystem::exists(folder_ + "/model.gguf"))
      model_ += "/model.gguf";
    tokens_ = readTokens(folder_ + "/tokens.json", "tokens");
  }

  /// All rows: the first half from prefill, of which the last is kept, then
  /// decode; or from scoring.
  absl::StatusOr<Logits> run(const std::vector<std::string>& options,
                             bool score) {
    std::string plan = temporaryPath("bf16.fb");
    std::vector<std::string> all = {"--seq=128", "--chunk=32", "--dtype=bf16"};
    all.insert(all.end(), options.begin(), options.end());
    absl::Status compiled = compilePlan(model_, plan, all);
    if (!compiled.ok())
      return compiled;
    RunRequest r;
    r.plan = plan;
    r.weights = model_;
    r.tokens = tokens_;
    r.prefill = 41;
    r.score = score;
    r.checkMemory = true;
    auto result = runPlan(r);
    std::filesystem::remove(plan);
    if (!result.ok())
      return result.status();
    return result->logits;
  }

  std::string folder_, model_;
  std::vector<int32_t> tokens_;
};

TEST_P(Bf16, NearFloat64) {
  Logits reference = readLogits(folder_ + "/logits.npy");
  for (bool score : {true, false}) {
    auto logits = run({}, score);
    ASSERT_TRUE(logits.ok()) << logits.status();
    Logits known = reference;
    if (!score)
      known.erase(known.begin(), known.begin() + 40);
    ASSERT_EQ(logits->size(), known.size());
    double worst = relativeError(*logits, known);
    double typical = rootMeanSquareError(*logits, known);
    EXPECT_LT(worst, mostError(GetParam().numLayers));
    EXPECT_LT(typical, typicalError(GetParam().numLayers));
    RecordProperty(score ? "score_worst" : "decode_worst",
                   std::to_string(worst));
    RecordProperty(score ? "score_typical" : "decode_typical",
                   std::to_string(typical));
  }
}

constexpr Model kFamilies[] = {
    {"llama2", 3},         {"llama3", 3},
    {"llama-9q3kv", 3},    {"mistral", 3},
    {"qwen2", 5},          {"qwen3", 3},
    {"gemma2", 3},         {"gemma3", 5},
    {"gpt2", 3},           {"llama-f32-gguf", 3},
    {"qwen2-f16-gguf", 3}, {"qwen3-bf16-gguf", 3},
    {"gpt2-f32-gguf", 3},  {"llama-quantized-gguf", 3},
};

std::string modelName(const testing::TestParamInfo<Model>& info) {
  std::string name = info.param.fixture;
  for (char& c : name)
    c = c == '-' ? '_' : c;
  return name;
}

INSTANTIATE_TEST_SUITE_P(Families, Bf16, testing::ValuesIn(kFamilies),
                         modelName);

class Bf16Mesh : public Bf16 {};

// Stages and data replicas change no sum, so they change no bit. Tensor ranks
// add float32 sums in another order, up to 1e-5 of the logits as in f32; and
// where such a difference straddles a rounding border, an element of the cache
// moves by one step, 2^-8 of itself: at most 1e-5 / 2^-8 = 0.3 % of the
// elements do. They are independent, so what they change is below sqrt(0.003)
// of what rounding the cache changes at all, which is one of the typical
// roundings in each layer.
double meshError(double numLayers) {
  return 1e-5 + std::sqrt(0.003 * numLayers / 3) * kMostRounding * 2;
}

TEST_P(Bf16Mesh, EqualsOneRank) {
  auto one = run({}, false);
  ASSERT_TRUE(one.ok()) << one.status();
  for (const std::vector<std::string>& options :
       std::vector<std::vector<std::string>>{
           {"--mesh=pp=2"}, {"--mesh=pp=3"}, {"--mesh=dp=2", "--zero=3"}}) {
    auto logits = run(options, false);
    ASSERT_TRUE(logits.ok()) << options[0] << ": " << logits.status();
    EXPECT_EQ(*logits, *one) << options[0];
  }
  double worst = 0;
  for (const std::vector<std::string>& options :
       std::vector<std::vector<std::string>>{
           {"--mesh=tp=2"},
           {"--mesh=tp=3"},
           {"--mesh=tp=2,pp=2"},
           {"--mesh=dp=2,tp=2,pp=2", "--zero=3"}}) {
    auto logits = run(options, false);
    ASSERT_TRUE(logits.ok()) << options[0] << ": " << logits.status();
    double error = relativeError(*logits, *one);
    EXPECT_LT(error, meshError(GetParam().numLayers)) << options[0];
    worst = std::max(worst, error);
  }
  RecordProperty("worst", std::to_string(worst));
}

constexpr Model kMeshFamilies[] = {{"llama-9q3kv", 3},
                                   {"llama2", 3},
                                   {"qwen2", 5},
                                   {"gemma3", 5},
                                   {"gpt2", 3}};

INSTANTIATE_TEST_SUITE_P(Families, Bf16Mesh, testing::ValuesIn(kMeshFamilies),
                         modelName);

} // namespace
} // namespace llmrt
