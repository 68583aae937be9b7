// SPDX-License-Identifier: Apache-2.0
#include "runtime/device/cuda/CudaError.h"

#include "runtime/base/Error.h"

namespace llmrt {
namespace {

/// The code that a result means, and what to do about it.
struct Meaning {
  ErrorCode code;
  const char* advice;
};

Meaning meaningOf(cudaError_t result) {
  switch (result) {
  case cudaErrorMemoryAllocation:
    return {ErrorCode::OutOfMemory,
            "compile for more ranks, a smaller batch or a shorter cache, or "
            "use a GPU with more memory"};
  case cudaErrorNoDevice:
  case cudaErrorInvalidDevice:
  case cudaErrorInsufficientDriver:
  case cudaErrorStubLibrary:
  case cudaErrorSystemDriverMismatch:
  case cudaErrorCompatNotSupportedOnDevice:
  case cudaErrorSystemNotReady:
  case cudaErrorDevicesUnavailable:
    return {ErrorCode::DeviceUnsupported,
            "install a driver for this version of CUDA, or compile with "
            "--target=cpu"};
  case cudaErrorNoKernelImageForDevice:
  case cudaErrorInvalidKernelImage:
  case cudaErrorInvalidPtx:
  case cudaErrorUnsupportedPtxVersion:
  case cudaErrorJitCompilerNotFound:
  case cudaErrorJitCompilationDisabled:
    return {ErrorCode::CodeNotLoadable,
            "compile the plan for the architecture of this GPU"};
  case cudaErrorSymbolNotFound:
    return {ErrorCode::KernelMissing, "compile the plan again"};
  default:
    return {ErrorCode::DeviceFailed,
            "see the driver's log; please report it, with the plan"};
  }
}

} // namespace

absl::Status cudaStatus(cudaError_t result, absl::string_view doing) {
  if (result == cudaSuccess)
    return absl::OkStatus();
  const Meaning meaning = meaningOf(result);
  return makeError(meaning.code,
                   absl::StrCat(doing, ": ", cudaGetErrorString(result), " (",
                                cudaGetErrorName(result), ")"),
                   meaning.advice);
}

absl::Status cudaUnsupported(absl::string_view there) {
  return makeError(ErrorCode::DeviceUnsupported,
                   absl::StrCat("a cuda plan needs a driver for CUDA ",
                                CUDART_VERSION / 1000,
                                " or later and a GPU of sm_80 or later; ",
                                there),
                   "run it on such a machine, or compile with --target=cpu");
}

} // namespace llmrt
