// SPDX-License-Identifier: Apache-2.0
// linear_rope_append with weights in blocks of 32 elements, 8 or 4 bits each,
// that share a factor (WeightFormat). A product of a block's elements is f32
// and takes the factor once.
//
// Constraints  those of LinearRopeAppend.cu, with K a multiple of 32.
// Scratch  as there.
#include "runtime/kernels/cuda/LinearRopeAppend.cuh"

LLMRT_CUDA_ENTRY(linear_rope_append_quantized_rows_1, 256, 2) {
  llmrt::cuda::appendByLanes<llmrt::cuda::Q8, llmrt::cuda::Q4, 1, 2>(
      args, rows, cols, rowTile, colTile, llmrt::WeightFormat::Q8_0, scratch);
}

LLMRT_CUDA_ENTRY(linear_rope_append_quantized_rows_2, 256, 1) {
  llmrt::cuda::appendByLanes<llmrt::cuda::Q8, llmrt::cuda::Q4, 2, 2>(
      args, rows, cols, rowTile, colTile, llmrt::WeightFormat::Q8_0, scratch);
}

LLMRT_CUDA_ENTRY(linear_rope_append_quantized_rows_4, 256, 1) {
  llmrt::cuda::appendByLanes<llmrt::cuda::Q8, llmrt::cuda::Q4, 4, 2>(
      args, rows, cols, rowTile, colTile, llmrt::WeightFormat::Q8_0, scratch);
}

LLMRT_CUDA_ENTRY(linear_rope_append_quantized_rows_8, 256, 1) {
  llmrt::cuda::appendByLanes<llmrt::cuda::Q8, llmrt::cuda::Q4, 8, 2>(
      args, rows, cols, rowTile, colTile, llmrt::WeightFormat::Q8_0, scratch);
}
