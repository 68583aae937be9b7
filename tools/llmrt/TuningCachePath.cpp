// SPDX-License-Identifier: Apache-2.0
#include "tools/llmrt/TuningCachePath.h"

#include <cstdlib>

namespace llmrt {
namespace {

std::string variable(const char* name) {
  const char* value = std::getenv(name);
  return value ? value : "";
}

} // namespace

std::string tuningCachePath(const std::string& option) {
  if (option == "off")
    return "";
  if (!option.empty())
    return option;
  std::string folder = variable("XDG_CACHE_HOME");
  if (folder.empty() && !variable("HOME").empty())
    folder = variable("HOME") + "/.cache";
  return folder.empty() ? "" : folder + "/llmrt/cublaslt.json";
}

} // namespace llmrt
