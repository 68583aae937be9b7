// SPDX-License-Identifier: Apache-2.0
#include "runtime/training/StepRecord.h"

#include "runtime/base/Error.h"

#include <cmath>
#include <cstring>
#include <vector>

namespace llmrt {
namespace {

constexpr CollectiveTag kTag{-1, "all_gather", "the record of a step",
                             "training"};

absl::Status mismatch(const std::string& what) {
  return makeError(ErrorCode::ControlRecordMismatch, what,
                   "run the same program, plan and options on every rank");
}

bool haveSameBits(double a, double b) {
  return std::memcmp(&a, &b, sizeof(a)) == 0;
}

} // namespace

absl::StatusOr<StepOutcome> agreeOnStep(const StepRecord& mine,
                                        Communicator* all) {
  std::vector<StepRecord> records(all ? all->size() : 1, mine);
  if (all)
    LLMRT_RETURN_IF_ERROR(
        all->allGather(&mine, records.data(), sizeof(mine), kTag));
  StepOutcome outcome;
  outcome.loss = outcome.norm = NAN;
  const StepRecord* normOwner = nullptr;
  bool hasLoss = false, hasCount = false;
  for (size_t rank = 0; rank < records.size(); ++rank) {
    const StepRecord& record = records[rank];
    if (record.magic != mine.magic || record.step != mine.step)
      return mismatch(absl::StrCat("rank ", rank, " is in step ", record.step,
                                   ", another in step ", mine.step));
    outcome.isStopWanted |= record.wantsStop != 0;
    if (record.hasLoss && !hasLoss) {
      hasLoss = true;
      outcome.loss = record.loss;
    }
    if (record.hasCount && !hasCount) {
      hasCount = true;
      outcome.numCounted = static_cast<int64_t>(record.count);
    }
    if (record.nonFiniteTensor >= 0 &&
        (outcome.nonFiniteTensor < 0 ||
         record.nonFiniteTensor < outcome.nonFiniteTensor))
      outcome.nonFiniteTensor = static_cast<int>(record.nonFiniteTensor);
    if (!record.hasNorm)
      continue;
    if (!normOwner) {
      normOwner = &record;
      outcome.norm = record.norm;
      outcome.isUpdated = record.isFinite != 0;
    }
    bool isSame =
        record.isFinite == normOwner->isFinite &&
        (!outcome.isUpdated || haveSameBits(record.norm, normOwner->norm));
    if (!isSame)
      return mismatch(
          absl::StrCat("ranks disagree about the gradient norm of step ",
                       mine.step + 1, ": rank ", rank, " has ", record.norm,
                       ", another ", normOwner->norm));
  }
  return outcome;
}

} // namespace llmrt
