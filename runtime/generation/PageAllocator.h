// SPDX-License-Identifier: Apache-2.0
// The free pages of one replica's key/value cache. A page holds kPageTokens
// positions of one sequence in every layer. The cache itself lives in the arena
// of each rank.
#pragma once

#include <cstdint>
#include <optional>
#include <set>
#include <vector>

namespace llmrt {

class PageAllocator {
public:
  explicit PageAllocator(int64_t numPages);

  /// Takes the `count` lowest free pages, or nullopt if there are fewer.
  std::optional<std::vector<int32_t>> allocate(int64_t count);
  void release(const std::vector<int32_t>& pages);

  int64_t numFree() const { return static_cast<int64_t>(free_.size()); }

private:
  std::set<int32_t> free_;
};

} // namespace llmrt
