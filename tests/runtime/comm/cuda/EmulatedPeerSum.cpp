// SPDX-License-Identifier: Apache-2.0
// Compiled as the kernels of runtime/kernels/cuda are for their emulation.
#include "runtime/comm/cuda/PeerSum.cuh"

#include "tests/runtime/comm/cuda/EmulatedPeerSum.h"

namespace llmrt::testing {

std::string emulatePeerSum(const PeerSumCall& call) {
  emulation::Launch launch;
  launch.gridX = peerSumBlocks(call);
  launch.threads = kPeerSumThreads;
  return emulation::runGrid(launch, [&] {
    if (call.isBf16)
      cuda::sumOverPeers<cuda::BF16>(call);
    else
      cuda::sumOverPeers<float>(call);
  });
}

} // namespace llmrt::testing
