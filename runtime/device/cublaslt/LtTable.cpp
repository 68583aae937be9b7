// SPDX-License-Identifier: Apache-2.0
#include "runtime/device/cublaslt/LtTable.h"

#include "runtime/base/Error.h"

#include "absl/strings/str_format.h"

#include <cstdlib>
#include <dlfcn.h>

namespace llmrt {
namespace {

constexpr const char* kVariable = "LLMRT_CUBLASLT_LIBRARY";

absl::Status unavailable(const std::string& what) {
  return makeError(ErrorCode::DeviceUnsupported, what,
                   absl::StrCat("install cuBLASLt of CUDA 13, name its "
                                "libcublasLt.so.13 in ",
                                kVariable, ", or unset that"));
}

std::string namedLibrary() {
  const char* named = std::getenv(kVariable);
  return named ? named : "";
}

template <typename Function>
absl::Status find(void* library, const std::string& path, const char* symbol,
                  Function& function) {
  function = reinterpret_cast<Function>(dlsym(library, symbol));
  if (function)
    return absl::OkStatus();
  return unavailable(absl::StrFormat("%s has no function %s", path, symbol));
}

} // namespace

std::string ltVersionText(size_t version) {
  return absl::StrFormat("%d.%d.%d", version / 10000, version / 100 % 100,
                         version % 100);
}

absl::StatusOr<LtTable> LtTable::load() {
  LtTable table;
  table.path = namedLibrary();
  if (table.path.empty())
    table.path = "libcublasLt.so.13";
  void* library = dlopen(table.path.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (!library)
    return unavailable(absl::StrCat("cuBLASLt cannot be loaded: ", dlerror()));
  LLMRT_RETURN_IF_ERROR(
      find(library, table.path, "cublasLtGetVersion", table.getVersion));
  const size_t version = table.getVersion();
  if (version < lt::kMinVersion || version >= lt::kTooNewVersion)
    return unavailable(absl::StrFormat("%s is version %s", table.path,
                                       ltVersionText(version)));
#define LLMRT_LT_FUNCTION(member, symbol, parameters)                          \
  LLMRT_RETURN_IF_ERROR(find(library, table.path, symbol, table.member));
  LLMRT_LT_FUNCTIONS(LLMRT_LT_FUNCTION)
#undef LLMRT_LT_FUNCTION
  LLMRT_RETURN_IF_ERROR(find(library, table.path, "cublasLtGetStatusString",
                             table.getStatusString));
  return table;
}

absl::Status LtTable::toStatus(lt::Result result, const char* doing) const {
  const char* text = result == lt::kSuccess ? "" : getStatusString(result);
  const std::string what = absl::StrFormat(
      "cuBLASLt %s failed while %s: %s (%d)", ltVersionText(getVersion()),
      doing, text ? text : "no text", static_cast<int>(result));
  const std::string withoutIt =
      absl::StrCat("set ", kVariable, "=off to multiply by our own kernels");
  switch (result) {
  case lt::kSuccess:
    return absl::OkStatus();
  case lt::kAllocFailed:
    return makeError(ErrorCode::OutOfMemory, what, withoutIt);
  case lt::kArchMismatch:
  case lt::kNotSupported:
    return makeError(ErrorCode::DeviceUnsupported, what, withoutIt);
  default:
    return makeError(ErrorCode::DeviceFailed, what,
                     withoutIt + ", and please report it, with the plan");
  }
}

absl::StatusOr<std::optional<LtTable>> findLtTable() {
  const std::string named = namedLibrary();
  if (named == "off")
    return std::optional<LtTable>();
  absl::StatusOr<LtTable> table = LtTable::load();
  if (table.ok())
    return std::optional<LtTable>(*std::move(table));
  if (named.empty())
    return std::optional<LtTable>();
  return table.status();
}

} // namespace llmrt
