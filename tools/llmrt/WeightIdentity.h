// SPDX-License-Identifier: Apache-2.0
// What tells models and weights apart: losses of a reference model that were
// kept, and a resumed run's reference, must be those of the same numbers.
#pragma once

#include "tools/llmrt/Session.h"

#include <string>
#include <vector>

namespace llmrt {

/// Returns where the weights of the reference model are: those of the set
/// `reference`, else the model's own; empty if neither is known.
std::string referencePathOf(const std::vector<WeightLocation>& weights);

/// Returns a text that is the same for plans of one model, whatever their mesh:
/// its description and its parameters with their initialisers.
std::string describeModel(const fb::Plan& plan);

/// Returns a text that depends on what the weight files hold and not on where
/// they lie or how old they are: their sizes and a checksum of 4 KiB at 256
/// places of each. `random:SEED` is its own text. Empty if nothing was
/// readable.
std::string sampleWeights(const std::string& path);

} // namespace llmrt
