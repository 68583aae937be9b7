// SPDX-License-Identifier: Apache-2.0
#include "tests/support/cuda/EmulatedProducts.h"

#include "runtime/base/Error.h"
#include "runtime/device/cublaslt/LinearProducts.h"
#include "runtime/kernels/cuda/LibraryLinear.h"
#include "tests/support/cuda/EmulatedKernels.h"

namespace llmrt::test {

EmulatedProducts::EmulatedProducts(std::string tuningCache, Enqueue enqueue)
    : tuningCache_(std::move(tuningCache)), enqueue_(std::move(enqueue)) {
  stream_.enqueue = [this](std::function<void()> work) {
    enqueue_([work = std::move(work)] {
      work();
      return absl::OkStatus();
    });
  };
}

absl::Status EmulatedProducts::start() {
  LLMRT_ASSIGN_OR_RETURN(TuningCache cache, TuningCache::open(tuningCache_));
  LLMRT_ASSIGN_OR_RETURN(products_,
                         MatrixProducts::create(fakeLtTable(), std::move(cache),
                                                "emulated GPU", timer_));
  return absl::OkStatus();
}

absl::StatusOr<bool> EmulatedProducts::launch(const DeviceLaunch& launch,
                                              bool isCapturing,
                                              int64_t scratchBytes) {
  const auto a = readArgs<LinearArgs>(launch.hostArguments);
  if (!suitsLibrary(a, launch.rows))
    return false;
  if (!products_)
    LLMRT_RETURN_IF_ERROR(start());
  timer_.isOpen = !isCapturing;
  const CudaLaunchShape rounding = roundRowsShape(a, launch.rows);
  if (rounding.scratchBytes + kCudaProductWorkspaceBytes > scratchBytes)
    return absl::InternalError("a product needs more scratch than is there");
  // The fake library never looks at its workspace.
  auto scratch =
      std::make_shared<std::vector<uint64_t>>(rounding.scratchBytes / 8 + 2);
  auto* rounded = reinterpret_cast<uint8_t*>(
      (reinterpret_cast<uintptr_t>(scratch->data()) + 15) / 16 * 16);
  const MatrixProducts::Place place = {rounded, kCudaProductWorkspaceBytes,
                                       &stream_};
  const LinearProducts products = productsOfLinear(a, launch.rows, rounded);
  LLMRT_ASSIGN_OR_RETURN(bool isThere, prepareAll(*products_, products, place));
  // The scratch lives until measured products have run.
  enqueue_([scratch] { return absl::OkStatus(); });
  if (!isThere)
    return false;
  enqueue_(
      [rounding, words = launch.arguments, rounded, scratch]() -> absl::Status {
        std::string error = emulation::runCudaForm(rounding, words, rounded);
        return error.empty() ? absl::OkStatus() : absl::InternalError(error);
      });
  LLMRT_RETURN_IF_ERROR(multiplyAll(*products_, products, place));
  enqueue_([scratch] { return absl::OkStatus(); });
  return true;
}

} // namespace llmrt::test
