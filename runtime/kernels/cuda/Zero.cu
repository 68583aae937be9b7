// SPDX-License-Identifier: Apache-2.0
// zero on CUDA: a tile of blocks of 4096 bytes, 16 bytes a thread.
//
// Constraints  none.    Scratch  none.
#include "runtime/kernels/cuda/Training.cuh"

LLMRT_CUDA_ENTRY(zero, 256) {
  using namespace llmrt::cuda;
  constexpr int64_t blockBytes = 4096;
  const auto& a = argsOf<llmrt::ZeroArgs>(args);
  const LlmrtTile tile = blockTile(rows, cols, rowTile, colTile);
  auto* out = static_cast<uint8_t*>(a.out);
  const int64_t begin = tile.rowBegin * blockBytes;
  const int64_t end =
      least(least(tile.rowEnd, a.blocks) * blockBytes, a.sizeBytes);
  int64_t rest = begin;
  if (isAligned16(out) && begin < end) {
    rest = begin + (end - begin) / 16 * 16;
    for (int64_t i = begin + threadIdx.x * 16; i < rest; i += blockDim.x * 16)
      *reinterpret_cast<uint4*>(out + i) = make_uint4(0, 0, 0, 0);
  }
  for (int64_t i = rest + threadIdx.x; i < end; i += blockDim.x)
    out[i] = 0;
}
