// SPDX-License-Identifier: Apache-2.0
#include "runtime/device/Device.h"

namespace llmrt {

absl::string_view memoryClassName(MemoryClass memoryClass) {
  constexpr absl::string_view kNames[kNumMemoryClasses] = {
      "parameters",    "gathered parameters", "caches",    "activations",
      "communication", "workspace",           "inputs",    "outputs",
      "constants",     "gradients",           "optimizer", "code",
      "library"};
  return kNames[static_cast<int>(memoryClass)];
}

} // namespace llmrt
