// SPDX-License-Identifier: Apache-2.0
// What the tools say to broken or unsuitable input: one line on standard error
// that begins with the tool and a code, a non-zero exit, nothing left behind.
// The readers have tests and fuzz targets of their own; this is about whole
// runs.
#include "tests/e2e/PlanRunner.h"
#include "tests/e2e/Workspace.h"

#include "runtime/base/MappedFile.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <regex>

namespace llmrt {
namespace {

using testing::AnyOf;
using testing::HasSubstr;

constexpr const char* kLogits = "llmrt run plan.fb --tokens=1,2,3 "
                                "--output-logits=out.npy --timeout=20 ";

class BadInput : public testing::Test {
protected:
  void SetUp() override { ASSERT_EQ(writeByteModel(workspace_), ""); }

  void run(const std::string& command) {
    ToolEnd end = workspace_.run(command);
    ASSERT_EQ(end.status, 0) << command << "\n" << end.errors;
  }

  /// Expects one line with `text`, and the folder as it was before.
  void expectError(const std::string& command, const std::string& text) {
    std::map<std::string, uint64_t> before = workspace_.files();
    ToolEnd end = workspace_.run(command, 30);
    EXPECT_THAT(end.status, AnyOf(1, 2)) << command << "\n" << end.errors;
    EXPECT_TRUE(std::regex_search(end.errors,
                                  std::regex("^llm(c|rt): LLMC-E[0-9]{4}: ")))
        << command << "\n"
        << end.errors;
    EXPECT_EQ(std::count(end.errors.begin(), end.errors.end(), '\n'), 1)
        << command << "\n"
        << end.errors;
    EXPECT_THAT(end.errors, HasSubstr(text)) << command;
    EXPECT_EQ(end.output, "") << command;
    EXPECT_EQ(workspace_.files(), before) << command;
  }

  Workspace workspace_;
};

TEST_F(BadInput, TruncatedPlans) {
  run("llmc compile model.mlir -o whole.fb --seq=64");
  std::string plan = workspace_.read("whole.fb");
  for (size_t size : {size_t(0), size_t(1), size_t(7), size_t(8), size_t(64),
                      size_t(500), plan.size() / 2, plan.size() - 1}) {
    workspace_.write("plan.fb", plan.substr(0, size));
    expectError(std::string(kLogits) + "--weights=random:1", "LLMC-E060");
  }
  workspace_.write("plan.fb", plan + "x");
  expectError(std::string(kLogits) + "--weights=random:1", "LLMC-E060");
}

TEST_F(BadInput, FlippedBitsOfPlans) {
  run("llmc compile model.mlir -o whole.fb --seq=64");
  std::string plan = workspace_.read("whole.fb");
  std::vector<size_t> bits;
  for (size_t bit = 0; bit < 8 * 40; bit += 3) // what is before the tables
    bits.push_back(bit);
  for (size_t i = 0; i < 150; ++i) // spread over the rest
    bits.push_back(8 * plan.size() / 150 * i + i % 8);
  for (size_t i = 0; i < 32; ++i) // and the end
    bits.push_back(8 * plan.size() - 1 - i);
  for (size_t bit : bits) {
    std::string flipped = plan;
    flipped[bit / 8] ^= 1 << bit % 8;
    workspace_.write("plan.fb", flipped);
    SCOPED_TRACE("bit " + std::to_string(bit));
    expectError(std::string(kLogits) + "--weights=random:1", "LLMC-E060");
  }
}

TEST_F(BadInput, FilesThatAreNoPlans) {
  for (const std::string& bytes :
       {std::string("not a plan\n"), std::string(100000, '\0'),
        workspace_.read("model.mlir")}) {
    workspace_.write("plan.fb", bytes);
    expectError(kLogits, "LLMC-E060");
  }
  expectError("llmrt run nothing.fb --tokens=1 --output-logits=out.npy",
              "LLMC-E0103");
  expectError("llmrt run . --tokens=1 --output-logits=out.npy", "LLMC-E0103");
}

TEST_F(BadInput, PlanForAnotherNumberOfRanks) {
  if (mpiLauncher(1).empty())
    GTEST_SKIP() << "no mpirun on this machine";
  run("llmc compile model.mlir -o plan.fb --seq=64 --mesh=tp=3");
  std::map<std::string, uint64_t> before = workspace_.files();
  ToolEnd end = workspace_.run(
      mpiLauncher(2) +
      " run plan.fb --weights=random:1 --tokens=1 --output-logits=out.npy");
  EXPECT_NE(end.status, 0);
  EXPECT_THAT(end.errors, HasSubstr("llmrt: LLMC-E0605"));
  EXPECT_EQ(end.errors.find("LLMC-E"), end.errors.rfind("LLMC-E"))
      << end.errors; // once; mpirun adds lines of its own
  EXPECT_EQ(workspace_.files(), before);
}

TEST_F(BadInput, LowerCpuLevels) {
  // Float32 sums in another order; the same bound as for meshes.
  constexpr double kLevelBound = 1e-5;
  run("llmc compile model.mlir -o plan.fb --seq=64 --chunk=16");
  std::vector<Logits> results;
  for (const char* level : {"avx512", "avx2", "baseline"}) {
    run(std::string("LLMRT_CPU_LEVEL=") + level +
        " llmrt run plan.fb --weights=random:1 --output-logits=out.npy "
        "--tokens=1,200,3,4,50,6,7,8,90,10,11,12,13,140,15,16,17,18,190,20");
    results.push_back(readLogits(workspace_.path("out.npy")));
    ASSERT_EQ(results.back().size(), 20u);
    EXPECT_LT(relativeError(results.back(), results.front()), kLevelBound)
        << level;
  }
}

TEST_F(BadInput, MisspeltCpuLevelIsRefused) {
  run("llmc compile model.mlir -o plan.fb --seq=64");
  ToolEnd end = workspace_.run("LLMRT_CPU_LEVEL=avx513 llmrt run plan.fb "
                               "--weights=random:1 --tokens=1,2 "
                               "--output-logits=out.npy");
  EXPECT_EQ(end.status, 2);
  EXPECT_THAT(end.errors, testing::HasSubstr("LLMRT_CPU_LEVEL=avx513"));
  EXPECT_FALSE(workspace_.exists("out.npy"));
}

TEST_F(BadInput, RanksAgreeOnTheCpuLevel) {
  if (mpiLauncher(1).empty())
    GTEST_SKIP() << "no mpirun on this machine";
  run("llmc compile model.mlir -o plan.fb --seq=64 --mesh=tp=2");
  std::string run2 = " run plan.fb --weights=random:1 --tokens=1,2,3 "
                     "--threads=1 --output-logits=";
  run("LLMRT_CPU_LEVEL=baseline llmrt" + run2 + "low.npy");
  std::string launcher = mpiLauncher(1);
  launcher.insert(launcher.rfind("llmrt"), "env LLMRT_CPU_LEVEL=baseline ");
  run(launcher + run2 + "mixed.npy : -n 1 llmrt" + run2 + "mixed.npy");
  EXPECT_TRUE(workspace_.read("low.npy") == workspace_.read("mixed.npy"));
}

/// A checkpoint whose files a test may break.
class BadWeights : public BadInput {
protected:
  void copyFixture(const std::string& name) {
    std::filesystem::path fixture =
        environment("LLMC_SOURCE_DIR") + "/tests/fixtures/" + name;
    std::filesystem::create_directory(workspace_.path("weights"));
    for (const char* file : {"config.json", "model.safetensors", "model.gguf"})
      if (std::filesystem::exists(fixture / file))
        std::filesystem::copy_file(
            fixture / file, workspace_.path("weights/" + std::string(file)));
  }

  void expectRunError(const std::string& text) {
    expectError(std::string(kLogits), text);
  }
};

TEST_F(BadWeights, BrokenSafetensors) {
  copyFixture("llama2");
  run("llmc compile weights -o plan.fb --seq=64");
  std::string whole = workspace_.read("weights/model.safetensors");
  for (size_t size : {size_t(0), size_t(5), size_t(8), size_t(300),
                      whole.size() / 2, whole.size() - 1}) {
    workspace_.write("weights/model.safetensors", whole.substr(0, size));
    expectRunError("LLMC-E0301");
    expectError("llmc compile weights -o other.fb", "LLMC-E0301");
  }
  for (size_t position : {size_t(0), size_t(7), size_t(8), size_t(9)}) {
    std::string broken = whole;
    broken[position] ^= 0x40;
    workspace_.write("weights/model.safetensors", broken);
    expectRunError("LLMC-E0301");
  }
  // A name that the plan asks for is gone, then a shape is another.
  std::string renamed = whole;
  renamed.replace(renamed.find("model.norm.weight"), 5, "nodel");
  workspace_.write("weights/model.safetensors", renamed);
  expectRunError("model.norm.weight");
  std::string reshaped = whole;
  size_t at = reshaped.find("[127,40]");
  if (at == std::string::npos)
    at = reshaped.find("[127, 40]");
  ASSERT_NE(at, std::string::npos);
  reshaped.replace(at + 1, 3, "254").replace(reshaped.find("40", at), 2, "20");
  workspace_.write("weights/model.safetensors", reshaped);
  expectRunError("LLMC-E0921");
  std::filesystem::remove(workspace_.path("weights/model.safetensors"));
  expectRunError("LLMC-E0303");
  std::filesystem::remove_all(workspace_.path("weights"));
  expectRunError("LLMC-E0103");
}

TEST_F(BadWeights, BrokenGguf) {
  copyFixture("llama-quantized-gguf");
  run("llmc compile weights/model.gguf -o plan.fb --seq=64");
  std::string whole = workspace_.read("weights/model.gguf");
  for (size_t size : {size_t(0), size_t(3), size_t(20), size_t(700),
                      whole.size() / 2, whole.size() - 1}) {
    workspace_.write("weights/model.gguf", whole.substr(0, size));
    // A short file that does not begin as GGUF is read as safetensors.
    expectRunError(size < 4 ? "LLMC-E0301" : "LLMC-E0401");
    expectError("llmc compile weights/model.gguf -o other.fb", "LLMC-E0");
  }
  // Version, counts, length of the first key. (GGUF has no checksum: a changed
  // letter of a key that no weight depends on cannot be noticed.)
  for (size_t position = 4; position < 32; ++position) {
    std::string broken = whole;
    broken[position] ^= 0x80;
    workspace_.write("weights/model.gguf", broken);
    expectRunError("LLMC-E0");
  }
}

TEST_F(BadWeights, OfAnotherModel) {
  copyFixture("llama2");
  run("llmc compile weights -o plan.fb --seq=64");
  std::string other =
      environment("LLMC_SOURCE_DIR") + "/tests/fixtures/llama-9q3kv";
  expectError(std::string(kLogits) + "--weights='" + other + "'", "LLMC-E0");
  for (const char* mesh :
       {"tp=2", "dp=2 --zero=3", "dp=2,tp=2,pp=2 --zero=3"}) {
    run(std::string("llmc compile weights -o plan.fb --seq=64 --mesh=") + mesh);
    expectError(std::string(kLogits) + "--weights='" + other + "'", "LLMC-E0");
  }
  expectError(std::string(kLogits) + "--weights=random:x", "LLMC-E0923");
  expectError(std::string(kLogits) + "--weights=random:1 --weights=random:2",
              "LLMC-E0106");
}

TEST_F(BadInput, Tokenizers) {
  run("llmc compile model.mlir -o plan.fb --seq=64");
  std::string text = "llmrt run plan.fb --weights=random:1 --prompt=x --quiet ";
  expectError(text, "LLMC-E0908");
  expectError(text + "--tokenizer=nothing.json", "LLMC-E0");
  for (const char* bytes : {"", "{", "{}", "[]", "\xff\xfe"}) {
    workspace_.write("bad.json", bytes);
    expectError(text + "--tokenizer=bad.json", "LLMC-E050");
  }
  workspace_.write("bad.json",
                   workspace_.read("tokenizer.json").substr(0, 900));
  expectError(text + "--tokenizer=bad.json", "LLMC-E050");
  expectError(text + "--tokenizer=tokenizer.json --chat --chat-template=none",
              "LLMC-E0508");
  // A byte that this tokenizer has and this model has not.
  run("llmc import --new=llama,layers=1,hidden=16,heads=2,kv_heads=2,"
      "intermediate=32,vocab=100,context=64 -o small.mlir");
  run("llmc compile small.mlir -o plan.fb");
  expectError(text + "--tokenizer=tokenizer.json", "LLMC-E0");
}

TEST_F(BadInput, MeshesThatDoNotFit) {
  std::string compile = "llmc compile model.mlir -o plan.fb --mesh=";
  expectError(compile + "tp=10", "LLMC-E1002");
  expectError(compile + "pp=4", "LLMC-E1002");
  for (const char* mesh :
       {"tp=0", "tp=-1", "tp=65537", "tp=99999999999999999999", "tp=x",
        "tp=", "tp", "=2", "xx=2", "tp=2,tp=2", "tp=2,,pp=x", "tp=2.5"})
    expectError(compile + mesh, "LLMC-E1001");
  // Each axis fits, and their product is absurd.
  expectError(compile + "dp=65536,tp=9,pp=3", "LLMC-E1001");
  // More than threads of one process should be.
  run(compile + "dp=4096");
  expectError(std::string(kLogits) + "--weights=random:1", "LLMC-E0605");
}

TEST_F(BadInput, WhatThisVersionCannotDo) {
  std::string compile = "llmc compile model.mlir -o plan.fb ";
  expectError(compile + "--weights-format=q4_0", "LLMC-E1003");
  for (const char* option :
       {"--seq=-1", "--seq=99999999", "--batch=0", "--batch=9999999",
        "--chunk=0", "--zero=7", "--zero=1", "--mode=x", "--target=tpu",
        "--target=cuda:sm_70", "--target=cuda:sm_90,", "--target=cpu:ptx",
        "--dtype=f16", "--microbatches=2", "--mode=train --microbatches=2",
        "--mode=train --recompute=some"})
    expectError(compile + option, "LLMC-E");
  // Of an empty variable of a script.
  for (const char* option :
       {"--mesh=", "--mode=train --freeze=", "--mode=train --freeze=nothing",
        "--mode=train --freeze=*", "--mode=train --freeze=["})
    expectError(compile + option, "LLMC-E0102");
  expectError(compile + "--compile-to=nothing", "LLMC-E1006");
  expectError(compile + "--disable=nothing", "LLMC-E1005");
  expectError("llmc compile nothing.mlir -o plan.fb", "LLMC-E0103");
  expectError("llmc compile nothing -o plan.fb", "LLMC-E0");
  expectError("llmc compile model.mlir -o nothing/plan.fb", "LLMC-E0104");
}

TEST_F(BadInput, ModelText) {
  std::string text = workspace_.read("model.mlir");
  for (size_t size : {size_t(0), text.size() / 3, text.size() - 20}) {
    workspace_.write("bad.mlir", text.substr(0, size));
    expectError("llmc compile bad.mlir -o plan.fb", "LLMC-E");
  }
  for (const auto& [from, to] :
       std::vector<std::pair<std::string, std::string>>{
           {"llm.rms_norm", "llm.no_such_op"},
           {"heads = 9", "heads = 0"},
           {"kv_heads = 3", "kv_heads = 0"},
           {"hidden_size = 72", "hidden_size = \"a\""},
           {"context_length = 512", "context_length = -1"},
           {"vocab_size = 257", "vocab_size = 258"},
           {"layers = 3", "layers = -3"},
           {"vocab_size = 257", "vocab_size = 9223372036854775807"},
           {"tensor<257x72xf32>", "tensor<257x73xf32>"},
           {"llm.entry = \"forward\"", "llm.entry = \"backward\""}}) {
    std::string changed = text;
    size_t at = changed.find(from);
    ASSERT_NE(at, std::string::npos) << from;
    workspace_.write("bad.mlir", changed.replace(at, from.size(), to));
    expectError("llmc compile bad.mlir -o plan.fb --seq=64", "LLMC-E");
  }
}

TEST_F(BadInput, OptionsThatDoNothing) {
  run("llmc compile model.mlir -o plan.fb --seq=64");
  const std::string logits = "llmrt run plan.fb --weights=random:1 --tokens=1 "
                             "--output-logits=out.npy ";
  for (const char* option : {"--temperature=1", "--top-k=2", "--top-p=0.5",
                             "--seed=1", "--max-new-tokens=3"})
    expectError(logits + option, "LLMC-E0106");
  expectError("llmrt run plan.fb --weights=random:1 --prompt=x "
              "--logits-entry=decode",
              "LLMC-E0106");
  expectError(logits + "--chat-template=chatml", "LLMC-E0106");
  expectError("llmrt run plan.fb --weights=random:1 --prompt=x "
              "--chat-template=chatml",
              "LLMC-E0106");
  expectError(logits + "--threads=0", "LLMC-E0102");
  expectError(logits + "--chunk=0", "LLMC-E0102");
  expectError("llmc explain plan.fb ''", "LLMC-E0102");
}

TEST_F(BadInput, PromptLines) {
  run("llmc compile model.mlir -o plan.fb --seq=64");
  for (const std::string line :
       {"{", "[1]", "3", "{\"prompt\": 3}", "{\"prompt\": \"\"}", "\xff",
        "{\"label\": 1}", "{\"prompt\": \"a\", \"max_new_tokens\": -1}",
        "{\"prompt\": \"a\", \"temperature\": \"hot\"}"}) {
    workspace_.write("in.jsonl", "{\"prompt\": \"good\"}\n" + line + "\n");
    expectError("llmrt run plan.fb --weights=random:1 "
                "--tokenizer=tokenizer.json --prompts=in.jsonl "
                "--output=out.jsonl --quiet",
                "in.jsonl: line 2");
  }
  workspace_.write("in.jsonl",
                   "{\"prompt\": \"" + std::string(65, 'a') + "\"}");
  expectError("llmrt run plan.fb --weights=random:1 --tokenizer=tokenizer.json "
              "--prompts=in.jsonl --output=out.jsonl --quiet",
              "LLMC-E0903");
  expectError("llmrt run plan.fb --weights=random:1 --tokens=1,257 "
              "--output-logits=out.npy",
              "LLMC-E0904");
  expectError("llmrt run plan.fb --weights=random:1 --tokens=1,,2 "
              "--output-logits=out.npy",
              "LLMC-E0102");
  expectError("llmrt run plan.fb --weights=random:1 --tokens=1 "
              "--output-logits=nothing/out.npy",
              "LLMC-E0104");
}

} // namespace
} // namespace llmrt
