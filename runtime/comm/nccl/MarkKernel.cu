// SPDX-License-Identifier: Apache-2.0
#include "runtime/comm/nccl/MarkKernel.h"

namespace llmrt {
namespace {

// One thread. The count stays on the device: reading it over the bus would take
// longer than all the rest.
__global__ void markProgress(volatile uint64_t* word, uint32_t* count,
                             uint32_t number) {
  uint32_t next = *count + 1;
  *count = next;
  *word = (uint64_t{next} << 32) | number;
  __threadfence_system();
}

} // namespace

int launchMark(void* stream, uint64_t* word, uint32_t* count, uint32_t number) {
  markProgress<<<1, 1, 0, static_cast<cudaStream_t>(stream)>>>(word, count,
                                                               number);
  return cudaGetLastError();
}

} // namespace llmrt
