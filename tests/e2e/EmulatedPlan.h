// SPDX-License-Identifier: Apache-2.0
// A plan for cuda that runs without a GPU: the executor's commands on a device
// that runs hand-tuned kernels from their sources and generated ones from their
// LLVM IR, a fiber for each thread of a block.
#pragma once

#include "runtime/plan/PlanFile.h"
#include "tests/codegen/CudaKernels.h"
#include "tests/e2e/PlanRunner.h"
#include "tests/support/cuda/RecordingDevice.h"

#include "absl/status/status.h"

#include <atomic>
#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace llmrt {

/// The plan of a model for cuda, with its generated kernels for the host. Its
/// files live as long as it does.
class EmulatedPlan {
public:
  EmulatedPlan();
  EmulatedPlan(const EmulatedPlan&) = delete;
  ~EmulatedPlan();

  /// Compiles with options of llmc compile. Error  what llmc printed.
  absl::Status compile(const std::string& model,
                       std::vector<std::string> options);

  const std::string& path() const { return path_; }

  /// Runs an inference plan on devices of its own.
  absl::StatusOr<RunResult> run(RunRequest request,
                                bool sharesHostMemory = false);

  // Of the last run: what was launched, or captured to be launched later.
  int64_t numReplays() const { return numReplays_; }

  int64_t numLaunches() const { return numLaunches_; }

  int64_t numLibraryLaunches() const { return numLibraryLaunches_; }

  int64_t numWgmmaLaunches() const { return numWgmmaLaunches_; }

  /// Those of the library's launches that are gradients of linear.
  int64_t numLibraryGradients() const { return numLibraryGradients_; }

  // What the device stands for.
  bool hasCublasLt = false;
  CudaFeatures features = {};

  /// Makes the device of a rank of that stage. What no entry may read before it
  /// has written it is NaN whenever launches begin to run. With
  /// `sharesHostMemory` local communicators connect several ranks.
  std::unique_ptr<Device> createDevice(const fb::Stage& stage,
                                       bool sharesHostMemory);

private:
  std::atomic<int64_t> numReplays_{0}, numLaunches_{0}, numLibraryLaunches_{0},
      numLibraryGradients_{0}, numWgmmaLaunches_{0};
  std::string dump_;
  std::string path_;
  std::optional<llmc::EmulatedKernels> kernels_;
};

} // namespace llmrt
