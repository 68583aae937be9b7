// SPDX-License-Identifier: Apache-2.0
// The fabric whose ranks are threads of one process.
#include "runtime/comm/local/LocalCommunicator.h"

#include "runtime/base/Error.h"
#include "runtime/comm/CollectiveErrors.h"

#include <algorithm>

namespace llmrt {
namespace {

class LocalFabric final : public Fabric {
public:
  LocalFabric(std::shared_ptr<local::World> world, int rank)
      : world_(std::move(world)), rank_(rank) {}

  int rank() const override { return rank_; }

  int size() const override { return world_->numRanks; }

  const char* name() const override { return "local"; }

  absl::StatusOr<std::unique_ptr<Communicator>>
  createCommunicator(absl::Span<const int> worldRanks) override {
    LLMRT_RETURN_IF_ERROR(checkRankList(worldRanks, rank_, size()));
    LLMRT_RETURN_IF_ERROR(world_->abortStatus());
    std::vector<int> ranks(worldRanks.begin(), worldRanks.end());
    int occurrence = numMade_[ranks]++;
    int groupRank =
        std::find(ranks.begin(), ranks.end(), rank_) - ranks.begin();
    return std::make_unique<local::LocalCommunicator>(
        world_, world_->joinGroup(ranks, occurrence), groupRank);
  }

  void abort(const absl::Status& reason) override {
    world_->abort(rank_, reason);
  }

  absl::Status abortStatus() const override { return world_->abortStatus(); }

private:
  std::shared_ptr<local::World> world_;
  int rank_;
  std::map<std::vector<int>, int> numMade_;
};

} // namespace

std::vector<std::unique_ptr<Fabric>>
createLocalFabrics(int numRanks, const FabricOptions& options) {
  auto world = std::make_shared<local::World>(numRanks, options);
  std::vector<std::unique_ptr<Fabric>> fabrics;
  for (int rank = 0; rank < numRanks; ++rank)
    fabrics.push_back(std::make_unique<LocalFabric>(world, rank));
  return fabrics;
}

} // namespace llmrt
