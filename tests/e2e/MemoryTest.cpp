// SPDX-License-Identifier: Apache-2.0
// The memory of a plan is what its table says: calls that use every row of
// every entry and every token of the caches touch it exactly, a changed plan is
// caught, and under MPI the process has no more than the sum.
#include "runtime/base/Error.h"
#include "runtime/base/MappedFile.h"
#include "runtime/executor/BufferLifetimes.h"
#include "tests/e2e/PlanRunner.h"
#include "tests/e2e/WholeRun.h"
#include "tests/e2e/Workspace.h"
#include "tests/plan/PlanBuilder.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "absl/strings/str_cat.h"

#include <functional>
#include <set>

namespace llmrt {
namespace {

using ::testing::AllOf;
using ::testing::AnyOf;
using ::testing::HasSubstr;

struct Case {
  const char* name;
  const char* model; // options of llmc import --new
  const char* options;
};

void PrintTo(const Case& c, std::ostream* os) { *os << c.name; }

class Inference : public ::testing::TestWithParam<Case> {
protected:
  void compile(const std::string& options) {
    ToolEnd end = workspace_.run(
        absl::StrCat("llmc import --new=", GetParam().model, " -o model.mlir"));
    ASSERT_EQ(end.status, 0) << end.errors;
    end = workspace_.run("llmc compile model.mlir -o plan.fb " + options);
    ASSERT_EQ(end.status, 0) << end.errors;
  }

  Workspace workspace_;
};

TEST_P(Inference, TouchesExactlyTheTable) {
  compile(absl::StrCat("--seq=128 --chunk=32 --batch=2 ", GetParam().options));
  auto file = MappedFile::open(workspace_.path("plan.fb"));
  ASSERT_TRUE(file.ok()) << file.status();
  auto plan = readPlan(file->bytes());
  ASSERT_TRUE(plan.ok()) << plan.status();
  absl::Status status = runWhole(**plan);
  EXPECT_TRUE(status.ok()) << status;
}

#define LLAMA                                                                  \
  "llama,layers=3,hidden=72,heads=9,kv_heads=3,intermediate=100,vocab=257,"    \
  "context=512"
#define GPT2 "gpt2,layers=2,hidden=64,heads=4,vocab=97,context=256"

const Case kCases[] = {
    {"one", LLAMA, ""},
    {"bf16", LLAMA, "--dtype=bf16"},
    {"tp2", LLAMA, "--mesh=tp=2"},
    {"tp2rows", LLAMA, "--mesh=tp=2 --sequence-parallel=true"},
    {"tp3", LLAMA, "--mesh=tp=3"},
    {"pp2", LLAMA, "--mesh=pp=2"},
    {"pp3", LLAMA, "--mesh=pp=3"},
    {"dp2zero3", LLAMA, "--mesh=dp=2 --zero=3"},
    {"dp3zero3", LLAMA, "--mesh=dp=3 --zero=3"},
    {"all", LLAMA, "--mesh=dp=2,tp=2,pp=2 --zero=3"},
    {"gpt2", GPT2, ""},
    {"gpt2tp2", GPT2, "--mesh=tp=2"},
};

INSTANTIATE_TEST_SUITE_P(Plans, Inference, ::testing::ValuesIn(kCases),
                         [](const ::testing::TestParamInfo<Case>& info) {
                           return info.param.name;
                         });

/// A compiled plan, and what a change to it makes of a run.
class Mutants : public ::testing::Test {
protected:
  void SetUp() override {
    ToolEnd end = workspace_.run(
        "llmc import --new=llama,layers=1,hidden=72,heads=3,kv_heads=3,"
        "intermediate=100,vocab=97,context=64 -o model.mlir");
    ASSERT_EQ(end.status, 0) << end.errors;
    end = workspace_.run("llmc compile model.mlir -o plan.fb --seq=64 "
                         "--chunk=16 --mesh=dp=2 --zero=3");
    ASSERT_EQ(end.status, 0) << end.errors;
    auto file = MappedFile::open(workspace_.path("plan.fb"));
    ASSERT_TRUE(file.ok()) << file.status();
    auto plan = readPlan(file->bytes());
    ASSERT_TRUE(plan.ok()) << plan.status();
    (*plan)->UnPackTo(&plan_);
    plan_.memory.clear(); // else the reader finds the mutants
  }

  absl::Status runMutant(const std::function<void(fb::PlanT&)>& change) {
    fb::PlanT mutant(plan_);
    change(mutant);
    auto bytes = test::finishPlan(mutant);
    LLMRT_ASSIGN_OR_RETURN(const fb::Plan* plan, readPlan(bytes));
    return runWhole(*plan);
  }

  /// Buffers that live only inside programs, and that some program uses.
  std::vector<int> transientBuffers() {
    auto bytes = test::finishPlan(plan_);
    const fb::Stage& stage = *(*readPlan(bytes))->stages()->Get(0);
    std::set<int> buffers;
    for (const fb::Program* program : *stage.programs())
      for (const Lifetime& lifetime : lifetimesOf(*program, stage))
        buffers.insert(lifetime.buffer);
    return {buffers.begin(), buffers.end()};
  }

  Workspace workspace_;
  fb::PlanT plan_;
};

TEST_F(Mutants, AreNone) {
  EXPECT_GT(transientBuffers().size(), 20u);
  absl::Status status = runMutant([](fb::PlanT&) {});
  // Without a table there is only the comparison with it.
  EXPECT_THAT(std::string(status.message()), HasSubstr("bytes touched"));
}

TEST_F(Mutants, ABufferThatIsTooSmall) {
  std::vector<int> buffers = transientBuffers();
  for (size_t i = 0; i < buffers.size(); i += 3) {
    int buffer = buffers[i];
    absl::Status status = runMutant([&](fb::PlanT& plan) {
      plan.stages[0]->buffers[buffer]->size_bytes -= 64;
    });
    const std::string& name = plan_.stages[0]->buffers[buffer]->name;
    // What a word or a transfer says of it, the reader compares.
    EXPECT_THAT(std::string(status.message()),
                AnyOf(AllOf(HasSubstr("LLMC-E0806"), HasSubstr(name)),
                      HasSubstr("LLMC-E0604")))
        << name;
  }
}

TEST_F(Mutants, TwoBuffersAtOnePlace) {
  auto bytes = test::finishPlan(plan_);
  const fb::Stage& stage = *(*readPlan(bytes))->stages()->Get(0);
  for (const fb::Program* program : *stage.programs()) {
    std::vector<Lifetime> all = lifetimesOf(*program, stage);
    for (size_t i = 1; i < all.size(); i += 4) {
      const Lifetime &a = all[i - 1], &b = all[i];
      if (a.last < b.first || b.last < a.first)
        continue;
      absl::Status status = runMutant([&](fb::PlanT& plan) {
        auto& buffers = plan.stages[0]->buffers;
        buffers[a.buffer]->offset = buffers[b.buffer]->offset;
        plan.stages[0]->arenas[0]->size_bytes *= 2;
      });
      EXPECT_THAT(std::string(status.message()),
                  AllOf(HasSubstr("LLMC-E0806"), HasSubstr("overlap")));
    }
  }
}

TEST_F(Mutants, MissingWaits) {
  for (size_t p = 0; p < plan_.stages[0]->programs.size(); ++p) {
    auto isWait = [](const std::unique_ptr<fb::CommandT>& command) {
      return command->kind == fb::CommandKind::WaitEvent;
    };
    // All of them, then each of the first: one alone may be covered by the wait
    // for a later transfer, since the stream keeps its order.
    EXPECT_THAT(std::string(runMutant([&](fb::PlanT& plan) {
                              std::erase_if(
                                  plan.stages[0]->programs[p]->commands,
                                  isWait);
                            }).message()),
                HasSubstr("LLMC-E0806"));
  }
  int numCaught = 0;
  for (int n = 0; n < 8; ++n) {
    std::string message(
        runMutant([&](fb::PlanT& plan) {
          int at = 0;
          std::erase_if(
              plan.stages[0]->programs[0]->commands, [&](const auto& command) {
                return command->kind == fb::CommandKind::WaitEvent && at++ == n;
              });
        }).message());
    bool isCaught = message.find("LLMC-E0806") != std::string::npos;
    EXPECT_TRUE(isCaught || message.find("bytes touched") == 0) << message;
    numCaught += isCaught;
  }
  EXPECT_GT(numCaught, 0);
}

/// The first bucket of a program: a command that has words.
int findBucket(const fb::ProgramT& program) {
  for (size_t i = 0; i < program.commands.size(); ++i)
    if (program.commands[i]->kind == fb::CommandKind::AllGather &&
        program.commands[i]->words.size() >= 3)
      return i;
  return -1;
}

TEST(Buckets, FurtherPartsAreInUseUntilTheWait) {
  Workspace workspace;
  ToolEnd end = workspace.run(
      "llmc import --new=llama,layers=2,hidden=64,heads=2,kv_heads=2,"
      "intermediate=96,vocab=97,context=64 -o model.mlir");
  ASSERT_EQ(end.status, 0) << end.errors;
  end = workspace.run("llmc compile model.mlir -o plan.fb --mode=train "
                      "--seq=16 --batch=2 --mesh=dp=2 --zero=3");
  ASSERT_EQ(end.status, 0) << end.errors;
  auto file = MappedFile::open(workspace.path("plan.fb"));
  ASSERT_TRUE(file.ok()) << file.status();
  auto read = readPlan(file->bytes());
  ASSERT_TRUE(read.ok()) << read.status();
  fb::PlanT plan;
  (*read)->UnPackTo(&plan);
  plan.memory.clear(); // else the reader finds the changes

  fb::StageT& stage = *plan.stages[0];
  int number = 0, bucket = -1;
  while (bucket < 0 && number < static_cast<int>(stage.programs.size()))
    bucket = findBucket(*stage.programs[number++]);
  ASSERT_GE(bucket, 0) << "no program has a bucket";
  fb::ProgramT& program = *stage.programs[--number];
  auto check = [&] {
    auto bytes = test::finishPlan(plan);
    auto changed = readPlan(bytes);
    if (!changed.ok())
      return changed.status();
    const fb::Stage& s = *(*changed)->stages()->Get(0);
    return checkLifetimes(*s.programs()->Get(number), s,
                          [](int64_t at) { return absl::StrCat("at ", at); });
  };
  EXPECT_TRUE(check().ok()) << check();

  const fb::CommandT& gather = *program.commands[bucket];
  const fb::BufferT& first = *stage.buffers[gather.recv_buffer];
  fb::BufferT& further = *stage.buffers[gather.words[1]->index];
  int64_t offset = further.offset;
  further.offset = first.offset;
  EXPECT_THAT(std::string(check().message()),
              AllOf(HasSubstr("LLMC-E0806"), HasSubstr("overlap")));
  further.offset = offset;

  // A reader of the further part before the wait.
  auto reader = std::make_unique<fb::CommandT>();
  reader->kind = fb::CommandKind::Copy;
  reader->send_buffer = gather.words[1]->index;
  reader->recv_buffer = gather.words[1]->index;
  reader->bytes = 4;
  program.commands.insert(program.commands.begin() + bucket + 1,
                          std::move(reader));
  EXPECT_THAT(std::string(check().message()),
              AllOf(HasSubstr("LLMC-E0806"), HasSubstr(further.name),
                    HasSubstr("before it waits")));
}

/// Under MPI a rank is a process, and its anonymous memory is its own. The
/// models are large enough that a second copy of anything that counts is too
/// much.
class UnderMpi : public ::testing::Test {
protected:
  static constexpr int64_t kMostExcessBytes = int64_t{32} << 20;
  static constexpr const char* kRandom =
      "--weights=random:7 --tokenizer=tokenizer.json ";
  static constexpr int64_t kLeastSumBytes = int64_t{33} << 20;

  void SetUp() override {
    if (mpiLauncher(1).empty())
      GTEST_SKIP() << "no mpirun on this machine";
    ASSERT_EQ(writeByteModel(workspace_), ""); // its tokenizer
    ToolEnd end = workspace_.run(
        "llmc import --new=llama,layers=6,hidden=512,heads=8,kv_heads=4,"
        "intermediate=1536,vocab=8192,context=1024 -o model.mlir");
    ASSERT_EQ(end.status, 0) << end.errors;
    std::string lines;
    for (int i = 0; i < 40; ++i)
      lines += absl::StrCat("{\"text\": \"line ", i,
                            " of a text that is read again\"}\n");
    workspace_.write("train.jsonl", lines);
  }

  void expectNoExcess(const std::string& compileOptions,
                      const std::string& runOptions) {
    ToolEnd end = workspace_.run("llmc compile -o plan.fb " + compileOptions);
    ASSERT_EQ(end.status, 0) << end.errors;
    end = workspace_.run(mpiLauncher(2) +
                             " run plan.fb --threads=1 --quiet --timeout=60 "
                             "--memory-report=memory.json " +
                             runOptions,
                         200);
    ASSERT_EQ(end.status, 0) << end.errors;
    auto json = nlohmann::json::parse(workspace_.read("memory.json"));
    ASSERT_EQ(json["processes"].size(), 2u);
    for (const auto& process : json["processes"]) {
      SCOPED_TRACE(compileOptions + ": " + process.dump());
      EXPECT_GT(process["sum_bytes"], kLeastSumBytes);
      EXPECT_LE(process["excess_bytes"], kMostExcessBytes);
      EXPECT_GE(process["excess_bytes"], -kMostExcessBytes);
    }
  }

  Workspace workspace_;
};

TEST_F(UnderMpi, InferenceHoldsThePlannedBytes) {
  for (const char* options :
       {"--mesh=tp=2", "--mesh=pp=2", "--dtype=bf16 --mesh=tp=2",
        "--mesh=dp=2 --zero=3"})
    expectNoExcess(std::string("model.mlir --seq=128 --chunk=64 --batch=1 ") +
                       options,
                   std::string(kRandom) +
                       "--prompt='Once upon a time' --max-new-tokens=4");
}

TEST_F(UnderMpi, SmolLmHoldsThePlannedBytes) {
  if (smolLm2File().empty())
    GTEST_SKIP() << "LLMC_SMOLLM2_GGUF does not name SmolLM2's GGUF file";
  // A page that nothing touched is not resident: score fills the logits of a
  // whole chunk, half of what is no parameter here.
  std::string tokens = "1";
  for (int i = 1; i < 128; ++i)
    absl::StrAppend(&tokens, ",", i * 37 % 4096);
  expectNoExcess("'" + smolLm2File() + "' --seq=256 --mesh=tp=2",
                 "--output-logits=logits.npy --tokens=" + tokens);
}

TEST_F(UnderMpi, TrainingHoldsThePlannedBytes) {
  int numRuns = 0;
  for (const char* options :
       {"--mesh=dp=2 --zero=0", "--mesh=dp=2 --zero=3", "--mesh=tp=2",
        "--mesh=pp=2 --microbatches=2", "--mesh=dp=2 --zero=1 --dtype=bf16"})
    expectNoExcess(std::string("model.mlir --mode=train --seq=32 --batch=4 ") +
                       options,
                   absl::StrCat(kRandom,
                                "--data=train.jsonl --steps=2 --save-every=1 "
                                "--learning-rate=1e-4 --checkpoint-dir=run",
                                numRuns++));
}

} // namespace
} // namespace llmrt
