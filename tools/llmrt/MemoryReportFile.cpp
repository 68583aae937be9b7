// SPDX-License-Identifier: Apache-2.0
// "planned" is the plan's table, "allocated" what lies outside the arena, by
// class; "touched" is there only with --check-memory. A process holds one rank
// with MPI, else all of them.
#include "tools/llmrt/MemoryReportFile.h"

#include "runtime/base/Error.h"
#include "runtime/io/AtomicFile.h"

#include "nlohmann/json.hpp"

namespace llmrt {
namespace {

using Json = nlohmann::ordered_json;

Json classesJson(const BytesByClass& bytes) {
  Json json = Json::object();
  for (int c = 0; c < kNumMemoryClasses; ++c)
    if (bytes[c] != 0)
      json[std::string(memoryClassName(static_cast<MemoryClass>(c)))] =
          bytes[c];
  return json;
}

Json rankJson(int rank, const MemoryReport& report) {
  Json json = {{"rank", rank},
               {"arena_bytes", report.arenaBytes},
               {"planned", classesJson(report.planned)},
               {"outside_arena", classesJson(report.outside)},
               {"sum_bytes", report.sumBytes()}};
  if (report.highestTouched > 0) {
    json["touched"] = classesJson(report.touched);
    json["highest_touched"] = report.highestTouched;
  }
  return json;
}

} // namespace

absl::Status writeMemoryReport(const std::string& path,
                               const LaunchInfo& launch,
                               const SessionEnd& end) {
  if (path.empty() || end.memory.empty() || launch.rank != 0)
    return absl::OkStatus();
  Json ranks = Json::array(), processes = Json::array();
  int ranksPerProcess = launch.worldSize > 1 ? 1 : end.memory.size();
  int64_t sumBytes = 0;
  for (size_t i = 0; i < end.memory.size(); ++i) {
    const RankMemory& memory = end.memory[i];
    ranks.push_back(rankJson(i, memory.report));
    sumBytes += memory.report.sumBytes();
    if ((i + 1) % ranksPerProcess != 0)
      continue;
    processes.push_back(
        {{"ranks", ranksPerProcess},
         {"baseline_bytes", memory.baselineBytes},
         {"peak_bytes", memory.peakBytes},
         {"sum_bytes", sumBytes},
         {"excess_bytes", memory.peakBytes - memory.baselineBytes - sumBytes}});
    sumBytes = 0;
  }
  LLMRT_ASSIGN_OR_RETURN(AtomicFile file, AtomicFile::create(path));
  LLMRT_RETURN_IF_ERROR(file.append(
      Json{{"ranks", ranks}, {"processes", processes}}.dump(2) + "\n"));
  return file.commit();
}

} // namespace llmrt
