// SPDX-License-Identifier: Apache-2.0
// Export puts logical tensors back where they came from.
#include "runtime/checkpoint/ExportHuggingFace.h"

#include "runtime/io/Dequantize.h"
#include "runtime/io/WeightSource.h"
#include "tests/runtime/checkpoint/CheckpointCases.h"
#include "tests/runtime/io/FolderTest.h"

#include "absl/strings/str_cat.h"
#include "nlohmann/json.hpp"

#include <cstdlib>
#include <fstream>
#include <gmock/gmock.h>
#include <set>

namespace llmrt::testing {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

std::string readAll(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

std::vector<float> elementsOf(const WeightSource& source,
                              const std::string& name) {
  const SourceTensor* tensor = source.find(name);
  if (!tensor)
    return {};
  std::vector<float> values(tensor->numElements());
  EXPECT_TRUE(
      readElements(*tensor, 0, tensor->numElements(), values.data()).ok());
  return values;
}

class ExportTest : public FolderTest {
protected:
  void SetUp() override {
    FolderTest::SetUp();
    std::filesystem::create_directories(pathOf("source"));
    std::ofstream(pathOf("source/config.json"))
        << R"({"model_type":"gpt2","torch_dtype":"bfloat16","eps":1e-05})";
    std::ofstream(pathOf("source/tokenizer.json")) << "{\"a\": 1}";
    std::ofstream(pathOf("source/README.md")) << "not copied";
  }

  // q, k and v of a [3, 2] attention, transposed into one [2, 9] tensor.
  CheckpointRequest fusedRequest() {
    CheckpointRequest request;
    request.folder = pathOf("c");
    request.meta.step = 1;
    for (const char* name : {"v", "q", "k"}) {
      int64_t begin = name[0] == 'q' ? 0 : name[0] == 'k' ? 3 : 6;
      request.tensors.push_back(
          {name, CheckpointPart::Model, SourceType::F32, {3, 2}});
      request.meta.sources.push_back(
          {name, "c_attn.weight", true, begin, begin + 3});
      std::string bias = absl::StrCat(name, ".bias");
      request.tensors.push_back(
          {bias, CheckpointPart::Model, SourceType::F32, {3}});
      request.meta.sources.push_back(
          {bias, "c_attn.bias", false, begin, begin + 3});
    }
    request.tensors.push_back(
        {"head", CheckpointPart::Model, SourceType::BF16, {4, 5}});
    request.meta.sources.push_back({"head", "lm_head.weight", true});
    request.tensors.push_back(
        {"norm", CheckpointPart::Model, SourceType::BF16, {7}});
    request.tensors.push_back(
        {"q.moment1", CheckpointPart::Optimizer, SourceType::F32, {3, 2}});
    return request;
  }

  absl::StatusOr<ExportResult> exportTo(const std::string& out) {
    return exportHuggingFace({.checkpoint = pathOf("c"),
                              .source = pathOf("source"),
                              .out = pathOf(out)});
  }

  std::string errorOf(const std::string& out) {
    return std::string(exportTo(out).status().message());
  }
};

TEST_F(ExportTest, InvertsRowsAndTranspositions) {
  CheckpointRequest request = fusedRequest();
  ASSERT_TRUE(save(request, 1)[0].ok());
  auto result = exportTo("out/");
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_EQ(result->numTensors, 4);
  EXPECT_EQ(result->sizeBytes, 18 * 4 + 9 * 4 + 20 * 2 + 7 * 2);
  auto weights = WeightSource::open(pathOf("out"));
  ASSERT_TRUE(weights.ok()) << weights.status();
  EXPECT_EQ((*weights)->tensors().size(), 4u);
  ASSERT_EQ((*weights)->find("c_attn.weight")->shape,
            (std::vector<int64_t>{2, 9}));
  std::vector<float> fused = elementsOf(**weights, "c_attn.weight");
  std::vector<float> bias = elementsOf(**weights, "c_attn.bias");
  auto tensor = [&](const std::string& name) {
    for (const CheckpointTensor& t : request.tensors)
      if (t.name == name)
        return t;
    return CheckpointTensor();
  };
  const std::string names[] = {"q", "k", "v"};
  for (int64_t out = 0; out < 9; ++out) {
    EXPECT_EQ(bias[out], valueOf(tensor(names[out / 3] + ".bias"), out % 3, 1));
    for (int64_t in = 0; in < 2; ++in)
      EXPECT_EQ(fused[in * 9 + out],
                valueOf(tensor(names[out / 3]), out % 3 * 2 + in, 1));
  }
  std::vector<float> head = elementsOf(**weights, "lm_head.weight");
  ASSERT_EQ((*weights)->find("lm_head.weight")->shape,
            (std::vector<int64_t>{5, 4}));
  for (int64_t i = 0; i < 20; ++i)
    EXPECT_EQ(head[i % 5 * 4 + i / 5], valueOf(tensor("head"), i, 1));
  EXPECT_EQ(elementsOf(**weights, "norm").size(), 7u);
}

TEST_F(ExportTest, WritesWhatTransformersNeedsAndNothingElse) {
  ASSERT_TRUE(save(fusedRequest(), 1)[0].ok());
  ASSERT_TRUE(exportTo("out").ok());
  std::set<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(pathOf("out")))
    names.insert(entry.path().filename().string());
  EXPECT_THAT(names, ::testing::UnorderedElementsAre(
                         "config.json", "tokenizer.json", "model.safetensors"));
  auto config = nlohmann::json::parse(readAll(pathOf("out/config.json")));
  EXPECT_EQ(config["torch_dtype"], "float32");
  EXPECT_EQ(config["eps"], 1e-5);
  EXPECT_EQ(config["model_type"], "gpt2");
  EXPECT_THAT(readAll(pathOf("out/model.safetensors")),
              HasSubstr(R"("__metadata__":{"format":"pt"})"));
  EXPECT_EQ(numFiles(), 3u); // source, checkpoints, out
}

TEST_F(ExportTest, ConvertsSplitsAndReports) {
  ASSERT_TRUE(save(fusedRequest(), 1)[0].ok());
  int64_t lastDone = 0, lastTotal = 0;
  ExportRequest request = {.checkpoint = pathOf("c/step-00000001"),
                           .source = pathOf("source"),
                           .out = pathOf("out"),
                           .dtype = SourceType::BF16,
                           .progress =
                               [&](int64_t done, int64_t total) {
                                 EXPECT_GT(done, lastDone);
                                 lastDone = done;
                                 lastTotal = total;
                               },
                           .maxFileBytes = 50};
  ASSERT_TRUE(exportHuggingFace(request).ok());
  EXPECT_EQ(lastDone, 54 * 2);
  EXPECT_EQ(lastTotal, 54 * 2);
  auto weights = WeightSource::open(pathOf("out"));
  ASSERT_TRUE(weights.ok()) << weights.status();
  EXPECT_EQ((*weights)->find("c_attn.weight")->type, SourceType::BF16);
  EXPECT_TRUE(
      std::filesystem::exists(pathOf("out/model-00001-of-00004.safetensors")));
  auto config = nlohmann::json::parse(readAll(pathOf("out/config.json")));
  EXPECT_EQ(config["torch_dtype"], "bfloat16");
}

TEST_F(ExportTest, RefusesATargetThatHoldsSomething) {
  ASSERT_TRUE(save(fusedRequest(), 1)[0].ok());
  std::filesystem::create_directories(pathOf("empty"));
  EXPECT_TRUE(exportTo("empty").ok());
  EXPECT_THAT(errorOf("empty"), HasSubstr("LLMC-E1306"));
  EXPECT_THAT(errorOf("source/config.json"), HasSubstr("LLMC-E1306"));
  EXPECT_THAT(errorOf("source/config.json/x"), HasSubstr("LLMC-E0104"));
}

TEST_F(ExportTest, RefusesSourcesWithoutConfiguration) {
  CheckpointRequest request = fusedRequest();
  ASSERT_TRUE(save(request, 1)[0].ok());
  std::filesystem::remove(pathOf("source/config.json"));
  EXPECT_THAT(errorOf("out"),
              AllOf(HasSubstr("LLMC-E1307"), HasSubstr("no config.json in")));
  std::ofstream(pathOf("source/m.gguf")) << "GGUF";
  EXPECT_THAT(errorOf("out"),
              AllOf(HasSubstr("LLMC-E1307"), HasSubstr("GGUF")));
  EXPECT_THAT(std::string(exportHuggingFace({.checkpoint = pathOf("c"),
                                             .source = pathOf("source/m.gguf"),
                                             .out = pathOf("out")})
                              .status()
                              .message()),
              HasSubstr("LLMC-E1307"));
  // A configuration beside it does not help if the names are GGUF's.
  std::ofstream(pathOf("source/config.json")) << "{}";
  request.meta.sources.back().source = "token_embd.weight";
  ASSERT_TRUE(save(request, 1)[0].ok());
  EXPECT_THAT(errorOf("out"), HasSubstr("LLMC-E1307"));
  EXPECT_FALSE(std::filesystem::exists(pathOf("out")));
}

TEST_F(ExportTest, RefusesMapsThatDoNotFit) {
  auto errorWith = [&](const std::function<void(CheckpointRequest&)>& change) {
    CheckpointRequest request = fusedRequest();
    change(request);
    EXPECT_TRUE(save(request, 1)[0].ok());
    return errorOf("out");
  };
  auto source = [](CheckpointRequest& request,
                   const std::string& name) -> CheckpointSource& {
    for (CheckpointSource& entry : request.meta.sources)
      if (entry.name == name)
        return entry;
    return request.meta.sources[0];
  };
  EXPECT_THAT(
      errorWith([&](CheckpointRequest& r) { source(r, "k").source = "other"; }),
      AllOf(HasSubstr("LLMC-E1308"), HasSubstr("from 3 are missing")));
  EXPECT_THAT(errorWith([&](CheckpointRequest& r) {
                source(r, "k").rowBegin = 0;
                source(r, "k").rowEnd = 3;
              }),
              AllOf(HasSubstr("LLMC-E1308"), HasSubstr("given twice")));
  EXPECT_THAT(
      errorWith([&](CheckpointRequest& r) { source(r, "q.bias").rowEnd = 2; }),
      HasSubstr("LLMC-E1308"));
  EXPECT_THAT(errorWith([&](CheckpointRequest& r) {
                source(r, "q").isTransposed = false;
              }),
              HasSubstr("LLMC-E1308"));
  EXPECT_THAT(errorWith([&](CheckpointRequest& r) {
                source(r, "head").source = "c_attn.weight";
              }),
              HasSubstr("LLMC-E1308"));
}

TEST_F(ExportTest, ComparesWithTheWeightsOfTheSource) {
  ASSERT_TRUE(save(fusedRequest(), 1)[0].ok());
  ASSERT_TRUE(exportTo("out").ok());
  std::filesystem::copy(pathOf("out/model.safetensors"),
                        pathOf("source/model.safetensors"));
  EXPECT_TRUE(exportTo("again").ok());
  EXPECT_EQ(readAll(pathOf("out/model.safetensors")),
            readAll(pathOf("again/model.safetensors")));
  CheckpointRequest request = fusedRequest();
  request.meta.sources.pop_back();
  ASSERT_TRUE(save(request, 1)[0].ok());
  EXPECT_THAT(errorOf("x"),
              AllOf(HasSubstr("LLMC-E1308"), HasSubstr("tensor head"),
                    HasSubstr("no such tensor")));
  request = fusedRequest();
  request.tensors[request.tensors.size() - 2].shape = {8};
  ASSERT_TRUE(save(request, 1)[0].ok());
  EXPECT_THAT(errorOf("x"),
              AllOf(HasSubstr("LLMC-E1308"), HasSubstr("shape is [8]")));
}

TEST_F(ExportTest, DamagedCheckpointLeavesNothing) {
  ASSERT_TRUE(save(fusedRequest(), 1)[0].ok());
  std::fstream file(pathOf("c/step-00000001/model.safetensors"),
                    std::ios::in | std::ios::out | std::ios::binary);
  file.seekp(-1, std::ios::end).put('\x55');
  file.close();
  EXPECT_THAT(
      std::string(exportHuggingFace({.checkpoint = pathOf("c/step-00000001"),
                                     .source = pathOf("source"),
                                     .out = pathOf("out")})
                      .status()
                      .message()),
      HasSubstr("LLMC-E1302"));
  EXPECT_EQ(numFiles(), 2u);
}

// A model of transformers, through a checkpoint and back: the same bits.
TEST_F(ExportTest, RealModelRoundTrip) {
  const char* data = std::getenv("LLMC_TEST_DATA");
  std::string hf = absl::StrCat(data ? data : "", "/stories260K/hf");
  if (!data || !std::filesystem::exists(hf))
    GTEST_SKIP() << "no stories260K in LLMC_TEST_DATA";
  auto source = WeightSource::open(hf);
  ASSERT_TRUE(source.ok()) << source.status();
  CheckpointRequest request;
  request.folder = pathOf("real");
  request.meta.step = 1;
  for (const SourceTensor& tensor : (*source)->tensors()) {
    request.tensors.push_back({"logical." + tensor.name, CheckpointPart::Model,
                               SourceType::F32, tensor.shape});
    request.meta.sources.push_back({"logical." + tensor.name, tensor.name});
  }
  auto writer = CheckpointWriter::begin(request, nullptr);
  ASSERT_TRUE(writer.ok()) << writer.status();
  for (const SourceTensor& tensor : (*source)->tensors())
    (void)(*writer)->write("logical." + tensor.name, 0,
                           elementsOf(**source, tensor.name));
  ASSERT_TRUE((*writer)->commit().ok());
  auto result = exportHuggingFace(
      {.checkpoint = pathOf("real"), .source = hf, .out = pathOf("out")});
  ASSERT_TRUE(result.ok()) << result.status();
  auto back = WeightSource::open(pathOf("out"));
  ASSERT_TRUE(back.ok()) << back.status();
  ASSERT_EQ((*back)->tensors().size(), (*source)->tensors().size());
  for (const SourceTensor& tensor : (*source)->tensors())
    EXPECT_EQ(elementsOf(**back, tensor.name),
              elementsOf(**source, tensor.name))
        << tensor.name;
}

} // namespace
} // namespace llmrt::testing
