// SPDX-License-Identifier: Apache-2.0
#include "runtime/comm/cuda/SharedGpuFabric.h"

#include "runtime/base/Error.h"
#include "runtime/comm/cuda/SharedGpuCommunicator.h"

namespace llmrt {
namespace {

class SharedGpuFabric final : public Fabric {
public:
  SharedGpuFabric(std::unique_ptr<Fabric> host, const CudaTable& cuda,
                  std::shared_ptr<cuda::SharedEvents> events)
      : host_(std::move(host)), cuda_(cuda), events_(std::move(events)) {}

  int rank() const override { return host_->rank(); }

  int size() const override { return host_->size(); }

  const char* name() const override { return "local"; }

  absl::StatusOr<std::unique_ptr<Communicator>>
  createCommunicator(absl::Span<const int> worldRanks) override {
    if (worldRanks.size() > kMaxSummands)
      return makeError(ErrorCode::BadCommunicatorArgument,
                       absl::StrCat(worldRanks.size(),
                                    " ranks of a group are "
                                    "more than the ",
                                    kMaxSummands, " that can share one GPU"),
                       "use several GPUs, or a smaller mesh");
    LLMRT_ASSIGN_OR_RETURN(std::unique_ptr<Communicator> group,
                           host_->createCommunicator(worldRanks));
    return std::make_unique<cuda::SharedGpuCommunicator>(
        *host_, std::move(group), worldRanks, cuda_, events_);
  }

  void abort(const absl::Status& reason) override { host_->abort(reason); }

  absl::Status abortStatus() const override { return host_->abortStatus(); }

private:
  std::unique_ptr<Fabric> host_;
  CudaTable cuda_;
  std::shared_ptr<cuda::SharedEvents> events_;
};

} // namespace

std::vector<std::unique_ptr<Fabric>>
createSharedGpuFabrics(int numRanks, const CudaTable& cuda,
                       const FabricOptions& options) {
  auto events = std::make_shared<cuda::SharedEvents>(cuda);
  std::vector<std::unique_ptr<Fabric>> fabrics;
  for (std::unique_ptr<Fabric>& host : createLocalFabrics(numRanks, options))
    fabrics.push_back(
        std::make_unique<SharedGpuFabric>(std::move(host), cuda, events));
  return fabrics;
}

} // namespace llmrt
