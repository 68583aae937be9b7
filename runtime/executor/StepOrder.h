// SPDX-License-Identifier: Apache-2.0
// How the actions of a training step's schedule wait for one another. Transfers
// between pipeline stages run on the communication stream beside the segments
// that compute; what orders the two streams is the slots that they share.
#pragma once

#include "runtime/device/Device.h"
#include "runtime/executor/Rank.h"

#include <vector>

namespace llmrt {

/// Where an action of the schedule runs, and after what.
struct ActionOrder {
  Stream stream = Stream::Compute;
  /// Number of the last earlier action of the other stream that has a slot of
  /// its; -1: none.
  int waitsFor = -1;
  bool isAwaited = false; ///< a later one waits for it
};

/// Returns the slots of an action, by kind.
Slots slotsOf(const fb::Action& action);

/// Returns the order of each of `actions`, some or all of the stage's schedule.
/// An action whose program has commands of the communication stream alone is a
/// transfer.
std::vector<ActionOrder>
orderActions(const fb::Stage& stage,
             const std::vector<const fb::Action*>& actions);

} // namespace llmrt
