// SPDX-License-Identifier: Apache-2.0
// NCCL as a table of functions, loaded at run time: nothing links it, and
// programs start where it is not installed.
#pragma once

#include "runtime/comm/nccl/NcclAbi.h"

#include "absl/status/statusor.h"

#include <string>

// LLMRT_NCCL_FUNCTION(member, symbol, parameters): those that return a Result.
#define LLMRT_NCCL_FUNCTIONS(LLMRT_NCCL_FUNCTION)                              \
  LLMRT_NCCL_FUNCTION(getVersion, "ncclGetVersion", (int* version))            \
  LLMRT_NCCL_FUNCTION(getUniqueId, "ncclGetUniqueId", (nccl::UniqueId * id))   \
  LLMRT_NCCL_FUNCTION(commInitRankConfig, "ncclCommInitRankConfig",            \
                      (nccl::CommHandle * comm, int numRanks,                  \
                       nccl::UniqueId id, int rank, nccl::Config* config))     \
  LLMRT_NCCL_FUNCTION(commGetAsyncError, "ncclCommGetAsyncError",              \
                      (nccl::CommHandle comm, nccl::Result * result))          \
  LLMRT_NCCL_FUNCTION(commFinalize, "ncclCommFinalize",                        \
                      (nccl::CommHandle comm))                                 \
  LLMRT_NCCL_FUNCTION(commDestroy, "ncclCommDestroy", (nccl::CommHandle comm)) \
  LLMRT_NCCL_FUNCTION(commAbort, "ncclCommAbort", (nccl::CommHandle comm))     \
  LLMRT_NCCL_FUNCTION(groupStart, "ncclGroupStart", ())                        \
  LLMRT_NCCL_FUNCTION(groupEnd, "ncclGroupEnd", ())                            \
  LLMRT_NCCL_FUNCTION(allGather, "ncclAllGather",                              \
                      (const void* send, void* recv, size_t sendCount,         \
                       nccl::DataType type, nccl::CommHandle comm,             \
                       void* stream))                                          \
  LLMRT_NCCL_FUNCTION(reduceScatter, "ncclReduceScatter",                      \
                      (const void* send, void* recv, size_t recvCount,         \
                       nccl::DataType type, nccl::RedOp op,                    \
                       nccl::CommHandle comm, void* stream))                   \
  LLMRT_NCCL_FUNCTION(allReduce, "ncclAllReduce",                              \
                      (const void* send, void* recv, size_t count,             \
                       nccl::DataType type, nccl::RedOp op,                    \
                       nccl::CommHandle comm, void* stream))                   \
  LLMRT_NCCL_FUNCTION(broadcast, "ncclBroadcast",                              \
                      (const void* send, void* recv, size_t count,             \
                       nccl::DataType type, int root, nccl::CommHandle comm,   \
                       void* stream))                                          \
  LLMRT_NCCL_FUNCTION(send, "ncclSend",                                        \
                      (const void* data, size_t count, nccl::DataType type,    \
                       int peer, nccl::CommHandle comm, void* stream))         \
  LLMRT_NCCL_FUNCTION(recv, "ncclRecv",                                        \
                      (void* data, size_t count, nccl::DataType type,          \
                       int peer, nccl::CommHandle comm, void* stream))

namespace llmrt {

struct NcclTable {
#define LLMRT_NCCL_FUNCTION(member, symbol, parameters)                        \
  nccl::Result(*member) parameters = nullptr;
  LLMRT_NCCL_FUNCTIONS(LLMRT_NCCL_FUNCTION)
#undef LLMRT_NCCL_FUNCTION
  const char* (*getErrorString)(nccl::Result result) = nullptr;
  const char* (*getLastError)(nccl::CommHandle comm) = nullptr;
  int version = 0;

  /// Loads NCCL; the library stays until the process ends. `path` "": the one
  /// that LLMRT_NCCL_LIBRARY names, or libnccl.so.2.
  /// Errors  NcclUnavailable says what is needed and what is there.
  static absl::StatusOr<NcclTable> load(const std::string& path = "");

  /// The one translation of NCCL's results. ok for success and for a
  /// non-blocking call that is under way. `comm` may be null; `doing` is
  /// "all_gather of ...".
  /// Errors  TransportFailed names the rank, with NCCL's own words.
  absl::Status toStatus(nccl::Result result, nccl::CommHandle comm, int rank,
                        const std::string& doing) const;
};

/// Returns "2.28.9".
std::string ncclVersionText(int version);

} // namespace llmrt
