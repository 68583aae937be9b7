// SPDX-License-Identifier: Apache-2.0
// What a wrong result looks like: which elements, how many, at which distances.
// Tests on a borrowed GPU are read from afar, where a norm of the error alone
// tells a wrong last tile from a wrong column or a kernel that never ran as
// little as it tells what to do.
#pragma once

#include "absl/types/span.h"

#include <cstdint>
#include <string>

namespace llmrt::test {

/// One line about the elements that are far from what was expected: by more
/// than 1/100 of the root mean square of what was expected or, if none is, by
/// more than half of the largest difference. With rows of `width` elements the
/// places are named by row and column. "" if both are the same.
std::string describeWrong(absl::Span<const float> actual,
                          absl::Span<const float> expected, int64_t width = 0);

/// How many bytes differ, the first and the last, and the first values there;
/// "" if none does. Both have the same size.
std::string describeOtherBits(absl::Span<const uint8_t> first,
                              absl::Span<const uint8_t> second);

} // namespace llmrt::test
