// SPDX-License-Identifier: Apache-2.0
// A plan gives the same bits whether its ranks are threads of one process or
// processes of MPI: logits of given tokens, generated text, and results of a
// file of prompts.
#include "tests/e2e/PlanRunner.h"
#include "tests/e2e/Workspace.h"

#include <gtest/gtest.h>

#include "absl/strings/str_join.h"

namespace llmrt {
namespace {

struct Mesh {
  const char* name;
  int numRanks;
  const char* options;
};

void PrintTo(const Mesh& mesh, std::ostream* os) { *os << mesh.name; }

class LocalAndMpi : public testing::TestWithParam<Mesh> {
protected:
  void SetUp() override {
    if (mpiLauncher(1).empty())
      GTEST_SKIP() << "no mpirun on this machine";
  }

  /// Compiles `model` for the mesh and runs it with the arguments as threads,
  /// then as processes. Expects the same standard output, which it returns, and
  /// the same bytes in OUT, where the arguments name that file.
  std::string expectSame(const std::string& arguments) {
    const Mesh& mesh = GetParam();
    std::string run = " run plan.fb --threads=1 --quiet --timeout=60 ";
    auto withOutput = [&](const char* file) {
      std::string text = arguments;
      size_t at = text.find("OUT");
      return at == std::string::npos ? text : text.replace(at, 3, file);
    };
    ToolEnd local = workspace_.run("llmrt" + run + "--comm=local " +
                                   withOutput("local.out"));
    EXPECT_EQ(local.status, 0) << local.errors;
    ToolEnd mpi = workspace_.run(mpiLauncher(mesh.numRanks) + run +
                                 "--comm=mpi " + withOutput("mpi.out"));
    EXPECT_EQ(mpi.status, 0) << mpi.errors;
    EXPECT_EQ(local.output, mpi.output);
    if (arguments.find("OUT") != std::string::npos) {
      EXPECT_GT(workspace_.read("local.out").size(), 0u);
      EXPECT_TRUE(workspace_.read("local.out") == workspace_.read("mpi.out"))
          << "the files differ";
    }
    return local.output;
  }

  void compile(const std::string& model) {
    ToolEnd end = workspace_.run("llmc compile " + model +
                                 " -o plan.fb --seq=128 --chunk=32 " +
                                 GetParam().options);
    ASSERT_EQ(end.status, 0) << end.errors;
  }

  Workspace workspace_;
};

TEST_P(LocalAndMpi, RandomModel) {
  ASSERT_EQ(writeByteModel(workspace_), "");
  compile("model.mlir --batch=2");
  std::string weights = "--weights=random:7 --tokenizer=tokenizer.json ";
  std::string tokens = absl::StrJoin(someTokens(75, 256), ",");
  for (const char* entry : {"score", "decode"})
    expectSame(weights + "--tokens=" + tokens +
               " --output-logits=OUT --logits-entry=" + entry);
  EXPECT_NE(expectSame(weights + "--prompt='Once upon a time, there' "
                                 "--max-new-tokens=40"),
            "");
  expectSame(weights + "--prompt='Once upon a time, there' "
                       "--max-new-tokens=40 --temperature=0.9 --seed=3");
  std::string lines;
  for (int i = 0; i < 5; ++i)
    lines += R"({"prompt": ")" + std::string(1 + 9 * i, 'a' + i) +
             R"(", "max_new_tokens": )" + std::to_string(3 + 5 * i % 11) +
             "}\n";
  workspace_.write("in.jsonl", lines);
  expectSame(weights + "--prompts=in.jsonl --output=OUT");
}

TEST_P(LocalAndMpi, SmolLm) {
  if (smolLm2File().empty())
    GTEST_SKIP() << "LLMC_SMOLLM2_GGUF does not name SmolLM2's GGUF file";
  compile("'" + smolLm2File() + "'");
  std::string tokens = absl::StrJoin(someTokens(40, 49152), ",");
  expectSame("--tokens=" + tokens + " --output-logits=OUT");
}

const Mesh kMeshes[] = {
    {"tp2", 2, "--mesh=tp=2"},
    {"tp3", 3, "--mesh=tp=3"},
    {"pp2", 2, "--mesh=pp=2"},
    {"dp2zero3", 2, "--mesh=dp=2 --zero=3"},
    {"dp2tp2pp2zero3", 8, "--mesh=dp=2,tp=2,pp=2 --zero=3"},
};

INSTANTIATE_TEST_SUITE_P(Meshes, LocalAndMpi, testing::ValuesIn(kMeshes),
                         [](const testing::TestParamInfo<Mesh>& info) {
                           return info.param.name;
                         });

} // namespace
} // namespace llmrt
