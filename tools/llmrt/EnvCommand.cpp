// SPDX-License-Identifier: Apache-2.0
// llmrt env: what this machine has, in one screen, for bug reports.
#include "runtime/base/Error.h"
#include "runtime/kernels/KernelRegistry.h"
#include "tools/llmrt/Commands.h"
#include "tools/llmrt/RankThreads.h"
#include "tools/llmrt/StandardOutput.h"

#include "absl/strings/str_format.h"

#include <fstream>
#include <sys/stat.h>
#include <sys/sysinfo.h>
#include <thread>

namespace llmrt {
namespace {

std::string firstLine(const char* path) {
  std::ifstream file(path);
  std::string line;
  std::getline(file, line);
  return line.empty() ? "unknown" : line;
}

std::string cpuName() {
  std::ifstream file("/proc/cpuinfo");
  std::string line;
  while (std::getline(file, line))
    if (line.rfind("model name", 0) == 0 && line.find(':') != std::string::npos)
      return line.substr(line.find(':') + 2);
  return "unknown";
}

std::string memoryText() {
  struct sysinfo info = {};
  sysinfo(&info);
  double unit = info.mem_unit / double(1 << 30);
  return absl::StrFormat("%.1f GiB, %.1f GiB free", info.totalram * unit,
                         info.freeram * unit);
}

std::string launcherText() {
  absl::StatusOr<LaunchInfo> launch = detectLaunch();
  if (!launch.ok())
    return std::string(launch.status().message());
  if (launch->kind == Launcher::None)
    return "none";
  return absl::StrFormat("%s, rank %d of %d", launcherName(launch->kind),
                         launch->rank, launch->worldSize);
}

bool hasCudaDevice() {
  struct stat info;
  return ::stat("/dev/nvidiactl", &info) == 0;
}

} // namespace

CommandEnd envCommand() {
  std::string text;
  auto add = [&](const char* name, const std::string& value) {
    absl::StrAppendFormat(&text, "%-14s%s\n", name, value);
  };
  add("llmrt",
      absl::StrCat(LLMC_VERSION, ", plan schema ", kPlanSchemaVersion));
  add("cpu", cpuName());
  add("cpu level", std::string(cpuLevelName(detectCpuLevel())));
  add("cores", absl::StrFormat("%d usable of %d", numUsableCpus(),
                               std::thread::hardware_concurrency()));
  add("memory", memoryText());
  add("huge pages", firstLine("/sys/kernel/mm/transparent_hugepage/enabled"));
  add("mpi", LLMRT_MPI_VERSION);
  add("launcher", launcherText());
  add("cuda", hasCudaDevice()
                  ? "device present; this llmrt runs plans for cpu only"
                  : "no device; this llmrt runs plans for cpu only");
  return {writeStandardOutput(text)};
}

} // namespace llmrt
