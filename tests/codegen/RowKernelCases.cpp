// SPDX-License-Identifier: Apache-2.0
#include "tests/codegen/RowKernelCases.h"

#include <algorithm>

namespace llmc {
namespace {

double silu(double x) { return x / (1 + std::exp(-x)); }

double gelu(double x) { return x / 2 * (1 + std::erf(x / std::sqrt(2.0))); }

double geluTanh(double x) {
  return x / 2 *
         (1 + std::tanh(std::sqrt(2 / M_PI) * (x + 0.044715 * x * x * x)));
}

using R = std::vector<Values>;

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

} // namespace

std::vector<Case> rowKernelCases() {
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

std::string rowKernelModule(int64_t columns, bool isBf16) {
  std::string text = "module {\n";
  for (const Case& c : rowKernelCases())
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

} // namespace llmc
