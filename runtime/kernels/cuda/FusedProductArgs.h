// SPDX-License-Identifier: Apache-2.0
// The argument words of the kernels that exist on CUDA only, as structs of
// 8-byte members in the order of Kernels.def; tests compare the two.
#pragma once

#include "runtime/kernels/KernelAbi.h"

namespace llmrt {

/// Values of the word `norm`.
enum class InputNorm : int64_t { None = 0, RootMeanSquare = 1, Layer = 2 };

/// Values of the word `dtype`: those of DType, and blocks of kBlockElements
/// neighbouring elements of K that share a factor. A block's elements are those
/// of the GGUF format of that name, but factors lie behind all elements:
///   Q8_0  int8 [N, K], then f16 [N, K / 32]; element * factor
///   Q4_0  uint8 [N, K / 2], then f16 [N, K / 32]; (element - 8) * factor; byte
///         i of a block holds elements i (low half) and i + 16
enum class WeightFormat : int64_t { F32 = 0, BF16 = 1, Q8_0 = 16, Q4_0 = 17 };
inline constexpr int64_t kBlockElements = 32;

/// The rows that a product multiplies: the first words of both kernels.
struct NormedRows {
  int64_t rows;
  const float* x; // [rows, ldx]
  int64_t ldx;
  int64_t K;
  int64_t dtype; // of the weights: WeightFormat
  int64_t norm;
  const float* normWeight; // [K]
  const float* normBias;   // [K]
  double eps;
  double offset;
};

struct FusedLinearArgs {
  NormedRows in;
  int64_t N;
  int64_t count;
  const void* w0;     // [N, K]
  const float* bias0; // [N]
  const void* w1;     // [N, K]
  const float* bias1; // [N]
  int64_t activation;
  double softcap;
  const float* postWeight; // [N]
  double postEps;
  double postOffset;
  const float* residual; // [rows, ldr]
  int64_t ldr;
  float* y; // [rows, ldy]
  int64_t ldy;
  int64_t factorDtype; // of x
};

struct LinearRopeAppendArgs {
  NormedRows in;
  const void* w0;         // [H * D, K]
  const float* bias0;     // [H * D]
  const void* w1;         // [KV * D, K]
  const float* bias1;     // [KV * D]
  const void* w2;         // [KV * D, K]
  const float* bias2;     // [KV * D]
  const float* headNormQ; // [D]
  const float* headNormK; // [D]
  double headEps;
  double headOffset;
  const int32_t* positions;
  const float* table;
  const int32_t* blockTable;
  float* qOut; // [rows, ldo]
  int64_t ldo;
  void* keyCache;
  void* valueCache;
  int64_t R;
  int64_t H;
  int64_t KV;
  int64_t D;
  int64_t rotary;
  int64_t style;
  int64_t pages;
  int64_t cacheDtype;
};

struct LinearQuantizedArgs {
  int64_t rows;
  const float* x; // [rows, ldx]
  int64_t ldx;
  int64_t K;
  int64_t dtype;   // of the weight: WeightFormat, of blocks
  int64_t compute; // DType
  int64_t N;
  const void* w; // [N, K]
  float* y;      // [rows, ldy]
  int64_t ldy;
};

} // namespace llmrt
