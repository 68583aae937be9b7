// SPDX-License-Identifier: Apache-2.0
// Training as a user runs it: a run that is interrupted, killed or moved to
// another mesh goes on where it was, and what it made is a model.
#include "tests/e2e/TrainCommand.h"

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

TEST_F(TrainCommand, StoppedBeforeTheFirstStepItSaysThatNothingWasSaved) {
  compile("plan.fb", "");
  // The evaluation before the first step takes longer than this test.
  std::string lines;
  for (int i = 0; i < 2000; ++i)
    lines += trainingLines();
  workspace.write("held-out.jsonl", lines);
  pid_t process = workspace.start(
      "run", std::string("exec llmrt run plan.fb ") + kRun +
                 "--steps=1 --checkpoint-dir=run --metrics=run.jsonl "
                 "--eval-data=held-out.jsonl");
  auto limit = std::chrono::steady_clock::now() + std::chrono::seconds(60);
  while (!workspace.exists("run.jsonl") &&
         std::chrono::steady_clock::now() < limit)
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  ::kill(process, SIGTERM);
  ToolEnd end = workspace.finish("run", process, 60);
  EXPECT_EQ(end.status, 75) << end.errors;
  EXPECT_THAT(end.errors, HasSubstr("stopped before the first step"));
  EXPECT_FALSE(workspace.exists("run/step-00000000"));
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

TEST_F(TrainCommand, RanksWithOtherOptionsAreRefused) {
  std::string launcher = mpiLauncher(2);
  if (launcher.empty())
    GTEST_SKIP() << "no mpirun on this machine";
  launcher = launcher.substr(0, launcher.rfind(' ')); // without the program
  compile("plan.fb", "--mesh=dp=2");
  for (const char* option : {"--seed=", "--beta1=0.", "--steps=1", "--clip="}) {
    workspace.write("rank", std::string("exec llmrt run plan.fb "
                                        "--weights=random:1 --threads=1 "
                                        "--tokenizer=tokenizer.json "
                                        "--data=train.jsonl --timeout=5 ") +
                                option + "$OMPI_COMM_WORLD_RANK\n");
    ToolEnd end = workspace.run(launcher + " sh ./rank", 60);
    EXPECT_NE(end.status, 0) << option;
    EXPECT_THAT(end.errors, HasSubstr("LLMC-E0912: rank 1 has other options"))
        << option;
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
  workspace.write("base/tokenizer.json", smallTokenizer(127));
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
      {"--data=train.jsonl --learning-rate=-1", 2, "0102",
       "--learning-rate=-1"},
      {"--data=train.jsonl --learning-rate=nan", 2, "0102",
       "--learning-rate=nan"},
      {"--data=train.jsonl --learning-rate=1e39", 2, "0102", "3e38"},
      {"--data=train.jsonl --weight-decay=1e39", 2, "0102", "--weight-decay"},
      // 0 as f32: a division by it, no limit.
      {"--data=train.jsonl --epsilon=1e-60", 2, "0102", "--epsilon"},
      {"--data=train.jsonl --clip=1e-60", 2, "0102", "--clip"},
      {"--data=train.jsonl --steps=0", 2, "0102", "leave it out"},
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

TEST_F(TrainCommand, AFrozenParameterHasNoMomentsToResumeFrom) {
  compile("frozen.fb", "--freeze=*layers.1.*");
  compile("plan.fb", "");
  ASSERT_EQ(train("frozen.fb", "--steps=1 --checkpoint-dir=run").status, 0);
  ToolEnd end = train("plan.fb", "--steps=2 --checkpoint-dir=run --resume");
  EXPECT_EQ(end.status, 1);
  EXPECT_THAT(end.errors, HasSubstr("LLMC-E1304"));
  EXPECT_THAT(end.errors, HasSubstr("frozen"));
  // The other way round nothing is missing.
  ASSERT_EQ(train("plan.fb", "--steps=1 --checkpoint-dir=run2").status, 0);
  end = train("frozen.fb", "--steps=2 --checkpoint-dir=run2 --resume");
  EXPECT_EQ(end.status, 0) << end.errors;
}

// The backward pass ends above what is frozen: stages below send no gradient.
TEST_F(TrainCommand, FrozenFirstLayersNeedNoBackwardPass) {
  for (const char* pattern : {"model.*", "model.[el]*"}) {
    std::string freeze = std::string("'--freeze=") + pattern + "' ";
    compile("plan.fb", freeze);
    ToolEnd end = train("plan.fb", "--steps=4 --metrics=one.jsonl");
    ASSERT_EQ(end.status, 0) << end.errors;
    std::vector<StepLine> one = metrics("one.jsonl");
    ASSERT_EQ(one.size(), 4u);
    EXPECT_LT(one.back().loss, one.front().loss);
    for (const char* options :
         {"--mesh=pp=3 --microbatches=3 --schedule=zero-bubble --zero=3",
          "--mesh=dp=2,pp=2 --microbatches=2 --schedule=interleaved --zero=2",
          "--mesh=pp=4 --microbatches=2 --schedule=gpipe --recompute=full",
          "--mesh=dp=2,pp=2 --microbatches=3 --zero=1"}) {
      compile("plan.fb", freeze + options);
      end = train("plan.fb", "--steps=4 --metrics=other.jsonl");
      ASSERT_EQ(end.status, 0) << options << end.errors;
      std::vector<StepLine> other = metrics("other.jsonl");
      ASSERT_EQ(other.size(), one.size());
      for (size_t i = 0; i < one.size(); ++i)
        EXPECT_NEAR(other[i].loss, one[i].loss, kMeshTolerance) << options;
    }
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
