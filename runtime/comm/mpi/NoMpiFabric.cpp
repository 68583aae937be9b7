// SPDX-License-Identifier: Apache-2.0
// In place of the MPI fabric where the project was built without MPI.
#include "runtime/base/Error.h"
#include "runtime/comm/Communicator.h"

namespace llmrt {

absl::StatusOr<std::unique_ptr<Fabric>> createMpiFabric(const FabricOptions&) {
  return makeError(
      ErrorCode::MpiUnavailable, "this program was built without MPI",
      "build it with -DLLMC_MPI=ON, or start it without a launcher "
      "(ranks are then threads)");
}

} // namespace llmrt
