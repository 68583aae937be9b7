// SPDX-License-Identifier: Apache-2.0
// Training as a user runs it: held-out data, preferences, export of models that
// had no Hugging Face folder.
#include "tests/e2e/TrainCommand.h"

#include <gmock/gmock.h>

#include <cmath>

namespace llmrt {
namespace {

using testing::HasSubstr;
using Json = nlohmann::json;

// A new model and one of a GGUF file have no config.json: the compiler writes
// it. Queries and keys of a GGUF llama have another order of rows.
TEST_F(TrainCommand, ExportsModelsThatHadNoHuggingFaceFolder) {
  const char* source = std::getenv("LLMC_SOURCE_DIR");
  ASSERT_NE(source, nullptr);
  ASSERT_EQ(workspace
                .run(std::string("mkdir ascii digits; cp '") + source +
                     "'/tests/fixtures/llama-f32-gguf/*.gguf base.gguf")
                .status,
            0);
  workspace.write("ascii/tokenizer.json", smallTokenizer(127));
  workspace.write("digits/tokenizer.json", smallTokenizer(67));
  workspace.write("digits.jsonl",
                  "{\"text\": \"" + std::string(300, '7') + "\"}\n");
  const std::string steps = " --steps=2 --quiet --learning-rate=0 ";
  for (const char* spec :
       {"llama,kv_heads=2", "gpt2", "qwen3,kv_heads=4", "gemma3,kv_heads=1"}) {
    ToolEnd end = workspace.run(
        std::string("rm -rf run out; llmc import --new=") + spec +
        ",layers=2,hidden=48,heads=4,intermediate=40,vocab=127,context=64 -o "
        "new.mlir && llmc compile new.mlir --mode=train --seq=24 --batch=4 -o "
        "train.fb && llmrt run train.fb --weights=random:3" +
        steps +
        "--data=train.jsonl --tokenizer=ascii --checkpoint-dir=run && "
        "llmrt export run -o out && llmc compile out -o out.fb && "
        "llmc compile new.mlir -o new.fb && llmrt run new.fb "
        "--weights=random:3 --tokens=1,5,9,80,33 --output-logits=new.npy && "
        "llmrt run out.fb --tokens=1,5,9,80,33 --output-logits=out.npy");
    ASSERT_EQ(end.status, 0) << spec << end.errors;
    EXPECT_TRUE(workspace.read("new.npy") == workspace.read("out.npy")) << spec;
    EXPECT_TRUE(workspace.exists("out/tokenizer.json"));
  }
  // A slip in the name must not fall back on the config that was noted.
  ToolEnd slip = workspace.run("llmrt export run -o out3 --source=nowhere");
  EXPECT_EQ(slip.status, 1);
  EXPECT_THAT(slip.errors, HasSubstr("LLMC-E1307"));
  ToolEnd end = workspace.run(
      "rm -rf out; llmc compile base.gguf --mode=train --seq=24 --batch=4 -o "
      "train.fb && llmrt run train.fb" +
      steps +
      "--data=digits.jsonl --tokenizer=digits --checkpoint-dir=run2 && "
      "llmrt export run2 -o out && llmc compile out -o out.fb && "
      "llmc compile base.gguf -o base.fb && llmrt run base.fb "
      "--tokens=1,5,9,60,33 --output-logits=base.npy && "
      "llmrt run out.fb --tokens=1,5,9,60,33 --output-logits=out.npy");
  ASSERT_EQ(end.status, 0) << end.errors;
  // Rotations and sums run over other neighbours.
  std::string base = workspace.read("base.npy"),
              out = workspace.read("out.npy");
  ASSERT_EQ(base.size(), out.size());
  constexpr size_t kBytes = 5 * 67 * sizeof(float);
  ASSERT_GT(base.size(), kBytes);
  const auto* x =
      reinterpret_cast<const float*>(base.data() + base.size() - kBytes);
  const auto* y =
      reinterpret_cast<const float*>(out.data() + out.size() - kBytes);
  double difference = 0, norm = 0;
  for (size_t i = 0; i < kBytes / sizeof(float); ++i) {
    difference += std::pow(double{x[i]} - y[i], 2);
    norm += std::pow(x[i], 2);
  }
  EXPECT_LT(std::sqrt(difference / norm), 1e-6);
}

TEST_F(TrainCommand, EvaluatesHeldOutDataWholeOnEveryMesh) {
  std::string lines = trainingLines();
  workspace.write("few.jsonl", lines.substr(0, lines.find('\n') + 1));
  workspace.write("rest.jsonl", lines.substr(lines.find('\n') + 1));
  std::map<int64_t, double> first;
  for (const char* options :
       {"", "--microbatches=3", "--mesh=dp=3 --zero=3", "--mesh=tp=2",
        "--mesh=pp=2 --microbatches=4 --schedule=zero-bubble"}) {
    compile("plan.fb", options);
    ToolEnd end = workspace.run(
        "llmrt run plan.fb --weights=random:1 --tokenizer=tokenizer.json "
        "--data=train.jsonl --threads=1 --quiet --steps=4 --eval-every=2 "
        "--learning-rate=0 --eval-data=few.jsonl --eval-data=all=few.jsonl "
        "--eval-data=all=rest.jsonl --metrics=run.jsonl");
    ASSERT_EQ(end.status, 0) << end.errors;
    std::map<int64_t, double> all = evaluations("run.jsonl", "all");
    ASSERT_EQ(all.size(), 3u) << options; // after 0, 2 and 4 steps
    // Nothing was learned.
    EXPECT_EQ(all[0], all[2]);
    EXPECT_EQ(all[0], all[4]);
    if (first.empty())
      first = all;
    // The same labels, cut into other batches.
    EXPECT_NEAR(all[0], first[0], 1e-6 * first[0]) << options;
    EXPECT_EQ(evaluations("run.jsonl", "eval").size(), 3u);
    EXPECT_NE(evaluations("run.jsonl", "eval")[0], all[0]);
  }
  // An evaluation between steps changes none of them.
  compile("plan.fb", "--mesh=dp=2 --zero=2 --microbatches=2");
  for (const char* options :
       {"--metrics=without.jsonl",
        "--metrics=with.jsonl --eval-every=1 --eval-data=few.jsonl"})
    ASSERT_EQ(train("plan.fb", std::string("--steps=5 ") + options).status, 0);
  EXPECT_EQ(metrics("with.jsonl"), metrics("without.jsonl"));
  EXPECT_LT(evaluations("with.jsonl", "eval")[5],
            evaluations("with.jsonl", "eval")[0]);
}

std::string pairLines() {
  std::string lines;
  for (int i = 0; i < 21; ++i)
    lines += Json({{"prompt", "say " + std::to_string(i % 5)},
                   {"chosen", " yes" + std::to_string(i % 3)},
                   {"rejected", " no, never"}})
                 .dump() +
             "\n";
  return lines;
}

TEST_F(TrainCommand, OptimisesPreferences) {
  workspace.write("train.jsonl", pairLines());
  const std::string run = "--steps=6 --dpo-beta=0.3 --eval-data=train.jsonl ";
  compile("plan.fb", "--objective=dpo");
  ToolEnd end = train("plan.fb", run + "--metrics=plan.jsonl");
  ASSERT_EQ(end.status, 0) << end.errors;
  std::vector<StepLine> steps = metrics("plan.jsonl");
  ASSERT_EQ(steps.size(), 6u);
  // The reference is the initial model: every pair is undecided.
  EXPECT_NEAR(steps[0].loss, std::log(2.0), 1e-6);
  EXPECT_LT(steps.back().loss, steps[0].loss);
  EXPECT_NEAR(evaluations("plan.jsonl", "eval")[0], std::log(2.0), 1e-6);
  EXPECT_THAT(workspace.read("plan.jsonl"),
              HasSubstr("\"rewards/accuracies\":"));

  auto expectSame = [&](const std::string& options, const std::string& more,
                        const std::vector<StepLine>& expected) {
    compile("other.fb", "--objective=dpo " + options);
    ToolEnd end = train("other.fb", run + more + " --metrics=other.jsonl");
    ASSERT_EQ(end.status, 0) << end.errors;
    std::vector<StepLine> other = metrics("other.jsonl");
    ASSERT_EQ(other.size(), expected.size());
    for (size_t i = 0; i < other.size(); ++i)
      EXPECT_NEAR(other[i].loss, expected[i].loss, kMeshTolerance) << options;
  };
  expectSame("--reference=precompute", "", steps);
  EXPECT_TRUE(workspace.exists("train.jsonl.tokens.reference"));
  expectSame("--mesh=dp=2,pp=2 --zero=3 --reference-zero=3", "", steps);
  expectSame("--mesh=dp=2,tp=2,pp=3 --reference=precompute", "", steps);

  // Another reference; its file takes the place of the first one.
  const std::string reference = "--weights=reference=random:2 ";
  ASSERT_EQ(train("plan.fb", run + reference + "--metrics=plan.jsonl").status,
            0);
  std::vector<StepLine> others = metrics("plan.jsonl");
  EXPECT_GT(std::abs(others[0].loss - steps[0].loss), 1e-4);
  std::string file = workspace.read("train.jsonl.tokens.reference");
  expectSame("--reference=precompute --mesh=pp=3", reference, others);
  EXPECT_NE(workspace.read("train.jsonl.tokens.reference"), file);

  // A resumed run has the same reference.
  for (const char* more : {"--steps=3", "--steps=6 --resume"})
    ASSERT_EQ(train("plan.fb", "--dpo-beta=0.3 " + reference + more +
                                   " --checkpoint-dir=run --metrics=run.jsonl")
                  .status,
              0);
  EXPECT_EQ(metrics("run.jsonl"), others);
  end = train("plan.fb", "--steps=7 --resume --checkpoint-dir=run");
  EXPECT_EQ(end.status, 1);
  EXPECT_THAT(end.errors, HasSubstr("LLMC-E1313"));
  EXPECT_THAT(end.errors, HasSubstr("--weights=reference=random:2"));
}

// `random:1` of another model are other weights.
TEST_F(TrainCommand, LossesOfTheReferenceAreThoseOfTheModel) {
  workspace.write("train.jsonl", pairLines());
  for (std::string change : {"", "rope_theta=5000", "init_std=0.1", "edited"}) {
    if (change == "edited") { // a constant, by hand
      std::string model = workspace.read("model.mlir"), edited = model;
      for (size_t at = 0;
           (at = edited.find("{eps = ", at)) != std::string::npos; ++at)
        edited.replace(at, edited.find(' ', at + 7) - at, "{eps = 0.25");
      ASSERT_NE(edited, model);
      workspace.write("model.mlir", edited);
    } else if (!change.empty()) { // parameters of the same names and shapes
      ASSERT_EQ(workspace
                    .run("llmc import --new=llama,layers=4,hidden=72,heads=6,"
                         "kv_heads=2,intermediate=100,vocab=257,context=512," +
                         change + " -o model.mlir")
                    .status,
                0);
    }
    compile("plan.fb", "--objective=dpo --reference=precompute");
    ToolEnd end = train("plan.fb", "--steps=1 --metrics=run.jsonl");
    ASSERT_EQ(end.status, 0) << end.errors;
    ASSERT_EQ(metrics("run.jsonl").size(), 1u);
    EXPECT_NEAR(metrics("run.jsonl")[0].loss, std::log(2.0), 1e-6) << change;
  }
  // A damaged file is made again.
  std::string file = workspace.read("train.jsonl.tokens.reference");
  std::string damaged = file;
  for (size_t i = 1000; i < damaged.size() - 8; i += 4)
    damaged[i] ^= 0x20;
  workspace.write("train.jsonl.tokens.reference", damaged);
  ToolEnd end = train("plan.fb", "--steps=1 --metrics=run.jsonl");
  ASSERT_EQ(end.status, 0) << end.errors;
  EXPECT_NEAR(metrics("run.jsonl")[0].loss, std::log(2.0), 1e-6);
  EXPECT_EQ(workspace.read("train.jsonl.tokens.reference"), file);
}

} // namespace
} // namespace llmrt
