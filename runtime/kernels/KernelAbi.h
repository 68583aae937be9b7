// SPDX-License-Identifier: Apache-2.0
// The one ABI of every kernel, generated or hand-tuned: an argument block of
// 8-byte words in memory, a tile, scratch. Plain C, so that generated code can
// match it.
#pragma once

#include <cstdint>

extern "C" {

/// A half-open rectangle of a kernel's iteration space, in rows and columns of
/// its output. Executors cut the space into tiles of the kernel's tile size; a
/// kernel may be called with any whole number of tiles, and no result depends
/// on the cut.
struct LlmrtTile {
  int64_t rowBegin;
  int64_t rowEnd;
  int64_t colBegin;
  int64_t colEnd;
};

/// args     word 0 is the number of valid rows of this call; the others as
/// declared
///          in Kernels.def: addresses, int64 values, or the bits of a double.
/// scratch  at least the kernel's scratch bytes, 64-byte aligned, private to
/// the
///          calling thread, contents undefined.
typedef void (*LlmrtKernelFn)(const uint64_t* args, const LlmrtTile* tile,
                              void* scratch);
}

namespace llmrt {

/// Instruction sets that code is made for. A level includes the ones before it.
/// Values are stored in plans.
enum class CpuLevel : uint8_t { Baseline = 0, Avx2 = 1, Avx512 = 2 };

/// Element types. Values are stored in plans.
enum class DType : uint8_t {
  F32 = 0,
  BF16 = 1,
  I32 = 2,
  F16 = 3,
  U8 = 4,
  I64 = 5,
  F64 = 6
};

/// How a weight [N, K] lies in memory. Values are stored in plans.
///   RowMajor  w[n * K + k]
///   Panel     panels of P = kPanelBytes / sizeof(element) outputs:
///             w[(n / P) * K * P + k * P + n % P]; N is zero-padded to a
///             multiple of P.
enum class WeightLayout : uint8_t { RowMajor = 0, Panel = 1 };
inline constexpr int64_t kPanelBytes = 128;

inline constexpr int64_t dtypeBytes(DType t) {
  switch (t) {
  case DType::F32:
  case DType::I32:
    return 4;
  case DType::BF16:
  case DType::F16:
    return 2;
  case DType::U8:
    return 1;
  case DType::I64:
  case DType::F64:
    return 8;
  }
  return 0;
}

/// Tokens of one key/value cache page. Attention walks keys in blocks of this
/// many, aligned to absolute positions. A page of one sequence holds, for keys,
/// [KV, D, kPageTokens] (transposed, so that lanes are tokens) and, for values,
/// [KV, kPageTokens, D].
inline constexpr int64_t kPageTokens = 64;

} // namespace llmrt
