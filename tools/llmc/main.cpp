// SPDX-License-Identifier: Apache-2.0
// The command line of llmc. The first word is the command; options are LLVM's, so that
// MLIR's own flags (--mlir-print-ir-after-all, --mlir-timing, ...) work unchanged.
#include "compiler/passes/Passes.h"
#include "runtime/base/Error.h"
#include "tools/llmc/Commands.h"

#include "mlir/IR/AsmState.h"
#include "mlir/Pass/PassManager.h"
#include "mlir/Support/Timing.h"
#include "llvm/ADT/StringSet.h"
#include "llvm/Support/CommandLine.h"
#include "llvm/Support/InitLLVM.h"

#include <map>
#include <set>

namespace cl = llvm::cl;

namespace {

cl::OptionCategory category("llmc options");

cl::list<std::string> positional(cl::Positional, cl::desc("FILE..."),
                                 cl::cat(category));
cl::opt<std::string> output("o", cl::desc("Output file"),
                            cl::value_desc("file"), cl::cat(category));
cl::opt<std::string> newModel(
    "new", cl::desc("import: make a new model, FAMILY,layers=..,hidden=.."),
    cl::value_desc("spec"), cl::cat(category));
cl::opt<std::string> mode("mode", cl::desc("compile: infer or train"),
                          cl::init("infer"), cl::cat(category));
cl::opt<std::string> target("target", cl::desc("compile: cpu or cuda[:ARCH]"),
                            cl::init("cpu"), cl::cat(category));
cl::opt<std::string> mesh("mesh", cl::desc("compile: dp=2,pp=2,tp=2"),
                          cl::value_desc("axes"), cl::cat(category));
cl::opt<int64_t> zero("zero", cl::desc("compile: ZeRO stage, 0 to 3"),
                      cl::init(0), cl::cat(category));
cl::opt<int64_t> batch("batch",
                       cl::desc("compile: sequences in flight per data rank"),
                       cl::init(1), cl::cat(category));
cl::opt<int64_t> seq(
    "seq", cl::desc("compile: cache length in tokens (0: the model's context, "
                    "at most 4096)"),
    cl::init(0), cl::cat(category));
cl::opt<int64_t> chunk("chunk", cl::desc("compile: rows of a prefill chunk"),
                       cl::init(128), cl::cat(category));
cl::opt<std::string> dtype("dtype", cl::desc("compile: f32 or bf16"),
                           cl::init("f32"), cl::cat(category));
cl::opt<std::string> weightsFormat("weights-format",
                                   cl::desc("compile: dense, q8_0 or q4_0"),
                                   cl::init("dense"), cl::cat(category));
cl::opt<std::string> memoryLimit(
    "memory-limit",
    cl::desc("compile: refuse a plan that needs more bytes per rank"),
    cl::value_desc("bytes"), cl::cat(category));
cl::opt<bool> sequenceParallel(
    "sequence-parallel",
    cl::desc("compile: cut rows between tensor-split products"), cl::init(true),
    cl::cat(category));
cl::opt<std::string> compileTo("compile-to",
                               cl::desc("compile: stop at a phase, print it"),
                               cl::value_desc("phase"), cl::cat(category));
cl::opt<std::string> compileFrom("compile-from",
                                 cl::desc("compile: the input is a dump of a "
                                          "phase"),
                                 cl::value_desc("phase"), cl::cat(category));
cl::opt<std::string>
    dumpFolder("dump-compilation-phases-to",
               cl::desc("compile: write NN-phase.mlir files"),
               cl::value_desc("folder"), cl::cat(category));
cl::list<std::string> disabled("disable", cl::CommaSeparated,
                               cl::desc("compile: switch optimisations off"),
                               cl::value_desc("pass,..."), cl::cat(category));
cl::opt<bool> listPhases("list-phases", cl::desc("compile: print the phases"),
                         cl::cat(category));
cl::opt<bool> listPasses("list-passes", cl::desc("compile: print the passes"),
                         cl::cat(category));
cl::opt<std::string>
    outputForm("output", cl::desc("inspect: summary, disassembly, json, dot"),
               cl::init("summary"), cl::cat(category));
cl::opt<std::string> budget("budget", cl::desc("check: budget file"),
                            cl::value_desc("json"), cl::cat(category));

constexpr const char* kOverview =
    R"(compiler for sharded transformers

  llmc import CHECKPOINT -o model.mlir     Hugging Face folder or GGUF file
  llmc import --new=FAMILY,layers=.. -o model.mlir
  llmc compile MODEL.mlir|CHECKPOINT -o plan.fb
  llmc inspect plan.fb|model.mlir --output=summary|disassembly|json|dot
  llmc explain plan.fb memory|communication|NAME
  llmc diff a.fb b.fb
  llmc check plan.fb --budget=budget.json
)";

/// Options of this tool that each command takes; MLIR's own go everywhere.
const std::map<std::string, std::set<std::string>> kAccepted = {
    {"import", {"o", "new"}},
    {"compile",
     {"o", "mode", "target", "mesh", "zero", "batch", "seq", "chunk", "dtype",
      "weights-format", "memory-limit", "sequence-parallel", "compile-to",
      "compile-from", "dump-compilation-phases-to", "disable", "list-phases",
      "list-passes"}},
    {"inspect", {"output", "o"}},
    {"explain", {}},
    {"diff", {}},
    {"check", {"budget"}},
};

int usage(const std::string& what, const std::string& advice) {
  llvm::errs() << "llmc: "
               << llmrt::makeError(llmrt::ErrorCode::UnknownOption, what,
                                   advice)
                      .message()
                      .data()
               << "\n";
  return 2;
}

std::string nearestCommand(llvm::StringRef word) {
  std::string best;
  unsigned bestDistance = 4;
  for (const auto& [name, accepted] : kAccepted)
    if (unsigned d = word.edit_distance(name, true, bestDistance);
        d < bestDistance) {
      bestDistance = d;
      best = name;
    }
  return best;
}

} // namespace

int main(int argc, char** argv) {
  llvm::InitLLVM init(argc, argv);
  mlir::registerAsmPrinterCLOptions();
  mlir::registerMLIRContextCLOptions();
  mlir::registerPassManagerCLOptions();
  mlir::registerDefaultTimingManagerCLOptions();

  std::string command = argc > 1 ? argv[1] : "";
  bool isHelp = command.empty() || command == "--help" || command == "-h" ||
                command == "--version";
  if (!isHelp && !kAccepted.count(command)) {
    std::string near = nearestCommand(command);
    return usage("no command '" + command + "'",
                 near.empty() ? "see llmc --help"
                              : "did you mean '" + near + "'");
  }
  std::vector<const char*> args = {"llmc"};
  for (int i = isHelp ? 1 : 2; i < argc; ++i)
    args.push_back(argv[i]);
  if (command.empty())
    args.push_back("--help");
  std::string errors;
  llvm::raw_string_ostream errorStream(errors);
  if (!cl::ParseCommandLineOptions(args.size(), args.data(), kOverview,
                                   &errorStream)) {
    llvm::StringRef text = llvm::StringRef(errors).trim();
    text.consume_front("llmc: ");
    auto [what, advice] = text.split('\n');
    return usage(what.str(), advice.trim().str());
  }
  for (auto& [name, option] : cl::getRegisteredOptions())
    if (option->getNumOccurrences() > 0 && !option->ArgStr.empty() &&
        llvm::is_contained(option->Categories, &category) &&
        !kAccepted.at(command).count(name.str()))
      return usage("llmc " + command + " takes no option --" + name.str(),
                   "see llmc --help");

  llmc::CommandLine line;
  line.command = command;
  line.positional = {positional.begin(), positional.end()};
  line.output = output;
  line.newModel = newModel;
  line.mode = mode;
  line.target = target;
  line.mesh = mesh;
  line.dtype = dtype;
  line.weightsFormat = weightsFormat;
  line.zero = zero;
  line.batch = batch;
  line.seq = seq;
  line.chunk = chunk;
  line.memoryLimit = memoryLimit;
  line.compileTo = compileTo;
  line.compileFrom = compileFrom;
  line.dumpFolder = dumpFolder;
  line.disabled = {disabled.begin(), disabled.end()};
  line.noSequenceParallel = !sequenceParallel;
  line.outputForm = outputForm;
  line.budget = budget;
  if (listPhases)
    return llmc::runListPhases();
  if (listPasses)
    return llmc::runListPasses();
  mlir::MLIRContext context(mlir::MLIRContext::Threading::DISABLED);
  llmc::loadDialects(context);
  if (command == "import")
    return llmc::runImport(line, context);
  if (command == "compile")
    return llmc::runCompile(line, context);
  if (command == "inspect")
    return llmc::runInspect(line, context);
  if (command == "explain")
    return llmc::runExplain(line);
  if (command == "diff")
    return llmc::runDiff(line);
  return llmc::runCheck(line);
}
