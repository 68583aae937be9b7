// SPDX-License-Identifier: Apache-2.0
// Runs a plan on local ranks and returns logits: what the end-to-end tests
// compare. It feeds one sequence to data replica 0; the other replicas are
// masked.
#pragma once

#include "runtime/executor/Executor.h"

#include "absl/status/statusor.h"

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

namespace llmrt {

/// Runs `llmc compile MODEL -o PLAN options...`.
/// Errors  Internal with what llmc printed.
absl::Status compilePlan(const std::string& model, const std::string& plan,
                         const std::vector<std::string>& options);

/// A file name in the tests' temporary folder that no other process of the
/// tests uses.
std::string temporaryPath(const std::string& name);

/// Value of an environment variable, or "".
std::string environment(const char* name);

/// SmolLM2's GGUF file, or "" if this machine has none.
std::string smolLm2File();

/// Random but fixed ids below `vocab`.
std::vector<int32_t> someTokens(int64_t count, int64_t vocab);

/// Connects ranks that are threads. Without one host memory does.
using MakeFabrics =
    std::function<absl::StatusOr<std::vector<std::unique_ptr<Fabric>>>(
        const fb::Plan&, const FabricOptions&)>;

/// Logits [rows][V].
using Logits = std::vector<std::vector<float>>;

struct RunRequest {
  std::string plan;
  std::string weights;
  std::vector<int32_t> tokens;
  int64_t prefill =
      0;              // tokens that go through prefill; the rest through decode
  bool score = false; // all tokens through score instead
  int64_t greedy = 0; // then so many greedy tokens
  int numThreads = 1; // of each rank
  bool checkMemory = false;
  int64_t chunk = 0; // rows of a prefill or score call at most; 0: the entry's
  int64_t slot = 0;  // where the sequence is among those of the decode entry
  bool hasCompanions = false; // other slots decode sequences of their own
  bool usesGraphs = true;
  bool keepTimeline = false;    // for RunResult::calls
  std::string tuningCache = {}; // ExecutorOptions::tuningCache
  // Makes the device of a rank of that stage; without, that of the plan's
  // target.
  std::function<std::unique_ptr<Device>(const fb::Stage&)> device = {};
  MakeFabrics fabrics = {};
};

struct RunResult {
  // score: one row per token. Else one row for the last prefilled token and one
  // for each decoded one.
  Logits logits;
  std::vector<int32_t> sampled; // what the plan sampled after each row
  // How a device with graphs ran each call: "replayed", "eager: ...".
  std::vector<std::string> calls;
};

/// Errors  whatever any rank returned.
absl::StatusOr<RunResult> runPlan(const RunRequest& request);

/// Reads "tokens" and "greedy" of a fixture.
std::vector<int32_t> readTokens(const std::string& path, const char* key);
/// Reads a float32 .npy matrix.
Logits readLogits(const std::string& path);

/// Returns Internal if what a rank touched of any class is not what the plan's
/// table says, or reaches higher than the arena. `knowsZeros`: or that of
/// optimizer states may be less, where only what is not zero is known of them.
absl::Status checkTouchedMemory(const Executor& executor,
                                bool knowsZeros = true);

/// Largest difference over the largest reference magnitude.
double relativeError(const Logits& a, const Logits& reference);

} // namespace llmrt
