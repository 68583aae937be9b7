// SPDX-License-Identifier: Apache-2.0
// Generated CPU kernels against plain loops in double: every row op and the
// fusions that models have, at odd widths, in f32 and bf16, on every level of
// this machine; and the rules that allow no tolerance at all: tiles, aliases,
// levels, fusion.
#include "tests/codegen/GeneratedKernels.h"
#include "tests/codegen/RowKernelCases.h"

#include <functional>
#include <gtest/gtest.h>
#include <map>

namespace llmc {
namespace {

/// Runs a case with results beside its arguments.
std::vector<Tensor> run(LlmrtKernelFn function, const Case& c,
                        const std::vector<Tensor>& arguments,
                        int64_t rowTile = 0, int64_t colTile = 0) {
  std::vector<Tensor> results(
      numResults(c),
      Tensor(arguments[0].rows, arguments[0].columns, arguments[0].isBf16));
  std::vector<const Tensor*> in;
  std::vector<Tensor*> out;
  for (const Tensor& t : arguments)
    in.push_back(&t);
  for (Tensor& t : results)
    out.push_back(&t);
  runKernel(function, in, out, rowTile, colTile);
  for (const Tensor& t : arguments)
    EXPECT_TRUE(t.guardsAreIntact()) << c.name;
  for (const Tensor& t : results)
    EXPECT_TRUE(t.guardsAreIntact()) << c.name;
  return results;
}

// Error bounds, relative to 1 + |expected|. f32: a sum of C terms in 16 lanes
// makes C/16 + 4 roundings of at most 2^-24, of which a square root halves the
// effect; a dozen operations and two or three function values of 2 ulp follow,
// and two norms in a row add up. bf16: one rounding of 2^-9 for each op of a
// chain of up to three, and two more where the double reference rounds the
// other way.
double tolerance(int64_t columns, bool isBf16) {
  return isBf16 ? 0x1p-6 : (columns / 16 + 24) * 0x1p-24;
}

struct Shape {
  int64_t columns;
  bool isBf16;
};

class CpuCodegen : public testing::TestWithParam<Shape> {
protected:
  CpuCodegen()
      : columns(GetParam().columns), isBf16(GetParam().isBf16),
        kernels(kernelsOf(columns, isBf16)) {}

  /// Generated once for all tests of a shape.
  static GeneratedKernels& kernelsOf(int64_t columns, bool isBf16) {
    static std::map<std::pair<int64_t, bool>, GeneratedKernels> all;
    return all.try_emplace({columns, isBf16}, rowKernelModule(columns, isBf16))
        .first->second;
  }

  void forEachCase(
      std::function<void(const Case&, int level, LlmrtKernelFn)> check) {
    ASSERT_FALSE(kernels.images().empty()) << kernels.diagnostics();
    for (int level : GeneratedKernels::runnableLevels())
      for (const Case& c : rowKernelCases()) {
        SCOPED_TRACE(c.name + " at level " + std::to_string(level));
        LlmrtKernelFn function = kernels.function(c.name, level);
        ASSERT_NE(function, nullptr);
        check(c, level, function);
      }
  }

  int64_t columns;
  bool isBf16;
  GeneratedKernels& kernels;
};

TEST_P(CpuCodegen, AgreesWithPlainLoops) {
  forEachCase([&](const Case& c, int, LlmrtKernelFn function) {
    for (int64_t rows : {1, 2, 5}) {
      auto arguments = randomArguments(c, rows, columns, isBf16);
      Inputs inputs = {columns, isBf16, {}};
      for (const Tensor& t : arguments)
        inputs.tensors.push_back(t.doubles());
      auto expected = c.expected(inputs);
      auto results = run(function, c, arguments);
      for (size_t r = 0; r < results.size(); ++r)
        for (int64_t i = 0; i < results[r].numElements(); ++i)
          ASSERT_NEAR(results[r].at(i), expected[r][i],
                      tolerance(columns, isBf16) *
                          (1 + std::fabs(expected[r][i])))
              << "result " << r << " element " << i;
    }
  });
}

TEST_P(CpuCodegen, NoBitDependsOnLevelOrTiles) {
  std::map<std::string, std::vector<Tensor>> first;
  forEachCase([&](const Case& c, int, LlmrtKernelFn function) {
    auto arguments = randomArguments(c, 5, columns, isBf16);
    auto results = run(function, c, arguments);
    auto [known, isFirst] = first.try_emplace(c.name, results);
    EXPECT_EQ(results, known->second) << "levels differ";
    EXPECT_EQ(run(function, c, arguments, 1), results) << "row tiles of 1";
    EXPECT_EQ(run(function, c, arguments, 3), results) << "row tiles of 3";
    if (c.isElementwise) {
      EXPECT_EQ(run(function, c, arguments, 2, 64), results) << "column tiles";
      EXPECT_EQ(run(function, c, arguments, 0, 192), results) << "column tiles";
    }
  });
}

TEST_P(CpuCodegen, ResultsMayLieOnArguments) {
  forEachCase([&](const Case& c, int, LlmrtKernelFn function) {
    auto arguments = randomArguments(c, 3, columns, isBf16);
    auto expected = run(function, c, arguments);
    // Every choice of distinct row arguments for the results.
    for (size_t a = 0; a < arguments.size(); ++a)
      for (size_t b = 0; b < arguments.size(); ++b) {
        std::vector<size_t> places = {a, b};
        places.resize(expected.size());
        bool isChoice =
            c.arguments[a] == 'T' &&
            (places.size() < 2 ? b == 0 : a != b && c.arguments[b] == 'T');
        if (!isChoice)
          continue;
        auto copy = arguments;
        std::vector<const Tensor*> in;
        std::vector<Tensor*> out;
        for (const Tensor& t : copy)
          in.push_back(&t);
        for (size_t place : places)
          out.push_back(&copy[place]);
        runKernel(function, in, out);
        for (size_t r = 0; r < places.size(); ++r)
          EXPECT_EQ(*out[r], expected[r])
              << "result " << r << " on argument " << places[r];
      }
  });
}

std::vector<Shape> shapes() {
  std::vector<Shape> all;
  for (int64_t columns : {1, 7, 16, 17, 576, 1000})
    all.push_back({columns, /*isBf16=*/false});
  for (int64_t columns : {1, 17, 576, 1000})
    all.push_back({columns, /*isBf16=*/true});
  return all;
}

INSTANTIATE_TEST_SUITE_P(Widths, CpuCodegen, testing::ValuesIn(shapes()),
                         [](const auto& info) {
                           return std::to_string(info.param.columns) +
                                  (info.param.isBf16 ? "bf16" : "f32");
                         });

} // namespace
} // namespace llmc
