// SPDX-License-Identifier: Apache-2.0
// Our declarations of cuBLASLt against its header, and the library itself where
// there is one: descriptors need no GPU.
#include "runtime/device/cublaslt/LtTable.h"

#include <cstdlib>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#if __has_include(<cublasLt.h>)
#include <cublasLt.h>

namespace llmrt::lt {

static_assert(sizeof(Algorithm) == sizeof(cublasLtMatmulAlgo_t));
static_assert(sizeof(Heuristic) == sizeof(cublasLtMatmulHeuristicResult_t));
static_assert(offsetof(Heuristic, workspaceBytes) ==
              offsetof(cublasLtMatmulHeuristicResult_t, workspaceSize));
static_assert(offsetof(Heuristic, state) ==
              offsetof(cublasLtMatmulHeuristicResult_t, state));
static_assert(offsetof(Heuristic, wavesCount) ==
              offsetof(cublasLtMatmulHeuristicResult_t, wavesCount));
static_assert(kSuccess == int{CUBLAS_STATUS_SUCCESS});
static_assert(kNotInitialized == int{CUBLAS_STATUS_NOT_INITIALIZED});
static_assert(kAllocFailed == int{CUBLAS_STATUS_ALLOC_FAILED});
static_assert(kInvalidValue == int{CUBLAS_STATUS_INVALID_VALUE});
static_assert(kArchMismatch == int{CUBLAS_STATUS_ARCH_MISMATCH});
static_assert(kMappingError == int{CUBLAS_STATUS_MAPPING_ERROR});
static_assert(kExecutionFailed == int{CUBLAS_STATUS_EXECUTION_FAILED});
static_assert(kInternalError == int{CUBLAS_STATUS_INTERNAL_ERROR});
static_assert(kNotSupported == int{CUBLAS_STATUS_NOT_SUPPORTED});
static_assert(kLicenseError == int{CUBLAS_STATUS_LICENSE_ERROR});
static_assert(kFloat32 == int{CUDA_R_32F});
static_assert(kBfloat16 == int{CUDA_R_16BF});
static_assert(kCompute32F == int{CUBLAS_COMPUTE_32F});
static_assert(kNone == int{CUBLAS_OP_N} && kTranspose == int{CUBLAS_OP_T});
static_assert(kDescTransposeA == int{CUBLASLT_MATMUL_DESC_TRANSA});
static_assert(kDescTransposeB == int{CUBLASLT_MATMUL_DESC_TRANSB});
static_assert(kDescEpilogue == int{CUBLASLT_MATMUL_DESC_EPILOGUE});
static_assert(kDescBiasPointer == int{CUBLASLT_MATMUL_DESC_BIAS_POINTER});
static_assert(kEpilogueNone == int{CUBLASLT_EPILOGUE_DEFAULT});
static_assert(kEpilogueBias == int{CUBLASLT_EPILOGUE_BIAS});
static_assert(kEpilogueGelu == int{CUBLASLT_EPILOGUE_GELU});
static_assert(kEpilogueGeluBias == int{CUBLASLT_EPILOGUE_GELU_BIAS});
static_assert(kMaxWorkspaceBytes ==
              int{CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES});
static_assert(kReductionSchemeMask ==
              int{CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK});
static_assert(kMinAlignmentA ==
              int{CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES});
static_assert(kMinAlignmentB ==
              int{CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES});
static_assert(kMinAlignmentC ==
              int{CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES});
static_assert(kMinAlignmentD ==
              int{CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES});
static_assert(kReduceNone == int{CUBLASLT_REDUCTION_SCHEME_NONE});
static_assert(kReduceComputeType ==
              int{CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE});

} // namespace llmrt::lt
#endif

namespace llmrt {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

/// Names a library for the time of a test.
class NamedLibrary {
public:
  explicit NamedLibrary(const char* name) {
    ::setenv("LLMRT_CUBLASLT_LIBRARY", name, 1);
  }

  ~NamedLibrary() { ::unsetenv("LLMRT_CUBLASLT_LIBRARY"); }
};

TEST(LtTable, saysWhatIsNeededAndWhatIsThere) {
  {
    NamedLibrary named("/nowhere/libcublasLt.so.13");
    EXPECT_THAT(LtTable::load().status().message(),
                AllOf(HasSubstr("LLMC-E0805"), HasSubstr("/nowhere"),
                      HasSubstr("LLMRT_CUBLASLT_LIBRARY")));
    // What is named has to be there.
    EXPECT_FALSE(findLtTable().ok());
  }
  {
    NamedLibrary named("libm.so.6");
    EXPECT_THAT(LtTable::load().status().message(),
                HasSubstr("libm.so.6 has no function cublasLtGetVersion"));
  }
  NamedLibrary named("off");
  auto none = findLtTable();
  ASSERT_TRUE(none.ok());
  EXPECT_FALSE(none->has_value());
}

TEST(LtTable, versionsReadAsPeopleWriteThem) {
  EXPECT_EQ(ltVersionText(130002), "13.0.2");
  EXPECT_EQ(ltVersionText(130205), "13.2.5");
}

TEST(LtTable, theRealLibraryTakesOurDescriptions) {
  auto found = findLtTable();
  ASSERT_TRUE(found.ok()) << found.status();
  if (!*found)
    GTEST_SKIP() << LtTable::load().status().message();
  const LtTable& table = **found;
  EXPECT_GE(table.getVersion(), lt::kMinVersion);
  lt::MatmulDesc desc = nullptr;
  ASSERT_EQ(table.descCreate(&desc, lt::kCompute32F, lt::kFloat32),
            lt::kSuccess);
  const int32_t transpose = lt::kTranspose;
  for (auto attribute : {lt::kDescTransposeA, lt::kDescTransposeB})
    EXPECT_EQ(table.descSet(desc, attribute, &transpose, sizeof(transpose)),
              lt::kSuccess);
  EXPECT_EQ(table.descDestroy(desc), lt::kSuccess);
  lt::MatrixLayout layout = nullptr;
  ASSERT_EQ(table.layoutCreate(&layout, lt::kBfloat16, 40, 24, 48),
            lt::kSuccess);
  EXPECT_EQ(table.layoutDestroy(layout), lt::kSuccess);
  lt::Preference preference = nullptr;
  ASSERT_EQ(table.preferenceCreate(&preference), lt::kSuccess);
  const uint64_t workspaceBytes = 32 << 20;
  EXPECT_EQ(table.preferenceSet(preference, lt::kMaxWorkspaceBytes,
                                &workspaceBytes, sizeof(workspaceBytes)),
            lt::kSuccess);
  const uint32_t mask = lt::kReduceComputeType;
  EXPECT_EQ(table.preferenceSet(preference, lt::kReductionSchemeMask, &mask,
                                sizeof(mask)),
            lt::kSuccess);
  const uint32_t alignment = 16;
  for (auto attribute : {lt::kMinAlignmentA, lt::kMinAlignmentB,
                         lt::kMinAlignmentC, lt::kMinAlignmentD})
    EXPECT_EQ(table.preferenceSet(preference, attribute, &alignment,
                                  sizeof(alignment)),
              lt::kSuccess);
  EXPECT_EQ(table.preferenceDestroy(preference), lt::kSuccess);
}

} // namespace
} // namespace llmrt
