// SPDX-License-Identifier: Apache-2.0
// Proves a schedule complete, ordered, free of deadlock and inside its
// activation memory, from its lists alone: it does not use what made them.
// docs/design/schedules.md says how.
#pragma once

#include "compiler/schedule/Schedule.h"

#include <optional>
#include <string>
#include <vector>

namespace llmc::schedule {

enum class FaultKind {
  BadShape,        ///< numbers of the schedule, lists or slot counts do not fit
  BadAction,       ///< a field is out of range or does not belong to the action
  MissingAction,   ///< a segment or transfer is absent
  DuplicateAction, ///< a segment or transfer occurs twice
  WrongOrder,      ///< segments of a chunk are not in order
  WrongPeer,       ///< a transfer has the wrong stage at its other end
  MismatchedTransfer,   ///< two stages disagree about the order of their
                        ///< transfers
  UseBeforeReceive,     ///< a segment precedes the Recv of what it reads
  SendBeforeProduction, ///< a Send precedes the segment that makes its payload
  SlotConflict,         ///< a slot is written while its value is still needed
  WrongSlot,            ///< a slot is read that holds another value, or none
  Deadlock,             ///< stages wait for one another for ever
  OverActivationLimit   ///< more saved values live at once than the limit
};

/// Returns the enumerator's name, "MissingAction".
std::string_view faultKindName(FaultKind kind);

struct Fault {
  FaultKind kind = FaultKind::BadShape;
  int stage = -1; ///< -1: of no stage alone
  int index = -1; ///< in the stage's list; -1: of no action
  /// "stage 2, action 5: Backward of micro-batch 3, chunk 0, runs before its
  /// gradient is received"
  std::string message;
};

struct ScheduleLimits {
  /// [stages] most saved values that may live at once; empty: those of the
  /// kind, inFlightLimit().
  std::vector<int> inFlight;
};

/// Returns the first fault found, or nothing if the schedule is right. What it
/// proves:
/// - each chunk has for each micro-batch one Forward and one Backward, or one
/// BackwardInput
///   and one BackwardWeight (zero-bubble), in this order, and each kind in
///   micro-batch order, so that sums over micro-batches have one order under
///   every schedule;
/// - each activation and gradient that crosses stages is sent once and received
/// once by
///   the right stage, after it is made and before it is used, in an order on
///   which both ends agree;
/// - each action finds its own values in its slots, and overwrites none that is
/// needed;
/// - the lists run to their end with blocking transfers, and with a transfer
/// thread;
/// - saved values stay within the limit.
std::optional<Fault> check(const Schedule& schedule,
                           const ScheduleLimits& limits = {});

} // namespace llmc::schedule
