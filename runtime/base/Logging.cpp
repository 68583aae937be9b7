// SPDX-License-Identifier: Apache-2.0
#include "runtime/base/Logging.h"

#include <cstdio>
#include <string>
#include <unistd.h>

namespace llmrt {

void logMessage(std::string_view tool, std::string_view message) {
  std::string line(tool);
  line += ": ";
  line += message;
  line += '\n';
  std::fwrite(line.data(), 1, line.size(), stderr);
}

bool isProgressTerminal() { return isatty(STDERR_FILENO) == 1; }

} // namespace llmrt
