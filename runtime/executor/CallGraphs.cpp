// SPDX-License-Identifier: Apache-2.0
#include "runtime/executor/CallGraphs.h"

#include <algorithm>

namespace llmrt {

CallGraphs::Call CallGraphs::enqueue(int64_t validRows, int64_t numFetched,
                                     absl::FunctionRef<void(bool)> work) {
  auto runEager = [&](const char* why) {
    lastCall_ = why;
    work(/*isKept=*/false);
    return Call{true, numFetched};
  };
  if (obstacle_)
    return runEager(obstacle_);
  auto [place, isFirst] = kinds_.try_emplace(validRows);
  Kind& kind = place->second;
  kind.lastUse = ++numCalls_;
  if (isFirst) {
    dropOldest();
    return runEager("eager: first of its kind");
  }
  const bool isComplete = isOfGroup_ || kind.numFetched == numFetched;
  if (kind.graph && isComplete && device_.holdsGraph(*kind.graph)) {
    lastCall_ = "replayed";
    device_.replay(*kind.graph);
    return {false, kind.numFetched};
  }
  lastCall_ = "captured";
  kind.numFetched = numFetched;
  capture(kind, work);
  return {false, numFetched};
}

void CallGraphs::capture(Kind& kind, absl::FunctionRef<void(bool)> work) {
  if (kind.graph)
    device_.dropGraph(*kind.graph);
  device_.beginCapture();
  work(/*isKept=*/true);
  kind.graph = device_.endCapture();
  if (device_.holdsGraph(*kind.graph)) // else synchronize() says why not
    device_.replay(*kind.graph);
}

void CallGraphs::dropOldest() {
  if (kinds_.size() <= kMostGraphs)
    return;
  auto oldest = std::min_element(kinds_.begin(), kinds_.end(),
                                 [](const auto& a, const auto& b) {
                                   return a.second.lastUse < b.second.lastUse;
                                 });
  if (oldest->second.graph)
    device_.dropGraph(*oldest->second.graph);
  kinds_.erase(oldest);
}

void CallGraphs::forget() {
  for (const auto& [rows, kind] : kinds_)
    if (kind.graph)
      device_.dropGraph(*kind.graph);
  kinds_.clear();
}

// Members of a group capture a collective all or none: a library may exchange
// more than data then.
const char* obstacleToGraphs(const Rank& rank, bool usesGraphs,
                             bool communicates) {
  if (!rank.device.canCapture())
    return "";
  if (!usesGraphs)
    return "eager: graphs are off";
  if (rank.checked)
    return "eager: memory is checked";
  if (communicates && !rank.fabric.canCapture())
    return "eager: these ranks' calls cannot be captured";
  return nullptr;
}

} // namespace llmrt
