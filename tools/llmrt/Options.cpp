// SPDX-License-Identifier: Apache-2.0
// The only place that knows how options are spelled.
#include "tools/llmrt/Options.h"

#include "runtime/base/Error.h"
#include "runtime/base/NearestName.h"
#include "runtime/io/OutputPaths.h"

#include "CLI/CLI.hpp"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"

#include <algorithm>
#include <cmath>

namespace llmrt {
namespace {

// Options of these groups belong to plans of one mode; those of kText serve
// both.
constexpr const char* kInference = "Generating (plans of --mode=infer)";
constexpr const char* kText = "Text";

/// Options that say how tokens are generated, which --tokens does not do.
bool isOfGeneration(absl::string_view name) {
  return name == "--max-new-tokens" || name == "--temperature" ||
         name == "--top-k" || name == "--top-p" || name == "--seed";
}

// CLI11 takes 010 for eight, and what does not fit for the largest number.
std::string makeDecimal(std::string& text) {
  int64_t value = 0;
  if (!absl::SimpleAtoi(text, &value))
    return absl::StrCat(text, " is no whole number of 64 bits");
  text = absl::StrCat(value);
  return "";
}

/// Options whose values are called N or K are whole numbers.
void checkWholeNumbers(CLI::App* command) {
  for (CLI::Option* option : command->get_options())
    if (option->get_type_name() == "N" || option->get_type_name() == "K")
      option->transform(CLI::Validator(makeDecimal, ""));
}

void addSessionOptions(CLI::App* command, SessionOptions& session) {
  command->add_option("plan", session.planPath, "plan file of llmc compile")
      ->required()
      ->type_name("PLAN");
  command
      ->add_option("--weights", session.weights,
                   "weights, if not where the plan says; may be repeated for "
                   "several sets")
      ->type_name("[SET=]DIR|FILE|random:SEED")
      ->take_all()
      ->expected(1)
      ->allow_extra_args(false);
  command
      ->add_option("--threads", session.numThreads,
                   "threads of each rank; default: all cores over local ranks")
      ->type_name("N");
  command
      ->add_option("--comm", session.comm,
                   "how ranks talk: local (threads), mpi, auto (what the "
                   "launcher says)")
      ->check(CLI::IsMember({"auto", "local", "mpi"}))
      ->type_name("auto|local|mpi");
  command
      ->add_option("--timeout", session.timeoutSeconds,
                   "a collective that takes longer ends the run")
      ->type_name("SECONDS");
  command
      ->add_option("--simulated-link", session.link.bytesPerSecond,
                   "ranks that are threads also sleep as long as a link of "
                   "this rate needs, to see what overlaps; 0: no link")
      ->type_name("BYTES/S");
  command
      ->add_option("--simulated-latency", session.link.latencySeconds,
                   "what that link adds to every transfer")
      ->type_name("SECONDS");
  command
      ->add_option("--graphs", session.graphs,
                   "on a GPU: calls that repeat are captured and replayed as "
                   "graphs where that is possible; off: command by command")
      ->check(CLI::IsMember({"auto", "off"}))
      ->type_name("auto|off");
  command
      ->add_option("--tuning-cache", session.tuningCache,
                   "on a GPU: where the choices of algorithms for large "
                   "products are kept; off: for this run only")
      ->type_name("FILE|off");
  command
      ->add_option("--chunk", session.chunkTokens,
                   "at most so many prompt tokens a call; default: what the "
                   "plan was compiled for")
      ->type_name("N");
}

void addTextOptions(CLI::App* run, RunOptions& options) {
  run->add_option("--prompt", options.prompt,
                  "text to continue; default: standard input")
      ->type_name("TEXT")
      ->group(kInference);
  run->add_flag("--chat", options.isChat,
                "the prompt is a user's turn: apply the model's chat template")
      ->group(kInference);
  run->add_option("--system", options.system, "system message, with --chat")
      ->type_name("TEXT")
      ->group(kInference);
  run->add_option("--chat-template", options.chatTemplate,
                  "chat template, if not the one that the model names")
      ->type_name("NAME")
      ->group(kText);
  run->add_option("--prompts", options.promptsPath,
                  "JSON lines with \"text\", \"prompt\" or \"messages\"")
      ->type_name("IN.jsonl")
      ->group(kInference);
  run->add_option("--output", options.outputPath,
                  "results of --prompts, in input order; a run that was "
                  "interrupted is continued")
      ->type_name("OUT.jsonl")
      ->group(kInference);
  run->add_option("--tokenizer", options.tokenizer,
                  "tokenizer, if not where the plan says")
      ->type_name("PATH")
      ->group(kText);
}

void addSamplingOptions(CLI::App* run, RunOptions& options) {
  run->add_option("--max-new-tokens", options.maxNewTokens,
                  "tokens to generate at most")
      ->type_name("N")
      ->capture_default_str()
      ->group(kInference);
  run->add_option("--temperature", options.sampling.temperature,
                  "0: the most likely token")
      ->type_name("T")
      ->capture_default_str()
      ->group(kInference);
  run->add_option("--top-k", options.sampling.topK,
                  "draw from the K most likely tokens; 0: all")
      ->type_name("K")
      ->capture_default_str()
      ->group(kInference);
  run->add_option("--top-p", options.sampling.topP,
                  "draw from the most likely tokens that reach P together")
      ->type_name("P")
      ->capture_default_str()
      ->group(kInference);
  run->add_option("--seed", options.sampling.seed,
                  "seed of the draws; training: of the order of the data")
      ->type_name("N")
      ->group(kText)
      ->capture_default_str();
}

absl::Status badValue(const std::string& what, const std::string& advice) {
  return makeError(ErrorCode::BadOptionValue, what, advice);
}

absl::Status contradiction(const std::string& what, const std::string& advice) {
  return makeError(ErrorCode::OptionsContradict, what, advice);
}

absl::Status checkSession(const SessionOptions& session) {
  const int threads = session.numThreads.value_or(1);
  if (threads < 1 || threads > 4096)
    return badValue(absl::StrCat("--threads=", threads),
                    "give a number from 1 to 4096, or leave it out");
  if (!(session.timeoutSeconds > 0) || session.timeoutSeconds > 1e7)
    return badValue(absl::StrCat("--timeout=", session.timeoutSeconds),
                    "give a positive number of seconds");
  if (!(session.link.bytesPerSecond >= 0 &&
        session.link.bytesPerSecond <= 1e15))
    return badValue(
        absl::StrCat("--simulated-link=", session.link.bytesPerSecond),
        "give bytes a second, 0 or more");
  if (!(session.link.latencySeconds >= 0 && session.link.latencySeconds <= 60))
    return badValue(
        absl::StrCat("--simulated-latency=", session.link.latencySeconds),
        "give seconds from 0 to 60");
  if (session.chunkTokens.value_or(1) < 1)
    return badValue(absl::StrCat("--chunk=", *session.chunkTokens),
                    "give a positive number of tokens");
  return absl::OkStatus();
}

absl::Status checkSampling(const RunOptions& options) {
  const SamplingParameters& sampling = options.sampling;
  if (!(sampling.temperature >= 0 && sampling.temperature <= kMaxTemperature))
    return badValue(absl::StrCat("--temperature=", sampling.temperature),
                    absl::StrCat("give a number from 0 to ", kMaxTemperature));
  if (sampling.topK < 0)
    return badValue(absl::StrCat("--top-k=", sampling.topK),
                    "give a whole number; 0 takes all tokens");
  if (!(sampling.topP >= 0 && sampling.topP <= 1))
    return badValue(absl::StrCat("--top-p=", sampling.topP),
                    "give a number from 0 to 1");
  if (options.maxNewTokens < 0)
    return badValue(absl::StrCat("--max-new-tokens=", options.maxNewTokens),
                    "give a whole number, 0 or more");
  return absl::OkStatus();
}

} // namespace

CLI::App* addRunCommand(CLI::App& app, RunOptions& options) {
  CLI::App* run = app.add_subcommand(
      "run", "run a plan: continue a prompt, a file of prompts, or train");
  addSessionOptions(run, options.session);
  run->get_option("--chunk")->group(kInference);
  addTextOptions(run, options);
  addSamplingOptions(run, options);
  run->add_option("--tokens", options.tokens,
                  "token ids whose logits are wanted, for tests and tools")
      ->type_name("1,2,3")
      ->group(kInference);
  run->add_option("--output-logits", options.logitsPath,
                  "where the logits go: float32 [tokens, vocabulary]")
      ->type_name("OUT.npy")
      ->group(kInference);
  run->add_option("--logits-entry", options.logitsEntry,
                  "the entry that makes the logits")
      ->check(CLI::IsMember({"score", "decode"}))
      ->type_name("score|decode")
      ->group(kInference);
  run->add_option("--trace", options.tracePath,
                  "write when each rank ran what and waited for what, for "
                  "chrome://tracing")
      ->type_name("OUT.json");
  run->add_option("--memory-report", options.memoryReportPath,
                  "write what each rank was to hold and what it held")
      ->type_name("OUT.json");
  run->add_flag("--check-memory", options.session.checksMemory,
                "check that every command keeps to the memory that the plan "
                "gives it; slower");
  run->add_flag("--quiet", options.isQuiet,
                "print no progress on standard error");
  addTrainingOptions(run, options.training);
  checkWholeNumbers(run);
  run->allow_extras();
  return run;
}

CLI::App* addBenchCommand(CLI::App& app, BenchOptions& options) {
  CLI::App* bench = app.add_subcommand(
      "bench", "measure prefill and decode of a plan, and the machine's limit");
  addSessionOptions(bench, options.session);
  bench
      ->add_option("--prompt-tokens", options.numPromptTokens,
                   "tokens of the prefill")
      ->type_name("N")
      ->capture_default_str();
  bench
      ->add_option("--decode-tokens", options.numDecodeTokens,
                   "tokens decoded after it")
      ->type_name("N")
      ->capture_default_str();
  bench
      ->add_option("--repetitions", options.repetitions,
                   "measured after one warm-up")
      ->type_name("N")
      ->capture_default_str();
  bench->add_option("--output", options.output, "json: as Google Benchmark")
      ->check(CLI::IsMember({"table", "json", "csv"}))
      ->type_name("table|json|csv");
  bench->add_flag("!--no-ceiling", options.measuresCeiling,
                  "do not measure how fast memory can be read");
  checkWholeNumbers(bench);
  bench->allow_extras();
  return bench;
}

CLI::App* addCompareCommand(CLI::App& app, CompareOptions& options) {
  CLI::App* compare = app.add_subcommand(
      "compare", "compare two results of llmrt bench --output=json");
  compare->add_option("base", options.basePath, "the result to compare with")
      ->required()
      ->type_name("BASE.json");
  compare->add_option("new", options.newPath, "the result to judge")
      ->required()
      ->type_name("NEW.json");
  compare
      ->add_option("--tolerance", options.tolerance,
                   "share by which a benchmark may be slower")
      ->type_name("SHARE")
      ->capture_default_str();
  compare->allow_extras();
  return compare;
}

CLI::App* addExportCommand(CLI::App& app, ExportOptions& options) {
  CLI::App* command = app.add_subcommand(
      "export", "write a checkpoint of training as a Hugging Face folder");
  command
      ->add_option("checkpoint", options.checkpoint,
                   "a checkpoint, or the --checkpoint-dir of a run: then the "
                   "newest whole one")
      ->required()
      ->type_name("CHECKPOINT");
  command->add_option("-o,--output", options.out, "the folder to make")
      ->required()
      ->type_name("DIR");
  command
      ->add_option("--source", options.source,
                   "the Hugging Face folder that training started from; "
                   "default: where it was then")
      ->type_name("DIR");
  command
      ->add_option("--dtype", options.dtype,
                   "type of the weights; as-is: as in the checkpoint")
      ->check(CLI::IsMember({"as-is", "f32", "bf16"}))
      ->type_name("as-is|f32|bf16");
  command->allow_extras();
  return command;
}

void findModeOptions(const CLI::App& run, RunOptions& options) {
  for (const CLI::Option* option : run.parse_order()) {
    std::string name = option->get_lnames().empty()
                           ? option->get_name()
                           : "--" + option->get_lnames().front();
    if (option->get_group() == kInference && options.inferenceOption.empty())
      options.inferenceOption = name;
    if (isTrainingGroup(option->get_group()) && options.trainingOption.empty())
      options.trainingOption = name;
    if (isOfGeneration(name) && options.generationOption.empty())
      options.generationOption = name;
    options.hasLogitsEntry |= name == "--logits-entry";
    if (isPreferenceGroup(option->get_group()))
      options.training.preferenceOption = name;
  }
}

absl::Status checkRunOutputs(const RunOptions& options,
                             std::vector<std::string> inputs) {
  for (const std::string& path :
       {options.session.planPath, options.promptsPath, options.tokenizer})
    inputs.push_back(path);
  for (const std::string& weights : options.session.weights) {
    size_t set = weights.find('=');
    inputs.push_back(weights);
    if (set != std::string::npos)
      inputs.push_back(weights.substr(set + 1));
  }
  return checkOutputPaths({{"--output", options.outputPath},
                           {"--output-logits", options.logitsPath},
                           {"--trace", options.tracePath},
                           {"--memory-report", options.memoryReportPath},
                           {"--metrics", options.training.metricsPath}},
                          inputs);
}

absl::Status checkRunOptions(const RunOptions& options) {
  LLMRT_RETURN_IF_ERROR(checkSession(options.session));
  LLMRT_RETURN_IF_ERROR(checkSampling(options));
  int numInputs = options.prompt.has_value() + !options.promptsPath.empty() +
                  !options.tokens.empty();
  if (numInputs > 1)
    return contradiction("only one of --prompt, --prompts and --tokens can be "
                         "given",
                         "choose one");
  if (options.tokens.empty() != options.logitsPath.empty())
    return contradiction("--tokens and --output-logits belong together",
                         "give both");
  if (!options.tokens.empty() && !options.generationOption.empty())
    return contradiction(
        absl::StrCat(options.generationOption, " with --tokens"),
        "the logits of given tokens are wanted: nothing is generated");
  if (options.tokens.empty() && options.hasLogitsEntry)
    return contradiction("--logits-entry without --tokens",
                         "give the tokens whose logits are wanted");
  if (!options.outputPath.empty() && options.promptsPath.empty())
    return contradiction("--output takes the results of --prompts",
                         "give --prompts, or redirect standard output");
  if (options.system && !options.isChat)
    return contradiction("--system belongs to --chat", "add --chat");
  if (!options.chatTemplate.empty() && !options.isChat &&
      (options.prompt || !options.tokens.empty()))
    return contradiction("--chat-template without --chat",
                         "add --chat, or leave the template out");
  if (options.isChat &&
      (!options.promptsPath.empty() || !options.tokens.empty()))
    return contradiction("--chat is for one prompt",
                         "write \"messages\" in the lines of --prompts");
  return checkRunOutputs(options, {}); // a run may take hours
}

absl::Status checkBenchOptions(const BenchOptions& options) {
  LLMRT_RETURN_IF_ERROR(checkSession(options.session));
  if (options.numPromptTokens < 1 || options.numDecodeTokens < 0 ||
      options.repetitions < 1 || options.repetitions > 10000)
    return badValue("--prompt-tokens and --repetitions are at least 1, "
                    "--decode-tokens at least 0",
                    "correct the numbers");
  return absl::OkStatus();
}

absl::Status checkValuesAreThere(absl::Span<char* const> arguments) {
  for (absl::string_view argument : arguments)
    if (absl::StartsWith(argument, "--") &&
        argument.find('=') == argument.size() - 1)
      return badValue(absl::StrCat(argument, " has no value"),
                      "write one behind the equals sign, or leave the option "
                      "out");
  return absl::OkStatus();
}

absl::Status checkNoOptionIsAValue(const CLI::App& command,
                                   absl::Span<char* const> arguments) {
  for (const CLI::Option* option : command.parse_order())
    for (const std::string& value : option->results()) {
      // --prompt=--quiet is what was meant.
      bool isWord = std::find(arguments.begin(), arguments.end(),
                              absl::string_view(value)) != arguments.end();
      if (isWord && absl::StartsWith(value, "--") &&
          command.get_option_no_throw(value.substr(0, value.find('='))))
        return badValue(absl::StrCat(option->get_name(),
                                     " has no value: ", value, " follows it"),
                        absl::StrCat("write ", option->get_name(), "=..."));
    }
  return absl::OkStatus();
}

absl::Status checkNothingRemains(const CLI::App& command) {
  std::vector<std::string> remaining = command.remaining();
  if (remaining.empty())
    return absl::OkStatus();
  std::string typed = remaining.front();
  if (!absl::StartsWith(typed, "-"))
    return makeError(ErrorCode::UnknownOption,
                     absl::StrCat("unexpected argument '", typed, "'"),
                     absl::StrCat("see llmrt ", command.get_name(), " --help"));
  typed = typed.substr(0, typed.find('='));
  std::vector<std::string> names;
  for (const CLI::Option* option : command.get_options())
    for (const std::string& name : option->get_lnames())
      names.push_back("--" + name);
  std::string nearest = nearestName(typed, names);
  return makeError(
      ErrorCode::UnknownOption, absl::StrCat("unknown option '", typed, "'"),
      nearest.empty()
          ? absl::StrCat("see llmrt ", command.get_name(), " --help")
          : absl::StrCat("did you mean ", nearest, "?"));
}

} // namespace llmrt
