// SPDX-License-Identifier: Apache-2.0
#include "tools/llmrt/StandardOutput.h"

#include "runtime/base/Error.h"

#include <cerrno>
#include <unistd.h>

namespace llmrt {

absl::Status writeStandardOutput(absl::string_view text) {
  while (!text.empty()) {
    ssize_t count = ::write(STDOUT_FILENO, text.data(), text.size());
    if (count < 0 && errno == EINTR)
      continue;
    if (count < 0)
      return makeSystemError(ErrorCode::FileNotWritable, errno, "cannot write",
                             "standard output");
    text.remove_prefix(static_cast<size_t>(count));
  }
  return absl::OkStatus();
}

} // namespace llmrt
