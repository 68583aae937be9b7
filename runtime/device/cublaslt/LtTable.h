// SPDX-License-Identifier: Apache-2.0
// cuBLASLt as a table of functions, loaded at run time: nothing links it, and
// plans run where it is not installed, with our own kernels.
#pragma once

#include "runtime/device/cublaslt/LtAbi.h"

#include "absl/status/statusor.h"

#include <optional>
#include <string>

// LLMRT_LT_FUNCTION(member, symbol, parameters): those that return a Result.
#define LLMRT_LT_FUNCTIONS(LLMRT_LT_FUNCTION)                                  \
  LLMRT_LT_FUNCTION(create, "cublasLtCreate", (lt::Handle * handle))           \
  LLMRT_LT_FUNCTION(destroy, "cublasLtDestroy", (lt::Handle handle))           \
  LLMRT_LT_FUNCTION(                                                           \
      descCreate, "cublasLtMatmulDescCreate",                                  \
      (lt::MatmulDesc * desc, lt::ComputeType compute, lt::DataType scale))    \
  LLMRT_LT_FUNCTION(descDestroy, "cublasLtMatmulDescDestroy",                  \
                    (lt::MatmulDesc desc))                                     \
  LLMRT_LT_FUNCTION(descSet, "cublasLtMatmulDescSetAttribute",                 \
                    (lt::MatmulDesc desc, lt::MatmulDescAttribute attribute,   \
                     const void* value, size_t sizeBytes))                     \
  LLMRT_LT_FUNCTION(layoutCreate, "cublasLtMatrixLayoutCreate",                \
                    (lt::MatrixLayout * layout, lt::DataType type,             \
                     uint64_t rows, uint64_t cols, int64_t ld))                \
  LLMRT_LT_FUNCTION(layoutDestroy, "cublasLtMatrixLayoutDestroy",              \
                    (lt::MatrixLayout layout))                                 \
  LLMRT_LT_FUNCTION(preferenceCreate, "cublasLtMatmulPreferenceCreate",        \
                    (lt::Preference * preference))                             \
  LLMRT_LT_FUNCTION(preferenceDestroy, "cublasLtMatmulPreferenceDestroy",      \
                    (lt::Preference preference))                               \
  LLMRT_LT_FUNCTION(preferenceSet, "cublasLtMatmulPreferenceSetAttribute",     \
                    (lt::Preference preference,                                \
                     lt::PreferenceAttribute attribute, const void* value,     \
                     size_t sizeBytes))                                        \
  LLMRT_LT_FUNCTION(getHeuristics, "cublasLtMatmulAlgoGetHeuristic",           \
                    (lt::Handle handle, lt::MatmulDesc desc,                   \
                     lt::MatrixLayout a, lt::MatrixLayout b,                   \
                     lt::MatrixLayout c, lt::MatrixLayout d,                   \
                     lt::Preference preference, int wanted,                    \
                     lt::Heuristic* results, int* found))                      \
  LLMRT_LT_FUNCTION(check, "cublasLtMatmulAlgoCheck",                          \
                    (lt::Handle handle, lt::MatmulDesc desc,                   \
                     lt::MatrixLayout a, lt::MatrixLayout b,                   \
                     lt::MatrixLayout c, lt::MatrixLayout d,                   \
                     const lt::Algorithm* algorithm, lt::Heuristic* result))   \
  LLMRT_LT_FUNCTION(matmul, "cublasLtMatmul",                                  \
                    (lt::Handle handle, lt::MatmulDesc desc,                   \
                     const void* alpha, const void* a,                         \
                     lt::MatrixLayout aLayout, const void* b,                  \
                     lt::MatrixLayout bLayout, const void* beta,               \
                     const void* c, lt::MatrixLayout cLayout, void* d,         \
                     lt::MatrixLayout dLayout, const lt::Algorithm* algorithm, \
                     void* workspace, size_t workspaceBytes, void* stream))

namespace llmrt {

struct LtTable {
#define LLMRT_LT_FUNCTION(member, symbol, parameters)                          \
  lt::Result(*member) parameters = nullptr;
  LLMRT_LT_FUNCTIONS(LLMRT_LT_FUNCTION)
#undef LLMRT_LT_FUNCTION
  size_t (*getVersion)() = nullptr;
  const char* (*getStatusString)(lt::Result result) = nullptr;
  std::string path = {}; // what was loaded

  /// Loads the library, which stays until the process ends: the one that
  /// LLMRT_CUBLASLT_LIBRARY names, or libcublasLt.so.13.
  /// Errors  DeviceUnsupported says what is needed and what is there.
  static absl::StatusOr<LtTable> load();

  /// The one translation of the library's results. `doing` is "multiplying".
  /// Errors  OutOfMemory, DeviceUnsupported, DeviceFailed.
  absl::Status toStatus(lt::Result result, const char* doing) const;
};

/// Returns the library if it is used: nothing if LLMRT_CUBLASLT_LIBRARY is
/// "off", or if it names none and there is none. Errors  those of load() if the
/// library that is named cannot be loaded.
absl::StatusOr<std::optional<LtTable>> findLtTable();

/// Returns "13.0.2" for 130002.
std::string ltVersionText(size_t version);

} // namespace llmrt
