// SPDX-License-Identifier: Apache-2.0
#include "runtime/training/MetricsWriter.h"

#include "runtime/base/Error.h"
#include "runtime/base/MappedFile.h"
#include "runtime/io/AtomicFile.h"

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "nlohmann/json.hpp"

#include <cerrno>
#include <cmath>
#include <fcntl.h>
#include <filesystem>
#include <optional>
#include <unistd.h>

namespace llmrt {
namespace {

using Json = nlohmann::ordered_json;

Json jsonOf(const MetricValue& value) {
  if (auto* number = std::get_if<double>(&value))
    return std::isfinite(*number) ? Json(*number) : Json();
  if (auto* integer = std::get_if<int64_t>(&value))
    return *integer;
  if (auto* flag = std::get_if<bool>(&value))
    return *flag;
  return std::get<std::string>(value);
}

// The step of a line, or nothing if it is not a line of metrics.
std::optional<int64_t> stepOf(absl::string_view line) {
  nlohmann::json json = nlohmann::json::parse(line.begin(), line.end(), nullptr,
                                              /*allow_exceptions=*/false);
  if (!json.is_object() || !json.contains("step") ||
      !json["step"].is_number_integer())
    return std::nullopt;
  return json["step"].get<int64_t>();
}

absl::Status notMetrics(int64_t lineNumber, const std::string& path) {
  return makeError(
      ErrorCode::MetricsFileMalformed,
      absl::StrCat("line ", lineNumber, " of ", path, " is no line of metrics"),
      "name another file, or delete this one");
}

absl::string_view textOf(const MappedFile& file) {
  return {reinterpret_cast<const char*>(file.bytes().data()),
          file.bytes().size()};
}

// A slip in a command line must not empty the data or the plan.
absl::Status checkReplaceable(const std::string& path) {
  std::error_code error;
  if (!std::filesystem::is_regular_file(path, error))
    return absl::OkStatus();
  LLMRT_ASSIGN_OR_RETURN(MappedFile old, MappedFile::open(path));
  absl::string_view text = textOf(old);
  size_t end = text.find('\n');
  bool isMetrics = end == absl::string_view::npos
                       ? text.empty() || absl::StartsWith(text, "{\"step\":")
                       : stepOf(text.substr(0, end)).has_value();
  return isMetrics ? absl::OkStatus() : notMetrics(1, path);
}

// What remains of a file of metrics after `step`.
absl::StatusOr<std::string> keptLines(absl::string_view text, int64_t step,
                                      const std::string& path) {
  std::string kept;
  for (int64_t lineNumber = 1; !text.empty(); ++lineNumber) {
    size_t end = text.find('\n');
    if (end == absl::string_view::npos)
      break; // the run was killed in the middle of this line
    absl::string_view line = text.substr(0, end + 1);
    text.remove_prefix(end + 1);
    std::optional<int64_t> lineStep = stepOf(line);
    if (!lineStep)
      return notMetrics(lineNumber, path);
    if (*lineStep <= step)
      absl::StrAppend(&kept, line);
  }
  return kept;
}

} // namespace

std::string metricsLine(int64_t step, absl::Span<const Metric> metrics) {
  Json line = {{"step", step}};
  for (const auto& [name, value] : metrics)
    line[name] = jsonOf(value);
  return line.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace) +
         "\n";
}

absl::StatusOr<MetricsWriter> MetricsWriter::openAt(const std::string& path,
                                                    int flags) {
  MetricsWriter writer;
  writer.path_ = path;
  writer.fd_ = open(path.c_str(),
                    O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | flags, 0666);
  if (writer.fd_ < 0)
    return makeSystemError(ErrorCode::FileNotWritable, errno, "cannot open",
                           path);
  return writer;
}

absl::StatusOr<MetricsWriter> MetricsWriter::create(const std::string& path) {
  LLMRT_RETURN_IF_ERROR(checkReplaceable(path));
  return openAt(path, O_TRUNC);
}

absl::StatusOr<MetricsWriter> MetricsWriter::resume(const std::string& path,
                                                    int64_t step) {
  std::error_code error;
  if (!std::filesystem::exists(path, error))
    return create(path);
  LLMRT_ASSIGN_OR_RETURN(MappedFile old, MappedFile::open(path));
  absl::string_view text = textOf(old);
  LLMRT_ASSIGN_OR_RETURN(std::string kept, keptLines(text, step, path));
  if (kept != text) {
    LLMRT_ASSIGN_OR_RETURN(AtomicFile file, AtomicFile::create(path));
    LLMRT_RETURN_IF_ERROR(file.append(kept));
    LLMRT_RETURN_IF_ERROR(file.commit());
  }
  return openAt(path, 0);
}

MetricsWriter::MetricsWriter(MetricsWriter&& other) noexcept {
  *this = std::move(other);
}

MetricsWriter& MetricsWriter::operator=(MetricsWriter&& other) noexcept {
  std::swap(fd_, other.fd_);
  std::swap(path_, other.path_);
  return *this;
}

MetricsWriter::~MetricsWriter() {
  if (fd_ >= 0)
    close(fd_);
}

absl::Status MetricsWriter::write(int64_t step,
                                  absl::Span<const Metric> metrics) {
  std::string line = metricsLine(step, metrics);
  for (size_t done = 0; done < line.size();) {
    ssize_t written = ::write(fd_, line.data() + done, line.size() - done);
    if (written < 0 && errno == EINTR)
      continue;
    if (written <= 0)
      return makeSystemError(ErrorCode::FileNotWritable,
                             written < 0 ? errno : ENOSPC, "cannot write",
                             path_);
    done += static_cast<size_t>(written);
  }
  return absl::OkStatus();
}

} // namespace llmrt
