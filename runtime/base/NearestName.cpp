// SPDX-License-Identifier: Apache-2.0
// Source  the restricted Damerau-Levenshtein distance, by rows.
#include "runtime/base/NearestName.h"

#include <algorithm>

namespace llmrt {
namespace {

size_t editDistance(const std::string& a, const std::string& b) {
  std::vector<size_t> before(b.size() + 1), above(b.size() + 1),
      row(b.size() + 1);
  for (size_t j = 0; j <= b.size(); ++j)
    above[j] = j;
  for (size_t i = 1; i <= a.size(); ++i) {
    row[0] = i;
    for (size_t j = 1; j <= b.size(); ++j) {
      row[j] = std::min({above[j] + 1, row[j - 1] + 1,
                         above[j - 1] + (a[i - 1] != b[j - 1])});
      if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1])
        row[j] = std::min(row[j], before[j - 2] + 1);
    }
    before = above;
    above = row;
  }
  return above[b.size()];
}

} // namespace

std::string nearestName(const std::string& typed,
                        const std::vector<std::string>& names) {
  std::string best;
  size_t bestDistance = std::max<size_t>(1, typed.size() / 3) + 1;
  for (const std::string& name : names) {
    size_t distance = editDistance(typed, name);
    if (distance < bestDistance) {
      best = name;
      bestDistance = distance;
    }
  }
  // Somebody who stopped typing means what begins like it.
  if (best.empty() && typed.size() >= 2)
    for (const std::string& name : names)
      if (name.compare(0, typed.size(), typed) == 0)
        return name;
  return best;
}

} // namespace llmrt
