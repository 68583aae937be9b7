// SPDX-License-Identifier: Apache-2.0
// What `--target` names: the kind of device, and for CUDA the architectures
// that a plan has machine code for. The one place that reads that text.
#pragma once

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"

#include <string>
#include <vector>

namespace llmc {

struct CudaArchitecture {
  int number;     // 90: sm_90
  int ptxVersion; // 80: the first PTX ISA (8.0) that this version writes for it
};

/// Returns the architectures that can be named, ascending.
absl::Span<const CudaArchitecture> cudaArchitectures();

struct Target {
  bool isCuda = false;
  std::vector<int> architectures; // of cubins, ascending
  int ptxArchitecture = 0;        // of the PTX text; 0: none

  /// Returns the text that names exactly this: cpu, cuda:sm_80,sm_90, cuda:ptx.
  std::string text() const;

  /// Returns what a plan calls it: cpu or cuda.
  const char* name() const { return isCuda ? "cuda" : "cpu"; }
};

/// Reads `cpu`, `cuda` (sm_80, sm_90 and sm_100), `cuda:sm_90`,
/// `cuda:sm_80,sm_90`, `cuda:ptx` (PTX for sm_80) or `cuda:sm_90,ptx` (and PTX
/// for the lowest architecture named).
/// Errors  BadOptionValue, with what may have been meant.
absl::StatusOr<Target> parseTarget(absl::string_view text);

} // namespace llmc
