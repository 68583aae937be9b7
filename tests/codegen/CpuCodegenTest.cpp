// SPDX-License-Identifier: Apache-2.0
// Generated CPU kernels against plain loops in double: every row op and the
// fusions that models have, at odd widths, in f32 and bf16, on every level of
// this machine; and the rules that allow no tolerance at all: tiles, aliases,
// levels, fusion.
#include "tests/codegen/GeneratedKernels.h"
#include "tests/codegen/KernelRun.h"

#include <functional>
#include <gtest/gtest.h>
#include <map>

namespace llmc {
namespace {

using Values = std::vector<double>;

/// Tensors of one call in double: rows of C elements, or vectors.
struct Inputs {
  int64_t columns;
  bool isBf16;
  std::vector<Values> tensors;

  double round(double v) const {
    return isBf16 ? bf16ToFloat(nearestBf16(static_cast<float>(v))) : v;
  }

  Values map(const Values& x, std::function<double(double, int64_t)> f) const {
    Values y;
    for (size_t i = 0; i < x.size(); ++i)
      y.push_back(round(f(x[i], i)));
    return y;
  }

  Values add(const Values& a, const Values& b) const {
    return map(a, [&](double v, int64_t i) { return v + b[i % b.size()]; });
  }

  Values rmsNorm(const Values& x, const Values& w, double eps,
                 double offset) const {
    int64_t width = w.size();
    return map(x, [&](double v, int64_t i) {
      double sum = 0;
      for (int64_t j = i / width * width; j < (i / width + 1) * width; ++j)
        sum += x[j] * x[j];
      return v / std::sqrt(sum / width + eps) * (w[i % width] + offset);
    });
  }

  Values layerNorm(const Values& x, const Values& w, const Values& b,
                   double eps) const {
    return map(x, [&](double v, int64_t i) {
      int64_t begin = i / columns * columns;
      double sum = 0, squares = 0;
      for (int64_t j = begin; j < begin + columns; ++j)
        sum += x[j];
      double mean = sum / columns;
      for (int64_t j = begin; j < begin + columns; ++j)
        squares += (x[j] - mean) * (x[j] - mean);
      return (v - mean) / std::sqrt(squares / columns + eps) * w[i % columns] +
             b[i % columns];
    });
  }
};

double silu(double x) { return x / (1 + std::exp(-x)); }

double gelu(double x) { return x / 2 * (1 + std::erf(x / std::sqrt(2.0))); }

double geluTanh(double x) {
  return x / 2 *
         (1 + std::tanh(std::sqrt(2 / M_PI) * (x + 0.044715 * x * x * x)));
}

/// A kernel: `T` stands for the type of rows, `V` for that of vectors, `<silu>`
/// for an activation attribute.
struct Case {
  std::string name;
  std::string arguments; // a letter for each: T or V
  std::string body;
  std::string results; // names of the yielded values
  bool isElementwise;
  std::function<std::vector<Values>(const Inputs&)> expected;
};

using R = std::vector<Values>;

std::vector<Case> cases() {
  return {
      {"add", "TT", "%r = llm.add %0, %1 : T", "%r", true,
       [](const Inputs& in) {
         return R{in.add(in.tensors[0], in.tensors[1])};
       }},
      {"mul", "TT", "%r = llm.mul %0, %1 : T", "%r", true,
       [](const Inputs& in) {
         return R{in.map(in.tensors[0], [&](double v, int64_t i) {
           return v * in.tensors[1][i];
         })};
       }},
      {"scale", "T", "%r = llm.scale %0 {factor = 0.3 : f64} : T", "%r", true,
       [](const Inputs& in) {
         double factor = in.round(0.3);
         return R{in.map(in.tensors[0],
                         [&](double v, int64_t) { return v * factor; })};
       }},
      {"soft_cap", "T", "%r = llm.soft_cap %0 {cap = 1.5 : f64} : T", "%r",
       true,
       [](const Inputs& in) {
         return R{in.map(in.tensors[0], [](double v, int64_t) {
           return 1.5 * std::tanh(v / 1.5);
         })};
       }},
      {"silu", "T", "%r = llm.activation %0 {kind = <silu>} : T", "%r", true,
       [](const Inputs& in) {
         return R{
             in.map(in.tensors[0], [](double v, int64_t) { return silu(v); })};
       }},
      {"gelu", "T", "%r = llm.activation %0 {kind = <gelu>} : T", "%r", true,
       [](const Inputs& in) {
         return R{
             in.map(in.tensors[0], [](double v, int64_t) { return gelu(v); })};
       }},
      {"gelu_tanh", "T", "%r = llm.activation %0 {kind = <gelu_tanh>} : T",
       "%r", true,
       [](const Inputs& in) {
         return R{in.map(in.tensors[0],
                         [](double v, int64_t) { return geluTanh(v); })};
       }},
      {"relu", "T", "%r = llm.activation %0 {kind = <relu>} : T", "%r", true,
       [](const Inputs& in) {
         return R{in.map(in.tensors[0],
                         [](double v, int64_t) { return v < 0 ? 0 : v; })};
       }},
      {"gated_silu", "TT",
       "%r = llm.gated_activation %0, %1 {kind = <silu>} : T", "%r", true,
       [](const Inputs& in) {
         return R{in.map(in.tensors[0], [&](double v, int64_t i) {
           return silu(v) * in.tensors[1][i];
         })};
       }},
      {"gated_gelu_tanh", "TT",
       "%r = llm.gated_activation %0, %1 {kind = <gelu_tanh>} : T", "%r", true,
       [](const Inputs& in) {
         return R{in.map(in.tensors[0], [&](double v, int64_t i) {
           return geluTanh(v) * in.tensors[1][i];
         })};
       }},
      {"bias_gelu", "TV",
       "%s = llm.add_bias %0, %1 : T, V\n"
       "%r = llm.activation %s {kind = <gelu>} : T",
       "%r", true,
       [](const Inputs& in) {
         return R{in.map(in.add(in.tensors[0], in.tensors[1]),
                         [](double v, int64_t) { return gelu(v); })};
       }},
      {"rms_norm", "TV", "%r = llm.rms_norm %0, %1 {eps = 1.0e-5 : f64} : T, V",
       "%r", false,
       [](const Inputs& in) {
         return R{in.rmsNorm(in.tensors[0], in.tensors[1], 1e-5, 0)};
       }},
      {"rms_norm_offset", "TV",
       "%r = llm.rms_norm %0, %1 {eps = 1.0e-6 : f64, offset = 1.0 : f64} : T, "
       "V",
       "%r", false,
       [](const Inputs& in) {
         return R{in.rmsNorm(in.tensors[0], in.tensors[1], 1e-6, 1)};
       }},
      {"layer_norm", "TVV",
       "%r = llm.layer_norm %0, %1, %2 {eps = 1.0e-5 : f64} : T, V, V", "%r",
       false,
       [](const Inputs& in) {
         return R{
             in.layerNorm(in.tensors[0], in.tensors[1], in.tensors[2], 1e-5)};
       }},
      {"add_rms_norm", "TTV",
       "%s = llm.add %0, %1 : T\n"
       "%r = llm.rms_norm %s, %2 {eps = 1.0e-5 : f64} : T, V",
       "%s, %r", false,
       [](const Inputs& in) {
         Values s = in.add(in.tensors[0], in.tensors[1]);
         return R{s, in.rmsNorm(s, in.tensors[2], 1e-5, 0)};
       }},
      {"bias_add_layer_norm", "TVTVV",
       "%p = llm.add_bias %0, %1 : T, V\n"
       "%s = llm.add %p, %2 : T\n"
       "%r = llm.layer_norm %s, %3, %4 {eps = 1.0e-5 : f64} : T, V, V",
       "%s, %r", false,
       [](const Inputs& in) {
         Values s = in.add(in.add(in.tensors[0], in.tensors[1]), in.tensors[2]);
         return R{s, in.layerNorm(s, in.tensors[3], in.tensors[4], 1e-5)};
       }},
      {"norm_add_norm", "TVTV",
       "%n = llm.rms_norm %0, %1 {eps = 1.0e-6 : f64, offset = 1.0 : f64} : T, "
       "V\n"
       "%s = llm.add %n, %2 : T\n"
       "%r = llm.rms_norm %s, %3 {eps = 1.0e-6 : f64, offset = 1.0 : f64} : T, "
       "V",
       "%s, %r", false,
       [](const Inputs& in) {
         Values n = in.rmsNorm(in.tensors[0], in.tensors[1], 1e-6, 1);
         Values s = in.add(n, in.tensors[2]);
         return R{s, in.rmsNorm(s, in.tensors[3], 1e-6, 1)};
       }},
  };
}

std::string replaceAll(std::string text, const std::string& from,
                       const std::string& to) {
  for (size_t at = 0; (at = text.find(from, at)) != std::string::npos;
       at += to.size())
    text.replace(at, from.size(), to);
  return text;
}

std::string kernelText(const Case& c, int64_t columns, bool isBf16) {
  std::string element = isBf16 ? "xbf16>" : "xf32>";
  std::string rows = "tensor<?x" + std::to_string(columns) + element;
  std::string vector = "tensor<" + std::to_string(columns) + element;
  std::string arguments, body = c.body + "\nplan.yield " + c.results + " : ";
  for (size_t i = 0; i < c.arguments.size(); ++i)
    arguments += (i ? ", %" : "%") + std::to_string(i) + ": " +
                 (c.arguments[i] == 'T' ? rows : vector);
  body += "T";
  for (char letter : c.results)
    body += letter == ',' ? ", T" : "";
  // `T` and `V` occur as types only.
  body = replaceAll(replaceAll(body, " T", " " + rows), " V", " " + vector);
  return "plan.kernel @" + c.name + (c.isElementwise ? " elementwise" : "") +
         " {\n^bb0(" + arguments + "):\n" + body + "\n}\n";
}

std::string moduleText(int64_t columns, bool isBf16) {
  std::string text = "module {\n";
  for (const Case& c : cases())
    text += kernelText(c, columns, isBf16);
  return text + "}\n";
}

std::vector<Tensor> randomArguments(const Case& c, int64_t rows,
                                    int64_t columns, bool isBf16) {
  std::vector<Tensor> arguments;
  for (size_t i = 0; i < c.arguments.size(); ++i)
    arguments.push_back(Tensor::random(c.arguments[i] == 'T' ? rows : 1,
                                       columns, isBf16, 100 * columns + i));
  return arguments;
}

size_t numResults(const Case& c) {
  return 1 + std::count(c.results.begin(), c.results.end(), ',');
}

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
    return all.try_emplace({columns, isBf16}, moduleText(columns, isBf16))
        .first->second;
  }

  void forEachCase(
      std::function<void(const Case&, int level, LlmrtKernelFn)> check) {
    ASSERT_FALSE(kernels.images().empty()) << kernels.diagnostics();
    for (int level : GeneratedKernels::runnableLevels())
      for (const Case& c : cases()) {
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
