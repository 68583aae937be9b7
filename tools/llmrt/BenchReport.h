// SPDX-License-Identifier: Apache-2.0
// Results of llmrt bench as a table, CSV, or JSON in the shape of Google
// Benchmark.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

namespace llmrt {

struct BenchResult {
  std::string name;
  int64_t iterations = 0;
  double realSeconds = 0; // of one token, median over repetitions
  double cpuSeconds = 0;  // of one token, all threads of this process
  std::vector<std::pair<std::string, double>> counters;
};

struct BenchReport {
  std::vector<std::pair<std::string, std::string>> context;
  std::vector<BenchResult> results;
};

/// `format` is "table", "json" or "csv".
std::string formatBenchReport(const BenchReport& report,
                              const std::string& format);

} // namespace llmrt
