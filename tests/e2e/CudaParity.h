// SPDX-License-Identifier: Apache-2.0
// The end-to-end cases of the cuda back-end, and what a cuda plan must give:
// the logits of its cpu plan. Described once, run on an emulation on every
// build and on a GPU where there is one.
#pragma once

#include "tests/e2e/PlanRunner.h"

#include <functional>
#include <ostream>
#include <string>
#include <vector>

namespace llmrt {

struct CudaCase {
  const char* fixture; // folder in tests/fixtures
  int numLayers;
  const char* dtype;
  const char* mesh = "";          // options for more ranks than one
  const char* weightsFormat = ""; // of the cuda plan, if not dense

  /// "llama_9q3kv_f32_meshtp2": names the test and its plans.
  std::string name() const;
  /// Options of llmc compile, without a target. With weights in blocks the cpu
  /// plan has the values of the file's blocks in f32.
  std::vector<std::string> compileOptions(bool isCuda) const;
  /// What llmc compiles, under tests/fixtures.
  std::string model() const;
  /// Where it is, and where its reference is, under $LLMC_SOURCE_DIR.
  std::string modelPath() const;
  std::string folder() const;
};

void PrintTo(const CudaCase& c, std::ostream* os);

/// How far a logit of the cuda plan may be from that of the cpu plan: of the
/// largest logit.
double mostLogitError(const CudaCase& c);

/// Where two runs of a plan have other logits, "" if nowhere.
std::string describeOtherLogits(const Logits& first, const Logits& second);

/// One rank, every family.
const std::vector<CudaCase>& cudaCases();
/// Weights in blocks, on one rank and on more.
const std::vector<CudaCase>& cudaBlockCases();
/// More ranks: tensor, pipeline and data parallel.
const std::vector<CudaCase>& cudaMeshCases();

using CudaRunner = std::function<absl::StatusOr<RunResult>(RunRequest)>;

/// Runs the plan for cpu and, by `runCuda`, that for cuda: in prefill (two
/// chunks, the last one shorter), decode, decode beside another sequence, and
/// scoring; with more ranks prefill and decode. Fails the test where logits are
/// further apart than the case allows, or sampled tokens differ; and where
/// float32 scores are not those of the fixture.
void expectLogitsOfCpu(const CudaCase& c, const std::string& cpuPlan,
                       const CudaRunner& runCuda);

/// Some of cudaCases() that cuBLASLt multiplies for.
const std::vector<CudaCase>& cudaReplayCases();

/// Scores a text in chunks of rows enough for cuBLASLt, which are one graph
/// each from the second one on: its products have the inputs of their call.
/// Fails the test where other bits come out of the plan than without graphs, or
/// logits that are further from those of the cpu than the case allows.
void expectReplaysOfProducts(const CudaCase& c, const std::string& cpuPlan,
                             const CudaRunner& runCuda);

} // namespace llmrt
