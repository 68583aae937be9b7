// SPDX-License-Identifier: Apache-2.0
// In place of CudaRuntimeTable.cpp where the CUDA toolkit was not found.
#include "runtime/comm/cuda/CudaTable.h"

#include "runtime/base/Error.h"

namespace llmrt {

absl::StatusOr<CudaTable> loadCudaTable(int device) {
  return makeError(ErrorCode::DeviceUnsupported,
                   absl::StrCat("this llmrt was built without CUDA, GPU ",
                                device, " cannot be used"),
                   "build it where the CUDA 13 toolkit is installed");
}

} // namespace llmrt
