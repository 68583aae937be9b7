// SPDX-License-Identifier: Apache-2.0
// Names, versions and argument words of the hand-tuned kernels, for whoever
// reads or writes plans without running them. The code is in runtime/kernels.
#pragma once

#include "absl/strings/string_view.h"
#include "absl/types/span.h"

#include <cstdint>
#include <vector>

namespace llmrt {

struct KernelSignature {
  absl::string_view name;
  int version;
  int64_t rowTile; // 0: the whole extent
  int64_t colTile;
  std::vector<absl::string_view> words;
  std::vector<char> types;  // of the words: 'p', 'i', 'f'
  bool hasCudaForm = false; // whose tile a launch chooses
  bool hasCpuForm = true;
};

/// Returns the kernel of Kernels.def, or nullptr.
const KernelSignature* findKernelSignature(absl::string_view name, int version);

/// Returns the newest version of `name` in Kernels.def, or 0.
int newestKernelVersion(absl::string_view name);

} // namespace llmrt
