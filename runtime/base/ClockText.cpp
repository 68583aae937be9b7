// SPDX-License-Identifier: Apache-2.0
#include "runtime/base/ClockText.h"

#include "absl/strings/str_format.h"

#include <cstdint>

namespace llmrt {

std::string clockText(double seconds) {
  auto whole = static_cast<int64_t>(seconds + 0.5);
  if (whole >= 3600)
    return absl::StrFormat("%d:%02d:%02d", whole / 3600, whole / 60 % 60,
                           whole % 60);
  return absl::StrFormat("%d:%02d", whole / 60, whole % 60);
}

} // namespace llmrt
