// SPDX-License-Identifier: Apache-2.0
// Kernels.def, expanded.
#include "runtime/plan/KernelSignatures.h"

#include "absl/strings/str_split.h"

#include <algorithm>

namespace llmrt {
namespace {

KernelSignature makeSignature(absl::string_view name, int version,
                              int64_t rowTile, int64_t colTile,
                              absl::string_view words) {
  KernelSignature signature{name, version, rowTile, colTile, {}, {}};
  for (absl::string_view word : absl::StrSplit(words, ' ')) {
    size_t colon = word.find(':');
    signature.words.push_back(word.substr(0, colon));
    signature.types.push_back(word[colon + 1]);
  }
  return signature;
}

const std::vector<KernelSignature>& signatures() {
  static const auto* all = new std::vector<KernelSignature>{
#define LLMRT_KERNEL(name, version, rowTile, colTile, words)                   \
  makeSignature(#name, version, rowTile, colTile, words),
#include "runtime/kernels/Kernels.def"
#undef LLMRT_KERNEL
  };
  return *all;
}

} // namespace

const KernelSignature* findKernelSignature(absl::string_view name,
                                           int version) {
  for (const KernelSignature& signature : signatures())
    if (signature.name == name && signature.version == version)
      return &signature;
  return nullptr;
}

int newestKernelVersion(absl::string_view name) {
  int newest = 0;
  for (const KernelSignature& signature : signatures())
    if (signature.name == name)
      newest = std::max(newest, signature.version);
  return newest;
}

} // namespace llmrt
