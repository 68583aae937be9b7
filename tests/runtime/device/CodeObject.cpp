// SPDX-License-Identifier: Apache-2.0
// A code object for DeviceTest: out[r] = LLMRT_TEST_VALUE for the rows of the
// tile. Compiled with two values.
#include "runtime/kernels/KernelAbi.h"

extern "C" void writeValue(const uint64_t* args, const LlmrtTile* tile, void*) {
  int* out = reinterpret_cast<int*>(args[1]);
  for (int64_t r = tile->rowBegin; r < tile->rowEnd; ++r)
    out[r] = LLMRT_TEST_VALUE;
}
