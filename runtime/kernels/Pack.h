// SPDX-License-Identifier: Apache-2.0
// Weights from rows, as files hold them, to panels, as `linear` streams them
// (see WeightLayout). For the weight loader; moves every byte once.
#pragma once

#include "runtime/kernels/KernelAbi.h"

namespace llmrt {

/// Returns the outputs of one panel.
inline int64_t panelCols(DType dtype) {
  return kPanelBytes / dtypeBytes(dtype);
}

/// Returns the bytes of a weight [N, K] in panels, its padding included.
inline int64_t panelBytes(DType dtype, int64_t N, int64_t K) {
  int64_t P = panelCols(dtype);
  return (N + P - 1) / P * K * kPanelBytes;
}

struct PackPanelsArgs {
  const void* source; // row n, element k at source[n * rowStride + k]
  DType sourceDtype;  // F32 or BF16
  int64_t rowStride;  // in elements, >= K
  int64_t N;          // rows of the source; outputs beyond are zeros
  int64_t K;
  void* panels;       // the whole weight's panels
  DType panelDtype;   // F32 or BF16; BF16 rounds to nearest even
  int64_t panelBegin; // panels to write: threads take ranges of their own
  int64_t panelEnd;
};

/// Writes panels [panelBegin, panelEnd). Source and panels do not overlap.
void packPanels(const PackPanelsArgs& args);

} // namespace llmrt
