// SPDX-License-Identifier: Apache-2.0
#include "runtime/device/cuda/ChooseCudaCode.h"

#include "runtime/base/Error.h"

namespace llmrt {

absl::StatusOr<int> chooseCudaCode(absl::Span<const CodeOption> options,
                                   int level) {
  int best = -1;
  bool isCubin = false;
  std::string there;
  for (size_t i = 0; i < options.size(); ++i) {
    const CodeOption& option = options[i];
    const bool isMachineCode = option.target == "cuda";
    const bool isText = option.target == "cuda-ptx";
    if (!isMachineCode && !isText)
      continue;
    absl::StrAppend(&there, there.empty() ? "" : ", ",
                    isMachineCode ? "sm_" : "PTX for sm_", option.level);
    const bool fits =
        option.level <= level && (isText || option.level / 10 == level / 10);
    // Machine code before text that has to be compiled; then the newest.
    if (fits &&
        (best < 0 || (isMachineCode && !isCubin) ||
         (isMachineCode == isCubin && option.level > options[best].level))) {
      best = static_cast<int>(i);
      isCubin = isMachineCode;
    }
  }
  if (best >= 0)
    return best;
  return makeError(ErrorCode::DeviceUnsupported,
                   absl::StrCat("the GPU needs code for sm_", level,
                                ", the plan has ",
                                there.empty() ? "none for cuda" : there),
                   absl::StrCat("compile with --target=cuda:sm_", level));
}

} // namespace llmrt
