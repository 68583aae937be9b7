// SPDX-License-Identifier: Apache-2.0
// Where tests of the cuda back-end run: on an emulation on every machine, or,
// when their program is started with --on-gpu, on the GPU, where each test is
// skipped with the reason if there is none. Random inputs are new ones with
// each run on a GPU; --seed=N repeats one.
#pragma once

#include "runtime/device/Device.h"

namespace llmrt::testing {

/// True after --on-gpu.
bool isOnGpu();

/// Returns what keeps the cuda device from being made; empty if nothing does.
const std::string& whyNoGpu();

/// The device of --on-gpu, one for the whole program: null without a GPU.
Device* gpuOfTests();

/// Takes --on-gpu, --seed=N and GoogleTest's options. `alwaysOnGpu`: there is
/// no emulation of these tests. Returns the exit status.
int runTests(int argc, char** argv, bool alwaysOnGpu);

} // namespace llmrt::testing
