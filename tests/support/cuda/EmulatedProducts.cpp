// SPDX-License-Identifier: Apache-2.0
#include "tests/support/cuda/EmulatedProducts.h"

#include "runtime/base/Error.h"
#include "runtime/device/cublaslt/LibraryLaunch.h"
#include "runtime/kernels/cuda/LibraryProducts.h"
#include "tests/support/cuda/EmulatedKernels.h"

#include <cstring>

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

absl::StatusOr<bool> EmulatedProducts::launch(std::string_view kernel,
                                              const DeviceLaunch& launch,
                                              bool isCapturing,
                                              int64_t scratchBytes) {
  const std::optional<LibraryFactors> factors =
      libraryFactors(kernel, launch.hostArguments, launch.rows);
  if (!factors)
    return false;
  if (!products_)
    LLMRT_RETURN_IF_ERROR(start());
  timer_.isOpen = !isCapturing;
  const int64_t roundedBytes = factors->scratchBytes;
  if (roundedBytes + kCudaProductWorkspaceBytes > scratchBytes)
    return absl::InternalError("a product needs more scratch than is there");
  // The fake library never looks at its workspace.
  auto scratch = std::make_shared<std::vector<uint64_t>>(roundedBytes / 8 + 2,
                                                         ~uint64_t{0}); // NaN
  auto* rounded = reinterpret_cast<uint8_t*>(
      (reinterpret_cast<uintptr_t>(scratch->data()) + 15) / 16 * 16);
  const MatrixProducts::Place place = {rounded, kCudaProductWorkspaceBytes,
                                       &stream_};
  const LibraryLaunch products =
      *libraryLaunch(kernel, launch.hostArguments, launch.rows, rounded);
  if (products.accumulates() && !isCapturing && !knowsAll(*products_, products))
    enqueue_([scratch, rounded, roundedBytes] {
      std::memset(rounded, 0, roundedBytes);
      return absl::OkStatus();
    });
  LLMRT_ASSIGN_OR_RETURN(bool isThere,
                         prepareAll(*products_, products, rounded, place));
  // The scratch lives until measured products have run.
  enqueue_([scratch] { return absl::OkStatus(); });
  if (!isThere)
    return false;
  if (factors->rounding)
    enqueue_([rounding = *factors->rounding, words = launch.arguments, rounded,
              scratch]() -> absl::Status {
      std::string error = emulation::runCudaForm(rounding, words, rounded);
      return error.empty() ? absl::OkStatus() : absl::InternalError(error);
    });
  LLMRT_RETURN_IF_ERROR(multiplyAll(*products_, products, place));
  enqueue_([scratch] { return absl::OkStatus(); });
  return true;
}

} // namespace llmrt::test
