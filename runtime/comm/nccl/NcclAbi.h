// SPDX-License-Identifier: Apache-2.0
// What is used of NCCL's C interface, declared here because nccl.h needs the
// CUDA toolkit and NCCL is loaded at run time. The values are part of its
// stable ABI; NcclTableTest compares them with nccl.h where there is one.
#pragma once

#include <climits>
#include <cstddef>
#include <cstdint>

namespace llmrt::nccl {

struct Comm;
using CommHandle = Comm*;

struct UniqueId {
  char internal[128];
};

enum Result : int {
  kSuccess = 0,
  kUnhandledCudaError = 1,
  kSystemError = 2,
  kInternalError = 3,
  kInvalidArgument = 4,
  kInvalidUsage = 5,
  kRemoteError = 6,
  kInProgress = 7
};

enum DataType : int { kUint8 = 1, kFloat32 = 7, kBfloat16 = 9 };

enum RedOp : int { kSum = 0 };

/// Returns 22809 for 2.28.9.
constexpr int versionCode(int major, int minor, int patch) {
  return major * 10000 + minor * 100 + patch;
}

/// The oldest version that has all that is used, and whose configuration this
/// is: later libraries take it as it is.
inline constexpr int kMinVersion = versionCode(2, 18, 0);

struct Config {
  size_t size = sizeof(Config);
  unsigned int magic = 0xcafebeef;
  unsigned int version = kMinVersion;
  int blocking = INT_MIN; // undefined, like the others
  int cgaClusterSize = INT_MIN;
  int minCtas = INT_MIN;
  int maxCtas = INT_MIN;
  const char* netName = nullptr;
  int splitShare = INT_MIN;
};

} // namespace llmrt::nccl
