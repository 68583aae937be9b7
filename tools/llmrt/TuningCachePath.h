// SPDX-License-Identifier: Apache-2.0
// Where the tuning cache is (docs/reference/tuning-cache.md).
#pragma once

#include <string>

namespace llmrt {

/// Returns the file for the value of --tuning-cache: "" the default
/// ($XDG_CACHE_HOME/llmrt/cublaslt.json, or in ~/.cache), "off" none (""), else
/// the file that it names. "" if there is no folder for the default.
std::string tuningCachePath(const std::string& option);

} // namespace llmrt
