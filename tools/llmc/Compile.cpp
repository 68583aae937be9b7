// SPDX-License-Identifier: Apache-2.0
// `llmc compile`: checks the command line, reads or imports the model, records
// the options in the module, runs the pipeline, writes the result.
#include "compiler/passes/Options.h"
#include "compiler/passes/Pipeline.h"
#include "compiler/plan/EmitPlan.h"
#include "compiler/target/Target.h"
#include "dialects/plan/Plan.h"
#include "models/Import.h"
#include "runtime/base/Error.h"
#include "runtime/base/NearestName.h"
#include "runtime/io/OutputPaths.h"
#include "runtime/plan/PlanFile.h"
#include "tools/llmc/Commands.h"
#include "tools/llmc/MemoryLimit.h"
#include "tools/llmc/ModelInput.h"
#include "tools/llmc/ModelReport.h"
#include "tools/llmc/PlanReport.h"
#include "tools/llmc/StepReport.h"

#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/Pass/PassManager.h"
#include "mlir/Support/Timing.h"
#include "llvm/ADT/StringExtras.h"
#include "llvm/Support/FileSystem.h"
#include "llvm/Support/FormatVariadic.h"
#include "llvm/Support/raw_ostream.h"

#include <set>

using namespace mlir;
using llmrt::ErrorCode;
using llmrt::makeError;

namespace llmc {
namespace {

struct Axis {
  std::string name;
  int64_t size;
};

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

/// Refuses options that cannot be meant together.
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

/// Checks what the mesh asks of the model.
absl::Status checkMesh(ModuleOp module, const std::vector<Axis>& axes,
                       int64_t virtualStages) {
  auto model =
      module->getAttrOfType<DictionaryAttr>(llm::LlmDialect::kModelAttr);
  auto number = [&](llvm::StringRef name) {
    auto attr = model ? model.getAs<IntegerAttr>(name) : IntegerAttr();
    return attr ? attr.getInt() : int64_t(1) << 40;
  };
  for (const Axis& axis : axes) {
    bool isTensor = axis.name == "tp";
    int64_t most = isTensor            ? number("heads")
                   : axis.name == "pp" ? number("layers")
                                       : int64_t(1) << 40;
    if (axis.size > most)
      return makeError(ErrorCode::MeshDoesNotFit,
                       axis.name + "=" + std::to_string(axis.size) +
                           " for a model with " + std::to_string(most) +
                           (isTensor ? " query heads" : " layers"),
                       "use at most " + std::to_string(most));
    if (axis.name == "pp" && axis.size * virtualStages > most)
      return makeError(ErrorCode::MeshDoesNotFit,
                       llvm::formatv("pp={0} with {1} virtual stages for a "
                                     "model with {2} layers",
                                     axis.size, virtualStages, most)
                           .str(),
                       "give each virtual stage a layer: use a smaller pp or "
                       "--virtual-stages, or another --schedule");
  }
  return absl::OkStatus();
}

/// Makes the folder of the dumps before work could be lost.
absl::Status makeDumpFolder(const std::string& folder) {
  if (folder.empty())
    return absl::OkStatus();
  if (std::error_code error = llvm::sys::fs::create_directories(folder))
    return llmrt::makeSystemError(ErrorCode::FileNotWritable, error.value(),
                                  "cannot make the folder", folder);
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

/// Writes the command line's options and mesh to a model; a dump has its own.
absl::Status recordOptions(ModuleOp module, const CommandLine& line) {
  LLMRT_ASSIGN_OR_RETURN(std::vector<Axis> axes, parseMesh(line.mesh));
  bool hasVirtualStages =
      line.mode == "train" && line.schedule == "interleaved";
  int64_t virtualStages = hasVirtualStages ? line.virtualStages : 1;
  LLMRT_RETURN_IF_ERROR(checkMesh(module, axes, virtualStages));
  Options options = Options::read(module);
  options.mode = line.mode;
  LLMRT_ASSIGN_OR_RETURN(Target target, parseTarget(line.target));
  options.target = target.text();
  options.dtype = line.dtype;
  options.weightsFormat = line.weightsFormat;
  options.batch = line.batch;
  options.chunk = line.chunk;
  options.zero = line.zero;
  options.zeroLiveBytes = line.zeroLiveBytes;
  options.zeroBucketBytes = line.mode == "train" ? line.zeroBucketBytes : 0;
  options.sequenceParallel = !line.noSequenceParallel;
  options.objective = line.objective;
  options.schedule = line.schedule;
  options.recompute = line.recompute;
  options.preferenceLoss = line.preferenceLoss;
  options.reference = line.reference;
  options.referenceZero = line.referenceZero;
  options.freeze = line.freeze;
  options.microbatches = line.microbatches;
  options.virtualStages = virtualStages;
  constexpr int64_t kDefaultMostTokens = 4096;
  if (line.mode == "infer" && options.seq > 0 && line.seq > options.seq)
    return makeError(
        ErrorCode::BadOptionValue,
        llvm::formatv("--seq={0} for a model with a context of {1} tokens",
                      line.seq, options.seq)
            .str(),
        llvm::formatv("use at most {0}", options.seq).str());
  options.seq =
      line.seq > 0 ? line.seq : std::min(options.seq, kDefaultMostTokens);
  if (options.seq == 0)
    return makeError(ErrorCode::BadOptionValue,
                     "the model has no context_length", "give --seq");
  options.chunk = std::min(options.chunk, options.seq);
  options.write(module);
  for (auto mesh : llvm::make_early_inc_range(module.getOps<dist::MeshOp>()))
    mesh.erase();
  OpBuilder builder = OpBuilder::atBlockBegin(module.getBody());
  llvm::SmallVector<llvm::StringRef> names;
  llvm::SmallVector<int64_t> sizes;
  for (const Axis& axis : axes) {
    names.push_back(axis.name);
    sizes.push_back(axis.size);
  }
  dist::MeshOp::create(builder, module.getLoc(), "mesh",
                       builder.getStrArrayAttr(names), sizes);
  return absl::OkStatus();
}

/// The plan that other options would give, without code and dumps.
absl::StatusOr<std::vector<uint8_t>> compileTrial(ModuleOp model,
                                                  const CommandLine& line) {
  LLMRT_RETURN_IF_ERROR(checkValues(line));
  LLMRT_RETURN_IF_ERROR(checkTogether(line));
  OwningOpRef<ModuleOp> module = model.clone();
  DiagnosticCollector diagnostics(*model.getContext());
  LLMRT_RETURN_IF_ERROR(recordOptions(*module, line));
  PipelineRequest request;
  request.disabled = line.disabled;
  if (failed(runPipeline(*module, request)))
    return diagnostics.status(ErrorCode::CompileFailed, "");
  FailureOr<std::vector<uint8_t>> payload = emitPlan(*module, PlanCode::Omit);
  if (failed(payload))
    return diagnostics.status(ErrorCode::CompileFailed, "");
  return *std::move(payload);
}

absl::Status compile(const CommandLine& line, MLIRContext& context) {
  LLMRT_RETURN_IF_ERROR(checkValues(line));
  int64_t memoryLimit = 0;
  if (line.given.count("memory-limit")) {
    LLMRT_ASSIGN_OR_RETURN(memoryLimit, parseBytes(line.memoryLimit));
  }
  PipelineRequest request;
  request.to = line.compileTo.empty() ? "plan" : line.compileTo;
  request.from = line.compileFrom.empty() ? "model" : line.compileFrom;
  LLMRT_RETURN_IF_ERROR(checkPhase(request.to));
  LLMRT_RETURN_IF_ERROR(checkPhase(request.from));
  LLMRT_RETURN_IF_ERROR(checkDisabled(line.disabled));
  LLMRT_RETURN_IF_ERROR(checkTogether(line));
  LLMRT_RETURN_IF_ERROR(parseMesh(line.mesh).status());
  LLMRT_RETURN_IF_ERROR(
      llmrt::checkOutputPaths({{"-o", line.output}}, line.positional));
  LLMRT_ASSIGN_OR_RETURN(
      OwningOpRef<ModuleOp> module,
      readModel(context, line.positional.front(), line.output));
  LLMRT_RETURN_IF_ERROR(makeDumpFolder(line.dumpFolder));
  DiagnosticCollector diagnostics(context);
  TrialCompiler compileOther;
  OwningOpRef<ModuleOp> model;
  if (request.from == "model") {
    if (memoryLimit > 0) {
      model = (*module).clone();
      compileOther = [&](const CommandLine& other) {
        return compileTrial(*model, other);
      };
    }
    LLMRT_RETURN_IF_ERROR(recordOptions(*module, line));
  }
  request.disabled = line.disabled;
  request.dumpFolder = line.dumpFolder;
  DefaultTimingManager timing;
  applyDefaultTimingManagerCLOptions(timing);
  TimingScope scope = timing.getRootScope();
  request.configure = [&](PassManager& manager) {
    (void)applyPassManagerCLOptions(manager);
    manager.enableTiming(scope);
  };
  if (failed(runPipeline(*module, request)))
    return diagnostics.status(ErrorCode::CompileFailed,
                              "correct the model or the options");
  if (!line.compileTo.empty() && line.compileTo != "plan")
    return writeResult(line.output, printModule(*module));
  FailureOr<std::vector<uint8_t>> payload = emitPlan(*module);
  if (failed(payload))
    return diagnostics.status(ErrorCode::CompileFailed,
                              "report this with the model");
  const fb::Plan& plan = *fb::GetPlan(payload->data());
  if (memoryLimit > 0) {
    MemoryVerdict verdict =
        checkMemoryLimit(plan, memoryLimit, line, compileOther);
    llvm::errs() << verdict.changes;
    LLMRT_RETURN_IF_ERROR(verdict.status);
  }
  std::vector<uint8_t> bytes = llmrt::wrapPlan(*payload);
  // What llmrt will check, the proof that no rank waits for ever included.
  if (auto checked = llmrt::readPlan(bytes); !checked.ok())
    return makeError(ErrorCode::CompileFailed,
                     absl::StrCat("the plan that was made contradicts itself: ",
                                  checked.status().message()),
                     "report this with the model and the options");
  LLMRT_RETURN_IF_ERROR(
      writeResult(line.output,
                  {reinterpret_cast<const char*>(bytes.data()), bytes.size()}));
  if (!line.quiet)
    llvm::errs() << line.output << ": " << compileReport(plan);
  return absl::OkStatus();
}

} // namespace

int fail(const absl::Status& status, int exitCode) {
  llvm::StringRef message(status.message().data(), status.message().size());
  llvm::errs() << "llmc: " << message << "\n";
  if (exitCode != 0)
    return exitCode;
  for (ErrorCode code : {ErrorCode::UnknownOption, ErrorCode::BadOptionValue,
                         ErrorCode::OptionsContradict, ErrorCode::MeshInvalid,
                         ErrorCode::PassUnknown, ErrorCode::PhaseUnknown})
    if (message.starts_with(llmrt::errorCodeName(code)))
      return kUsage;
  return 1;
}

void loadDialects(MLIRContext& context) {
  context.loadDialect<func::FuncDialect, llm::LlmDialect, dist::DistDialect,
                      plan::PlanDialect>();
}

int runCompile(const CommandLine& line, MLIRContext& context) {
  if (line.positional.size() != 1)
    return fail(makeError(ErrorCode::BadOptionValue,
                          "llmc compile needs one model or checkpoint",
                          "see llmc --help"));
  CommandLine complete = line;
  if (complete.output.empty())
    complete.output =
        line.compileTo.empty() || line.compileTo == "plan" ? "plan.fb" : "-";
  absl::Status status = compile(complete, context);
  return status.ok() ? 0 : fail(status);
}

int runListPhases() {
  for (llvm::StringRef phase : pipelinePhases())
    llvm::outs() << phase << "\n";
  return 0;
}

int runListPasses() {
  for (const PipelineStep& step : pipelineSteps())
    llvm::outs() << llvm::formatv(
        "{0,-8} {1,-26} {2,-9} {3}\n", step.phase, step.name,
        step.isOptional ? "optional" : "needed", step.reason);
  return 0;
}

} // namespace llmc
