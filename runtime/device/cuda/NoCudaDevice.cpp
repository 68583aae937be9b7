// SPDX-License-Identifier: Apache-2.0
// Stands in for CudaDevice.cpp in builds without the CUDA toolkit.
#include "runtime/base/Error.h"
#include "runtime/device/Device.h"

namespace llmrt {

absl::StatusOr<std::unique_ptr<Device>>
createCudaDevice(const CudaDeviceOptions&) {
  return makeError(ErrorCode::DeviceUnsupported,
                   "the plan needs a GPU, and this program was built without "
                   "the CUDA toolkit",
                   "build it where CUDA 13 is installed, or compile the plan "
                   "with --target=cpu");
}

} // namespace llmrt
