// SPDX-License-Identifier: Apache-2.0
// What a user types wrong: one line with a code and a way out, no crash,
// nothing written.
#include "tests/plan/tools/RunLlmc.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>

namespace llmc::test {
namespace {

using testing::HasSubstr;
using testing::StartsWith;

struct Mistake {
  const char* command;
  int status;
  const char* code;
  const char* message;
};

void PrintTo(const Mistake& mistake, std::ostream* os) {
  *os << mistake.command;
}

class Mistakes : public testing::TestWithParam<Mistake> {
protected:
  static void SetUpTestSuite() {
    folder_ = new LlmcFolder;
    folder_->makePlan("p.fb", kTinyLlama);
    ToolEnd end = folder_->run(
        "mv p.fb.mlir m.mlir; mkdir folder folder.mlir; : >empty.mlir; "
        "head -c 3000 m.mlir >cut.mlir; head -c 4096 /dev/urandom >noise.mlir; "
        "echo 'module { llm.nonsense }' >unknown.mlir; "
        "head -c 700 p.fb >cut.fb; cp p.fb extra.fb; echo >>extra.fb");
    ASSERT_EQ(end.status, 0) << end.errors;
  }

  static void TearDownTestSuite() { delete folder_; }

  static LlmcFolder* folder_;
};

LlmcFolder* Mistakes::folder_ = nullptr;

TEST_P(Mistakes, AreOneLineWithACodeAndAWayOut) {
  ToolEnd end = folder_->run(GetParam().command);
  EXPECT_EQ(end.status, GetParam().status) << end.errors;
  EXPECT_THAT(end.errors, StartsWith("llmc: " + std::string(GetParam().code)));
  EXPECT_THAT(end.errors, HasSubstr(GetParam().message));
  EXPECT_EQ(std::count(end.errors.begin(), end.errors.end(), '\n'), 1)
      << end.errors;
  EXPECT_LT(end.errors.size(), 600u);
  EXPECT_FALSE(folder_->exists("plan.fb"));
}

INSTANTIATE_TEST_SUITE_P(
    Commands, Mistakes,
    testing::Values(
        Mistake{"llmc complie m.mlir", 2, "LLMC-E0101",
                "did you mean 'compile'"},
        Mistake{"llmc bake m.mlir", 2, "LLMC-E0101", "no command 'bake'"},
        Mistake{"llmc compile", 2, "LLMC-E0102", "needs one model"},
        Mistake{"llmc compile m.mlir m.mlir", 2, "LLMC-E0102",
                "needs one model"},
        Mistake{"llmc import", 2, "LLMC-E0102", "needs one checkpoint"},
        Mistake{"llmc import folder --new=llama", 2, "LLMC-E0102",
                "needs one checkpoint"},
        Mistake{"llmc inspect", 2, "LLMC-E0102", "needs one plan"},
        Mistake{"llmc diff p.fb", 2, "LLMC-E0102", "needs two plans"},
        Mistake{"llmc explain p.fb", 2, "LLMC-E0102", "needs a plan and"},
        Mistake{"llmc check p.fb", 2, "LLMC-E0102", "--budget"}));

INSTANTIATE_TEST_SUITE_P(
    Options, Mistakes,
    testing::Values(
        Mistake{"llmc compile m.mlir --bacth=2", 2, "LLMC-E0101", "--batch"},
        Mistake{"llmc compile m.mlir --batch=x", 2, "LLMC-E0102", "batch"},
        Mistake{"llmc compile m.mlir --batch=0", 2, "LLMC-E0102", "--batch=0"},
        Mistake{"llmc compile m.mlir --batch=99999999999999999999", 2,
                "LLMC-E0102", "batch"},
        Mistake{"llmc compile m.mlir --batch=1 --batch=2", 2, "LLMC-E0106",
                "twice"},
        Mistake{"llmc compile m.mlir --seq=-1", 2, "LLMC-E0102", "--seq=-1"},
        Mistake{"llmc compile m.mlir --chunk=0", 2, "LLMC-E0102", "--chunk=0"},
        Mistake{"llmc compile m.mlir --mesh=tp", 2, "LLMC-E1001", "'tp'"},
        Mistake{"llmc compile m.mlir --mesh=tp=0", 2, "LLMC-E1001", "'tp=0'"},
        Mistake{"llmc compile m.mlir --mesh=tp=2,tp=2", 2, "LLMC-E1001",
                "at most once"},
        Mistake{"llmc compile m.mlir --mesh=xp=2", 2, "LLMC-E1001", "'xp=2'"},
        Mistake{"llmc compile m.mlir --mesh=tp=5", 1, "LLMC-E1002",
                "4 query heads"},
        Mistake{"llmc compile m.mlir --mesh=pp=5", 1, "LLMC-E1002", "4 layers"},
        Mistake{"llmc compile m.mlir --mode=train --objective=dpo", 1,
                "LLMC-E1002", "multiple of 2"},
        Mistake{"llmc compile m.mlir --mode=train --preference-loss=ipo", 2,
                "LLMC-E0106", "--objective=dpo"},
        Mistake{"llmc compile m.mlir --mode=train --objective=dpo "
                "--preference-loss=sigmoidal",
                2, "LLMC-E0102", "did you mean sigmoid"},
        Mistake{"llmc compile m.mlir --mode=train --objective=dpo "
                "--reference=precompute --reference-zero=3",
                2, "LLMC-E0106", "not part of such a plan"},
        Mistake{"llmc compile m.mlir --mode=train --schedule=interleaved", 1,
                "LLMC-E1002", "use at least 2 stages"},
        Mistake{"llmc compile m.mlir --mode=train --mesh=pp=2 "
                "--schedule=interleaved --microbatches=3 --batch=3 --seq=8",
                1, "LLMC-E1002", "use --microbatches=4"},
        Mistake{"llmc compile m.mlir --mode=train --mesh=pp=2 "
                "--schedule=interleaved --virtual-stages=3",
                1, "LLMC-E1002", "pp=2 with 3 virtual stages"},
        Mistake{"llmc compile m.mlir --mode=train --virtual-stages=2", 2,
                "LLMC-E0106", "--virtual-stages with --schedule=1f1b"},
        Mistake{"llmc compile m.mlir --virtual-stages=2", 2, "LLMC-E0106",
                "add --mode=train"},
        Mistake{"llmc compile m.mlir --mode=train --schedule=interleaved "
                "--virtual-stages=0",
                2, "LLMC-E0102", "--virtual-stages=0"},
        Mistake{"llmc compile m.mlir --mode=train --schedule=1f1", 2,
                "LLMC-E0102", "did you mean 1f1b"},
        Mistake{"llmc compile m.mlir --mode=train --microbatches=0", 2,
                "LLMC-E0102", "--microbatches=0"},
        Mistake{"llmc compile m.mlir --recompute=full", 2, "LLMC-E0106",
                "add --mode=train"},
        Mistake{"llmc compile m.mlir --mode=train --chunk=8", 2, "LLMC-E0106",
                "whole sequences"},
        Mistake{"llmc compile m.mlir --mode=inferr", 2, "LLMC-E0102",
                "did you mean infer"},
        Mistake{"llmc compile m.mlir --target=cud", 2, "LLMC-E0102",
                "did you mean cuda"},
        Mistake{"llmc compile m.mlir --target=cuda:sm_90a", 2, "LLMC-E0102",
                "did you mean sm_90"},
        Mistake{"llmc compile m.mlir --target=cuda:sm_80,ptxx", 2, "LLMC-E0102",
                "did you mean ptx"},
        Mistake{"llmc compile m.mlir --target=cuda:", 2, "LLMC-E0102",
                "use sm_80"},
        Mistake{"llmc compile m.mlir --dtype=f64", 2, "LLMC-E0102",
                "--dtype=f64"},
        Mistake{"llmc compile m.mlir --zero=1", 2, "LLMC-E0106", "--zero=1"},
        Mistake{"llmc compile m.mlir --zero=7", 2, "LLMC-E0102", "--zero=7"},
        Mistake{"llmc compile m.mlir --disable=fuse-slot", 2, "LLMC-E1005",
                "did you mean fuse-slots"},
        Mistake{"llmc compile m.mlir --disable=lower-to-plan", 2, "LLMC-E1005",
                "cannot be switched off"},
        Mistake{"llmc compile m.mlir --compile-to=kernel", 2, "LLMC-E1006",
                "did you mean kernels"},
        Mistake{"llmc compile m.mlir --compile-from=kernels --compile-to=step",
                2, "LLMC-E0106", "comes before"},
        Mistake{"llmc compile m.mlir --compile-from=step --mesh=tp=2", 2,
                "LLMC-E0106", "--mesh"},
        Mistake{"llmc compile m.mlir --memory-limit=lots", 2, "LLMC-E0102",
                "--memory-limit=lots"},
        Mistake{"llmc compile m.mlir --memory-limit=1000", 1, "LLMC-E1008",
                "1000"},
        Mistake{"llmc inspect p.fb --output=jsn", 2, "LLMC-E0102",
                "did you mean --output=json"},
        Mistake{"llmc inspect p.fb --output=html", 1, "LLMC-E1003",
                "--output=dot"},
        Mistake{"llmc inspect p.fb --entry=decode", 2, "LLMC-E0106",
                "--output=dot"},
        Mistake{"llmc diff p.fb p.fb --budget=x", 2, "LLMC-E0101",
                "takes no option --budget"},
        Mistake{"llmc explain p.fb memory -o x", 2, "LLMC-E0101",
                "takes no option -o"},
        Mistake{"llmc import m.mlir", 1, "LLMC-E0201", "m.mlir"}));

INSTANTIATE_TEST_SUITE_P(
    Files, Mistakes,
    testing::Values(
        Mistake{"llmc compile nowhere.mlir", 1, "LLMC-E0103", "nowhere.mlir"},
        Mistake{"llmc compile nowhere", 1, "LLMC-E0", "nowhere"},
        Mistake{"llmc compile folder.mlir", 1, "LLMC-E0103", "folder.mlir"},
        Mistake{"llmc compile folder", 1, "LLMC-E0", "folder"},
        Mistake{"llmc compile empty.mlir", 1, "LLMC-E1004", "empty.mlir"},
        Mistake{"llmc compile cut.mlir", 1, "LLMC-E1004", "cut.mlir:"},
        Mistake{"llmc compile noise.mlir", 1, "LLMC-E1004", "noise.mlir"},
        Mistake{"llmc compile unknown.mlir", 1, "LLMC-E1004",
                "unknown.mlir:1:10"},
        Mistake{"llmc compile p.fb", 1, "LLMC-E0201", "p.fb"},
        Mistake{"llmc compile m.mlir -o no/such/folder.fb", 1, "LLMC-E0104",
                "no/such"},
        Mistake{"llmc compile m.mlir -o folder", 1, "LLMC-E0104", "folder"},
        Mistake{"llmc compile m.mlir -o x.fb "
                "--dump-compilation-phases-to=m.mlir",
                1, "LLMC-E0104", "m.mlir"},
        Mistake{"llmc inspect nowhere.fb", 1, "LLMC-E0103", "nowhere.fb"},
        Mistake{"llmc inspect folder", 1, "LLMC-E0103", "folder"},
        Mistake{"llmc inspect cut.fb", 1, "LLMC-E0601", "cut.fb"},
        Mistake{"llmc inspect extra.fb", 1, "LLMC-E0602", "extra.fb"},
        Mistake{"llmc inspect cut.mlir", 1, "LLMC-E1004", "cut.mlir:"},
        Mistake{"llmc inspect noise.mlir", 1, "LLMC-E1004", "noise.mlir"},
        Mistake{"llmc explain cut.fb memory", 1, "LLMC-E0601", "cut.fb"}));

class CommandLines : public testing::Test {
protected:
  LlmcFolder folder_;
};

TEST_F(CommandLines, HelpNamesEveryCommand) {
  for (const char* command : {"llmc", "llmc --help", "llmc compile --help"}) {
    ToolEnd end = folder_.run(command);
    EXPECT_EQ(end.status, 0);
    for (const char* name :
         {"import", "compile", "inspect", "explain", "diff", "check"})
      EXPECT_THAT(end.output, HasSubstr(std::string("llmc ") + name));
  }
}

TEST_F(CommandLines, VersionIsOneWord) {
  ToolEnd end = folder_.run("llmc --version");
  EXPECT_EQ(end.status, 0);
  EXPECT_THAT(end.output, StartsWith("llmc "));
}

TEST_F(CommandLines, PassesSayWhichAreOptional) {
  ToolEnd end = folder_.run("llmc compile --list-passes");
  EXPECT_THAT(end.output, HasSubstr("merge-linears              optional"));
  EXPECT_EQ(folder_.run("llmc compile --list-phases").output,
            "model\nstep\nsharded\nkernels\nplan\n");
}

// Every numbered dump compiles to the same plan as the model.
TEST_F(CommandLines, ADashIsStandardOutput) {
  folder_.makePlan("p", kTinyLlama);
  ToolEnd end =
      folder_.run("llmc compile p.mlir -o whole.fb && "
                  "llmc compile p.mlir -o - --quiet | cmp - whole.fb");
  EXPECT_EQ(end.status, 0) << end.errors;
  EXPECT_FALSE(folder_.exists("-"));
}

TEST_F(CommandLines, DumpsCompileToTheSamePlan) {
  folder_.makePlan("p", kTinyLlama,
                   "--mesh=pp=2,tp=2 --dump-compilation-phases-to=d");
  for (auto [dump, phase] : {std::pair{"d/01-step.mlir", "step"},
                             {"d/02-sharded.mlir", "sharded"},
                             {"d/03-kernels.mlir", "kernels"},
                             {"d/04-plan.mlir", "plan"}}) {
    ToolEnd end =
        folder_.run(std::string("llmc compile ") + dump +
                    " --compile-from=" + phase + " -o q && llmc diff p q");
    EXPECT_EQ(end.status, 0) << dump << end.output << end.errors;
  }
}

// A dump that cannot be written whole is one error, and no plan is left.
TEST_F(CommandLines, ADumpThatCannotBeWrittenEndsTheCompilation) {
  ToolEnd end =
      folder_.run(std::string("llmc import --new=") + kTinyLlama +
                  " -o m.mlir && (ulimit -f 8; exec llmc compile m.mlir -o "
                  "p.fb --dump-compilation-phases-to=d)");
  EXPECT_EQ(end.status, 1) << end.errors;
  EXPECT_THAT(end.errors, StartsWith("llmc: LLMC-E0104: cannot write d"));
  EXPECT_FALSE(folder_.exists("p.fb"));
}

// A file cut anywhere is one error; it never crashes the parser or a pass.
TEST_F(CommandLines, ATruncatedModelIsRefusedEverywhere) {
  folder_.makePlan("p", kTinyLlama);
  std::string text = folder_.read("p.mlir");
  for (int i = 1; i < 16; ++i) {
    folder_.write("cut.mlir", text.substr(0, text.size() * i / 16));
    ToolEnd end = folder_.run("llmc compile cut.mlir -o cut.fb");
    EXPECT_EQ(end.status, 1) << i << end.errors;
    EXPECT_THAT(end.errors, StartsWith("llmc: LLMC-E")) << i;
    EXPECT_FALSE(folder_.exists("cut.fb"));
  }
}

} // namespace
} // namespace llmc::test
