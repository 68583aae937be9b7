// SPDX-License-Identifier: Apache-2.0
// Loading NCCL: what is said if it is not there or does not fit; and that our
// declarations are NCCL's, where nccl.h or the library is installed.
#include "tests/runtime/comm/nccl/NcclRunner.h"

#if LLMC_HAVE_NCCL_HEADER
#include <nccl.h>
#endif

namespace llmrt::testing {
namespace {

using ::testing::HasSubstr;

std::string loadError(const std::string& path) {
  auto table = NcclTable::load(path);
  return table.ok() ? "" : std::string(table.status().message());
}

TEST(NcclTable, LoadsAllFunctions) {
  auto table = NcclTable::load(fakeNcclPath());
  ASSERT_TRUE(table.ok()) << table.status();
  EXPECT_EQ(table->version, 22809);
  EXPECT_EQ(ncclVersionText(table->version), "2.28.9");
}

TEST(NcclTable, AbsentLibrary) {
  std::string error = loadError("libabsent-nccl.so.2");
  EXPECT_THAT(error, HasSubstr("LLMC-E0709: NCCL cannot be loaded: "
                               "libabsent-nccl.so.2"));
  EXPECT_THAT(error, HasSubstr("need NCCL 2.18.0 or later"));
  EXPECT_THAT(error, HasSubstr("LLMRT_NCCL_LIBRARY"));
}

TEST(NcclTable, TheVariableNamesTheLibrary) {
  setenv("LLMRT_NCCL_LIBRARY", "/no/such/nccl.so", 1);
  EXPECT_THAT(loadError(""), HasSubstr("/no/such/nccl.so"));
  setenv("LLMRT_NCCL_LIBRARY", fakeNcclPath().c_str(), 1);
  EXPECT_EQ(loadError(""), "");
  unsetenv("LLMRT_NCCL_LIBRARY");
}

TEST(NcclTable, WrongVersions) {
  fakeControl().version = 21205;
  EXPECT_THAT(loadError(fakeNcclPath()),
              HasSubstr("libfakenccl.so is version 2.12.5"));
  fakeControl().version = 30000;
  EXPECT_THAT(loadError(fakeNcclPath()), HasSubstr("is version 3.0.0"));
  fakeControl().version = 2708;
  EXPECT_THAT(loadError(fakeNcclPath()), HasSubstr("is version 2.7.8"));
  fakeControl().reset();
}

TEST(NcclTable, MissingFunction) {
  EXPECT_THAT(loadError(LLMC_PARTIAL_NCCL),
              HasSubstr("has no function ncclGetUniqueId"));
  // A library that is something else.
  EXPECT_THAT(loadError("libm.so.6"),
              HasSubstr("libm.so.6 has no function ncclGetVersion"));
}

TEST(NcclTable, TranslatesResults) {
  NcclTable table = loadFakeNccl();
  EXPECT_TRUE(table.toStatus(nccl::kSuccess, nullptr, 0, "").ok());
  EXPECT_TRUE(table.toStatus(nccl::kInProgress, nullptr, 0, "").ok());
  absl::Status status =
      table.toStatus(nccl::kRemoteError, nullptr, 3, "all_gather of x");
  EXPECT_THAT(std::string(status.message()),
              HasSubstr("LLMC-E0708: NCCL failed on rank 3 in all_gather of x: "
                        "remote process exited or there was a network error "
                        "(6): fake detail; another rank ended"));
}

// Without a GPU the library still says its version, and refuses a communicator
// with a result that we translate.
TEST(NcclTable, RealLibrary) {
  auto table = NcclTable::load();
  if (!table.ok())
    GTEST_SKIP() << table.status().message();
  EXPECT_GE(table->version, nccl::kMinVersion);
  EXPECT_STRNE(table->getErrorString(nccl::kSystemError), "");
  EXPECT_EQ(table->groupStart(), nccl::kSuccess);
  EXPECT_EQ(table->groupEnd(), nccl::kSuccess);
  nccl::Config blocking;
  blocking.magic = 1;
  nccl::CommHandle comm = nullptr;
  EXPECT_NE(table->commInitRankConfig(&comm, 1, {}, 0, &blocking),
            nccl::kSuccess);
}

#if LLMC_HAVE_NCCL_HEADER
TEST(NcclAbi, IsNccls) {
  EXPECT_EQ(sizeof(nccl::UniqueId), sizeof(ncclUniqueId));
  EXPECT_EQ(int(nccl::kUnhandledCudaError), int(ncclUnhandledCudaError));
  EXPECT_EQ(int(nccl::kSystemError), int(ncclSystemError));
  EXPECT_EQ(int(nccl::kInternalError), int(ncclInternalError));
  EXPECT_EQ(int(nccl::kInvalidArgument), int(ncclInvalidArgument));
  EXPECT_EQ(int(nccl::kInvalidUsage), int(ncclInvalidUsage));
  EXPECT_EQ(int(nccl::kRemoteError), int(ncclRemoteError));
  EXPECT_EQ(int(nccl::kInProgress), int(ncclInProgress));
  EXPECT_EQ(int(nccl::kUint8), int(ncclUint8));
  EXPECT_EQ(int(nccl::kFloat32), int(ncclFloat32));
  EXPECT_EQ(int(nccl::kBfloat16), int(ncclBfloat16));
  EXPECT_EQ(int(nccl::kSum), int(ncclSum));
  EXPECT_EQ(nccl::versionCode(NCCL_MAJOR, NCCL_MINOR, NCCL_PATCH),
            NCCL_VERSION_CODE);
  // Ours is the front of the newer one.
  nccl::Config mine;
  ncclConfig_t theirs = NCCL_CONFIG_INITIALIZER;
  EXPECT_LE(sizeof(mine), sizeof(theirs));
  EXPECT_EQ(mine.magic, theirs.magic);
  EXPECT_EQ(offsetof(nccl::Config, blocking), offsetof(ncclConfig_t, blocking));
  EXPECT_EQ(offsetof(nccl::Config, netName), offsetof(ncclConfig_t, netName));
  EXPECT_EQ(offsetof(nccl::Config, splitShare),
            offsetof(ncclConfig_t, splitShare));
  EXPECT_EQ(mine.blocking, theirs.blocking);
  EXPECT_EQ(mine.splitShare, theirs.splitShare);
}
#endif

} // namespace
} // namespace llmrt::testing
