// SPDX-License-Identifier: Apache-2.0
// llmrt: runs plans. Exit status 0; 1 for an error; 2 for a command line that
// makes no sense; 130 after Ctrl-C; 75 if training then saved a checkpoint.
#include "runtime/base/Error.h"
#include "runtime/base/Logging.h"
#include "runtime/base/NearestName.h"
#include "runtime/kernels/KernelRegistry.h"
#include "tools/llmrt/Commands.h"
#include "tools/llmrt/Interrupt.h"

#include "CLI/CLI.hpp"
#include "absl/strings/match.h"
#include "absl/strings/str_join.h"

#include <csignal>

namespace llmrt {
namespace {

constexpr int kUsageStatus = 2;

bool isUsageError(const absl::Status& status) {
  for (ErrorCode code : {ErrorCode::UnknownOption, ErrorCode::BadOptionValue,
                         ErrorCode::OptionsContradict})
    if (absl::StartsWith(status.message(), errorCodeName(code)))
      return true;
  return false;
}

/// Returns what a person can take in of a flight recorder.
std::string lastLines(const std::string& text) {
  constexpr int kNumLines = 8;
  size_t begin = text.size();
  for (int i = 0; i <= kNumLines && begin != 0; ++i) {
    size_t end = text.rfind('\n', begin - 1);
    begin = end == std::string::npos ? 0 : end;
  }
  return text.substr(begin == 0 ? 0 : begin + 1);
}

int exitStatusOf(const CommandEnd& end) {
  if (end.status.ok())
    return end.isInterrupted ? end.interruptedStatus : 0;
  if (end.isReporter)
    logMessage("llmrt", std::string(end.status.message()));
  for (const std::string& recorder : end.recorders)
    logMessage("llmrt", "last commands:\n" + lastLines(recorder));
  return isUsageError(end.status) ? kUsageStatus : 1;
}

/// Only the first of several processes explains a wrong command line.
int exitStatusOfUsage(const absl::Status& status) {
  absl::StatusOr<LaunchInfo> launch = detectLaunch();
  return exitStatusOf({status, false, !launch.ok() || launch->rank == 0});
}

absl::Status makeParseError(const CLI::ParseError& error, const CLI::App& app) {
  std::vector<std::string> names;
  for (const CLI::App* command : app.get_subcommands({}))
    names.push_back(command->get_name());
  std::vector<std::string> rest = app.remaining();
  if (app.get_subcommands().empty() && !rest.empty()) {
    std::string nearest = nearestName(rest.front(), names);
    return makeError(ErrorCode::UnknownOption,
                     absl::StrCat("unknown command '", rest.front(), "'"),
                     nearest.empty()
                         ? "see llmrt --help"
                         : absl::StrCat("did you mean ", nearest, "?"));
  }
  return makeError(ErrorCode::BadOptionValue, error.what(), "see llmrt --help");
}

/// A level that is misspelt must not be ignored.
absl::Status checkCpuLevelVariable() {
  const char* wanted = std::getenv("LLMRT_CPU_LEVEL");
  if (!wanted || !*wanted)
    return absl::OkStatus();
  for (int level = 0; level < kNumCpuLevels; ++level)
    if (cpuLevelName(static_cast<CpuLevel>(level)) == wanted)
      return absl::OkStatus();
  return makeError(ErrorCode::BadOptionValue,
                   absl::StrCat("LLMRT_CPU_LEVEL=", wanted, " is no CPU level"),
                   "set it to baseline, avx2 or avx512, or unset it");
}

int mainOfTool(int argc, char** argv) {
  CLI::App app(
      "Runs plans of llmc: text from a model, or its training, on one or "
      "many ranks.",
      "llmrt");
  app.set_version_flag("--version", LLMC_VERSION);
  app.require_subcommand(1);
  app.allow_extras();
  RunOptions runOptions;
  BenchOptions benchOptions;
  CompareOptions compareOptions;
  ExportOptions exportOptions;
  CLI::App* run = addRunCommand(app, runOptions);
  CLI::App* bench = addBenchCommand(app, benchOptions);
  CLI::App* compare = addCompareCommand(app, compareOptions);
  CLI::App* env = app.add_subcommand("env", "say what this machine has");
  CLI::App* exporting = addExportCommand(app, exportOptions);
  env->allow_extras();
  const auto arguments = absl::MakeConstSpan(argv, argc);
  if (auto status = checkValuesAreThere(arguments); !status.ok())
    return exitStatusOfUsage(status);
  try {
    app.parse(argc, argv);
  } catch (const CLI::Success& success) { // --help, --version
    return app.exit(success);
  } catch (const CLI::ParseError& error) {
    // A mistyped option is often why a value or an argument is missing.
    for (const CLI::App* command : app.get_subcommands())
      if (auto status = checkNothingRemains(*command); !status.ok())
        return exitStatusOfUsage(status);
    return exitStatusOfUsage(makeParseError(error, app));
  }
  findModeOptions(*run, runOptions);
  const CLI::App& command = *app.get_subcommands().front();
  absl::Status usage = checkNoOptionIsAValue(command, arguments);
  if (usage.ok())
    usage = checkNothingRemains(command);
  if (usage.ok())
    usage = checkCpuLevelVariable();
  if (usage.ok() && run->parsed())
    usage = checkRunOptions(runOptions);
  runOptions.commandLine = absl::StrJoin(argv, argv + argc, " ");
  if (usage.ok() && bench->parsed())
    usage = checkBenchOptions(benchOptions);
  if (!usage.ok())
    return exitStatusOfUsage(usage);
  if (run->parsed())
    return exitStatusOf(runCommand(runOptions));
  if (exporting->parsed())
    return exitStatusOf(exportCommand(exportOptions));
  if (bench->parsed())
    return exitStatusOf(benchCommand(benchOptions));
  if (compare->parsed())
    return exitStatusOf(compareCommand(compareOptions));
  return exitStatusOf(envCommand());
}

} // namespace
} // namespace llmrt

int main(int argc, char** argv) {
  // A file that may not grow is an error of the write, not the end of the
  // process.
  std::signal(SIGXFSZ, SIG_IGN);
  return llmrt::mainOfTool(argc, argv);
}
