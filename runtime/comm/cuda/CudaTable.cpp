// SPDX-License-Identifier: Apache-2.0
#include "runtime/comm/cuda/CudaTable.h"

#include "runtime/base/Error.h"

#include "absl/strings/str_format.h"

namespace llmrt {

absl::Status CudaTable::toStatus(int code, const char* doing) const {
  if (code == 0)
    return absl::OkStatus();
  const char* text = errorText(code);
  return makeError(ErrorCode::TransportFailed,
                   absl::StrFormat("CUDA failed on device %d while %s: %s (%d)",
                                   device, doing, text ? text : "no text",
                                   code),
                   "look at the GPU and its driver");
}

} // namespace llmrt
