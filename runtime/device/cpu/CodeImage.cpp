// SPDX-License-Identifier: Apache-2.0
// Loads code through memfd and dlopen: nothing is written to disk.
#include "runtime/device/cpu/CodeImage.h"

#include "runtime/base/Error.h"

#include <cerrno>
#include <cstring>
#include <dlfcn.h>
#include <fcntl.h>
#include <string>
#include <sys/mman.h>
#include <unistd.h>
#include <utility>

namespace llmrt {
namespace {

absl::Status notLoadable(absl::string_view what) {
  return makeError(
      ErrorCode::CodeNotLoadable,
      absl::StrCat("the code in the plan cannot be loaded: ", what),
      "check that the machine allows executable memory files "
      "(memfd, /proc), or compile the plan again");
}

int createMemoryFile() {
#ifndef MFD_EXEC
  constexpr unsigned MFD_EXEC = 0x10; // Linux 6.3
#endif
  constexpr unsigned flags = MFD_CLOEXEC | MFD_ALLOW_SEALING;
  int descriptor = memfd_create("llmc-code", flags | MFD_EXEC);
  return descriptor < 0 && errno == EINVAL ? memfd_create("llmc-code", flags)
                                           : descriptor;
}

} // namespace

absl::StatusOr<CodeImage> CodeImage::load(absl::Span<const uint8_t> image) {
  CodeImage code;
  code.descriptor_ = createMemoryFile();
  if (code.descriptor_ < 0)
    return notLoadable(std::strerror(errno));
  for (size_t done = 0; done < image.size();) {
    ssize_t written =
        write(code.descriptor_, image.data() + done, image.size() - done);
    if (written < 0 && errno == EINTR)
      continue;
    if (written <= 0)
      return notLoadable(std::strerror(errno));
    done += written;
  }
  fcntl(code.descriptor_, F_ADD_SEALS,
        F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE | F_SEAL_SEAL);
  std::string path = absl::StrCat("/proc/self/fd/", code.descriptor_);
  code.library_ = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (!code.library_) {
    const char* reason = dlerror();
    return notLoadable(reason ? reason : "unknown reason");
  }
  return code;
}

CodeImage::CodeImage(CodeImage&& other) noexcept
    : descriptor_(std::exchange(other.descriptor_, -1)),
      library_(std::exchange(other.library_, nullptr)) {}

CodeImage& CodeImage::operator=(CodeImage&& other) noexcept {
  std::swap(descriptor_, other.descriptor_);
  std::swap(library_, other.library_);
  return *this;
}

CodeImage::~CodeImage() {
  if (library_)
    dlclose(library_);
  if (descriptor_ >= 0)
    close(descriptor_);
}

void* CodeImage::find(const char* symbol) const {
  return dlsym(library_, symbol);
}

} // namespace llmrt
