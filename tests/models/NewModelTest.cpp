// SPDX-License-Identifier: Apache-2.0
// --new: parameter counts against the published ones, and what it refuses.
#include "tests/models/ModelText.h"

#include "gmock/gmock.h"

namespace llmc {
namespace {

using testing::HasSubstr;

struct PublishedModel {
  const char* spec;
  int64_t numParameters;
};

class PublishedTest : public testing::TestWithParam<PublishedModel> {};

TEST_P(PublishedTest, HasAsManyParameters) {
  mlir::MLIRContext context;
  auto module = newModel(context, GetParam().spec);
  ASSERT_TRUE(module.ok()) << module.status();
  EXPECT_EQ(numParameters(**module), GetParam().numParameters);
}

INSTANTIATE_TEST_SUITE_P(
    All, PublishedTest,
    testing::Values(
        PublishedModel{"llama", 6738415616}, // Llama 2 7B
        PublishedModel{"llama,vocab=128256,hidden=2048,layers=16,heads=32,"
                       "kv_heads=8,intermediate=8192,tied=1",
                       1235814400}, // Llama 3.2 1B
        PublishedModel{"llama,vocab=49152,hidden=576,layers=30,heads=9,"
                       "kv_heads=3,intermediate=1536,tied=1",
                       134515008}, // SmolLM2 135M
        PublishedModel{"llama,vocab=128256,hidden=8192,layers=80,heads=64,"
                       "kv_heads=8,intermediate=28672",
                       70553706496},           // Llama 3 70B
        PublishedModel{"mistral", 7241732096}, // 7B v0.1
        PublishedModel{"qwen2", 494032768},    // 2.5 0.5B
        PublishedModel{"qwen3", 596049920},    // 0.6B
        PublishedModel{"gemma2", 2614341888},  // 2B
        PublishedModel{"gemma3", 999885952},   // 1B
        PublishedModel{"gpt2", 124439808},
        PublishedModel{"gpt2,layers=24,hidden=1024,heads=16", 354823168}));

// Its tensors have the names that a checkpoint of the family has, for export.
TEST(NewModelTest, HasInitialisersAndNoCheckpoint) {
  mlir::MLIRContext context;
  auto module = newModel(context, "gpt2,layers=2,hidden=48,heads=3,vocab=64");
  ASSERT_TRUE(module.ok()) << module.status();
  std::string text = textOf(**module);
  EXPECT_THAT(text, HasSubstr("init <normal, 2.000000e-02>"));
  EXPECT_THAT(text, HasSubstr("init <normal, 1.000000e-02>"));
  EXPECT_THAT(text, HasSubstr("init <ones>"));
  EXPECT_THAT(text, testing::Not(HasSubstr("source = ")));
  EXPECT_THAT(text, HasSubstr("source \"transformer.h.0.attn.c_attn.weight\" "
                              "transposed"));
  EXPECT_THAT(text, HasSubstr("GPT2LMHeadModel"));
}

TEST(NewModelTest, ExampleIsWhatItsCommandMakes) {
  std::string path =
      environmentPath("LLMC_SOURCE_DIR") + "/models/examples/tiny-llama.mlir";
  std::string text = readText(path);
  size_t begin = text.find("--new=") + 6;
  std::string spec = text.substr(begin, text.find(' ', begin) - begin);
  mlir::MLIRContext context;
  auto module = newModel(context, spec);
  ASSERT_TRUE(module.ok()) << module.status();
  auto example = mlir::parseSourceString<mlir::ModuleOp>(text, &context);
  ASSERT_TRUE(example);
  EXPECT_EQ(textOf(*example), textOf(**module));
}

struct BadSpec {
  const char* spec;
  const char* message;
};

class BadSpecTest : public testing::TestWithParam<BadSpec> {};

TEST_P(BadSpecTest, IsRefused) {
  mlir::MLIRContext context;
  auto module = newModel(context, GetParam().spec);
  ASSERT_FALSE(module.ok());
  EXPECT_THAT(std::string(module.status().message()),
              HasSubstr(GetParam().message));
}

INSTANTIATE_TEST_SUITE_P(
    All, BadSpecTest,
    testing::Values(BadSpec{"", "LLMC-E0207"},
                    BadSpec{"lama", "did you mean llama?"},
                    BadSpec{"llama,layer=2", "did you mean layers?"},
                    BadSpec{"llama,layers", "LLMC-E0210"},
                    BadSpec{"llama,layers=", "layers needs an integer"},
                    BadSpec{"llama,layers=2.5", "layers needs an integer"},
                    BadSpec{"llama,layers=0", "LLMC-E0204: field layers"},
                    BadSpec{"llama,layers=99999999999999999999", "LLMC-E0210"},
                    BadSpec{"llama,hidden=-64", "LLMC-E0204"},
                    BadSpec{"llama,heads=3", "LLMC-E0205"},
                    BadSpec{"llama,heads=32,kv_heads=5", "LLMC-E0205"},
                    BadSpec{"llama,hidden=33,heads=11", "even width"},
                    BadSpec{"llama,layers=2,layers=3", "given twice"},
                    BadSpec{"llama,window=8", "LLMC-E0206: field window"},
                    BadSpec{"gpt2,kv_heads=2", "LLMC-E0206: field kv_heads"},
                    BadSpec{"gpt2,rope_theta=2", "LLMC-E0206"},
                    BadSpec{"llama,eps=-1", "LLMC-E0204: field eps"},
                    BadSpec{"llama,,", "LLMC-E0210"}));

} // namespace
} // namespace llmc
