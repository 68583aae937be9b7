// SPDX-License-Identifier: Apache-2.0
#include "tools/llmc/CompileOptions.h"

#include "compiler/passes/Pipeline.h"
#include "compiler/target/Target.h"
#include "runtime/base/Error.h"
#include "runtime/base/NearestName.h"

#include "llvm/ADT/StringExtras.h"
#include "llvm/Support/FormatVariadic.h"

#include <set>

using llmrt::ErrorCode;
using llmrt::makeError;

namespace llmc {

absl::StatusOr<std::vector<Axis>> parseMesh(const std::string& text) {
  std::vector<Axis> axes = {{"dp", 1}, {"pp", 1}, {"tp", 1}};
  std::set<std::string> seen;
  llvm::SmallVector<llvm::StringRef> parts;
  if (!text.empty())
    llvm::StringRef(text).split(parts, ',');
  for (llvm::StringRef part : parts) {
    auto [name, value] = part.split('=');
    int64_t ranks = 0;
    auto axis = llvm::find_if(
        axes, [&, n = name](const Axis& a) { return a.name == n; });
    if (value.getAsInteger(10, ranks) || ranks < 1 || ranks > 65536 ||
        axis == axes.end() || !seen.insert(name.str()).second)
      return makeError(ErrorCode::MeshInvalid,
                       "bad mesh axis '" + part.str() + "'",
                       "write each of dp, pp, tp at most once with a size "
                       "from 1 to 65536, as in --mesh=dp=2,tp=4");
    axis->size = ranks;
  }
  // What a plan can name (runtime/plan/VerifyPlan.cpp).
  constexpr int64_t kMostRanks = 1 << 20;
  int64_t numRanks = 1; // of axes below 2^16: no overflow
  for (const Axis& axis : axes)
    numRanks *= axis.size;
  if (numRanks > kMostRanks)
    return makeError(ErrorCode::MeshInvalid,
                     "a mesh of " + std::to_string(numRanks) + " ranks",
                     "use at most " + std::to_string(kMostRanks));
  return axes;
}

namespace {

struct Choice {
  const char* option;
  std::string value;
  std::vector<std::string> supported;
};

absl::Status checkChoice(const Choice& choice) {
  std::string given = std::string("--") + choice.option + "=" + choice.value;
  if (llvm::is_contained(choice.supported, choice.value))
    return absl::OkStatus();
  std::string list = llvm::join(choice.supported, " or ");
  // Of numbers the nearest name says nothing.
  int64_t number = 0;
  std::string near = llvm::to_integer(choice.value, number)
                         ? ""
                         : llmrt::nearestName(choice.value, choice.supported);
  return makeError(ErrorCode::BadOptionValue, given,
                   near.empty() ? "use " + list : "did you mean " + near);
}

absl::Status checkRange(const char* option, int64_t value, int64_t least,
                        int64_t most) {
  if (value >= least && value <= most)
    return absl::OkStatus();
  return makeError(
      ErrorCode::BadOptionValue,
      llvm::formatv("--{0}={1}", option, value).str(),
      llvm::formatv("use a number from {0} to {1}", least, most).str());
}

} // namespace

absl::Status checkValues(const CommandLine& line) {
  LLMRT_RETURN_IF_ERROR(parseTarget(line.target).status());
  for (const Choice& choice : std::initializer_list<Choice>{
           {"mode", line.mode, {"infer", "train"}},
           {"weights-format", line.weightsFormat, {"dense", "q8_0", "q4_0"}},
           {"dtype", line.dtype, {"f32", "bf16"}},
           {"objective", line.objective, {"pretrain", "sft", "dpo"}},
           {"preference-loss",
            line.preferenceLoss,
            {"sigmoid", "hinge", "ipo"}},
           {"reference", line.reference, {"plan", "precompute"}},
           {"reference-zero", std::to_string(line.referenceZero), {"0", "3"}},
           {"schedule",
            line.schedule,
            {"gpipe", "1f1b", "interleaved", "zero-bubble"}},
           {"recompute", line.recompute, {"none", "selective", "full"}},
           {"zero", std::to_string(line.zero), {"0", "1", "2", "3"}}})
    LLMRT_RETURN_IF_ERROR(checkChoice(choice));
  LLMRT_RETURN_IF_ERROR(
      checkRange("microbatches", line.microbatches, 1, 1 << 16));
  LLMRT_RETURN_IF_ERROR(
      checkRange("virtual-stages", line.virtualStages, 1, 1 << 16));
  LLMRT_RETURN_IF_ERROR(
      checkRange("zero-live-bytes", line.zeroLiveBytes, 0, int64_t(1) << 50));
  LLMRT_RETURN_IF_ERROR(checkRange("zero-bucket-bytes", line.zeroBucketBytes, 0,
                                   int64_t(1) << 50));
  LLMRT_RETURN_IF_ERROR(checkRange("batch", line.batch, 1, 1 << 20));
  LLMRT_RETURN_IF_ERROR(checkRange("chunk", line.chunk, 1, 1 << 20));
  return checkRange("seq", line.seq, 0, int64_t(1) << 24);
}

namespace {

/// Refuses weights in blocks where no kernel reads them.
absl::Status checkWeightsFormat(const CommandLine& line) {
  if (line.weightsFormat == "dense")
    return absl::OkStatus();
  std::string given = "--weights-format=" + line.weightsFormat;
  auto unsupported = [&](const std::string& with, const std::string& advice) {
    return makeError(ErrorCode::Unsupported, given + " with " + with, advice);
  };
  if (line.mode == "train")
    return unsupported("--mode=train", "weights in blocks are not trained: use "
                                       "--weights-format=dense");
  LLMRT_ASSIGN_OR_RETURN(Target target, parseTarget(line.target));
  if (!target.isCuda)
    return unsupported("--target=" + line.target,
                       "only cuda has kernels that read such weights: use "
                       "--target=cuda or --weights-format=dense");
  return absl::OkStatus();
}

} // namespace

absl::Status checkTogether(const CommandLine& line) {
  auto contradict = [](const std::string& what, const std::string& advice) {
    return makeError(ErrorCode::OptionsContradict, what, advice);
  };
  auto phaseNumber = [](llvm::StringRef phase) {
    return llvm::find(pipelinePhases(), phase) - pipelinePhases().begin();
  };
  std::string from = line.compileFrom.empty() ? "model" : line.compileFrom;
  std::string to = line.compileTo.empty() ? "plan" : line.compileTo;
  if (phaseNumber(to) < phaseNumber(from))
    return contradict("--compile-to=" + to + " with --compile-from=" + from +
                          ": " + to + " comes before " + from,
                      "see llmc compile --list-phases");
  if (line.given.count("memory-limit") && to != "plan")
    return contradict("--memory-limit with --compile-to=" + to,
                      "memory is decided in phase plan");
  if (from == "model")
    LLMRT_RETURN_IF_ERROR(checkWeightsFormat(line));
  bool isTraining = line.mode == "train" || from != "model";
  for (const char* option :
       {"objective", "schedule", "virtual-stages", "recompute", "freeze",
        "microbatches", "zero-bucket-bytes"})
    if (!isTraining && line.given.count(option))
      return contradict("--" + std::string(option) + " with --mode=infer",
                        "add --mode=train");
  for (const char* option : {"preference-loss", "reference", "reference-zero"})
    if (line.given.count(option) && line.objective != "dpo")
      return contradict("--" + std::string(option) +
                            " with --objective=" + line.objective,
                        "only --objective=dpo has a reference model");
  if (line.given.count("reference-zero") && line.reference == "precompute")
    return contradict("--reference-zero with --reference=precompute",
                      "the reference model is not part of such a plan");
  if (line.mode == "train" && line.given.count("virtual-stages") &&
      line.schedule != "interleaved")
    return contradict("--virtual-stages with --schedule=" + line.schedule,
                      "only --schedule=interleaved has virtual stages");
  if (line.mode == "train" && line.given.count("chunk"))
    return contradict("--chunk with --mode=train",
                      "a training step runs whole sequences");
  if (!isTraining && (line.zero == 1 || line.zero == 2))
    return contradict("--zero=" + std::to_string(line.zero) +
                          " with --mode=infer",
                      "inference has no gradients and no optimizer states to "
                      "shard: use --zero=0 or 3");
  if (from == "model" && line.given.count("zero-live-bytes") &&
      (line.mode != "train" || line.zero != 3))
    return contradict("--zero-live-bytes without --mode=train and --zero=3",
                      "parameters are gathered, and used again by a backward "
                      "pass, in ZeRO 3 training only");
  if (from == "model")
    return absl::OkStatus();
  for (const char* option : {"mode",
                             "target",
                             "mesh",
                             "zero",
                             "zero-live-bytes",
                             "zero-bucket-bytes",
                             "batch",
                             "seq",
                             "chunk",
                             "dtype",
                             "weights-format",
                             "sequence-parallel",
                             "objective",
                             "schedule",
                             "virtual-stages",
                             "recompute",
                             "freeze",
                             "microbatches",
                             "preference-loss",
                             "reference",
                             "reference-zero"})
    if (line.given.count(option))
      return contradict("--" + std::string(option) +
                            " with --compile-from=" + from,
                        "the dump has the options it was compiled with");
  if (!llvm::StringRef(line.positional.front()).ends_with(".mlir"))
    return contradict("--compile-from=" + from + " with " +
                          line.positional.front(),
                      "give the .mlir dump of that phase");
  return absl::OkStatus();
}

absl::Status checkPhase(const std::string& phase) {
  std::vector<std::string> names;
  for (llvm::StringRef known : pipelinePhases())
    names.push_back(known.str());
  if (llvm::is_contained(names, phase))
    return absl::OkStatus();
  std::string near = llmrt::nearestName(phase, names);
  return makeError(ErrorCode::PhaseUnknown, "no phase '" + phase + "'",
                   near.empty() ? "see llmc compile --list-phases"
                                : "did you mean " + near);
}

absl::Status checkDisabled(const std::vector<std::string>& disabled) {
  std::vector<std::string> names;
  for (const PipelineStep& step : pipelineSteps())
    names.push_back(step.name.str());
  for (const std::string& name : disabled) {
    auto step = llvm::find_if(pipelineSteps(), [&](const PipelineStep& known) {
      return known.name == name;
    });
    if (step == pipelineSteps().end()) {
      std::string near = llmrt::nearestName(name, names);
      return makeError(ErrorCode::PassUnknown, "no pass '" + name + "'",
                       near.empty() ? "see llmc compile --list-passes"
                                    : "did you mean " + near);
    }
    if (!step->isOptional)
      return makeError(ErrorCode::PassUnknown,
                       "pass '" + name + "' cannot be switched off",
                       "the plan needs it; see llmc compile --list-passes");
  }
  return absl::OkStatus();
}

} // namespace llmc
