// SPDX-License-Identifier: Apache-2.0
#include "runtime/comm/nccl/NcclTable.h"

#include "runtime/base/Error.h"

#include "absl/strings/str_format.h"

#include <cstdlib>
#include <dlfcn.h>

namespace llmrt {
namespace {

absl::Status unavailable(const std::string& what) {
  return makeError(
      ErrorCode::NcclUnavailable, what,
      absl::StrFormat("several GPU ranks need NCCL %s or later of version 2 "
                      "for CUDA 13: install it, or name its libnccl.so.2 in "
                      "LLMRT_NCCL_LIBRARY",
                      ncclVersionText(nccl::kMinVersion)));
}

template <typename Function>
absl::Status find(void* library, const std::string& path, const char* symbol,
                  Function& function) {
  function = reinterpret_cast<Function>(dlsym(library, symbol));
  if (function)
    return absl::OkStatus();
  return unavailable(absl::StrFormat("%s has no function %s", path, symbol));
}

const char* adviceFor(nccl::Result result) {
  switch (result) {
  case nccl::kSystemError:
    return "look at the network and shared memory of this host; "
           "NCCL_DEBUG=INFO "
           "says more";
  case nccl::kRemoteError:
    return "another rank ended or lost its network: look at its messages";
  case nccl::kUnhandledCudaError:
    return "look at the GPU and its driver; NCCL_DEBUG=INFO says more";
  default:
    return "set NCCL_DEBUG=INFO and look at what NCCL says";
  }
}

} // namespace

std::string ncclVersionText(int version) {
  // Up to 2.8 the code was X * 1000 + Y * 100 + Z.
  int major = version >= 10000 ? version / 10000 : version / 1000;
  int rest = version >= 10000 ? version % 10000 : version % 1000;
  return absl::StrFormat("%d.%d.%d", major, rest / 100, rest % 100);
}

absl::StatusOr<NcclTable> NcclTable::load(const std::string& wantedPath) {
  std::string path = wantedPath;
  if (path.empty()) {
    const char* named = std::getenv("LLMRT_NCCL_LIBRARY");
    path = named && *named ? named : "libnccl.so.2";
  }
  void* library = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (!library)
    return unavailable(absl::StrCat("NCCL cannot be loaded: ", dlerror()));
  NcclTable table;
  LLMRT_RETURN_IF_ERROR(
      find(library, path, "ncclGetVersion", table.getVersion));
  // Before the other functions: an old library lacks some.
  if (table.getVersion(&table.version) != nccl::kSuccess)
    return unavailable(path + " does not say its version");
  if (table.version < nccl::kMinVersion ||
      table.version >= nccl::versionCode(3, 0, 0))
    return unavailable(absl::StrFormat("%s is version %s", path,
                                       ncclVersionText(table.version)));
#define LLMRT_NCCL_FUNCTION(member, symbol, parameters)                        \
  LLMRT_RETURN_IF_ERROR(find(library, path, symbol, table.member));
  LLMRT_NCCL_FUNCTIONS(LLMRT_NCCL_FUNCTION)
#undef LLMRT_NCCL_FUNCTION
  LLMRT_RETURN_IF_ERROR(
      find(library, path, "ncclGetErrorString", table.getErrorString));
  LLMRT_RETURN_IF_ERROR(
      find(library, path, "ncclGetLastError", table.getLastError));
  return table;
}

absl::Status NcclTable::toStatus(nccl::Result result, nccl::CommHandle comm,
                                 int rank, const std::string& doing) const {
  if (result == nccl::kSuccess || result == nccl::kInProgress)
    return absl::OkStatus();
  const char* name = getErrorString(result);
  const char* detail = getLastError(comm);
  std::string text =
      absl::StrFormat("NCCL failed on rank %d in %s: %s (%d)", rank, doing,
                      name ? name : "no text", static_cast<int>(result));
  if (detail && *detail)
    absl::StrAppend(&text, ": ", detail);
  return makeError(ErrorCode::TransportFailed, text, adviceFor(result));
}

} // namespace llmrt
