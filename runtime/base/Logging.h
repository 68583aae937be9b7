// SPDX-License-Identifier: Apache-2.0
// Progress and messages on standard error. Results go to standard output and
// are printed by the tools; libraries print nothing.
#pragma once

#include <string_view>

namespace llmrt {

/// Prints "tool: message" on standard error.
void logMessage(std::string_view tool, std::string_view message);

/// Returns true if standard error is a terminal, so that a progress bar may be
/// drawn.
bool isProgressTerminal();

} // namespace llmrt
