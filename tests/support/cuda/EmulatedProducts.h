// SPDX-License-Identifier: Apache-2.0
// Products of matrices by the fake cuBLASLt on a device without a GPU: what the
// cuda device does, with scratch of its own for each launch.
#pragma once

#include "runtime/device/Device.h"
#include "tests/support/cuda/FakeCublasLt.h"

#include <functional>
#include <memory>
#include <string>
#include <string_view>

namespace llmrt::test {

class EmulatedProducts {
public:
  /// Adds work to the compute stream.
  using Enqueue = std::function<void(std::function<absl::Status()>)>;

  EmulatedProducts(std::string tuningCache, Enqueue enqueue);

  /// Enqueues a launch of a kernel. Returns false if the library does not take
  /// it. `scratchBytes`: what the device holds, without counters.
  absl::StatusOr<bool> launch(std::string_view kernel,
                              const DeviceLaunch& launch, bool isCapturing,
                              int64_t scratchBytes);

private:
  absl::Status start();

  std::string tuningCache_;
  Enqueue enqueue_;
  FakeLtTimer timer_;
  FakeLtStream stream_;
  std::unique_ptr<MatrixProducts> products_;
};

} // namespace llmrt::test
