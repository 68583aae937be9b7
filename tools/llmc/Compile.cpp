// SPDX-License-Identifier: Apache-2.0
// `llmc compile`: reads or imports the model, records the options in the
// module, runs the pipeline, writes the result.
#include "compiler/passes/Options.h"
#include "compiler/passes/Pipeline.h"
#include "compiler/plan/EmitPlan.h"
#include "compiler/target/Target.h"
#include "dialects/plan/Plan.h"
#include "models/Import.h"
#include "runtime/base/Error.h"
#include "runtime/io/OutputPaths.h"
#include "runtime/plan/PlanFile.h"
#include "tools/llmc/CompileOptions.h"
#include "tools/llmc/MemoryLimit.h"
#include "tools/llmc/ModelInput.h"
#include "tools/llmc/ModelReport.h"
#include "tools/llmc/PlanReport.h"
#include "tools/llmc/StepReport.h"

#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/Pass/PassManager.h"
#include "mlir/Support/Timing.h"
#include "llvm/Support/FileSystem.h"
#include "llvm/Support/FormatVariadic.h"
#include "llvm/Support/raw_ostream.h"

using namespace mlir;
using llmrt::ErrorCode;
using llmrt::makeError;

namespace llmc {
namespace {

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

/// llmrt ends sequences at the model's context, whatever a plan has room for.
void noteShortContext(ModuleOp module, const CommandLine& line) {
  int64_t context = Options::read(module).seq;
  if (line.mode == "infer" && context > 0 && line.seq > context && !line.quiet)
    llvm::errs() << "llmc: note: --seq=" << line.seq
                 << " for a model with a context of " << context
                 << " tokens: sequences end there\n";
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
    noteShortContext(*module, line);
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
