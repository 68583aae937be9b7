// SPDX-License-Identifier: Apache-2.0
// Source  github.com/google/benchmark, docs/tools.md (the shape of the JSON).
#include "tools/llmrt/BenchReport.h"

#include "absl/strings/str_format.h"
#include "nlohmann/json.hpp"

namespace llmrt {
namespace {

constexpr double kMillisPerSecond = 1e3;

std::string formatJson(const BenchReport& report) {
  nlohmann::ordered_json json;
  for (const auto& [name, value] : report.context)
    json["context"][name] = value;
  json["benchmarks"] = nlohmann::ordered_json::array();
  for (const BenchResult& result : report.results) {
    nlohmann::ordered_json one;
    one["name"] = result.name;
    one["run_name"] = result.name;
    one["run_type"] = "iteration";
    one["iterations"] = result.iterations;
    one["real_time"] = result.realSeconds * kMillisPerSecond;
    one["cpu_time"] = result.cpuSeconds * kMillisPerSecond;
    one["time_unit"] = "ms";
    for (const auto& [name, value] : result.counters)
      one[name] = value;
    json["benchmarks"].push_back(one);
  }
  return json.dump(2) + "\n";
}

std::string formatCsv(const BenchReport& report) {
  std::string text =
      "name,iterations,real_time,cpu_time,time_unit,counter,value\n";
  for (const BenchResult& result : report.results) {
    std::string begin = absl::StrFormat("\"%s\",%d,%.6f,%.6f,ms", result.name,
                                        result.iterations,
                                        result.realSeconds * kMillisPerSecond,
                                        result.cpuSeconds * kMillisPerSecond);
    text += begin + ",,\n";
    for (const auto& [name, value] : result.counters)
      absl::StrAppendFormat(&text, "%s,%s,%.6g\n", begin, name, value);
  }
  return text;
}

std::string formatTable(const BenchReport& report) {
  std::string text;
  for (const auto& [name, value] : report.context)
    absl::StrAppendFormat(&text, "%-24s %s\n", name, value);
  for (const BenchResult& result : report.results) {
    absl::StrAppendFormat(&text, "\n%-24s %.4f ms a token, %d tokens\n",
                          result.name, result.realSeconds * kMillisPerSecond,
                          result.iterations);
    for (const auto& [name, value] : result.counters)
      absl::StrAppendFormat(&text, "  %-22s %.6g\n", name, value);
  }
  return text;
}

} // namespace

std::string formatBenchReport(const BenchReport& report,
                              const std::string& format) {
  if (format == "json")
    return formatJson(report);
  return format == "csv" ? formatCsv(report) : formatTable(report);
}

} // namespace llmrt
