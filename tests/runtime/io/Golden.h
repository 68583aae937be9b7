// SPDX-License-Identifier: Apache-2.0
// Files and blocks made by NumPy, safetensors and gguf (makeGolden.py), and the
// scratch folders that tests of readers and writers need.
#pragma once

#include "absl/strings/escaping.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"

#include <cstdint>
#include <cstring>
#include <string>
#include <vector>

namespace llmrt::testing {

enum class GoldenKind { Blocks, Gguf, Safetensors, Npy, Quantized };

struct Golden {
  GoldenKind kind;
  std::string name;
  std::string input;         // the bytes of the file, or of the blocks
  std::vector<float> values; // what it holds, where that is not obvious
};

inline std::vector<Golden> readGolden(GoldenKind wanted) {
  struct Entry {
    GoldenKind kind;
    const char *name, *input, *values;
  };

  static const Entry kEntries[] = {
#define GOLDEN(kind, name, input, values)                                      \
  {GoldenKind::kind, name, input, values},
#include "tests/runtime/io/Golden.inc"
#undef GOLDEN
  };
  std::vector<Golden> found;
  for (const Entry& entry : kEntries) {
    if (entry.kind != wanted)
      continue;
    Golden& golden = found.emplace_back();
    golden.kind = entry.kind;
    golden.name = entry.name;
    golden.input = absl::HexStringToBytes(entry.input);
    std::string bytes = absl::HexStringToBytes(entry.values);
    golden.values.resize(bytes.size() / sizeof(float));
    if (!bytes.empty())
      std::memcpy(golden.values.data(), bytes.data(), bytes.size());
  }
  return found;
}

inline absl::Span<const uint8_t> bytesOf(absl::string_view text) {
  return {reinterpret_cast<const uint8_t*>(text.data()), text.size()};
}

} // namespace llmrt::testing
