// SPDX-License-Identifier: Apache-2.0
// Runs ranks as threads over the `nccl` back-end, the fake library and the fake
// device.
#pragma once

#include "tests/runtime/comm/CommunicatorSuite.h"
#include "tests/runtime/comm/cuda/FakeCuda.h"
#include "tests/runtime/comm/nccl/FakeNcclControl.h"

#include "runtime/comm/nccl/NcclTable.h"

namespace llmrt::testing {

/// Host: calls without a stream, over host memory. Stream: each rank's calls go
/// to a stream, and the test waits behind each of them; devices reach each
/// other's memory, or not.
enum class CallsOn { Host, Stream, StreamWithoutPeers };

std::shared_ptr<RankRunner> makeNcclRunner(int numRanks, CallsOn callsOn);

/// Returns the path of libfakenccl.so.
std::string fakeNcclPath();
NcclTable loadFakeNccl();

/// Lets the device of one rank reach no other; -1: none.
void setLonelyFakeRank(int rank);
/// Of the library that is loaded.
FakeNcclControl& fakeControl();

} // namespace llmrt::testing
