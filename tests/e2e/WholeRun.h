// SPDX-License-Identifier: Apache-2.0
// Runs an inference plan so that it uses all of its memory, with the check of
// memory on: what the tests of memory compare.
#pragma once

#include "runtime/device/Device.h"
#include "runtime/plan/PlanFile.h"

#include "absl/status/status.h"

#include <functional>
#include <memory>
#include <string>

namespace llmrt {

struct WholeRun {
  std::string weights = "random:1";
  int64_t mostCalls = INT64_MAX; // of one entry: the last ones
  // Makes the device of a rank of that stage; without, that of the plan's
  // target.
  std::function<std::unique_ptr<Device>(const fb::Stage&)> device = {};
};

/// Runs every entry of a plan on local ranks, with all rows of all sequences,
/// from position 0 until the caches are full. Returns the first error that is
/// not an abort: of checkTouchedMemory() if there is no other.
absl::Status runWhole(const fb::Plan& plan, const WholeRun& run = {});

} // namespace llmrt
