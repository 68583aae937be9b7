// SPDX-License-Identifier: Apache-2.0
// The argument words of the kernels of the training step as structs of 8-byte
// members, in the order of Kernels.def; tests compare the two. Those of
// inference are in KernelArgs.h.
#pragma once

#include "runtime/kernels/KernelArgs.h"

namespace llmrt {

struct LinearInputGradientArgs {
  int64_t rows;
  const float* dy; // [rows, lddy] of factorDtype
  int64_t lddy;
  int64_t N;
  const void* w; // [N, K] in `layout`
  int64_t dtype;
  int64_t layout;
  float* dx; // [rows, lddx]
  int64_t lddx;
  int64_t K;
  int64_t factorDtype; // of dy
};

struct LinearWeightGradientArgs {
  int64_t outputs; // N rounded up to kPanelBytes / 4
  const float* dy; // [rows, lddy]
  int64_t lddy;
  const float* x; // [rows, ldx]
  int64_t ldx;
  int64_t rows;
  int64_t N;
  int64_t K;
  float* out; // [N, K] in `layout`
  int64_t layout;
  int64_t accumulate;
  int64_t validN;
  int64_t validK;
  int64_t dtype;       // of the weight that products read
  int64_t factorDtype; // of dy and x
};

struct SumRowsArgs {
  int64_t one;
  const float* x; // [rows, ldx]
  int64_t ldx;
  int64_t rows;
  int64_t C;
  int64_t W;
  float* out; // [W]
  int64_t accumulate;
};

struct EmbeddingGradientArgs {
  int64_t one;
  const int32_t* ids; // [rows]
  const float* dy;    // [rows, C]
  float* out;         // [V, C] in `layout`
  int64_t rows;
  int64_t C;
  int64_t vocabBegin;
  int64_t vocabCount;
  int64_t V;
  int64_t layout;
  int64_t accumulate;
};

struct AttentionRowsArgs {
  int64_t rows;          // S * R
  const float* q;        // [rows, ldq]
  const float* k;        // [rows, ldk]
  const float* v;        // [rows, ldv]
  const int32_t* starts; // [rows], or null
  float* out;            // [rows, ldo]
  float* logSum;         // [rows, H]
  int64_t R;
  int64_t H;
  int64_t KV;
  int64_t D;
  int64_t group;
  int64_t headOffset;
  int64_t dtype;
  double scale;
  double softcap;
  int64_t window;
  int64_t ldq;
  int64_t ldk;
  int64_t ldv;
  int64_t ldo;
};

struct AttentionGradientArgs {
  int64_t sequences;
  const float* q;        // [S * R, ldq]
  const float* k;        // [S * R, ldk]
  const float* v;        // [S * R, ldv]
  const float* out;      // [S * R, ldo]
  const float* dout;     // [S * R, lddo]
  const int32_t* starts; // [S * R], or null
  const float* logSum;   // [S * R, H]
  float* dq;             // [S * R, lddq]
  float* dk;             // [S * R, lddk]
  float* dv;             // [S * R, lddv]
  int64_t R;
  int64_t H;
  int64_t KV;
  int64_t D;
  int64_t group;
  int64_t headOffset;
  int64_t dtype;
  double scale;
  double softcap;
  int64_t window;
  int64_t ldq;
  int64_t ldk;
  int64_t ldv;
  int64_t ldo;
  int64_t lddo;
  int64_t lddq;
  int64_t lddk;
  int64_t lddv;
};

struct CrossEntropyStatisticsArgs {
  int64_t rows;
  const float* logits; // [rows, ldl]
  int64_t ldl;
  const int32_t* labels; // [rows]
  float* stats;          // [rows, 3]
  int64_t V;
  int64_t vocabBegin;
};

struct CrossEntropyLossArgs {
  int64_t rows;
  const float* stats; // [ranks, rankStride]: [rows, 3] of each rank
  int64_t rankStride;
  int64_t ranks;
  const int32_t* labels; // [rows]
  float* loss;           // [rows]
  float* logSum;         // [rows]
};

struct CrossEntropyGradientArgs {
  int64_t rows;
  const float* logits; // [rows, ldl]
  int64_t ldl;
  const int32_t* labels; // [rows]
  const float* logSum;   // [rows]
  const float* weights;  // [rows]
  float* out;            // [rows, ldo]
  int64_t ldo;
  int64_t V;
  int64_t vocabBegin;
  int64_t columns;
};

struct TokenWeightsArgs {
  int64_t rows;
  const int32_t* labels; // [rows]
  const float* count;    // [1]
  float* weights;        // [rows]
};

struct CountLabelsArgs {
  int64_t one;
  const int32_t* labels; // [rows]
  int64_t rows;
  int64_t unit; // divides rows
  float* out;   // [1]
};

struct WeightedSumArgs {
  int64_t one;
  const float* x;       // [rows]
  const float* weights; // [rows]
  int64_t rows;
  float* out; // [1]
  int64_t accumulate;
};

struct ZeroArgs {
  int64_t blocks;
  void* out;
  int64_t sizeBytes;
};

struct AddToArgs {
  int64_t blocks;
  float* out;     // [elements]
  const float* x; // [elements]
  int64_t elements;
};

struct SquareSumsArgs {
  int64_t blocks;
  const float* x; // [elements]
  double* out;    // [blocks]
  int64_t blockElements;
  int64_t elements;
};

struct SumTermsArgs {
  int64_t one;
  const double* terms; // [count]
  int64_t count;
  double* out;
  int64_t index; // of the element written
};

struct GlobalNormArgs {
  int64_t one;
  const double* blocks; // [count]
  int64_t count;
  const float* hyper; // [16]
  float* out;         // [4]
};

struct MoveRowsArgs {
  int64_t rows; // of the result, with the padding of its layout
  const void* from;
  int64_t fromLayout;
  int64_t fromBegin;
  void* to;
  int64_t toLayout;
  int64_t toBegin;
  int64_t count;
  int64_t K;
  int64_t dtype; // DType: F32 or BF16
};

struct AdamwArgs {
  int64_t blocks;
  float* param;          // [elements]
  const float* gradient; // [elements]
  float* moment1;        // [elements]
  float* moment2;        // [elements]
  const float* norm;     // [4], of global_norm
  const float* hyper;    // [16]
  int64_t blockElements;
  int64_t elements;
  int64_t decay;
};

struct CastWeightArgs {
  int64_t panels;
  const float* from; // [N, K] in `layout`
  void* to;          // [N, K] bf16 in `layout`
  int64_t N;
  int64_t K;
  int64_t layout;
};

struct PreferenceLossArgs {
  int64_t one;
  const float* loss;      // [S, R]
  const float* reference; // [S, R]
  const int32_t* labels;  // [S, R]
  const float* hyper;     // [16]
  int64_t kind;
  int64_t S;
  int64_t R;
  const float* scale; // [1]
  float* weights;     // [S, R]
  float* out;         // [6]
};

} // namespace llmrt
