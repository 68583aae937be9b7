// SPDX-License-Identifier: Apache-2.0
// Plans for cuda without a GPU: every family and every way to cut a model
// compiles to a plan that the reader accepts, the same bytes each time; what
// has no CUDA form is refused; and where no GPU is, a run says so. What needs
// ptxas is skipped without it, and the rest is compiled to PTX.
#include "runtime/plan/PlanFile.h"
#include "tests/e2e/Workspace.h"

#include <cstdlib>
#include <filesystem>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

namespace llmrt {
namespace {

using nlohmann::json;
using testing::HasSubstr;

constexpr const char* kNoToolkit = "PATH=\"$LLMC_BIN_DIR:/usr/bin:/bin\" "
                                   "CUDA_HOME=/nonexistent ";

std::string fixture(const std::string& family) {
  return std::string(std::getenv("LLMC_SOURCE_DIR")) + "/tests/fixtures/" +
         family;
}

class CudaPlan : public testing::Test {
protected:
  void SetUp() override { ASSERT_EQ(writeByteModel(workspace_), ""); }

  /// Compiles and returns what llmc inspect says of the plan.
  json compile(const std::string& arguments) {
    ToolEnd end = workspace_.run("llmc compile " + arguments + " -o plan.fb");
    EXPECT_EQ(end.status, 0) << arguments << "\n" << end.errors;
    ToolEnd shown = workspace_.run("llmc inspect plan.fb --output=json");
    EXPECT_EQ(shown.status, 0) << shown.errors;
    return json::parse(shown.output, nullptr, /*allow_exceptions=*/false);
  }

  bool hasPtxas() {
    return workspace_.run("ptxas --version").status == 0 ||
           std::filesystem::exists("/usr/local/cuda/bin/ptxas");
  }

  Workspace workspace_;
};

TEST_F(CudaPlan, HoldsACubinForEachArchitectureNamed) {
  if (!hasPtxas())
    GTEST_SKIP() << "ptxas of a CUDA toolkit was not found";
  json plan = compile("model.mlir --seq=64 --target=cuda:sm_90,sm_80,ptx");
  EXPECT_EQ(plan["target"], "cuda");
  EXPECT_THAT(std::string(plan["options"]),
              HasSubstr("target = \"cuda:sm_80,sm_90,ptx\""));
  std::vector<std::string> code;
  for (const json& image : plan["code"])
    code.push_back(std::string(image["target"]) + " " +
                   std::string(image["level"]));
  EXPECT_EQ(code, (std::vector<std::string>{"cuda sm_80", "cuda sm_90",
                                            "cuda-ptx sm_80"}));
  std::string first = workspace_.read("plan.fb");
  compile("model.mlir --seq=64 --target=cuda:sm_80,sm_90,ptx");
  EXPECT_TRUE(first == workspace_.read("plan.fb"));
  EXPECT_TRUE(readPlan(std::vector<uint8_t>(first.begin(), first.end())).ok());
}

TEST_F(CudaPlan, HasRowMajorWeightsItsOwnTilesAndNoSlots) {
  json plan = compile("model.mlir --seq=64 --target=cuda:ptx");
  for (const json& stage : plan["stages"])
    for (const json& parameter : stage["parameters"])
      EXPECT_EQ(parameter["layout"], "row_major") << parameter;
  for (const json& kernel : plan["kernels"]) {
    if (kernel["kind"] != "generated")
      continue;
    EXPECT_EQ(kernel["row_tile"], 1) << kernel;
    EXPECT_TRUE(kernel["column_tile"] == 0 || kernel["column_tile"] == 1024)
        << kernel;
  }
  ToolEnd shown = workspace_.run("llmc inspect plan.fb --output=disassembly");
  EXPECT_THAT(shown.output, HasSubstr("code cuda-ptx sm_80: "));
  EXPECT_THAT(shown.output, testing::Not(HasSubstr("slot0")));
  ToolEnd text = workspace_.run("llmc inspect plan.fb");
  EXPECT_THAT(text.output, HasSubstr("infer on cuda in f32"));
}

TEST_F(CudaPlan, IsMadeOfEveryFamilyAndEveryMesh) {
  for (const char* family : {"gemma2", "gemma3", "gpt2", "llama2", "llama3",
                             "mistral", "qwen2", "qwen3", "llama-9q3kv"})
    for (const char* options : {"--dtype=f32", "--dtype=bf16 --batch=3"}) {
      SCOPED_TRACE(std::string(family) + " " + options);
      json plan =
          compile(fixture(family) + " --seq=64 --target=cuda:ptx " + options);
      EXPECT_EQ(plan["target"], "cuda");
    }
  for (const char* options :
       {"--mesh=tp=2", "--mesh=tp=3 --sequence-parallel=false", "--mesh=pp=3",
        "--mesh=dp=2 --zero=3 --batch=2", "--mesh=dp=2,pp=3,tp=3 --zero=3",
        "--disable=fuse-row-ops,fuse-rope-append,merge-linears"}) {
    SCOPED_TRACE(options);
    json plan = compile(std::string("model.mlir --seq=64 --target=cuda:ptx ") +
                        options);
    EXPECT_EQ(plan["target"], "cuda");
  }
}

/// Names of the kernels that an entry of a plan for one rank launches.
std::vector<std::string> launchesOf(const json& plan, const char* entry) {
  std::vector<std::string> launches;
  for (const json& program : plan["stages"][0]["programs"])
    if (program["entry"] == entry)
      for (const json& command : program["commands"])
        if (command["kind"] == "launch")
          launches.push_back(command["kernel"]);
  return launches;
}

/// True if decode is whole layers of these launches, between what comes before
/// the first one and the head with `sample`. Returns how many.
size_t expectLayers(const json& plan, const std::vector<std::string>& layer,
                    const std::vector<std::string>& head) {
  std::vector<std::string> launches = launchesOf(plan, "decode");
  const auto size = static_cast<int64_t>(layer.size());
  auto begin = std::find(launches.begin(), launches.end(), layer[0]);
  // Embedding of tokens, of positions, scale or sum.
  EXPECT_LE(begin - launches.begin(), 3);
  size_t numLayers = 0;
  for (; launches.end() - begin >= size && *begin == layer[0]; begin += size) {
    EXPECT_EQ(std::vector<std::string>(begin, begin + size), layer);
    ++numLayers;
  }
  EXPECT_GE(numLayers, 2u);
  EXPECT_EQ(std::vector<std::string>(begin, launches.end()), head);
  return numLayers;
}

// Issue 4: kernels per layer in decode at most 5.
TEST_F(CudaPlan, DecodesWithFiveLaunchesALayer) {
  const std::vector<std::string> layer = {"linear_rope_append", "attention",
                                          "fused_linear", "fused_linear",
                                          "fused_linear"};
  for (const char* family : {"gemma2", "gemma3", "gpt2", "llama2", "llama3",
                             "mistral", "qwen2", "qwen3", "llama-9q3kv"})
    for (const char* batch : {"1", "4", "16"}) {
      SCOPED_TRACE(std::string(family) + " batch " + batch);
      json plan = compile(fixture(family) + " --seq=64 --target=cuda:ptx " +
                          "--batch=" + batch);
      const size_t numLayers =
          expectLayers(plan, layer, {"fused_linear", "sample"});
      // Many rows are bound by arithmetic: what a library has epilogues for is
      // behind a product, a norm is not. The head sees one row.
      const std::string name = family;
      const size_t perLayer = name == "gpt2"                ? 3
                              : name.rfind("gemma", 0) == 0 ? 0
                                                            : 2;
      std::vector<std::string> score = launchesOf(plan, "score");
      EXPECT_EQ(std::count(score.begin(), score.end(), "fused_linear"),
                perLayer * numLayers);
      EXPECT_EQ(launchesOf(plan, "prefill").end()[-2], "fused_linear");
    }
  json plan = compile("model.mlir --seq=64 --target=cuda:ptx "
                      "--disable=fuse-few-row-products");
  for (const std::string& kernel : launchesOf(plan, "decode"))
    EXPECT_NE(kernel, "fused_linear");
  plan = compile("model.mlir --seq=64 --target=cuda:ptx "
                 "--disable=fuse-many-row-products");
  for (const std::string& kernel : launchesOf(plan, "score"))
    EXPECT_NE(kernel, "fused_linear");
}

struct BlockModel {
  const char* fixture;
  const char* format;
};

constexpr BlockModel kBlockModels[] = {{"qwen3-q8_0-gguf", "q8_0"},
                                       {"qwen2-q4_0-gguf", "q4_0"}};

std::string inBlocks(const BlockModel& model, const std::string& options) {
  return fixture(model.fixture) +
         "/model.gguf --seq=64 --weights-format=" + model.format + " " +
         options;
}

TEST_F(CudaPlan, HoldsMatricesInBlocks) {
  for (const BlockModel& model : kBlockModels)
    for (const char* dtype : {"f32", "bf16"}) {
      SCOPED_TRACE(std::string(model.format) + " " + dtype);
      json plan =
          compile(inBlocks(model, "--target=cuda:ptx --dtype=") + dtype);
      const json& stage = plan["stages"][0];
      int64_t parameterBytes = 0;
      bool hasFourBits = false;
      for (const json& parameter : stage["parameters"]) {
        int64_t elements = 1;
        for (int64_t size : parameter["shape"])
          elements *= size;
        const std::string layout = parameter["layout"];
        hasFourBits |= layout == "q4_0";
        if (parameter["shape"].size() == 1) {
          EXPECT_EQ(layout, "row_major") << parameter;
          elements *= 4;
        } else {
          const std::string name = parameter["name"];
          const bool isTable = name.find("embed") != std::string::npos ||
                               name.find("head") != std::string::npos;
          EXPECT_EQ(layout, isTable ? "q8_0" : model.format) << name;
          elements = elements / 32 * (layout == "q8_0" ? 34 : 18);
        }
        const json& buffer = stage["buffers"][int(parameter["buffer"])];
        EXPECT_EQ(buffer["bytes"], elements) << parameter;
        EXPECT_EQ(buffer["padding_bytes"], 0) << parameter;
        parameterBytes += elements;
      }
      EXPECT_EQ(hasFourBits, std::string(model.format) == "q4_0");
      for (const json& row : plan["memory"])
        if (row["class"] == "parameters") {
          EXPECT_EQ(row["bytes"], parameterBytes) << row;
        }
      EXPECT_THAT(
          std::string(plan["options"]),
          HasSubstr(std::string("weights_format = \"") + model.format + "\""));
    }
}

TEST_F(CudaPlan, DecodesBlocksWithAsManyLaunches) {
  const std::vector<std::string> layer = {"linear_rope_append", "attention",
                                          "fused_linear", "fused_linear",
                                          "fused_linear"};
  for (const BlockModel& model : kBlockModels) {
    for (const char* batch : {"1", "4", "16"}) {
      SCOPED_TRACE(std::string(model.format) + " batch " + batch);
      json plan =
          compile(inBlocks(model, "--target=cuda:ptx --batch=") + batch);
      expectLayers(plan, layer, {"fused_linear", "sample"});
      // Many rows have a kernel of their own.
      for (const char* entry : {"prefill", "score"})
        for (const std::string& kernel : launchesOf(plan, entry))
          EXPECT_NE(kernel, "linear");
    }
    // Sums over ranks stand before the residuals.
    json plan = compile(inBlocks(model, "--target=cuda:ptx --mesh=tp=2"));
    std::vector<std::string> launches = launchesOf(plan, "decode");
    EXPECT_EQ(
        std::count(launches.begin(), launches.end(), "linear_rope_append"), 2);
    EXPECT_LE(launches.size(), 2 * 7 + 5u);
    // Without fusion every product is still one of blocks.
    plan = compile(
        inBlocks(model, "--target=cuda:ptx --disable=fuse-few-row-products"));
    launches = launchesOf(plan, "decode");
    EXPECT_EQ(std::count(launches.begin(), launches.end(), "linear_quantized"),
              2 * 7 + 1);
    EXPECT_EQ(std::count(launches.begin(), launches.end(), "linear"), 0);
  }
}

TEST_F(CudaPlan, RefusesBlocksThatNobodyCanRead) {
  auto expectError = [&](const std::string& arguments, const std::string& code,
                         const std::string& what) {
    SCOPED_TRACE(arguments);
    ToolEnd end = workspace_.run("llmc compile " + arguments + " -o plan.fb");
    EXPECT_NE(end.status, 0);
    EXPECT_THAT(end.errors, HasSubstr(code));
    EXPECT_THAT(end.errors, HasSubstr(what));
    EXPECT_FALSE(workspace_.exists("plan.fb"));
  };
  const BlockModel& model = kBlockModels[0];
  expectError(inBlocks(model, ""), "LLMC-E1003", "--target=cuda");
  expectError(inBlocks(model, "--target=cuda:ptx --mode=train"), "LLMC-E1003",
              "--weights-format=dense");
  expectError(inBlocks(model, "--target=cuda:ptx --mesh=tp=3"), "LLMC-E1002",
              "inside a block of 32 elements of q8_0");
  expectError(inBlocks(model, "--target=cuda:ptx --mesh=dp=2 --zero=3"),
              "LLMC-E1003", "use --zero=0");
  expectError("model.mlir --seq=64 --target=cuda:ptx --weights-format=q8_0",
              "LLMC-E1003", "a block has 32");
  expectError("model.mlir --seq=64 --target=cuda:ptx --weights-format=q8_1",
              "LLMC-E0102", "q8_0");
}

TEST_F(CudaPlan, NeedsNoPtxasForPtxAlone) {
  ToolEnd end = workspace_.run(std::string(kNoToolkit) +
                               "llmc compile model.mlir --seq=64 "
                               "--target=cuda -o plan.fb");
  EXPECT_EQ(end.status, 1) << end.errors;
  EXPECT_THAT(end.errors, HasSubstr("llmc: LLMC-E1009: no ptxas"));
  EXPECT_THAT(end.errors, HasSubstr("--target=cuda:ptx"));
  EXPECT_FALSE(workspace_.exists("plan.fb"));
  end = workspace_.run(std::string(kNoToolkit) +
                       "llmc compile model.mlir --seq=64 --target=cuda:ptx "
                       "-o plan.fb");
  EXPECT_EQ(end.status, 0) << end.errors;
}

TEST_F(CudaPlan, IsNotMadeOfADumpForTheCpu) {
  ToolEnd end = workspace_.run(
      "llmc compile model.mlir --seq=64 --compile-to=kernels -o cpu.mlir && "
      "sed 's/target = \"cpu\"/target = \"cuda:ptx\"/' cpu.mlir > cuda.mlir && "
      "llmc compile cuda.mlir --compile-from=kernels -o plan.fb");
  EXPECT_EQ(end.status, 1) << end.errors;
  EXPECT_THAT(end.errors, HasSubstr("LLMC-E1003"));
  EXPECT_THAT(end.errors, HasSubstr("slots"));
}

TEST_F(CudaPlan, HasKernelsThatTheCpuRefuses) {
  ToolEnd end = workspace_.run(
      "llmc compile model.mlir --seq=64 --target=cuda:ptx "
      "--compile-to=kernels -o cuda.mlir && "
      "sed 's/target = \"cuda:ptx\"/target = \"cpu\"/' cuda.mlir > cpu.mlir && "
      "llmc compile cpu.mlir --compile-from=kernels -o plan.fb");
  EXPECT_EQ(end.status, 1) << end.errors;
  EXPECT_THAT(end.errors, HasSubstr("LLMC-E1003: kernel "));
  EXPECT_THAT(end.errors, HasSubstr("exists on cuda only"));
}

TEST_F(CudaPlan, SaysThatThereIsNoGpu) {
  if (std::filesystem::exists("/dev/nvidia0"))
    GTEST_SKIP() << "this machine has a GPU";
  compile("model.mlir --seq=64 --target=cuda:ptx");
  ToolEnd end =
      workspace_.run("llmrt run plan.fb --weights=random:1 --tokens=1,2,3 "
                     "--output-logits=out.npy --timeout=20");
  EXPECT_EQ(end.status, 1) << end.errors;
  EXPECT_THAT(end.errors, HasSubstr("llmrt: LLMC-E0805: "));
  EXPECT_EQ(std::count(end.errors.begin(), end.errors.end(), '\n'), 1)
      << end.errors;
  EXPECT_FALSE(workspace_.exists("out.npy"));
}

} // namespace
} // namespace llmrt
