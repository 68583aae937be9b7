// SPDX-License-Identifier: Apache-2.0
// The known name that a mistyped one most likely means.
#pragma once

#include <string>
#include <vector>

namespace llmrt {

/// Returns the name with the smallest edit distance (a swap of neighbours
/// counts as one); else one that begins like it; else "".
std::string nearestName(const std::string& typed,
                        const std::vector<std::string>& names);

} // namespace llmrt
