// SPDX-License-Identifier: Apache-2.0
// llmrt compare: two results of llmrt bench (or of any Google Benchmark
// program), by name. A benchmark that only one of them has is said, and counts
// for nothing.
#include "runtime/base/Error.h"
#include "runtime/base/MappedFile.h"
#include "tools/llmrt/Commands.h"
#include "tools/llmrt/StandardOutput.h"

#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "nlohmann/json.hpp"

#include <cmath>
#include <map>

namespace llmrt {
namespace {

using Json = nlohmann::json;

struct NamedTime {
  std::string name;
  double seconds = 0;
};

double secondsOfUnit(const std::string& unit) {
  const std::map<std::string, double> units = {
      {"ns", 1e-9}, {"us", 1e-6}, {"ms", 1e-3}, {"s", 1}};
  auto found = units.find(unit);
  return found == units.end() ? 0 : found->second;
}

absl::StatusOr<std::vector<NamedTime>> readTimes(const std::string& path) {
  LLMRT_ASSIGN_OR_RETURN(MappedFile file, MappedFile::open(path));
  auto malformed = [&](const std::string& what) {
    return makeError(ErrorCode::BenchmarkFileMalformed,
                     absl::StrCat(path, ": ", what),
                     "give a file of llmrt bench --output=json");
  };
  Json json =
      Json::parse(file.bytes().begin(), file.bytes().end(), nullptr, false);
  if (json.is_discarded())
    return malformed("it is not JSON");
  if (!json.is_object() || !json.contains("benchmarks") ||
      !json["benchmarks"].is_array())
    return malformed("it has no list \"benchmarks\"");
  std::vector<NamedTime> times;
  for (const Json& one : json["benchmarks"]) {
    if (!one.is_object() || !one.contains("name") || !one["name"].is_string() ||
        !one.contains("real_time") || !one["real_time"].is_number())
      return malformed("a benchmark has no \"name\" or no \"real_time\"");
    std::string unit = "ns";
    if (one.contains("time_unit") && one["time_unit"].is_string())
      unit = one["time_unit"].get<std::string>();
    double seconds = one["real_time"].get<double>() * secondsOfUnit(unit);
    if (!(seconds > 0) || !std::isfinite(seconds))
      return malformed(absl::StrCat("the time of \"",
                                    one["name"].get<std::string>(),
                                    "\" is not a positive number of ns, us, ms "
                                    "or s"));
    times.push_back({one["name"].get<std::string>(), seconds});
  }
  if (times.empty())
    return malformed("it has no benchmark");
  return times;
}

const NamedTime* findTime(const std::vector<NamedTime>& times,
                          const std::string& name) {
  for (const NamedTime& time : times)
    if (time.name == name)
      return &time;
  return nullptr;
}

absl::Status compare(const CompareOptions& options) {
  if (!(options.tolerance >= 0 && options.tolerance <= 1000))
    return makeError(ErrorCode::BadOptionValue,
                     absl::StrCat("--tolerance=", options.tolerance),
                     "give a share, such as 0.05");
  LLMRT_ASSIGN_OR_RETURN(std::vector<NamedTime> base,
                         readTimes(options.basePath));
  LLMRT_ASSIGN_OR_RETURN(std::vector<NamedTime> now,
                         readTimes(options.newPath));
  std::string table = absl::StrFormat("%-32s %12s %12s %8s\n", "benchmark",
                                      "base ms", "new ms", "new/base");
  std::vector<std::string> slower;
  int numCompared = 0;
  for (const NamedTime& before : base) {
    const NamedTime* after = findTime(now, before.name);
    if (!after) {
      absl::StrAppendFormat(&table, "%-32s %12.4f %12s\n", before.name,
                            before.seconds * 1e3, "missing");
      continue;
    }
    ++numCompared;
    double ratio = after->seconds / before.seconds;
    bool isSlower = ratio > 1 + options.tolerance;
    absl::StrAppendFormat(&table, "%-32s %12.4f %12.4f %8.3f%s\n", before.name,
                          before.seconds * 1e3, after->seconds * 1e3, ratio,
                          isSlower ? "  slower" : "");
    if (isSlower)
      slower.push_back(
          absl::StrFormat("%s by %.1f %%", before.name, (ratio - 1) * 100));
  }
  for (const NamedTime& after : now)
    if (!findTime(base, after.name))
      absl::StrAppendFormat(&table, "%-32s %12s %12.4f\n", after.name,
                            "missing", after.seconds * 1e3);
  LLMRT_RETURN_IF_ERROR(writeStandardOutput(table));
  if (numCompared == 0)
    return makeError(ErrorCode::BenchmarkFileMalformed,
                     absl::StrCat(options.basePath, " and ", options.newPath,
                                  " have no benchmark in common"),
                     "compare runs with the same options");
  if (slower.empty())
    return absl::OkStatus();
  return makeError(ErrorCode::BenchmarkSlower,
                   absl::StrCat("slower than the tolerance of ",
                                options.tolerance, ": ",
                                absl::StrJoin(slower, ", ")),
                   "");
}

} // namespace

CommandEnd compareCommand(const CompareOptions& options) {
  return {compare(options)};
}

} // namespace llmrt
