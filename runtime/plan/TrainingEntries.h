// SPDX-License-Identifier: Apache-2.0
// Which entries of a training step also run on held-out data.
#pragma once

#include "absl/strings/string_view.h"

namespace llmrt {

/// Whether an evaluation runs an entry of a training step. Virtual stages have
/// "forward.chunk1" and the like.
bool isOfEvaluation(absl::string_view entry);

} // namespace llmrt
