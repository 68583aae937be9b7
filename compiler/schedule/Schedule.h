// SPDX-License-Identifier: Apache-2.0
// Pipeline schedules: for each stage the list of forward and backward segments,
// of the transfers between stages and of the slots that both use. Makes them,
// for any number of stages and micro-batches. It knows nothing of MLIR, shapes
// or bytes: the compiler turns an action into calls and a slot into a buffer.
// docs/design/schedules.md has the terms.
#pragma once

#include "absl/status/statusor.h"

#include <string>
#include <string_view>
#include <vector>

namespace llmc::schedule {

/// Source  GPipe: Huang et al. 2019. 1F1B and interleaved: Narayanan et al.
/// 2021.
///         ZB-H1: Qi et al. 2023.
enum class ScheduleKind {
  GPipe,
  OneForwardOneBackward,
  Interleaved,
  ZeroBubble
};

/// Returns "gpipe", "1f1b", "interleaved" or "zero-bubble".
std::string_view scheduleKindName(ScheduleKind kind);

/// Reads the name of a schedule. Errors: InvalidArgument for any other word.
absl::StatusOr<ScheduleKind> parseScheduleKind(std::string_view name);

enum class ActionKind {
  Forward,
  Backward,       ///< input and weight gradients (all kinds but ZeroBubble)
  BackwardInput,  ///< gradient of the segment's input (ZeroBubble)
  BackwardWeight, ///< gradients of the segment's weights (ZeroBubble)
  Send,
  Recv
};

/// Returns the enumerator's name, "Forward".
std::string_view actionKindName(ActionKind kind);

/// One command of a stage. `chunk` and `microBatch` are those of the stage that
/// executes it: what the last stage sends as chunk c, stage 0 receives as chunk
/// c + 1. A slot is -1 where the action has no such value (the first chunk
/// receives no activation, the last no gradient).
struct Action {
  ActionKind kind = ActionKind::Forward;
  int chunk = 0;
  int microBatch = 0;
  int peer = -1;           ///< stage at the other end of a Send or Recv
  bool isGradient = false; ///< of a Send or Recv: gradient, else activation
  int savedSlot = -1;      ///< Forward writes, each backward segment reads
  int deferredSlot = -1;   ///< BackwardInput writes, BackwardWeight reads
  int activationSlot = -1; ///< Recv writes; Forward and backward segments read
  int gradientSlot = -1;   ///< Recv writes; Backward or BackwardInput reads
  int sendSlot = -1; ///< Forward, Backward or BackwardInput writes; Send reads

  bool operator==(const Action&) const = default;
};

/// Returns whether the action is a Send or a Recv.
bool isTransfer(ActionKind kind);

/// Returns "Backward of micro-batch 3, chunk 0" or "Send of the gradient of
/// micro-batch 3, chunk 0, to stage 1".
std::string describe(const Action& action);

/// The kinds of buffers that have slots. Lifetimes, in the order of the stage's
/// list: Saved               Forward to the last backward segment; slots
/// counted per chunk Deferred            BackwardInput to BackwardWeight; slots
/// counted per chunk ReceivedActivation  Recv to the last backward segment;
/// shared by the chunks ReceivedGradient    Recv to Backward or BackwardInput;
/// shared by the chunks SentActivation      Forward to Send; shared by the
/// chunks SentGradient        Backward or BackwardInput to Send; shared by the
/// chunks
enum class SlotClass {
  Saved,
  Deferred,
  ReceivedActivation,
  ReceivedGradient,
  SentActivation,
  SentGradient
};
inline constexpr int kNumSlotClasses = 6;

/// Returns "saved", "received gradient", ...
std::string_view slotClassName(SlotClass slotClass);

/// One slot that an action reads or writes. `chunk` is 0 in classes that chunks
/// share.
struct SlotUse {
  SlotClass slotClass = SlotClass::Saved;
  int chunk = 0;
  int slot = 0;
  bool isWrite = false;
  bool isLast = false; ///< the value dies here
};

/// Returns the slots that the action touches: those of its slot fields that are
/// not -1.
std::vector<SlotUse> slotUses(const Action& action);

/// Number of slots of a stage: its activation memory, in micro-batches.
struct StageSlots {
  std::vector<int> saved;    ///< [virtualStages]
  std::vector<int> deferred; ///< [virtualStages]
  int receivedActivation = 0;
  int receivedGradient = 0;
  int sentActivation = 0;
  int sentGradient = 0;
  /// Most saved values that live at once over all chunks (each of 1/V of the
  /// layers).
  int inFlight = 0;

  /// Returns the number of slots of a class (of a chunk, where chunks do not
  /// share).
  int count(SlotClass slotClass, int chunk) const;
};

/// Times of the segments of one chunk for one micro-batch, in any unit.
struct SegmentTimes {
  double forward = 1;
  double backwardInput = 1; ///< Backward takes both backward times
  double backwardWeight = 1;

  /// Returns the time of a compute action, 0 for a transfer.
  double of(ActionKind kind) const;
};

struct StepCosts {
  /// One for all chunks, or one for each global stage (chunk * stages + stage).
  std::vector<SegmentTimes> segments = {{}};
  double transfer = 0; ///< of one activation or gradient between two stages

  /// Returns the time of a compute action or a transfer.
  double of(const Action& action, int stage, int stages) const;
};

struct ScheduleOptions {
  ScheduleKind kind = ScheduleKind::OneForwardOneBackward;
  int stages = 1;        ///< P, ranks of the pipeline
  int microBatches = 1;  ///< M
  int virtualStages = 1; ///< V, chunks per stage; chunk c of stage p is the
                         ///< global stage c * P + p
  /// Slots of each received and sent class above the fewest that the order
  /// needs, so that a transfer runs while its neighbour's slot is still read.
  int extraTransferSlots = 1;
  /// Expected times, all above 0: transfers are ordered by when they would
  /// arrive. They decide how well transfers overlap, never what is computed. A
  /// transfer must take some time here, or receives stand where a transfer
  /// thread would wait for them.
  StepCosts expected = {{{1, 1, 0.5}}, 0.0625};
};

struct Schedule {
  ScheduleKind kind = ScheduleKind::OneForwardOneBackward;
  int stages = 1;
  int microBatches = 1;
  int virtualStages = 1;
  /// [stages] compute actions and transfers of a stage in its order. The lists
  /// are parts of one total order over all stages: they run to the end when
  /// each transfer is a blocking rendezvous, and when transfers run on a thread
  /// of their own in list order.
  std::vector<std::vector<Action>> actions;
  std::vector<StageSlots> slots; ///< [stages]

  bool isFirst(int stage, int chunk) const { return stage == 0 && chunk == 0; }

  bool isLast(int stage, int chunk) const {
    return stage == stages - 1 && chunk == virtualStages - 1;
  }
};

/// A chunk of a stage.
struct ChunkOfStage {
  int stage = 0;
  int chunk = 0;

  bool operator==(const ChunkOfStage&) const = default;
};

/// Returns the chunk that takes the activation of this one (which is not the
/// last).
ChunkOfStage nextChunk(const Schedule& schedule, int stage, int chunk);

/// Returns the chunk whose activation this one takes (which is not the first).
ChunkOfStage previousChunk(const Schedule& schedule, int stage, int chunk);

/// Returns how many saved values (of 1/V of a stage's layers) may live at once
/// on a stage: gpipe M; 1f1b min(P - p, M); zero-bubble min(P, M); interleaved
/// min(2 (P - p - 1) + (V - 1) P + 1, M V), with V = 1 as 1f1b.
int inFlightLimit(ScheduleKind kind, int stages, int microBatches,
                  int virtualStages, int stage);

/// Makes the schedule, with transfers and slots.
/// Errors  LLMC-E1002 if a number is below 1; if virtualStages > 1 and the kind
/// is not
///         interleaved, or there is one stage; interleaved with virtualStages >
///         1 if microBatches is not a multiple of stages.
absl::StatusOr<Schedule> makeSchedule(const ScheduleOptions& options);

/// Returns the compute actions of each stage in order, without transfers and
/// slots. Needs options that makeSchedule takes.
std::vector<std::vector<Action>> computeOrder(const ScheduleOptions& options);

} // namespace llmc::schedule
