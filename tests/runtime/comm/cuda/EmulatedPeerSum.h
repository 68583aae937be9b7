// SPDX-License-Identifier: Apache-2.0
// The kernel of sums over peers on the host: ranks are threads, whose memory is
// that of peers.
#pragma once

#include "runtime/comm/cuda/PeerSum.h"

#include <string>

namespace llmrt::testing {

/// Runs one rank's kernel; returns when the other ranks have come to it.
/// Returns an empty text, or what went wrong.
std::string emulatePeerSum(const PeerSumCall& call);

} // namespace llmrt::testing
