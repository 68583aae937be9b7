// SPDX-License-Identifier: Apache-2.0
// Training as a user runs it: a run that is interrupted, killed or moved to
// another mesh goes on where it was, and what it made is a model.
#include "tests/e2e/Workspace.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include <chrono>
#include <cmath>
#include <csignal>
#include <map>
#include <sstream>
#include <thread>

namespace llmrt {
namespace {

using testing::HasSubstr;
using Json = nlohmann::json;

constexpr const char* kRun =
    "--weights=random:1 --tokenizer=tokenizer.json --data=train.jsonl "
    "--threads=1 --learning-rate=1e-3 --lr-schedule=constant --clip=0.5 "
    "--quiet ";

/// A loss on another mesh sums in another order: ten steps of updates apart.
constexpr double kMeshTolerance = 1e-5;

struct StepLine {
  int64_t step = 0;
  double loss = 0, norm = 0;
};

bool operator==(const StepLine& a, const StepLine& b) {
  return a.step == b.step && a.loss == b.loss && a.norm == b.norm;
}

void PrintTo(const StepLine& line, std::ostream* os) {
  *os << line.step << ": " << line.loss << ", " << line.norm;
}

std::string trainingLines() {
  std::string lines;
  for (int i = 0; i < 60; ++i) {
    std::string text;
    for (int j = 0; j < 10 + i % 7; ++j)
      text += "word" + std::to_string((i * 7 + j * 3) % 11) + " ";
    lines += Json({{"text", text}}).dump() + "\n";
  }
  return lines;
}

class TrainCommand : public testing::Test {
protected:
  void SetUp() override {
    ASSERT_EQ(writeByteModel(workspace), ""); // its tokenizer
    ToolEnd end = workspace.run(
        "llmc import --new=llama,layers=4,hidden=72,heads=6,kv_heads=2,"
        "intermediate=100,vocab=257,context=512 -o model.mlir");
    ASSERT_EQ(end.status, 0) << end.errors;
    workspace.write("train.jsonl", trainingLines());
  }

  void compile(const std::string& plan, const std::string& options) {
    ToolEnd end = workspace.run("llmc compile model.mlir --mode=train --seq=24 "
                                "--batch=12 -o " +
                                plan + " " + options);
    ASSERT_EQ(end.status, 0) << options << ": " << end.errors;
  }

  ToolEnd train(const std::string& plan, const std::string& options) {
    return workspace.run("llmrt run " + plan + " " + kRun + options, 100);
  }

  std::vector<StepLine> metrics(const std::string& name) {
    std::vector<StepLine> lines;
    std::stringstream text(workspace.read(name));
    for (std::string line; std::getline(text, line);) {
      Json json = Json::parse(line, nullptr, false);
      if (!json.is_discarded() && !json.contains("evaluation"))
        lines.push_back({json["step"], json["loss"], json["grad_norm"]});
    }
    return lines;
  }

  /// Losses of the evaluations of one set of data, by step.
  std::map<int64_t, double> evaluations(const std::string& name,
                                        const std::string& set) {
    std::map<int64_t, double> losses;
    std::stringstream text(workspace.read(name));
    for (std::string line; std::getline(text, line);) {
      Json json = Json::parse(line, nullptr, false);
      if (!json.is_discarded() && json.value("evaluation", "") == set)
        losses[json["step"]] = json["loss"];
    }
    return losses;
  }

  Workspace workspace;
};

class OnMesh : public TrainCommand,
               public testing::WithParamInterface<const char*> {};

TEST_P(OnMesh, AResumedRunHasTheLossesOfAStraightOne) {
  compile("plan.fb", GetParam());
  ToolEnd end = train("plan.fb", "--steps=10 --metrics=straight.jsonl");
  ASSERT_EQ(end.status, 0) << end.errors;
  for (const char* steps : {"--steps=5", "--steps=10 --resume"}) {
    end = train("plan.fb", std::string(steps) +
                               " --checkpoint-dir=run --metrics=run.jsonl");
    ASSERT_EQ(end.status, 0) << end.errors;
  }
  std::vector<StepLine> straight = metrics("straight.jsonl");
  EXPECT_EQ(straight.size(), 10u);
  EXPECT_LT(straight.back().loss, straight.front().loss);
  EXPECT_EQ(metrics("run.jsonl"), straight);
}

TEST_P(OnMesh, ContinuesARunOfOneRank) {
  compile("one.fb", "");
  compile("plan.fb", GetParam());
  ToolEnd end = train("one.fb", "--steps=10 --metrics=straight.jsonl");
  ASSERT_EQ(end.status, 0) << end.errors;
  end = train("one.fb", "--steps=5 --checkpoint-dir=run --metrics=run.jsonl");
  ASSERT_EQ(end.status, 0) << end.errors;
  end = train("plan.fb", "--steps=10 --checkpoint-dir=run "
                         "--metrics=run.jsonl --resume");
  ASSERT_EQ(end.status, 0) << end.errors;
  std::vector<StepLine> straight = metrics("straight.jsonl");
  std::vector<StepLine> run = metrics("run.jsonl");
  ASSERT_EQ(run.size(), straight.size());
  for (size_t i = 0; i < run.size(); ++i)
    EXPECT_NEAR(run[i].loss, straight[i].loss,
                kMeshTolerance * straight[i].loss)
        << "step " << run[i].step;
}

INSTANTIATE_TEST_SUITE_P(
    Meshes, OnMesh,
    testing::Values("--microbatches=3", "--mesh=tp=2",
                    "--mesh=dp=2 --zero=1 --microbatches=2",
                    "--mesh=dp=3 --zero=2", "--mesh=dp=2,tp=2 --zero=3",
                    "--mesh=pp=2 --microbatches=4",
                    "--mesh=pp=2 --schedule=interleaved --microbatches=4",
                    "--mesh=dp=2,tp=2,pp=2 --zero=1 --microbatches=2"),
    [](const testing::TestParamInfo<const char*>& info) {
      std::string name = info.param;
      std::erase_if(name, [](char c) { return !std::isalnum(c); });
      return name;
    });

TEST_F(TrainCommand, KilledInASaveItContinuesBitIdentically) {
  compile("plan.fb", "");
  constexpr int kSteps = 40;
  const std::string run =
      std::string("llmrt run plan.fb ") + kRun + "--steps=40 ";
  ASSERT_EQ(workspace.run(run + "--metrics=straight.jsonl").status, 0);
  const std::string saving = "exec " + run +
                             "--checkpoint-dir=run --save-every=1 --keep=2 "
                             "--metrics=run.jsonl --resume";
  // Nearly all of the time goes into saves.
  for (int attempt = 0; attempt < 8; ++attempt) {
    size_t before = metrics("run.jsonl").size();
    pid_t process = workspace.start("run", saving);
    auto limit = std::chrono::steady_clock::now() + std::chrono::seconds(20);
    while (metrics("run.jsonl").size() < before + 2 &&
           std::chrono::steady_clock::now() < limit)
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    std::this_thread::sleep_for(std::chrono::microseconds(700 * attempt));
    ::kill(process, SIGKILL);
    workspace.finish("run", process, 20);
  }
  ToolEnd end = workspace.run(saving);
  ASSERT_EQ(end.status, 0) << end.errors;
  std::vector<StepLine> straight = metrics("straight.jsonl");
  EXPECT_EQ(straight.size(), static_cast<size_t>(kSteps));
  EXPECT_EQ(metrics("run.jsonl"), straight);
  for (const auto& [name, size] : workspace.files())
    EXPECT_EQ(name.find(".partial"), std::string::npos) << name;
}

TEST_F(TrainCommand, SigtermSavesAndHasAnExitStatusOfItsOwn) {
  compile("plan.fb", "--mesh=tp=2");
  const std::string command =
      std::string("exec llmrt run plan.fb ") + kRun +
      "--steps=1000000 --checkpoint-dir=run --metrics=run.jsonl --resume";
  int64_t done = 0;
  for (int signal : {SIGTERM, SIGINT}) {
    pid_t process = workspace.start("run", command);
    auto limit = std::chrono::steady_clock::now() + std::chrono::seconds(20);
    while (metrics("run.jsonl").size() < static_cast<size_t>(done + 3) &&
           std::chrono::steady_clock::now() < limit)
      std::this_thread::sleep_for(std::chrono::milliseconds(5));
    ::kill(process, signal);
    ToolEnd end = workspace.finish("run", process, 20);
    EXPECT_EQ(end.status, 75) << end.errors;
    EXPECT_THAT(end.errors, HasSubstr("--resume"));
    std::vector<StepLine> lines = metrics("run.jsonl");
    ASSERT_FALSE(lines.empty());
    EXPECT_GT(lines.back().step, done);
    done = lines.back().step;
    EXPECT_EQ(lines.size(), static_cast<size_t>(done));
  }
}

TEST_F(TrainCommand, ThreadsAndProcessesHaveTheSameLosses) {
  if (mpiLauncher(1).empty())
    GTEST_SKIP() << "no mpirun on this machine";
  for (auto [numRanks, options] :
       {std::pair{2, "--mesh=pp=2 --schedule=interleaved --microbatches=4"},
        {4, "--mesh=pp=2,tp=2 --schedule=zero-bubble --microbatches=3"},
        {4, "--mesh=dp=2,pp=2 --schedule=interleaved --zero=3 "
            "--microbatches=2"}}) {
    compile("plan.fb", options);
    ToolEnd end = train("plan.fb", "--steps=5 --metrics=threads.jsonl");
    ASSERT_EQ(end.status, 0) << end.errors;
    end = workspace.run(mpiLauncher(numRanks) + " run plan.fb " + kRun +
                            "--comm=mpi --steps=5 --metrics=processes.jsonl",
                        100);
    ASSERT_EQ(end.status, 0) << end.errors;
    EXPECT_EQ(metrics("threads.jsonl").size(), 5u);
    EXPECT_EQ(metrics("processes.jsonl"), metrics("threads.jsonl")) << options;
  }
}

TEST_F(TrainCommand, ARankThatHangsIsNamedAndCheckpointsAreIntact) {
  std::string launcher = mpiLauncher(2);
  if (launcher.empty())
    GTEST_SKIP() << "no mpirun on this machine";
  launcher = launcher.substr(0, launcher.rfind(' ')); // without the program
  compile("plan.fb", "--mesh=dp=2 --zero=1");
  for (const char* rank : {"0", "1"}) {
    std::string run = std::string("run") + rank;
    workspace.write(
        "rank", std::string("[ $OMPI_COMM_WORLD_RANK = ") + rank +
                    " ] && (until [ -e " + run +
                    "/step-00000003 ]; do sleep 0.01; done; kill "
                    "-STOP $$) >/dev/null 2>&1 &\n"
                    "exec llmrt run plan.fb " +
                    kRun + "--timeout=2 --steps=1000000 " +
                    "--save-every=1 --keep=2 --checkpoint-dir=" + run + "\n");
    ToolEnd end = workspace.run(launcher + " sh ./rank", 60);
    EXPECT_NE(end.status, 0);
    EXPECT_NE(end.status, 124) << "hung";
    EXPECT_THAT(end.errors, HasSubstr(std::string("LLMC-E0701: rank ") + rank +
                                      " did not come"));
    end = train("plan.fb", "--steps=1 --resume --checkpoint-dir=" + run);
    EXPECT_EQ(end.status, 0) << end.errors;
  }
}

// Nothing was learned, so the exported model is the one that training began
// with, bit for bit.
TEST_F(TrainCommand, ExportsAModel) {
  const char* source = std::getenv("LLMC_SOURCE_DIR");
  ASSERT_NE(source, nullptr);
  ASSERT_EQ(workspace
                .run(std::string("mkdir base; cp '") + source +
                     "'/tests/fixtures/llama2/{config.json,model.safetensors} "
                     "base/")
                .status,
            0);
  // Its vocabulary has 127 ids: the bytes of ASCII, the last one an end.
  Json tokenizer = Json::parse(byteTokenizerJson());
  Json& vocabulary = tokenizer["model"]["vocab"];
  for (auto it = vocabulary.begin(); it != vocabulary.end();)
    it = *it >= 126 ? vocabulary.erase(it) : std::next(it);
  for (Json& added : tokenizer["added_tokens"])
    added["id"] = 126;
  workspace.write("base/tokenizer.json", tokenizer.dump());
  ToolEnd end = workspace.run(
      "llmc compile base --mode=train --seq=24 --batch=4 -o train.fb && "
      "llmrt run train.fb --data=train.jsonl --steps=2 --learning-rate=0 "
      "--checkpoint-dir=run --quiet && llmrt export run -o out");
  ASSERT_EQ(end.status, 0) << end.errors;
  for (const char* model : {"base", "out"}) {
    end = workspace.run(std::string("llmc compile ") + model + " -o " + model +
                        ".fb && llmrt run " + model +
                        ".fb --tokens=1,5,9,80,33 --output-logits=" + model +
                        ".npy");
    ASSERT_EQ(end.status, 0) << end.errors;
  }
  EXPECT_GT(workspace.read("base.npy").size(), 5u * 127 * 4);
  EXPECT_TRUE(workspace.read("base.npy") == workspace.read("out.npy"));
  EXPECT_TRUE(workspace.exists("out/tokenizer.json"));
}

// A new model and one of a GGUF file have no config.json: the compiler writes
// it. Queries and keys of a GGUF llama have another order of rows.
TEST_F(TrainCommand, ExportsModelsThatHadNoHuggingFaceFolder) {
  const char* source = std::getenv("LLMC_SOURCE_DIR");
  ASSERT_NE(source, nullptr);
  ASSERT_EQ(workspace
                .run(std::string("mkdir ascii; cp '") + source +
                     "'/tests/fixtures/llama-f32-gguf/*.gguf base.gguf")
                .status,
            0);
  Json tokenizer = Json::parse(byteTokenizerJson());
  Json& vocabulary = tokenizer["model"]["vocab"];
  for (auto it = vocabulary.begin(); it != vocabulary.end();)
    it = *it >= 126 ? vocabulary.erase(it) : std::next(it);
  for (Json& added : tokenizer["added_tokens"])
    added["id"] = 126;
  workspace.write("ascii/tokenizer.json", tokenizer.dump());
  const std::string steps = " --data=train.jsonl --steps=2 --quiet "
                            "--learning-rate=0 --tokenizer=ascii "
                            "--checkpoint-dir=";
  for (const char* spec :
       {"llama,kv_heads=2", "gpt2", "qwen3,kv_heads=4", "gemma3,kv_heads=1"}) {
    ToolEnd end = workspace.run(
        std::string("rm -rf run out; llmc import --new=") + spec +
        ",layers=2,hidden=48,heads=4,intermediate=40,vocab=127,context=64 -o "
        "new.mlir && llmc compile new.mlir --mode=train --seq=24 --batch=4 -o "
        "train.fb && llmrt run train.fb --weights=random:3" +
        steps +
        "run && llmrt export run -o out && llmc compile out -o out.fb && "
        "llmc compile new.mlir -o new.fb && llmrt run new.fb "
        "--weights=random:3 --tokens=1,5,9,80,33 --output-logits=new.npy && "
        "llmrt run out.fb --tokens=1,5,9,80,33 --output-logits=out.npy");
    ASSERT_EQ(end.status, 0) << spec << end.errors;
    EXPECT_TRUE(workspace.read("new.npy") == workspace.read("out.npy")) << spec;
    EXPECT_TRUE(workspace.exists("out/tokenizer.json"));
  }
  ToolEnd end = workspace.run(
      "rm -rf out; llmc compile base.gguf --mode=train --seq=24 --batch=4 -o "
      "train.fb && llmrt run train.fb" +
      steps +
      "run2 && llmrt export run2 -o out && llmc compile out -o out.fb && "
      "llmc compile base.gguf -o base.fb && llmrt run base.fb "
      "--tokens=1,5,9,80,33 --output-logits=base.npy && "
      "llmrt run out.fb --tokens=1,5,9,80,33 --output-logits=out.npy");
  ASSERT_EQ(end.status, 0) << end.errors;
  // Rotations and sums run over other neighbours.
  std::string base = workspace.read("base.npy"), out = workspace.read("out.npy");
  ASSERT_EQ(base.size(), out.size());
  constexpr size_t kBytes = 5 * 127 * sizeof(float);
  ASSERT_GT(base.size(), kBytes);
  const auto* x = reinterpret_cast<const float*>(base.data() + base.size() - kBytes);
  const auto* y = reinterpret_cast<const float*>(out.data() + out.size() - kBytes);
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
}

TEST_F(TrainCommand, MistakesAreErrorsWithAdvice) {
  compile("plan.fb", "");
  ASSERT_EQ(train("plan.fb", "--steps=1 --checkpoint-dir=run").status, 0);

  struct Mistake {
    const char* options;
    int status;
    const char* code;
    const char* text;
  };

  const Mistake mistakes[] = {
      {"", 1, "1315", "--data"},
      {"--prompt=x", 1, "0913", "--prompt"},
      {"--data=train.jsonl --top-k=3", 1, "0913", "--top-k"},
      {"--data=train.jsonl --eval-every=3", 2, "0106", "--eval-data"},
      {"--data=train.jsonl --eval-data=train=train.jsonl", 2, "0102", "name"},
      {"--data=train.jsonl --eval-data=nowhere.jsonl", 1, "0103", "nowhere"},
      {"--data=train.jsonl --dpo-beta=0.2", 2, "0106", "--objective=dpo"},
      {"--data=train.jsonl --learnig-rate=1", 2, "0101", "--learning-rate?"},
      {"--data=train.jsonl --lr-schedule=cosin", 2, "0102", "cosine"},
      {"--data=train.jsonl --beta2=1", 2, "0102", "--beta2=1"},
      {"--data=train.jsonl --warmup=100 --steps=10", 2, "0102", "warm-up"},
      {"--data=train.jsonl --resume", 2, "0106", "--checkpoint-dir"},
      {"--data=nowhere.jsonl", 1, "0103", "nowhere.jsonl"},
      {"--data=train.jsonl --checkpoint-dir=run", 1, "1314", "--resume"},
      {"--data=train.jsonl --checkpoint-dir=run --resume --seed=2", 1, "1313",
       "--seed=0"}};
  for (const Mistake& mistake : mistakes) {
    ToolEnd end = workspace.run(
        std::string("llmrt run plan.fb --weights=random:1 --quiet "
                    "--tokenizer=tokenizer.json ") +
        mistake.options);
    EXPECT_EQ(end.status, mistake.status) << mistake.options << end.errors;
    EXPECT_THAT(end.errors, HasSubstr(std::string("LLMC-E") + mistake.code))
        << mistake.options;
    EXPECT_THAT(end.errors, HasSubstr(mistake.text)) << mistake.options;
  }
}

// Gradients of a learning rate that is far too high: the run says so, and
// leaves the checkpoint of the weights before.
TEST_F(TrainCommand, NamesTheParameterThatWentBad) {
  compile("plan.fb", "");
  ToolEnd end = workspace.run(
      "llmrt run plan.fb --weights=random:1 --tokenizer=tokenizer.json "
      "--data=train.jsonl --quiet --steps=60 --learning-rate=1e30 --clip=0 "
      "--max-skipped-steps=3 --metrics=run.jsonl");
  EXPECT_EQ(end.status, 1) << end.errors;
  EXPECT_THAT(end.errors, HasSubstr("LLMC-E1309"));
  EXPECT_THAT(end.errors, HasSubstr("the gradient of "));
  EXPECT_THAT(workspace.read("run.jsonl"), HasSubstr("\"skipped\":true"));
}

} // namespace
} // namespace llmrt
