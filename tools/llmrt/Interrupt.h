// SPDX-License-Identifier: Apache-2.0
// Ctrl-C and SIGTERM: the first asks the run to end after the current entry, on
// all ranks; the second ends the process at once.
#pragma once

namespace llmrt {

/// The exit status of a run that was asked to end.
inline constexpr int kInterruptedStatus = 130;

/// The exit status of training that was asked to end and saved a checkpoint:
/// EX_TEMPFAIL of sysexits.h, "try again".
inline constexpr int kSavedStatus = 75;

/// Installs the handlers.
void watchForInterrupt();

/// Returns true once the first signal has come.
bool isInterruptRequested();

} // namespace llmrt
