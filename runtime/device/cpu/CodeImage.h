// SPDX-License-Identifier: Apache-2.0
// Private to the cpu device: a shared object held in memory and loaded from
// there.
#pragma once

#include "absl/status/statusor.h"
#include "absl/types/span.h"

#include <cstdint>

namespace llmrt {

class CodeImage {
public:
  /// Copies the image to sealed memory and loads it. Errors  CodeNotLoadable.
  static absl::StatusOr<CodeImage> load(absl::Span<const uint8_t> image);

  CodeImage(CodeImage&& other) noexcept;
  CodeImage& operator=(CodeImage&& other) noexcept;
  ~CodeImage();

  /// Returns the address of a symbol, or null.
  void* find(const char* symbol) const;

private:
  CodeImage() = default;

  // Stays open as long as the library is loaded: the loader knows libraries by
  // path, and /proc/self/fd/N would name another one once N is used again.
  int descriptor_ = -1;
  void* library_ = nullptr;
};

} // namespace llmrt
