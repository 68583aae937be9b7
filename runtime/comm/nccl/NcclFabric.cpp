// SPDX-License-Identifier: Apache-2.0
#include "runtime/comm/nccl/NcclFabric.h"

#include "runtime/base/Error.h"
#include "runtime/comm/CollectiveErrors.h"
#include "runtime/comm/nccl/NcclCommunicator.h"

#include <cstdlib>

namespace llmrt {
namespace {

class NcclFabric final : public Fabric {
public:
  explicit NcclFabric(std::shared_ptr<nccl::NcclRank> rank)
      : rank_(std::move(rank)) {}

  int rank() const override { return rank_->rank(); }

  int size() const override { return rank_->size(); }

  const char* name() const override { return "nccl"; }

  absl::StatusOr<std::unique_ptr<Communicator>>
  createCommunicator(absl::Span<const int> worldRanks) override {
    LLMRT_RETURN_IF_ERROR(checkRankList(worldRanks, rank(), size()));
    LLMRT_ASSIGN_OR_RETURN(std::shared_ptr<nccl::Group> group,
                           rank_->createGroup(worldRanks));
    return std::make_unique<nccl::NcclCommunicator>(rank_, std::move(group));
  }

  void abort(const absl::Status& reason) override { rank_->abort(reason); }

  absl::Status abortStatus() const override { return rank_->abortStatus(); }

  // NCCL's kernels and our marks are kept in graphs.
  bool canCapture() const override { return true; }

  std::string streamProgress() const override { return rank_->progress(); }

private:
  std::shared_ptr<nccl::NcclRank> rank_; // shared with the communicators
};

} // namespace

absl::StatusOr<std::unique_ptr<Fabric>>
createNcclFabric(NcclFabricParts parts, const FabricOptions& options) {
  LLMRT_ASSIGN_OR_RETURN(std::shared_ptr<nccl::NcclRank> rank,
                         nccl::NcclRank::create(std::move(parts), options));
  return std::make_unique<NcclFabric>(std::move(rank));
}

absl::StatusOr<std::unique_ptr<Fabric>>
joinNcclFabric(const LaunchInfo& launch, Fabric* mpi,
               const FabricOptions& options) {
  NcclFabricParts parts;
  LLMRT_ASSIGN_OR_RETURN(parts.nccl, NcclTable::load());
  LLMRT_ASSIGN_OR_RETURN(parts.cuda, loadCudaTable(launch.localRank));
  LLMRT_ASSIGN_OR_RETURN(
      parts.rendezvous,
      joinRendezvous(launch, mpi, options.timeoutSeconds,
                     [](const char* name) -> std::optional<std::string> {
                       const char* value = std::getenv(name);
                       if (!value)
                         return std::nullopt;
                       return std::string(value);
                     }));
  return createNcclFabric(std::move(parts), options);
}

} // namespace llmrt
