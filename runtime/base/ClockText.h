// SPDX-License-Identifier: Apache-2.0
// How progress lines write a length of time.
#pragma once

#include <string>

namespace llmrt {

/// "m:ss" or "h:mm:ss", rounded to whole seconds (seconds >= 0).
std::string clockText(double seconds);

} // namespace llmrt
