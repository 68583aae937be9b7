// SPDX-License-Identifier: Apache-2.0
// Rules of generated code that no single kernel shows: fused kernels give the
// bits of their parts, heads those of rows, images their bytes again; and what
// is refused.
#include "tests/codegen/GeneratedKernels.h"
#include "tests/codegen/KernelRun.h"

#include <filesystem>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace llmc {
namespace {

using testing::HasSubstr;

/// Every kernel takes rows [?, 36] (no multiple of 16) and is called by `call`.
const char* const kParts = R"(
  plan.kernel @add elementwise {
  ^bb0(%x: tensor<?x36xf32>, %y: tensor<?x36xf32>):
    %0 = llm.add %x, %y : tensor<?x36xf32>
    plan.yield %0 : tensor<?x36xf32>
  }
  plan.kernel @add_bias elementwise {
  ^bb0(%x: tensor<?x36xf32>, %b: tensor<36xf32>):
    %0 = llm.add_bias %x, %b : tensor<?x36xf32>, tensor<36xf32>
    plan.yield %0 : tensor<?x36xf32>
  }
  plan.kernel @gelu elementwise {
  ^bb0(%x: tensor<?x36xf32>):
    %0 = llm.activation %x {kind = <gelu>} : tensor<?x36xf32>
    plan.yield %0 : tensor<?x36xf32>
  }
  plan.kernel @rms_norm {
  ^bb0(%x: tensor<?x36xf32>, %w: tensor<36xf32>):
    %0 = llm.rms_norm %x, %w {eps = 1.0e-5 : f64} : tensor<?x36xf32>, tensor<36xf32>
    plan.yield %0 : tensor<?x36xf32>
  }
  plan.kernel @layer_norm {
  ^bb0(%x: tensor<?x36xf32>, %w: tensor<36xf32>, %b: tensor<36xf32>):
    %0 = llm.layer_norm %x, %w, %b {eps = 1.0e-5 : f64}
      : tensor<?x36xf32>, tensor<36xf32>, tensor<36xf32>
    plan.yield %0 : tensor<?x36xf32>
  }
  plan.kernel @head_norm {
  ^bb0(%x: tensor<?x36xf32>, %w: tensor<9xf32>):
    %0 = llm.rms_norm %x, %w {eps = 1.0e-5 : f64} : tensor<?x36xf32>, tensor<9xf32>
    plan.yield %0 : tensor<?x36xf32>
  }
  plan.kernel @norm_of_heads_as_rows {
  ^bb0(%x: tensor<?x9xf32>, %w: tensor<9xf32>):
    %0 = llm.rms_norm %x, %w {eps = 1.0e-5 : f64} : tensor<?x9xf32>, tensor<9xf32>
    plan.yield %0 : tensor<?x9xf32>
  }
  plan.kernel @everything {
  ^bb0(%x: tensor<?x36xf32>, %r: tensor<?x36xf32>, %w: tensor<36xf32>,
       %b: tensor<36xf32>):
    %0 = llm.add_bias %x, %b : tensor<?x36xf32>, tensor<36xf32>
    %1 = llm.activation %0 {kind = <gelu>} : tensor<?x36xf32>
    %2 = llm.rms_norm %1, %w {eps = 1.0e-5 : f64} : tensor<?x36xf32>, tensor<36xf32>
    %3 = llm.add %2, %r : tensor<?x36xf32>
    %4 = llm.layer_norm %3, %w, %b {eps = 1.0e-5 : f64}
      : tensor<?x36xf32>, tensor<36xf32>, tensor<36xf32>
    %5 = llm.rms_norm %4, %w {eps = 1.0e-5 : f64} : tensor<?x36xf32>, tensor<36xf32>
    plan.yield %3, %5, %4 : tensor<?x36xf32>, tensor<?x36xf32>, tensor<?x36xf32>
  }
  plan.kernel @bias_head_norm_add {
  ^bb0(%x: tensor<?x36xf32>, %b: tensor<36xf32>, %w: tensor<9xf32>):
    %0 = llm.add_bias %x, %b : tensor<?x36xf32>, tensor<36xf32>
    %1 = llm.rms_norm %0, %w {eps = 1.0e-5 : f64} : tensor<?x36xf32>, tensor<9xf32>
    %2 = llm.add %1, %x : tensor<?x36xf32>
    plan.yield %2 : tensor<?x36xf32>
  }
  plan.kernel @bf16_weight {
  ^bb0(%x: tensor<?x36xf32>, %w: tensor<36xbf16>):
    %0 = llm.rms_norm %x, %w {eps = 1.0e-5 : f64} : tensor<?x36xf32>, tensor<36xbf16>
    plan.yield %0 : tensor<?x36xf32>
  })";

class KernelRules : public testing::TestWithParam<int> {
protected:
  static GeneratedKernels& kernels() {
    static GeneratedKernels all(kParts);
    return all;
  }

  Tensor call(const std::string& name, std::vector<const Tensor*> arguments) {
    LlmrtKernelFn function = kernels().function(name, GetParam());
    Tensor result(arguments[0]->rows, arguments[0]->columns, false);
    if (!function)
      ADD_FAILURE() << "no " << name << ": " << kernels().diagnostics();
    else
      runKernel(function, arguments, {&result});
    return result;
  }
};

TEST_P(KernelRules, AFusedKernelGivesTheBitsOfItsParts) {
  Tensor x = Tensor::random(5, 36, false, 1),
         r = Tensor::random(5, 36, false, 2);
  Tensor w = Tensor::random(1, 36, false, 3),
         b = Tensor::random(1, 36, false, 4);
  Tensor biased = call("add_bias", {&x, &b});
  Tensor active = call("gelu", {&biased});
  Tensor normed = call("rms_norm", {&active, &w});
  Tensor sum = call("add", {&normed, &r});
  Tensor layer = call("layer_norm", {&sum, &w, &b});
  Tensor last = call("rms_norm", {&layer, &w});
  Tensor fusedSum(5, 36, false), fusedLast(5, 36, false),
      fusedLayer(5, 36, false);
  LlmrtKernelFn function = kernels().function("everything", GetParam());
  ASSERT_NE(function, nullptr) << kernels().diagnostics();
  runKernel(function, {&x, &r, &w, &b}, {&fusedSum, &fusedLast, &fusedLayer});
  EXPECT_EQ(fusedSum, sum);
  EXPECT_EQ(fusedLayer, layer);
  EXPECT_EQ(fusedLast, last);
}

TEST_P(KernelRules, AHeadIsARowOfItsOwn) {
  Tensor x = Tensor::random(3, 36, false, 1),
         b = Tensor::random(1, 36, false, 2);
  Tensor w = Tensor::random(1, 9, false, 3);
  Tensor normed = call("head_norm", {&x, &w});
  Tensor heads(12, 9, false);
  std::memcpy(heads.data(), x.data(), 4 * x.numElements());
  Tensor normedHeads = call("norm_of_heads_as_rows", {&heads, &w});
  EXPECT_EQ(
      0, std::memcmp(normed.data(), normedHeads.data(), 4 * x.numElements()));
  Tensor biased = call("add_bias", {&x, &b});
  Tensor parts = call("head_norm", {&biased, &w});
  parts = call("add", {&parts, &x});
  EXPECT_EQ(call("bias_head_norm_add", {&x, &b, &w}), parts);
}

TEST_P(KernelRules, ABf16VectorGivesTheBitsOfItsValuesInF32) {
  Tensor x = Tensor::random(3, 36, false, 1),
         w = Tensor::random(1, 36, true, 2);
  Tensor wide(1, 36, false);
  for (int64_t i = 0; i < 36; ++i)
    wide.set(i, w.at(i));
  EXPECT_EQ(call("bf16_weight", {&x, &w}), call("rms_norm", {&x, &wide}));
}

TEST_P(KernelRules, ATileOfNoRowsTouchesNothing) {
  Tensor x = Tensor::random(2, 36, false, 1), y = x, w = x;
  LlmrtKernelFn function = kernels().function("rms_norm", GetParam());
  ASSERT_NE(function, nullptr);
  uint64_t words[] = {0, reinterpret_cast<uint64_t>(x.data()),
                      reinterpret_cast<uint64_t>(w.data()),
                      reinterpret_cast<uint64_t>(y.data())};
  LlmrtTile tile = {1, 1, 0, 36};
  function(words, &tile, nullptr);
  EXPECT_EQ(y, x);
}

INSTANTIATE_TEST_SUITE_P(Levels, KernelRules,
                         testing::ValuesIn(GeneratedKernels::runnableLevels()));

TEST(KernelImages, AreTheSameBytesInAnyFolder) {
  GeneratedKernels first(kParts, {0, 1, 2});
  ASSERT_EQ(first.images().size(), 3u) << first.diagnostics();
  namespace fs = std::filesystem;
  fs::path before = fs::current_path();
  fs::path folder = fs::path(testing::TempDir()) / "llmc another folder";
  fs::create_directories(folder);
  fs::current_path(folder);
  const char* known = std::getenv("TMPDIR");
  std::string restored = known ? known : "";
  setenv("TMPDIR", folder.c_str(), 1);
  GeneratedKernels second(kParts, {2, 0, 1});
  known ? setenv("TMPDIR", restored.c_str(), 1) : unsetenv("TMPDIR");
  fs::current_path(before);
  EXPECT_TRUE(fs::is_empty(folder)) << "a temporary file was left";
  fs::remove_all(folder);
  ASSERT_EQ(second.images().size(), 3u) << second.diagnostics();
  EXPECT_EQ(first.images()[0].bytes, second.images()[1].bytes);
  EXPECT_EQ(first.images()[1].bytes, second.images()[2].bytes);
  EXPECT_EQ(first.images()[2].bytes, second.images()[0].bytes);
}

TEST(KernelImages, NeedNoSymbolOfOthers) {
  GeneratedKernels kernels(kParts, {0, 1, 2});
  ASSERT_EQ(kernels.images().size(), 3u) << kernels.diagnostics();
  for (const auto& image : kernels.images())
    EXPECT_THAT(undefinedSymbols(image.bytes), testing::IsEmpty());
}

std::string diagnosticsOf(const std::string& text,
                          std::vector<int> levels = {0}) {
  GeneratedKernels kernels(text, levels);
  EXPECT_TRUE(kernels.images().empty());
  return kernels.diagnostics();
}

TEST(KernelRefusals, NormsOfDifferentWidths) {
  EXPECT_THAT(
      diagnosticsOf(R"(plan.kernel @k {
    ^bb0(%x: tensor<?x36xf32>, %w: tensor<36xf32>, %v: tensor<9xf32>):
      %0 = llm.rms_norm %x, %w {eps = 1.0e-5 : f64} : tensor<?x36xf32>, tensor<36xf32>
      %1 = llm.rms_norm %0, %v {eps = 1.0e-5 : f64} : tensor<?x36xf32>, tensor<9xf32>
      plan.yield %1 : tensor<?x36xf32>
    })"),
      HasSubstr("LLMC-E1003: one kernel cannot hold norms of different widths, "
                "got 36 and 9"));
}

TEST(KernelRefusals, ANormInAnElementwiseKernel) {
  EXPECT_THAT(
      diagnosticsOf(R"(plan.kernel @k elementwise {
    ^bb0(%x: tensor<?x36xf32>, %w: tensor<36xf32>):
      %0 = llm.rms_norm %x, %w {eps = 1.0e-5 : f64} : tensor<?x36xf32>, tensor<36xf32>
      plan.yield %0 : tensor<?x36xf32>
    })"),
      HasSubstr("LLMC-E1003: an elementwise kernel cannot hold a norm"));
}

TEST(KernelRefusals, AnOpThatIsNoRowOp) {
  EXPECT_THAT(
      diagnosticsOf(R"(plan.kernel @k {
    ^bb0(%x: tensor<?x36xf32>):
      %0 = llm.output_rows %x : tensor<?x36xf32>
      plan.yield %0 : tensor<?x36xf32>
    })"),
      HasSubstr("LLMC-E1003: no code can be generated for llm.output_rows"));
}

TEST(KernelRefusals, RowsOfDifferentWidths) {
  EXPECT_THAT(diagnosticsOf(R"(plan.kernel @k {
    ^bb0(%x: tensor<?x36xf32>, %y: tensor<?x9xf32>):
      plan.yield %x : tensor<?x36xf32>
    })"),
              HasSubstr("LLMC-E1003: expects rows of one width, got 36 and 9"));
}

TEST(KernelRefusals, StaticRows) {
  EXPECT_THAT(
      diagnosticsOf(R"(plan.kernel @k {
    ^bb0(%x: tensor<4x36xf32>):
      plan.yield %x : tensor<4x36xf32>
    })"),
      HasSubstr("LLMC-E1003: expects f32 or bf16 tensors of dynamic rows"));
}

TEST(KernelRefusals, AnUnknownLevel) {
  EXPECT_THAT(diagnosticsOf(kParts, {3}), HasSubstr("no CPU level 3"));
}

// The form that other targets lower too.
TEST(LinalgForm, SumsARowInOneGenericAndScalesItInAnother) {
  std::string form = linalgFormOf(R"(plan.kernel @k {
    ^bb0(%x: tensor<?x36xbf16>, %w: tensor<9xf32>):
      %0 = llm.rms_norm %x, %w {eps = 1.0e-5 : f64} : tensor<?x36xbf16>, tensor<9xf32>
      plan.yield %0 : tensor<?x36xbf16>
    })");
  EXPECT_THAT(form, HasSubstr("func.func @k(%arg0: tensor<?x36xbf16>, %arg1: "
                              "tensor<9xf32>) -> tensor<?x36xbf16>"));
  EXPECT_THAT(form, HasSubstr("into tensor<?x4x9xbf16>"));
  EXPECT_THAT(form, HasSubstr("\"parallel\", \"parallel\", \"reduction\""));
  EXPECT_THAT(form, HasSubstr("arith.truncf"));
  EXPECT_THAT(form, HasSubstr("math.sqrt"));
}

} // namespace
} // namespace llmc
