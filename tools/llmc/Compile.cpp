// SPDX-License-Identifier: Apache-2.0
// `llmc import` and `llmc compile`: checks the command line, reads or imports the model,
// records the options in the module, runs the pipeline, writes the result.
#include "compiler/passes/Options.h"
#include "compiler/passes/Pipeline.h"
#include "compiler/plan/EmitPlan.h"
#include "compiler/plan/MemoryLimit.h"
#include "dialects/plan/Plan.h"
#include "models/Import.h"
#include "runtime/base/Error.h"
#include "runtime/io/AtomicFile.h"
#include "tools/llmc/Commands.h"
#include "tools/llmc/ModelReport.h"
#include "tools/llmc/PlanReport.h"

#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/Pass/PassManager.h"
#include "mlir/Support/Timing.h"
#include "llvm/Support/FormatVariadic.h"
#include "llvm/Support/Path.h"
#include "llvm/Support/raw_ostream.h"

#include <set>

using namespace mlir;
using llmrt::ErrorCode;
using llmrt::makeError;

namespace llmc {
namespace {

std::string folderOf(const std::string& path) {
  return llvm::sys::path::parent_path(path).str();
}

struct Axis {
  std::string name;
  int64_t size;
};

absl::StatusOr<std::vector<Axis>> parseMesh(const std::string& text) {
  std::vector<Axis> axes = {{"dp", 1}, {"pp", 1}, {"tp", 1}};
  std::set<std::string> seen;
  llvm::SmallVector<llvm::StringRef> parts;
  llvm::StringRef(text).split(parts, ',', -1, /*KeepEmpty=*/false);
  for (llvm::StringRef part : parts) {
    auto [name, value] = part.split('=');
    int64_t ranks = 0;
    auto axis = llvm::find_if(axes, [&, n = name](const Axis& a) {
      return a.name == n;
    });
    if (value.getAsInteger(10, ranks) || ranks < 1 || ranks > 65536 ||
        axis == axes.end() || !seen.insert(name.str()).second)
      return makeError(ErrorCode::MeshInvalid,
                       "bad mesh axis '" + part.str() + "'",
                       "write each of dp, pp, tp at most once with a positive "
                       "size, as in --mesh=dp=2,tp=4");
    axis->size = ranks;
  }
  return axes;
}

absl::Status refuseUnsupported(const CommandLine& line) {
  if (line.mode != "infer")
    return makeError(ErrorCode::Unsupported, "--mode=" + line.mode,
                     line.mode == "train"
                         ? "this version compiles inference only"
                         : "use --mode=infer");
  if (line.target != "cpu")
    return makeError(ErrorCode::Unsupported, "--target=" + line.target,
                     "this version compiles for --target=cpu only");
  if (line.weightsFormat != "dense")
    return makeError(ErrorCode::Unsupported,
                     "--weights-format=" + line.weightsFormat,
                     "this version computes with dense weights; quantised "
                     "checkpoints are read and dequantised");
  if (line.dtype != "f32" && line.dtype != "bf16")
    return makeError(ErrorCode::Unsupported, "--dtype=" + line.dtype,
                     "use f32 or bf16");
  if (line.zero != 0 && line.zero != 3)
    return makeError(ErrorCode::Unsupported,
                     "--zero=" + std::to_string(line.zero) +
                         " with --mode=infer",
                     "inference has no gradients or optimizer: use 0 or 3");
  for (auto [name, value] :
       {std::pair<const char*, int64_t>{"batch", line.batch},
        {"chunk", line.chunk}})
    if (value < 1 || value > (1 << 20))
      return makeError(ErrorCode::BadOptionValue,
                       "--" + std::string(name) + "=" + std::to_string(value),
                       "use a number from 1 to 1048576");
  if (line.seq < 0 || line.seq > (int64_t(1) << 24))
    return makeError(ErrorCode::BadOptionValue,
                     "--seq=" + std::to_string(line.seq),
                     "use a number of tokens up to 16777216");
  return absl::OkStatus();
}

/// Checks what the mesh asks of the model.
absl::Status checkMesh(ModuleOp module, const std::vector<Axis>& axes) {
  auto model = module->getAttrOfType<DictionaryAttr>(
      llm::LlmDialect::kModelAttr);
  auto number = [&](llvm::StringRef name) {
    auto attr = model ? model.getAs<IntegerAttr>(name) : IntegerAttr();
    return attr ? attr.getInt() : int64_t(1) << 40;
  };
  for (const Axis& axis : axes) {
    bool isTensor = axis.name == "tp";
    int64_t most = isTensor              ? number("heads")
                   : axis.name == "pp" ? number("layers")
                                         : int64_t(1) << 40;
    if (axis.size > most)
      return makeError(ErrorCode::MeshDoesNotFit,
                       axis.name + "=" + std::to_string(axis.size) +
                           " for a model with " + std::to_string(most) +
                           (isTensor ? " query heads" : " layers"),
                       "use at most " + std::to_string(most));
  }
  return absl::OkStatus();
}

absl::StatusOr<OwningOpRef<ModuleOp>> readModel(const CommandLine& line,
                                                MLIRContext& context) {
  const std::string& path = line.positional.front();
  if (llvm::StringRef(path).ends_with(".mlir"))
    return readModule(context, path);
  return importCheckpoint(context, path, folderOf(line.output));
}

absl::Status checkPhase(const std::string& phase) {
  for (llvm::StringRef known : pipelinePhases())
    if (phase == known)
      return absl::OkStatus();
  return makeError(ErrorCode::PhaseUnknown, "no phase '" + phase + "'",
                   "see llmc compile --list-phases");
}

absl::Status checkDisabled(const std::vector<std::string>& names) {
  for (const std::string& name : names) {
    const PipelineStep* found = nullptr;
    for (const PipelineStep& step : pipelineSteps())
      if (step.name == name)
        found = &step;
    if (!found)
      return makeError(ErrorCode::PassUnknown, "no pass '" + name + "'",
                       "see llmc compile --list-passes");
    if (!found->isOptional)
      return makeError(ErrorCode::PassUnknown,
                       "pass '" + name + "' cannot be switched off",
                       "the plan needs it; see llmc compile --list-passes");
  }
  return absl::OkStatus();
}

/// Writes the command line's options and mesh to a model; a dump has its own.
absl::Status recordOptions(ModuleOp module, const CommandLine& line) {
  LLMRT_ASSIGN_OR_RETURN(std::vector<Axis> axes, parseMesh(line.mesh));
  LLMRT_RETURN_IF_ERROR(checkMesh(module, axes));
  Options options = Options::read(module);
  options.mode = line.mode;
  options.target = line.target;
  options.dtype = line.dtype;
  options.batch = line.batch;
  options.chunk = line.chunk;
  options.zero = line.zero;
  options.sequenceParallel = !line.noSequenceParallel;
  constexpr int64_t kDefaultMostTokens = 4096;
  options.seq =
      line.seq > 0 ? line.seq : std::min(options.seq, kDefaultMostTokens);
  if (options.seq == 0)
    return makeError(ErrorCode::BadOptionValue,
                     "the model has no context_length", "give --seq");
  options.chunk = std::min(options.chunk, options.seq);
  options.write(module);
  OpBuilder builder = OpBuilder::atBlockBegin(module.getBody());
  for (auto mesh : llvm::make_early_inc_range(module.getOps<dist::MeshOp>()))
    mesh.erase();
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

absl::Status compile(const CommandLine& line, MLIRContext& context) {
  LLMRT_RETURN_IF_ERROR(refuseUnsupported(line));
  PipelineRequest request;
  request.to = line.compileTo.empty() ? "plan" : line.compileTo;
  request.from = line.compileFrom.empty() ? "model" : line.compileFrom;
  LLMRT_RETURN_IF_ERROR(checkPhase(request.to));
  LLMRT_RETURN_IF_ERROR(checkPhase(request.from));
  LLMRT_RETURN_IF_ERROR(checkDisabled(line.disabled));
  LLMRT_ASSIGN_OR_RETURN(OwningOpRef<ModuleOp> module,
                         readModel(line, context));
  DiagnosticCollector diagnostics(context);
  if (request.from == "model")
    LLMRT_RETURN_IF_ERROR(recordOptions(*module, line));
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
  if (!line.memoryLimit.empty()) {
    LLMRT_ASSIGN_OR_RETURN(int64_t limit, parseBytes(line.memoryLimit));
    LLMRT_RETURN_IF_ERROR(checkMemoryLimit(*module, limit));
  }
  FailureOr<std::vector<uint8_t>> plan = emitPlan(*module);
  if (failed(plan))
    return diagnostics.status(ErrorCode::CompileFailed,
                              "report this with the model");
  LLMRT_ASSIGN_OR_RETURN(auto file, llmrt::AtomicFile::create(line.output));
  LLMRT_RETURN_IF_ERROR(file.append(absl::MakeConstSpan(*plan)));
  return file.commit();
}

} // namespace

int fail(const absl::Status& status, int exitCode) {
  llvm::errs() << "llmc: "
               << llvm::StringRef(status.message().data(),
                                  status.message().size())
               << "\n";
  return exitCode;
}

void loadDialects(MLIRContext& context) {
  context.loadDialect<func::FuncDialect, llm::LlmDialect, dist::DistDialect,
                      plan::PlanDialect>();
}

int runImport(const CommandLine& line, MLIRContext& context) {
  std::string output = line.output.empty() ? "-" : line.output;
  if (line.newModel.empty() == line.positional.empty() ||
      line.positional.size() > 1)
    return fail(makeError(ErrorCode::BadOptionValue,
                          "llmc import needs one checkpoint, or --new=FAMILY",
                          "see llmc --help"));
  auto module = line.newModel.empty()
                    ? importCheckpoint(context, line.positional.front(),
                                       folderOf(line.output))
                    : llmc::newModel(context, line.newModel);
  if (!module.ok())
    return fail(module.status());
  absl::Status status = writeResult(output, printModule(**module));
  return status.ok() ? 0 : fail(status);
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
    llvm::outs() << llvm::formatv("{0,-8} {1,-26} {2,-9} {3}\n", step.phase,
                                  step.name,
                                  step.isOptional ? "optional" : "needed",
                                  step.reason);
  return 0;
}

} // namespace llmc
