// SPDX-License-Identifier: Apache-2.0
// Which file of a folder is opened, indexes, and names.
#include "runtime/io/WeightSource.h"

#include "runtime/io/Dequantize.h"
#include "runtime/io/Safetensors.h"
#include "tests/runtime/io/FolderTest.h"
#include "tests/runtime/io/Golden.h"
#include "tests/support/GgufWriter.h"

#include <gmock/gmock.h>

namespace llmrt {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

class WeightSourceTest : public testing::FolderTest {
protected:
  // One file of one-element F32 tensors, each holding its place in the list.
  void writePart(const std::string& file,
                 const std::vector<std::string>& names) {
    std::vector<TensorDeclaration> tensors;
    std::vector<float> data;
    for (const std::string& name : names) {
      tensors.push_back({name, SourceType::F32, {1}});
      data.push_back(static_cast<float>(data.size()));
    }
    absl::StatusOr<SafetensorsWriter> writer =
        SafetensorsWriter::create(pathOf(file), tensors, {});
    ASSERT_TRUE(writer.ok()) << writer.status();
    ASSERT_TRUE(writer
                    ->append({reinterpret_cast<const uint8_t*>(data.data()),
                              data.size() * sizeof(float)})
                    .ok());
    ASSERT_TRUE(writer->finish().ok());
  }

  std::string messageOf(const std::string& path) {
    auto source = WeightSource::open(path);
    return source.ok() ? "ok" : std::string(source.status().message());
  }
};

TEST_F(WeightSourceTest, OpensAnIndexedFolder) {
  writePart("model-1.safetensors", {"a", "b"});
  writePart("model-2.safetensors", {"c", "not in the index"});
  writePart("model.safetensors", {"ignored beside an index"});
  ASSERT_TRUE(testing::writeFile(pathOf("model.safetensors.index.json"),
                                 R"({"metadata":{"total_size":12},"weight_map":{
        "a":"model-1.safetensors","c":"model-2.safetensors",
        "b":"model-1.safetensors"}})"));
  auto source = WeightSource::open(folder_);
  ASSERT_TRUE(source.ok()) << source.status();
  EXPECT_THAT((*source)->names(), ElementsAre("a", "b", "c"));
  float value = 0;
  ASSERT_TRUE(readElements(*(*source)->find("b"), 0, 1, &value).ok());
  EXPECT_EQ(value, 1.0f);
  EXPECT_EQ((*source)->gguf(), nullptr);
  EXPECT_EQ(messageOf(pathOf("model.safetensors.index.json")), "ok");
}

TEST_F(WeightSourceTest, RefusesABadIndex) {
  writePart("model-1.safetensors", {"a"});

  struct Case {
    const char *index, *message;
  };

  const Case cases[] = {
      {"", "no object named weight_map"},
      {"[]", "no object named weight_map"},
      {R"({"weight_map":[]})", "no object named weight_map"},
      {R"({"weight_map":{"a":1}})", "tensor a names no file"},
      {R"({"weight_map":{"a":""}})", "tensor a names no file"},
      {R"({"weight_map":{"a":"../x"}})", "tensor a names no file"},
      {R"({"weight_map":{"b":"model-1.safetensors"}})",
       "model-1.safetensors does not hold tensor b"},
      {R"({"weight_map":{"a":"model-9.safetensors"}})", "LLMC-E0103"},
  };
  for (const Case& c : cases) {
    ASSERT_TRUE(
        testing::writeFile(pathOf("model.safetensors.index.json"), c.index));
    EXPECT_THAT(messageOf(folder_), HasSubstr(c.message)) << c.index;
  }
}

TEST_F(WeightSourceTest, ChoosesTheFileOfAFolder) {
  EXPECT_THAT(messageOf(folder_), HasSubstr("LLMC-E0303: no weights in"));
  EXPECT_THAT(messageOf(pathOf("none")), HasSubstr("LLMC-E0103"));
  testing::GgufWriter gguf;
  gguf.addText("general.architecture", "llama");
  gguf.addTensor("g", SourceType::F32, {1}, "abcd");
  ASSERT_TRUE(testing::writeFile(pathOf("x.gguf"), gguf.serialize()));
  auto source = WeightSource::open(folder_);
  ASSERT_TRUE(source.ok()) << source.status();
  EXPECT_EQ(*(*source)->gguf()->readText("general.architecture"), "llama");
  EXPECT_NE((*source)->find("g"), nullptr);
  ASSERT_TRUE(testing::writeFile(pathOf("y.gguf"), gguf.serialize()));
  EXPECT_THAT(messageOf(folder_),
              HasSubstr("LLMC-E0304: " + folder_ + " holds 2 .gguf files"));
  writePart("model.safetensors", {"s"});
  EXPECT_NE((*WeightSource::open(folder_))->find("s"), nullptr);
  EXPECT_NE((*WeightSource::open(pathOf("y.gguf")))->find("g"), nullptr);
}

TEST_F(WeightSourceTest, SuggestsTheNearestName) {
  writePart("model.safetensors", {"lm_head.weight", "norm.weight"});
  auto source = WeightSource::open(folder_);
  EXPECT_EQ((*source)->find("lm_head"), nullptr);
  EXPECT_TRUE((*source)->require("norm.weight").ok());
  EXPECT_THAT((*source)->require("lm_heads.weight").status().message(),
              HasSubstr("has no tensor lm_heads.weight (the nearest name is "
                        "lm_head.weight)"));
}

} // namespace
} // namespace llmrt
