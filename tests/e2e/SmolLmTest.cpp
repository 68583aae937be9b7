// SPDX-License-Identifier: Apache-2.0
// SmolLM2-135M-Instruct, a trained model with 9 query and 3 key/value heads and
// tied embeddings, from its quantised GGUF file: every mesh gives the tokens of
// one rank, and its logits within the bound.
#include "tests/e2e/PlanRunner.h"

#include "runtime/base/Error.h"
#include "runtime/io/tokenizer/Tokenizer.h"

#include <gtest/gtest.h>

#include <filesystem>

namespace llmrt {
namespace {

// The bound for meshes, of the largest logit: float32 sums in another
// order.
constexpr double kMeshBound = 1e-5;

/// About 40 tokens, so that prefill takes two chunks of 32 and one is not full.
absl::StatusOr<std::vector<int32_t>> promptTokens() {
  LLMRT_ASSIGN_OR_RETURN(std::unique_ptr<Tokenizer> tokenizer,
                         Tokenizer::load(smolLm2File()));
  return tokenizer->encode(
      "The capital of France is Paris, and its largest river is the Seine. "
      "The capital of Italy is Rome, and its largest river is the Po. The "
      "capital of Spain is");
}

absl::StatusOr<RunResult> runOnMesh(const std::vector<std::string>& options) {
  std::string plan = temporaryPath("smollm.fb");
  std::vector<std::string> all = {"--seq=256", "--chunk=32"};
  all.insert(all.end(), options.begin(), options.end());
  LLMRT_RETURN_IF_ERROR(compilePlan(smolLm2File(), plan, all));
  RunRequest r;
  r.plan = plan;
  r.weights = smolLm2File();
  LLMRT_ASSIGN_OR_RETURN(r.tokens, promptTokens());
  r.prefill = r.tokens.size() - 3;
  r.greedy = 12;
  auto result = runPlan(r);
  std::filesystem::remove(plan);
  return result;
}

using Mesh = std::pair<const char*, std::vector<std::string>>;

class SmolLm : public testing::TestWithParam<Mesh> {};

TEST_P(SmolLm, MeshEqualsOneRank) {
  if (smolLm2File().empty())
    GTEST_SKIP() << "LLMC_SMOLLM2_GGUF does not name SmolLM2's GGUF file";
  static const absl::StatusOr<RunResult> one = runOnMesh({});
  ASSERT_TRUE(one.ok()) << one.status();
  auto result = runOnMesh(GetParam().second);
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_EQ(result->sampled, one->sampled);
  double error = relativeError(result->logits, one->logits);
  RecordProperty("relative_error", std::to_string(error));
  EXPECT_LT(error, kMeshBound);
}

const Mesh kMeshes[] = {
    {"tp2", {"--mesh=tp=2"}},
    {"tp3", {"--mesh=tp=3"}},
    {"tp4", {"--mesh=tp=4"}},
    {"pp2", {"--mesh=pp=2"}},
    {"pp3", {"--mesh=pp=3"}},
    {"dp2zero3", {"--mesh=dp=2", "--zero=3"}},
    {"dp3zero3", {"--mesh=dp=3", "--zero=3"}},
    {"tp2pp2", {"--mesh=tp=2,pp=2"}},
    {"dp2tp2pp2zero3", {"--mesh=dp=2,tp=2,pp=2", "--zero=3"}},
};

INSTANTIATE_TEST_SUITE_P(Meshes, SmolLm, testing::ValuesIn(kMeshes),
                         [](const testing::TestParamInfo<Mesh>& info) {
                           return info.param.first;
                         });

} // namespace
} // namespace llmrt
