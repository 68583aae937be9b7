// SPDX-License-Identifier: Apache-2.0
#include "tools/llmrt/Trace.h"

#include "runtime/base/Error.h"
#include "runtime/io/AtomicFile.h"

#include "absl/strings/str_format.h"

namespace llmrt {

absl::Status writeTrace(const std::string& path,
                        const std::vector<std::string>& entryNames,
                        const std::vector<std::vector<TraceEvent>>& traces,
                        int firstRank) {
  LLMRT_ASSIGN_OR_RETURN(AtomicFile file, AtomicFile::create(path));
  LLMRT_RETURN_IF_ERROR(file.append("{\"traceEvents\": ["));
  auto origin = std::chrono::steady_clock::time_point::max();
  for (const auto& events : traces)
    for (const TraceEvent& event : events)
      origin = std::min(origin, event.begin);
  auto micros = [](std::chrono::steady_clock::duration time) {
    return std::chrono::duration<double, std::micro>(time).count();
  };
  const char* separator = "\n";
  for (size_t i = 0; i < traces.size(); ++i)
    for (const TraceEvent& event : traces[i]) {
      LLMRT_RETURN_IF_ERROR(file.append(absl::StrFormat(
          "%s{\"name\": \"%s\", \"ph\": \"X\", \"pid\": %d, \"tid\": 0, "
          "\"ts\": %.3f, \"dur\": %.3f, \"args\": {\"rows\": %d}}",
          separator, entryNames[event.entry], firstRank + i,
          micros(event.begin - origin), micros(event.end - event.begin),
          event.rows)));
      separator = ",\n";
    }
  LLMRT_RETURN_IF_ERROR(file.append("\n]}\n"));
  return file.commit();
}

} // namespace llmrt
