// SPDX-License-Identifier: Apache-2.0
// Every symbol of runtime/kernels/cuda, as the registry names it.
#include "tests/support/cuda/CudaEmulation.h"

#include "tests/support/cuda/EmulatedKernels.h"

#include "runtime/kernels/cuda/Constants.h"

#include <algorithm>

using CudaKernel = void(const uint64_t* args, int64_t rows, int64_t cols,
                        int64_t rowTile, int64_t colTile, uint8_t* scratch);

/// The forms for heads of at most that width.
#define LLMRT_WIDTHS(use, name) use(name##_64) use(name##_128) use(name##_256)

#define LLMRT_EMULATED(use)                                                    \
  use(linear) use(linear_f32) use(linear_rows_1) use(linear_rows_2)            \
      use(linear_rows_4) use(linear_rows_8) use(linear_mma_8)                  \
          use(linear_mma_16) use(linear_round) use(embedding) use(rope)        \
              use(kv_append) use(rope_append) use(attention)                   \
                  LLMRT_WIDTHS(use, attention_bf16) use(attention_rows_1)      \
                      use(attention_rows_2) use(attention_rows_4)              \
                          use(attention_rows_8) use(select_rows) use(unstack)  \
                              use(sample) use(rope_table)

#define LLMRT_EMULATED_DECODE(use)                                             \
  LLMRT_WIDTHS(use, attention_rows_1)                                          \
  LLMRT_WIDTHS(use, attention_rows_2)                                          \
  LLMRT_WIDTHS(use, attention_rows_4) LLMRT_WIDTHS(use, attention_rows_8)

#define LLMRT_EMULATED_WGMMA(use)                                              \
  LLMRT_WIDTHS(use, attention_wgmma)                                           \
  LLMRT_WIDTHS(use, attention_wgmma_bulk)                                      \
  use(attention_rows_round) LLMRT_WIDTHS(use, attention_rows_wgmma)            \
      use(attention_gradient_round)                                            \
          LLMRT_WIDTHS(use, attention_gradient_wgmma)

#define LLMRT_EMULATED_PRODUCTS(use)                                           \
  use(fused_linear_rows_1) use(fused_linear_rows_2) use(fused_linear_rows_4)   \
      use(fused_linear_rows_8) use(fused_linear_mma_8)                         \
          use(fused_linear_mma_16) use(linear_rope_append_rows_1)              \
              use(linear_rope_append_rows_2) use(linear_rope_append_rows_4)    \
                  use(linear_rope_append_rows_8) use(linear_rope_append_mma_8) \
                      use(linear_rope_append_mma_16)

#define LLMRT_EMULATED_BLOCKS(use)                                             \
  use(fused_linear_quantized_rows_1) use(fused_linear_quantized_mma_8)         \
      use(fused_linear_quantized_mma_16)                                       \
          use(linear_rope_append_quantized_rows_1)                             \
              use(linear_rope_append_quantized_mma_8)                          \
                  use(linear_rope_append_quantized_mma_16)                     \
                      use(linear_quantized) use(linear_quantized_f32)

#define LLMRT_EMULATED_TRAINING(use)                                           \
  use(fused_linear_many) use(fused_linear_many_f32) use(fused_linear_round)    \
      use(linear_input_gradient_round) use(linear_weight_gradient_round)       \
          use(linear_input_gradient) use(linear_input_gradient_f32)            \
              use(linear_weight_gradient) use(linear_weight_gradient_f32)      \
                  use(attention_rows) LLMRT_WIDTHS(use, attention_rows_bf16)   \
                      use(attention_gradient)                                  \
                          LLMRT_WIDTHS(use, attention_gradient_bf16)

#define LLMRT_EMULATED_FACTORS(use)                                            \
  use(linear_of_bf16) use(fused_linear_many_of_bf16)                           \
      use(linear_input_gradient_of_bf16) use(linear_weight_gradient_of_bf16)

#define LLMRT_EMULATED_STEP(use)                                               \
  use(sum_rows) use(embedding_gradient) use(cross_entropy_statistics)          \
      use(cross_entropy_loss) use(cross_entropy_gradient) use(token_weights)   \
          use(count_labels) use(weighted_sum) use(zero) use(add_to)            \
              use(square_sums) use(sum_terms) use(global_norm) use(move_rows)  \
                  use(adamw) use(cast_weight) use(preference_loss)

#define LLMRT_DECLARE(symbol) extern "C" CudaKernel symbol;
LLMRT_EMULATED(LLMRT_DECLARE)
LLMRT_EMULATED_DECODE(LLMRT_DECLARE)
LLMRT_EMULATED_WGMMA(LLMRT_DECLARE)
LLMRT_EMULATED_PRODUCTS(LLMRT_DECLARE)
LLMRT_EMULATED_BLOCKS(LLMRT_DECLARE)
LLMRT_EMULATED_TRAINING(LLMRT_DECLARE)
LLMRT_EMULATED_FACTORS(LLMRT_DECLARE)
LLMRT_EMULATED_STEP(LLMRT_DECLARE)

namespace llmrt::emulation {
namespace {

CudaKernel* findSymbol(const std::string& name) {
#define LLMRT_FIND(symbol)                                                     \
  if (name == #symbol)                                                         \
    return symbol;
  LLMRT_EMULATED(LLMRT_FIND)
  LLMRT_EMULATED_DECODE(LLMRT_FIND)
  LLMRT_EMULATED_WGMMA(LLMRT_FIND)
  LLMRT_EMULATED_PRODUCTS(LLMRT_FIND)
  LLMRT_EMULATED_BLOCKS(LLMRT_FIND)
  LLMRT_EMULATED_TRAINING(LLMRT_FIND)
  LLMRT_EMULATED_FACTORS(LLMRT_FIND)
  LLMRT_EMULATED_STEP(LLMRT_FIND)
  return nullptr;
}

constexpr uint8_t kPoison = 0xFF;
constexpr int64_t kGuardBytes = 4096;

} // namespace

std::string runCudaForm(const CudaLaunchShape& shape, const uint64_t* words,
                        uint8_t* scratch) {
  CudaKernel* kernel = findSymbol(shape.symbol);
  if (!kernel)
    return "no emulated symbol " + shape.symbol;
  Launch launch;
  launch.gridX = static_cast<unsigned>(shape.rowTiles() * shape.colTiles());
  launch.gridY = shape.parts;
  launch.threads = shape.threads;
  launch.sharedBytes = shape.sharedBytes;
  std::string error = runGrid(launch, [&] {
    kernel(words, shape.rows, shape.cols, shape.rowTile, shape.colTile,
           scratch);
  });
  return error.empty() ? "" : shape.symbol + ": " + error;
}

std::string runCudaKernel(std::string_view name, const uint64_t* words,
                          int64_t rows, int64_t cols, CudaFeatures features) {
  const CudaKernelInfo* info = findCudaKernel(name);
  if (!info)
    return "no CUDA kernel " + std::string(name);
  auto shape = cudaLaunchShape(*info, words, rows, cols, features);
  if (!shape.ok())
    return std::string(shape.status().message());
  if (shape->scratchBytes > cudaScratchBytes(name, words))
    return "more scratch than the bound of " + std::string(name);
  std::vector<uint64_t> memory(
      (kCudaCounterBytes + shape->scratchBytes + kGuardBytes) / 8 + 1);
  auto* scratch = reinterpret_cast<uint8_t*>(memory.data()) + kCudaCounterBytes;
  auto* end = reinterpret_cast<uint8_t*>(memory.data() + memory.size());
  std::fill(scratch, end, kPoison);
  if (shape->before)
    if (std::string error = runCudaForm(*shape->before, words, scratch);
        !error.empty())
      return error;
  if (std::string error = runCudaForm(*shape, words, scratch); !error.empty())
    return error;
  if (std::any_of(reinterpret_cast<uint8_t*>(memory.data()), scratch,
                  [](uint8_t byte) { return byte != 0; }))
    return shape->symbol + ": counters are not zero at the end";
  if (std::any_of(scratch + shape->scratchBytes, end,
                  [](uint8_t byte) { return byte != kPoison; }))
    return shape->symbol + ": a write behind the scratch";
  return "";
}

} // namespace llmrt::emulation
