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
  KernelSignature signature{name, version, rowTile, colTile, {}, {}, false};
  for (absl::string_view word : absl::StrSplit(words, ' ')) {
    size_t colon = word.find(':');
    signature.words.push_back(word.substr(0, colon));
    signature.types.push_back(word[colon + 1]);
  }
  return signature;
}

void addCudaForm(std::vector<KernelSignature>& all, absl::string_view name) {
  for (KernelSignature& signature : all)
    signature.hasCudaForm |= signature.name == name;
}

const std::vector<KernelSignature>& signatures() {
  static const auto* kernels = [] {
    auto* all = new std::vector<KernelSignature>;
#define LLMRT_KERNEL(name, version, rowTile, colTile, words)                   \
  all->push_back(makeSignature(#name, version, rowTile, colTile, words));
#define LLMRT_CUDA_ONLY_KERNEL(name, version, words)                           \
  LLMRT_KERNEL(name, version, 0, 0, words)                                     \
  all->back().hasCpuForm = false;
#define LLMRT_CUDA_KERNEL(name, rowTile, colTile, threads)                     \
  addCudaForm(*all, #name);
#include "runtime/kernels/Kernels.def"
#undef LLMRT_KERNEL
    return all;
  }();
  return *kernels;
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
