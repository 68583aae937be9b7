// SPDX-License-Identifier: Apache-2.0
// Pages are handed out lowest first, so that a run is reproducible and
// sequences that start on an empty cache lie in it one after another.
#include "runtime/generation/PageAllocator.h"

#include <iterator>

namespace llmrt {

PageAllocator::PageAllocator(int64_t numPages) {
  for (int64_t page = 0; page < numPages; ++page)
    free_.insert(free_.end(), static_cast<int32_t>(page));
}

std::optional<std::vector<int32_t>> PageAllocator::allocate(int64_t count) {
  if (count > numFree())
    return std::nullopt;
  auto end = std::next(free_.begin(), count);
  std::vector<int32_t> pages(free_.begin(), end);
  free_.erase(free_.begin(), end);
  return pages;
}

void PageAllocator::release(const std::vector<int32_t>& pages) {
  free_.insert(pages.begin(), pages.end());
}

} // namespace llmrt
