// SPDX-License-Identifier: Apache-2.0
#include "tools/llmrt/Trace.h"

#include "runtime/base/Error.h"
#include "runtime/io/AtomicFile.h"

#include "nlohmann/json.hpp"

namespace llmrt {
namespace {

using Clock = std::chrono::steady_clock;
using Json = nlohmann::ordered_json;

constexpr const char* kRowNames[] = {"entries", "compute", "communication"};

/// Writes events one after another.
class TraceWriter {
public:
  TraceWriter(AtomicFile& file, Clock::time_point origin)
      : file_(file), origin_(origin) {}

  absl::Status nameRows(int rank) {
    LLMRT_RETURN_IF_ERROR(
        nameOf("process_name", rank, 0, absl::StrCat("rank ", rank)));
    for (int row = 0; row < kNumTimelineRows; ++row)
      LLMRT_RETURN_IF_ERROR(nameOf("thread_name", rank, row, kRowNames[row]));
    return absl::OkStatus();
  }

  absl::Status write(int rank, const TimelineEvent& event) {
    Json arguments;
    if (event.row == TimelineRow::Entries) {
      arguments["rows"] = event.number;
      if (*event.subject)
        arguments["graph"] = event.subject;
    } else {
      arguments = {{"command", event.number},
                   {"subject", event.subject},
                   {"pass", event.pass}};
    }
    return write(
        {{"name", absl::StrCat(event.isWait ? "wait for " : "", event.name)},
         {"cat",
          event.isWait ? "wait" : kRowNames[static_cast<int>(event.row)]},
         {"ph", "X"},
         {"pid", rank},
         {"tid", static_cast<int>(event.row)},
         {"ts", micros(event.begin - origin_)},
         {"dur", micros(event.end - event.begin)},
         {"args", arguments}});
  }

private:
  static double micros(Clock::duration time) {
    return std::chrono::duration<double, std::micro>(time).count();
  }

  absl::Status nameOf(const char* what, int rank, int row,
                      const std::string& name) {
    return write({{"name", what},
                  {"ph", "M"},
                  {"pid", rank},
                  {"tid", row},
                  {"args", {{"name", name}}}});
  }

  absl::Status write(const Json& json) {
    std::string text =
        json.dump(-1, ' ', false, Json::error_handler_t::replace);
    absl::Status status = file_.append(absl::StrCat(separator_, text));
    separator_ = ",\n";
    return status;
  }

  AtomicFile& file_;
  Clock::time_point origin_;
  const char* separator_ = "\n";
};

Clock::time_point firstOf(const SessionEnd& end) {
  Clock::time_point first = Clock::time_point::max();
  for (const auto& timeline : end.timelines)
    for (int row = 0; row < kNumTimelineRows; ++row)
      for (const TimelineEvent& event :
           timeline->row(static_cast<TimelineRow>(row)))
        first = std::min(first, event.begin);
  return first;
}

} // namespace

absl::Status writeTrace(const std::string& path, const LaunchInfo& launch,
                        const SessionEnd& end) {
  if (path.empty() || launch.rank != 0)
    return absl::OkStatus();
  LLMRT_ASSIGN_OR_RETURN(AtomicFile file, AtomicFile::create(path));
  LLMRT_RETURN_IF_ERROR(file.append("{\"traceEvents\": ["));
  TraceWriter writer(file, firstOf(end));
  int64_t numDropped = 0;
  for (int rank = 0; const auto& timeline : end.timelines) {
    LLMRT_RETURN_IF_ERROR(writer.nameRows(rank));
    for (int row = 0; row < kNumTimelineRows; ++row)
      for (const TimelineEvent& event :
           timeline->row(static_cast<TimelineRow>(row)))
        LLMRT_RETURN_IF_ERROR(writer.write(rank, event));
    numDropped += timeline->numDropped();
    ++rank;
  }
  LLMRT_RETURN_IF_ERROR(file.append(absl::StrCat(
      "\n], \"otherData\": {\"dropped_events\": ", numDropped, "}}\n")));
  return file.commit();
}

} // namespace llmrt
