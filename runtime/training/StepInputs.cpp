// SPDX-License-Identifier: Apache-2.0
#include "runtime/training/StepInputs.h"

#include "runtime/base/Error.h"
#include "runtime/generation/MeshRoles.h"
#include "runtime/training/ReferenceLosses.h"

#include <algorithm>
#include <cstring>

namespace llmrt {

absl::StatusOr<BatchPlace> placeOfRank(const fb::Plan& plan, int rank,
                                       int64_t numRows) {
  MeshRoles roles = makeMeshRoles(plan, rank, 0);
  BatchPlace place;
  place.batch = plan.batch();
  place.dataRanks = roles.numReplicas;
  place.dataRank = roles.replica;
  place.microBatches = std::max(plan.micro_batches(), 1);
  int64_t parts = place.dataRanks * place.microBatches;
  if (place.batch < 1 || place.batch % parts != 0 ||
      numRows != plan.cache_tokens())
    return makeError(ErrorCode::BatchShapeInvalid,
                     absl::StrCat("the plan's batch of ", place.batch,
                                  " sequences of ", plan.cache_tokens(),
                                  " tokens cannot be cut into ", parts,
                                  " parts of ", numRows, " tokens"),
                     "compile the plan again");
  return place;
}

absl::Status checkStepInputs(const fb::Plan& plan, const BatchPlace& place,
                             Executor& executor) {
  size_t wantedBytes = sizeof(int32_t) * place.batch / place.dataRanks *
                       static_cast<size_t>(plan.cache_tokens());
  for (const char* name :
       {"ids", "positions", "starts", "labels", "reference_loss"}) {
    size_t bytes = executor.stepInput(name).size();
    if (bytes != 0 && bytes != wantedBytes)
      return makeError(ErrorCode::PlanInvalid,
                       absl::StrCat("the step's input '", name, "' has ", bytes,
                                    " bytes, its micro-batches have ",
                                    wantedBytes),
                       "compile the plan again");
  }
  return absl::OkStatus();
}

namespace {

void fillReference(const ReferenceLosses* reference, const TrainingBatch& batch,
                   int64_t microBatch, Executor& executor) {
  absl::Span<uint8_t> input = executor.stepInput("reference_loss");
  if (input.empty())
    return;
  size_t rowBytes = batch.numRows * sizeof(float);
  uint8_t* to = input.data() + microBatch * batch.numSequences * rowBytes;
  for (int64_t sequence : batch.sequences) {
    if (reference && sequence >= 0)
      std::memcpy(to, reference->rows(sequence).data(), rowBytes);
    else
      std::memset(to, 0, rowBytes);
    to += rowBytes;
  }
}

} // namespace

absl::Status fillStepInputs(const BatchSource& data,
                            const ReferenceLosses* reference, BatchPlace place,
                            Executor& executor) {
  TrainingBatch batch;
  for (int64_t m = 0; m < place.microBatches; ++m) {
    place.microBatch = m;
    LLMRT_RETURN_IF_ERROR(data.fill(place, batch));
    const std::pair<const char*, const std::vector<int32_t>*> inputs[] = {
        {"ids", &batch.ids},
        {"positions", &batch.positions},
        {"starts", &batch.starts},
        {"labels", &batch.labels}};
    for (const auto& [name, values] : inputs) {
      absl::Span<uint8_t> input = executor.stepInput(name);
      size_t bytes = values->size() * sizeof(int32_t);
      if (!input.empty())
        std::memcpy(input.data() + m * bytes, values->data(), bytes);
    }
    fillReference(reference, batch, m, executor);
  }
  return absl::OkStatus();
}

} // namespace llmrt
