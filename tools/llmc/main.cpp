// SPDX-License-Identifier: Apache-2.0
// The command line of llmc. The first word is the command; options are LLVM's,
// so that MLIR's own flags (--mlir-print-ir-after-all, --mlir-timing, ...) work
// unchanged.
#include "compiler/passes/Passes.h"
#include "runtime/base/Error.h"
#include "runtime/base/NearestName.h"
#include "tools/llmc/Commands.h"
#include "tools/llmc/PlanReport.h"

#include "mlir/IR/AsmState.h"
#include "mlir/IR/MLIRContext.h"
#include "mlir/Pass/PassManager.h"
#include "mlir/Support/Timing.h"
#include "llvm/Config/llvm-config.h"
#include "llvm/Support/CommandLine.h"
#include "llvm/Support/InitLLVM.h"
#include "llvm/Support/PrettyStackTrace.h"

#include <csignal>
#include <map>
#include <set>
#include <sys/mman.h>
#include <unistd.h>

namespace cl = llvm::cl;

namespace {

cl::OptionCategory category("llmc options");

cl::list<std::string> positional(cl::Positional, cl::desc("FILE..."),
                                 cl::cat(category));
cl::opt<std::string> output("o", cl::desc("Output file"),
                            cl::value_desc("file"), cl::cat(category));
cl::opt<std::string>
    newModel("new",
             cl::desc("import: make a new model, FAMILY,layers=..,hidden=.."),
             cl::value_desc("spec"), cl::cat(category));
cl::opt<std::string> mode("mode", cl::desc("compile: infer or train"),
                          cl::init("infer"), cl::cat(category));
cl::opt<std::string> target("target",
                            cl::desc("compile: cpu or cuda[:sm_90,..][:ptx]"),
                            cl::init("cpu"), cl::cat(category));
cl::opt<std::string> mesh("mesh", cl::desc("compile: dp=2,pp=2,tp=2"),
                          cl::value_desc("axes"), cl::cat(category));
cl::opt<int64_t> zero("zero", cl::desc("compile: ZeRO stage, 0 to 3"),
                      cl::init(0), cl::cat(category));
cl::opt<int64_t> zeroLiveBytes(
    "zero-live-bytes",
    cl::desc("compile: bytes of gathered parameters that a rank keeps from the "
             "forward to the backward pass (--zero=3)"),
    cl::init(0), cl::cat(category));
cl::opt<int64_t> zeroBucketBytes(
    "zero-bucket-bytes",
    cl::desc("compile: train: matrices of a layer are gathered, and their "
             "gradients scattered, together up to so many bytes of a rank; 0: "
             "each alone"),
    cl::init(1 << 20), cl::cat(category));
cl::opt<int64_t> batch("batch",
                       cl::desc("compile: sequences in flight per data rank"),
                       cl::init(1), cl::cat(category));
cl::opt<int64_t>
    seq("seq",
        cl::desc("compile: cache length in tokens (0: the model's context, "
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
cl::opt<std::string> objective("objective",
                               cl::desc("compile: pretrain, sft or dpo"),
                               cl::init("pretrain"), cl::cat(category));
cl::opt<std::string>
    preferenceLoss("preference-loss",
                   cl::desc("compile: sigmoid, hinge or ipo, for "
                            "--objective=dpo"),
                   cl::init("sigmoid"), cl::cat(category));
cl::opt<std::string>
    reference("reference",
              cl::desc("compile: dpo's reference model is part of the plan, or "
                       "its losses are computed once (precompute)"),
              cl::value_desc("plan|precompute"), cl::init("plan"),
              cl::cat(category));
cl::opt<int64_t> referenceZero("reference-zero",
                               cl::desc("compile: ZeRO stage of dpo's "
                                        "reference model, 0 or 3"),
                               cl::init(0), cl::cat(category));
cl::opt<std::string> schedule("schedule",
                              cl::desc("compile: gpipe, 1f1b, interleaved or "
                                       "zero-bubble"),
                              cl::init("1f1b"), cl::cat(category));
cl::opt<int64_t> virtualStages(
    "virtual-stages",
    cl::desc("compile: parts of the model on each pipeline stage, for "
             "--schedule=interleaved (2)"),
    cl::init(2), cl::cat(category));
cl::opt<std::string> recompute("recompute",
                               cl::desc("compile: none, selective or full"),
                               cl::init("none"), cl::cat(category));
cl::opt<std::string> freezePattern("freeze",
                                   cl::desc("compile: train no parameter of "
                                            "these names"),
                                   cl::value_desc("pattern"),
                                   cl::cat(category));
cl::opt<int64_t> microbatches("microbatches",
                              cl::desc("compile: micro-batches of a training "
                                       "step on each data rank"),
                              cl::init(1), cl::cat(category));
cl::opt<std::string> compileTo("compile-to",
                               cl::desc("compile: stop at a phase, print it"),
                               cl::value_desc("phase"), cl::cat(category));
cl::opt<std::string> compileFrom("compile-from",
                                 cl::desc("compile: the input is a dump of a "
                                          "phase"),
                                 cl::value_desc("phase"), cl::cat(category));
cl::opt<std::string> dumpFolder("dump-compilation-phases-to",
                                cl::desc("compile: write NN-phase.mlir files"),
                                cl::value_desc("folder"), cl::cat(category));
cl::list<std::string> disabled("disable", cl::CommaSeparated,
                               cl::desc("compile: switch optimisations off"),
                               cl::value_desc("pass,..."), cl::cat(category));
cl::opt<bool> quiet("quiet",
                    cl::desc("compile: do not print what the plan needs"),
                    cl::cat(category));
cl::opt<bool> listPhases("list-phases", cl::desc("compile: print the phases"),
                         cl::cat(category));
cl::opt<bool> listPasses("list-passes", cl::desc("compile: print the passes"),
                         cl::cat(category));
cl::opt<std::string>
    outputForm("output", cl::desc("inspect: summary, disassembly, json, dot"),
               cl::init("summary"), cl::cat(category));
cl::opt<std::string> entry("entry",
                           cl::desc("inspect: the entry that --output=dot "
                                    "draws (the first one)"),
                           cl::value_desc("name"), cl::cat(category));
cl::opt<bool> updateBudget("update",
                           cl::desc("check: write the budget that the plan "
                                    "meets exactly"),
                           cl::cat(category));
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
  llmc check plan.fb --budget=budget.json [--update]
)";

/// Options of this tool that each command takes; MLIR's own go everywhere.
const std::map<std::string, std::set<std::string>> kAccepted = {
    {"import", {"o", "new"}},
    {"compile",
     {"o",
      "mode",
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
      "memory-limit",
      "sequence-parallel",
      "objective",
      "preference-loss",
      "reference",
      "reference-zero",
      "schedule",
      "virtual-stages",
      "recompute",
      "freeze",
      "microbatches",
      "compile-to",
      "compile-from",
      "dump-compilation-phases-to",
      "disable",
      "quiet",
      "list-phases",
      "list-passes"}},
    {"inspect", {"output", "o", "entry"}},
    {"explain", {}},
    {"diff", {}},
    {"check", {"budget", "update"}},
};

int usage(llmrt::ErrorCode code, const std::string& what,
          const std::string& advice) {
  return llmc::fail(llmrt::makeError(code, what, advice));
}

/// Standard error while it lives: LLVM's parser prints some errors there
/// itself.
class ErrorCapture {
public:
  ErrorCapture()
      : file_(::memfd_create("llmc", MFD_CLOEXEC)),
        saved_(::dup(STDERR_FILENO)) {
    if (file_ >= 0 && saved_ >= 0)
      ::dup2(file_, STDERR_FILENO);
  }

  ~ErrorCapture() { (void)take(); }

  /// Ends the capture and returns its text.
  std::string take() {
    std::string text;
    if (saved_ >= 0)
      ::dup2(saved_, STDERR_FILENO);
    char part[512];
    ::lseek(file_, 0, SEEK_SET);
    for (ssize_t n; (n = ::read(file_, part, sizeof part)) > 0;)
      text.append(part, n);
    for (int* file : {&file_, &saved_}) {
      if (*file >= 0)
        ::close(*file);
      *file = -1;
    }
    return text;
  }

private:
  int file_, saved_;
};

bool isOwn(const cl::Option& option) {
  return llvm::is_contained(option.Categories, &category);
}

bool isMlirs(const cl::Option& option) {
  return option.ArgStr.starts_with("mlir-");
}

/// Help shows the options of llmc and MLIR, not those of LLVM's back-ends.
void hideBackEndOptions() {
  for (auto& [name, option] : cl::getRegisteredOptions())
    if (!isOwn(*option) && !isMlirs(*option) && name != "help" &&
        name != "version")
      option->setHiddenFlag(cl::ReallyHidden);
}

/// The known option that a mistyped one most likely means, or "".
std::string nearestOption(const std::string& typed,
                          const std::set<std::string>& accepted) {
  std::vector<std::string> names(accepted.begin(), accepted.end());
  for (auto& [name, option] : cl::getRegisteredOptions())
    if (isMlirs(*option))
      names.push_back(name.str());
  return llmrt::nearestName(typed, names);
}

/// Turns what LLVM's parser said into one line of ours.
int parserError(const std::string& said, const std::string& command) {
  llvm::StringRef text = llvm::StringRef(said).trim().split('\n').first;
  text.consume_front("llmc: ");
  if (!text.consume_front("Unknown command line argument '"))
    return usage(llmrt::ErrorCode::BadOptionValue, text.rtrim("!").str(),
                 "see llmc --help");
  std::string typed = text.split("'").first.str();
  std::string name = llvm::StringRef(typed).ltrim('-').split('=').first.str();
  std::string near = nearestOption(name, kAccepted.at(command));
  std::string dashes = near.size() == 1 ? "-" : "--";
  return usage(llmrt::ErrorCode::UnknownOption, "no option '" + typed + "'",
               near.empty() ? "see llmc --help"
                            : "did you mean " + dashes + near);
}

/// Refuses --option= with nothing behind it: an empty variable of a script must
/// not make a plan of other options.
int checkValuesAreThere(llvm::ArrayRef<const char*> args) {
  for (llvm::StringRef arg : args)
    if (arg.starts_with("--") && arg.find('=') == arg.size() - 1)
      return usage(llmrt::ErrorCode::BadOptionValue,
                   arg.str() + " has no value",
                   "write one behind the equals sign, or leave the option out");
  return 0;
}

/// Refuses options of other commands and options given twice.
int checkOptions(const std::string& command, std::set<std::string>& given) {
  for (auto& [name, option] : cl::getRegisteredOptions()) {
    if (option->getNumOccurrences() == 0 || option->ArgStr.empty() ||
        !isOwn(*option))
      continue;
    std::string dashed = (name.size() == 1 ? "-" : "--") + name.str();
    if (!kAccepted.at(command).count(name.str()))
      return usage(llmrt::ErrorCode::UnknownOption,
                   "llmc " + command + " takes no option " + dashed,
                   "see llmc --help");
    bool isList = option->getNumOccurrencesFlag() == cl::ZeroOrMore;
    if (option->getNumOccurrences() > 1 && !isList)
      return usage(llmrt::ErrorCode::OptionsContradict,
                   dashed + " is given twice", "give it once");
    given.insert(name.str());
  }
  return 0;
}

void printVersion(llvm::raw_ostream& stream) {
  stream << "llmc " LLMC_VERSION " with LLVM " LLVM_VERSION_STRING "\n";
}

} // namespace

int main(int argc, char** argv) {
  llvm::setBugReportMsg("llmc crashed: please report this with the command and "
                        "its input\n");
  llvm::InitLLVM init(argc, argv);
  // A limit of file sizes is then an error of the write, not a crash.
  std::signal(SIGXFSZ, SIG_IGN);
  mlir::registerAsmPrinterCLOptions();
  mlir::registerMLIRContextCLOptions();
  mlir::registerPassManagerCLOptions();
  mlir::registerDefaultTimingManagerCLOptions();

  hideBackEndOptions();
  cl::SetVersionPrinter(printVersion);

  std::string command = argc > 1 ? argv[1] : "";
  bool isHelp = command.empty() || command == "--help" || command == "-h" ||
                command == "help" || command == "--version";
  if (!isHelp && !kAccepted.count(command)) {
    std::vector<std::string> commands;
    for (const auto& [name, accepted] : kAccepted)
      commands.push_back(name);
    std::string near = llmrt::nearestName(command, commands);
    return usage(
        llmrt::ErrorCode::UnknownOption, "no command '" + command + "'",
        near.empty() ? "see llmc --help" : "did you mean '" + near + "'");
  }
  std::vector<const char*> args = {"llmc"};
  for (int i = isHelp ? 1 : 2; i < argc; ++i)
    args.push_back(argv[i]);
  if (command.empty() || command == "help")
    args = {"llmc", "--help"};
  if (int status = checkValuesAreThere(args))
    return status;
  ErrorCapture capture;
  std::string errors;
  llvm::raw_string_ostream errorStream(errors);
  bool isParsed = cl::ParseCommandLineOptions(args.size(), args.data(),
                                              kOverview, &errorStream);
  std::string printed = capture.take();
  if (!isParsed)
    return parserError(errors.empty() ? printed : errors,
                       isHelp ? "compile" : command);
  std::set<std::string> given;
  if (int status = checkOptions(command, given))
    return status;

  llmc::CommandLine line;
  line.command = command;
  line.given = std::move(given);
  line.positional = {positional.begin(), positional.end()};
  line.output = output;
  line.newModel = newModel;
  line.mode = mode;
  line.target = target;
  line.mesh = mesh;
  line.dtype = dtype;
  line.weightsFormat = weightsFormat;
  line.zero = zero;
  line.zeroLiveBytes = zeroLiveBytes;
  line.zeroBucketBytes = zeroBucketBytes;
  line.batch = batch;
  line.seq = seq;
  line.chunk = chunk;
  line.memoryLimit = memoryLimit;
  line.compileTo = compileTo;
  line.compileFrom = compileFrom;
  line.dumpFolder = dumpFolder;
  line.disabled = {disabled.begin(), disabled.end()};
  line.noSequenceParallel = !sequenceParallel;
  line.objective = objective;
  line.schedule = schedule;
  line.virtualStages = virtualStages;
  line.recompute = recompute;
  line.preferenceLoss = preferenceLoss;
  line.reference = reference;
  line.referenceZero = referenceZero;
  line.freeze = freezePattern;
  line.microbatches = microbatches;
  line.quiet = quiet;
  line.outputForm = outputForm;
  line.entry = entry;
  line.budget = budget;
  line.updateBudget = updateBudget;
  if (listPhases)
    return llmc::runListPhases();
  if (listPasses)
    return llmc::runListPasses();
  mlir::MLIRContext context(mlir::MLIRContext::Threading::DISABLED);
  context.printOpOnDiagnostic(false);
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
