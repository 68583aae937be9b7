// SPDX-License-Identifier: Apache-2.0
// What is used of cuBLASLt's C interface, declared here because the library is
// loaded at run time and tests bring their own. The values are part of its
// stable ABI; LtTableTest compares them with cublasLt.h where there is one.
#pragma once

#include <cstddef>
#include <cstdint>

namespace llmrt::lt {

struct Context;
using Handle = Context*;
struct MatmulDescOpaque;
using MatmulDesc = MatmulDescOpaque*;
struct MatrixLayoutOpaque;
using MatrixLayout = MatrixLayoutOpaque*;
struct PreferenceOpaque;
using Preference = PreferenceOpaque*;

/// "Can be trivially serialized and later restored for use with the same
/// version."
struct Algorithm {
  uint64_t data[8];
};

enum Result : int {
  kSuccess = 0,
  kNotInitialized = 1,
  kAllocFailed = 3,
  kInvalidValue = 7,
  kArchMismatch = 8,
  kMappingError = 11,
  kExecutionFailed = 13,
  kInternalError = 14,
  kNotSupported = 15,
  kLicenseError = 16
};

struct Heuristic {
  Algorithm algorithm;
  size_t workspaceBytes;
  Result state; // the other fields mean something only if it is kSuccess
  float wavesCount;
  int reserved[4];
};

enum DataType : int { kFloat32 = 0, kBfloat16 = 14 };

enum ComputeType : int { kCompute32F = 68 };

enum Operation : int32_t { kNone = 0, kTranspose = 1 };

enum MatmulDescAttribute : int {
  kDescTransposeA = 3, // int32_t
  kDescTransposeB = 4,
  kDescEpilogue = 7,   // uint32_t
  kDescBiasPointer = 8 // of elements of the result's type, one for each row
};

/// What becomes of alpha A B + beta C. gelu is the one by tanh.
enum Epilogue : uint32_t {
  kEpilogueNone = 1,
  kEpilogueBias = 4,
  kEpilogueGelu = 32,
  kEpilogueGeluBias = kEpilogueGelu | kEpilogueBias
};

enum PreferenceAttribute : int {
  kMaxWorkspaceBytes = 1,   // uint64_t
  kReductionSchemeMask = 3, // uint32_t
  kMinAlignmentA = 5,       // uint32_t, bytes
  kMinAlignmentB = 6,
  kMinAlignmentC = 7,
  kMinAlignmentD = 8
};

/// How parts of a sum over k are added: none (one sequence), or as numbers of
/// the compute type in the workspace, by a step of its own.
enum ReductionScheme : uint32_t { kReduceNone = 0, kReduceComputeType = 2 };

/// Of CUDA 13.
inline constexpr size_t kMinVersion = 130000;
inline constexpr size_t kTooNewVersion = 140000;

} // namespace llmrt::lt
