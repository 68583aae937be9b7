// SPDX-License-Identifier: Apache-2.0
// Runs tests that know nothing of streams over a back-end that does.
#pragma once

#include "runtime/comm/Communicator.h"

#include <functional>

namespace llmrt::testing {

/// Runs `body` over `fabric` with every call on a stream of the fake device;
/// waits behind each.
void runOnStream(Fabric& fabric, const std::function<void(Fabric&)>& body);

} // namespace llmrt::testing
