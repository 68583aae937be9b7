// SPDX-License-Identifier: Apache-2.0
// The kernels that every back-end of code generation is tested with: each row
// op and the fusions that models have, as text and as plain loops in double.
#pragma once

#include "tests/codegen/KernelRun.h"

#include <functional>
#include <string>
#include <vector>

namespace llmc {

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

std::vector<Case> rowKernelCases();

/// A module with a kernel for each case, named after it, on rows of `columns`.
std::string rowKernelModule(int64_t columns, bool isBf16);

std::vector<Tensor> randomArguments(const Case& c, int64_t rows,
                                    int64_t columns, bool isBf16);

size_t numResults(const Case& c);

} // namespace llmc
