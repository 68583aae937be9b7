// SPDX-License-Identifier: Apache-2.0
// Two dynamic programs over (chunks, layers): the least maximum, then the least
// squares under it. L^2 K steps for L layers and K chunks.
#include "compiler/schedule/BalanceLayers.h"

#include "runtime/base/Error.h"

#include "absl/strings/str_cat.h"

#include <algorithm>
#include <cmath>

namespace llmc::schedule {
namespace {

/// Costs of runs of layers with embedding and head.
class RunCosts {
public:
  RunCosts(const LayerCosts& costs) : costs_(costs) {
    for (int64_t cost : costs.layers)
      sums_.push_back(sums_.back() + static_cast<double>(cost));
  }

  double of(int first, int end) const {
    bool isLast = end + 1 == static_cast<int>(sums_.size());
    return sums_[end] - sums_[first] + (first == 0 ? costs_.embedding : 0) +
           (isLast ? costs_.head : 0);
  }

private:
  const LayerCosts& costs_;
  std::vector<double> sums_ = {0};
};

/// For each number of chunks and of layers: the best value, and where its last
/// run starts.
struct Table {
  std::vector<std::vector<double>> best;
  std::vector<std::vector<int>> start;
};

/// Fills the table; a run's cost joins those before it by `join`.
template <typename Join>
Table solve(int numLayers, int numChunks, const RunCosts& runs, Join join) {
  Table table;
  table.best.assign(numChunks + 1,
                    std::vector<double>(numLayers + 1, INFINITY));
  table.start.assign(numChunks + 1, std::vector<int>(numLayers + 1, 0));
  table.best[0][0] = 0;
  for (int chunk = 1; chunk <= numChunks; ++chunk)
    for (int end = chunk; end <= numLayers; ++end)
      for (int first = chunk - 1; first < end; ++first) {
        double value = join(table.best[chunk - 1][first], runs.of(first, end));
        if (value < table.best[chunk][end]) {
          table.best[chunk][end] = value;
          table.start[chunk][end] = first;
        }
      }
  return table;
}

} // namespace

absl::StatusOr<std::vector<int>> balanceLayers(const LayerCosts& costs,
                                               int stages, int virtualStages) {
  int numLayers = static_cast<int>(costs.layers.size());
  if (stages < 1 || virtualStages < 1 ||
      static_cast<int64_t>(stages) * virtualStages > numLayers)
    return llmrt::makeError(
        llmrt::ErrorCode::MeshDoesNotFit,
        absl::StrCat("a pipeline of ", stages, " stages with ", virtualStages,
                     " virtual stages each for a model of ", numLayers,
                     " layers"),
        "use at least one and at most as many as there are layers");
  int64_t least = std::min(costs.embedding, costs.head);
  for (int64_t cost : costs.layers)
    least = std::min(least, cost);
  if (least < 0)
    return absl::InvalidArgumentError(absl::StrCat("a layer costs ", least));

  int numChunks = stages * virtualStages;
  RunCosts runs(costs);
  Table maximum =
      solve(numLayers, numChunks, runs,
            [](double before, double run) { return std::max(before, run); });
  double limit = maximum.best[numChunks][numLayers];
  Table squares =
      solve(numLayers, numChunks, runs, [&](double before, double run) {
        return run > limit ? INFINITY : before + run * run;
      });
  std::vector<int> starts(numChunks);
  int end = numLayers;
  for (int chunk = numChunks; chunk > 0; --chunk)
    end = starts[chunk - 1] = squares.start[chunk][end];
  return starts;
}

} // namespace llmc::schedule
