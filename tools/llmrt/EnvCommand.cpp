// SPDX-License-Identifier: Apache-2.0
// llmrt env: what this machine has, in one screen, for bug reports.
#include "runtime/base/Error.h"
#include "runtime/device/Device.h"
#include "runtime/device/cublaslt/LtTable.h"
#include "runtime/kernels/KernelRegistry.h"
#include "tools/llmrt/Commands.h"
#include "tools/llmrt/RankThreads.h"
#include "tools/llmrt/StandardOutput.h"
#include "tools/llmrt/TuningCachePath.h"

#include "absl/strings/str_format.h"

#include <fstream>
#include <optional>
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

std::string cudaText() {
  auto device = createCudaDevice({});
  return device.ok() ? absl::StrCat("usable, sm_", (*device)->codeLevel())
                     : std::string(device.status().message());
}

/// What multiplies many rows of bf16.
std::string cublasLtText() {
  absl::StatusOr<std::optional<LtTable>> table = findLtTable();
  if (!table.ok())
    return std::string(table.status().message());
  if (!*table)
    return "not used: large products run on our own kernels";
  return absl::StrCat(ltVersionText((*table)->getVersion()), " from ",
                      (*table)->path, ", for large products in bf16");
}

std::string tuningCacheText() {
  const std::string path = tuningCachePath("");
  return path.empty() ? "none: neither HOME nor XDG_CACHE_HOME is set" : path;
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
  add("cuda", cudaText());
  add("cublaslt", cublasLtText());
  add("tuning cache", tuningCacheText());
  return {writeStandardOutput(text)};
}

} // namespace llmrt
