// SPDX-License-Identifier: Apache-2.0
// How the actions of a schedule wait for one another: what the runtime has to
// respect, what the checker proves free of deadlock and what the simulation
// times.
#pragma once

#include "compiler/schedule/Schedule.h"

#include <functional>

namespace llmc::schedule {

/// An earlier action of the same stage that an action waits for.
struct Dependency {
  int index = 0; ///< in the stage's list
  bool isData =
      false; ///< it wrote the slot that is read; else the slot is reused
};

/// Returns for each action of a stage's list the earlier actions that touch a
/// slot of its, where at least one of the two writes. These are all the events
/// that a runtime with a transfer thread needs besides the order on each
/// thread.
std::vector<std::vector<Dependency>>
dependencies(const std::vector<Action>& actions);

/// Returns for each action [stages][actions] the index, in the peer's list, of
/// the other end of the transfer: the k-th Send from p to q meets the k-th Recv
/// at q from p. -1 for compute actions and for a transfer without another end.
/// Peers must be in range.
std::vector<std::vector<int>> matchTransfers(const Schedule& schedule);

enum class TransferModel {
  /// A transfer starts when its payload is ready, takes its time and hinders
  /// nothing: the
  /// model of Qi et al. 2023.
  Overlapped,
  /// One thread for each stage runs the transfers in list order; a transfer
  /// occupies the
  /// threads at both ends, and both must have reached it.
  TransferThread,
  /// A stage runs its list in order; a transfer occupies both stages.
  Blocking
};

/// When an action ran; end is -1 if it never did.
struct Span {
  double start = 0, end = -1;
};

/// Runs the schedule action by action. `duration(stage, action)` is the time of
/// a compute action, and of a transfer (asked of the Send). Returns
/// [stages][actions] spans; an action that waits for ever has end -1.
/// `partners` is matchTransfers(schedule).
std::vector<std::vector<Span>>
execute(const Schedule& schedule, const std::vector<std::vector<int>>& partners,
        TransferModel model,
        const std::function<double(int, const Action&)>& duration);

} // namespace llmc::schedule
