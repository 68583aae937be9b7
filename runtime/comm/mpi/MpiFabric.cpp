// SPDX-License-Identifier: Apache-2.0
// The fabric whose ranks are processes of an MPI job. Groups are message tags
// on one communicator, so making one needs no message and cannot hang.
#include "runtime/comm/mpi/MpiCommunicator.h"

#include "runtime/base/Error.h"
#include "runtime/comm/CollectiveErrors.h"

#include <algorithm>

namespace llmrt {
namespace {

class MpiFabric final : public Fabric {
public:
  MpiFabric(mpi::MpiJob* job, const FabricOptions& options)
      : job_(job), options_(options) {}

  int rank() const override { return job_->rank(); }

  int size() const override { return job_->size(); }

  const char* name() const override { return "mpi"; }

  absl::StatusOr<std::unique_ptr<Communicator>>
  createCommunicator(absl::Span<const int> worldRanks) override {
    LLMRT_RETURN_IF_ERROR(checkRankList(worldRanks, rank(), size()));
    LLMRT_RETURN_IF_ERROR(job_->checkAbort());
    std::vector<int> ranks(worldRanks.begin(), worldRanks.end());
    int groupRank =
        std::find(ranks.begin(), ranks.end(), rank()) - ranks.begin();
    return std::make_unique<mpi::MpiCommunicator>(
        job_, std::move(ranks), groupRank, options_.timeoutSeconds);
  }

  void abort(const absl::Status& reason) override { job_->abort(reason); }

  absl::Status abortStatus() const override { return job_->checkAbort(); }

private:
  mpi::MpiJob* job_;
  FabricOptions options_;
};

} // namespace

absl::StatusOr<std::unique_ptr<Fabric>>
createMpiFabric(const FabricOptions& options) {
  LLMRT_ASSIGN_OR_RETURN(mpi::MpiJob * job, mpi::MpiJob::join());
  return std::make_unique<MpiFabric>(job, options);
}

} // namespace llmrt
