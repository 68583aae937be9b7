// SPDX-License-Identifier: Apache-2.0
// The argument words of each hand-tuned kernel as a struct of 8-byte members,
// in the order of Kernels.def; tests compare the two. Not the ABI itself:
// KernelAbi.h is.
#pragma once

#include "runtime/kernels/KernelAbi.h"

#include <cstring>

namespace llmrt {

/// One of the weights of `linear`.
struct LinearWeight {
  const void* w;
  float* y; // [rows, ldy]
  int64_t N;
  int64_t ldy;
  LlmrtKernelFn epilogue;
  const uint64_t* epilogueArgs;
};

struct LinearArgs {
  int64_t rows;
  const float* x; // [rows, ldx] of factorDtype
  int64_t ldx;
  int64_t K;
  int64_t dtype;
  int64_t layout;
  int64_t zip;
  int64_t count;
  LinearWeight weights[3];
  LlmrtKernelFn prologue;
  const uint64_t* prologueArgs;
  int64_t prologueWords;
  int64_t prologueOut;
  int64_t factorDtype; // of x
};

struct EmbeddingArgs {
  int64_t rows;
  const int32_t* ids; // [rows]
  const void* table;  // [vocabCount, C] in `layout`
  float* out;         // [rows, C]
  int64_t C;
  int64_t vocabBegin;
  int64_t vocabCount;
  int64_t dtype;
  int64_t layout;
};

struct RopeArgs {
  int64_t rows;
  const float* x; // [rows, ldx]
  const int32_t* positions;
  const float* table; // [maxPositions, 2, rotary / 2]
  float* out;         // [rows, ldo]
  int64_t heads;
  int64_t D;
  int64_t rotary;
  int64_t style;
  int64_t ldx;
  int64_t ldo;
  int64_t inverse;
};

struct KvAppendArgs {
  int64_t rows;
  const float* x; // [rows, ldx]
  const int32_t* positions;
  const int32_t* blockTable; // [S, pages]
  void* cache;
  int64_t R;
  int64_t KV;
  int64_t D;
  int64_t pages;
  int64_t dtype;
  int64_t kind;
  int64_t ldx;
};

struct RopeAppendArgs {
  int64_t rows;
  const float* q; // [rows, ldq]
  const float* k; // [rows, ldk]
  const float* v; // [rows, ldv]
  const int32_t* positions;
  const float* table;
  const int32_t* blockTable;
  float* qOut; // [rows, ldo]
  void* keyCache;
  void* valueCache;
  int64_t R;
  int64_t H;
  int64_t KV;
  int64_t D;
  int64_t rotary;
  int64_t style;
  int64_t pages;
  int64_t dtype;
  int64_t ldq;
  int64_t ldk;
  int64_t ldv;
  int64_t ldo;
};

struct AttentionArgs {
  int64_t rows;
  const float* q; // [rows, ldq]
  const void* keyCache;
  const void* valueCache;
  const int32_t* positions;
  const int32_t* blockTable;
  float* out; // [rows, ldo]
  int64_t R;
  int64_t H;
  int64_t KV;
  int64_t D;
  int64_t group;
  int64_t headOffset;
  int64_t pages;
  int64_t dtype;
  double scale;
  double softcap;
  int64_t window;
  int64_t ldq;
  int64_t ldo;
};

struct SelectRowsArgs {
  int64_t S;
  const float* x;           // [S * R, C]
  const int32_t* validRows; // [S]
  float* out;               // [S, C]
  int64_t R;
  int64_t C;
};

struct UnstackArgs {
  int64_t rows;
  const float* in; // [T, rowStride, Cl]
  float* out;      // [rows, C]
  int64_t T;
  int64_t Cl;
  int64_t C;
  int64_t rowStride;
};

struct SampleArgs {
  int64_t S;
  const float* logits;       // [S, V]
  const float* temperature;  // [S]
  const int32_t* topK;       // [S]
  const float* topP;         // [S]
  const int64_t* seed;       // [S]
  const int32_t* sequenceId; // [S]
  const int32_t* positions;  // [S]
  int32_t* out;              // [S]
  int64_t V;
};

struct RopeTableArgs {
  int64_t positions;
  float* table; // [positions, 2, rotary / 2]
  int64_t rotary;
  double theta;
  int64_t kind;
  double factor;
  double lowFreqFactor;
  double highFreqFactor;
  double originalContext;
};

/// Reads an argument block. Every member is one 8-byte word. Static, because
/// sources of every CPU level include it: the linker must not merge the copies.
template <typename Args>
static inline Args readArgs(const uint64_t* words) {
  static_assert(sizeof(Args) % sizeof(uint64_t) == 0);
  Args args;
  std::memcpy(&args, words, sizeof(Args));
  return args;
}

} // namespace llmrt
