// SPDX-License-Identifier: Apache-2.0
// What the command line says, as the commands take it.
#pragma once

#include "runtime/generation/Request.h"
#include "tools/llmrt/Session.h"
#include "tools/llmrt/TrainingOptions.h"

#include "absl/types/span.h"

#include <optional>
#include <string>
#include <vector>

namespace CLI {
class App;
}

namespace llmrt {

struct RunOptions {
  SessionOptions session;
  std::string tokenizer;
  SamplingParameters sampling;
  int64_t maxNewTokens = 256;
  // One prompt.
  std::optional<std::string> prompt;
  bool isChat = false;
  std::optional<std::string> system;
  std::string chatTemplate;
  // A file of prompts.
  std::string promptsPath;
  std::string outputPath;
  // Logits of given tokens.
  std::string tokens;
  std::string logitsPath;
  std::string logitsEntry = "score";
  std::string tracePath;
  std::string memoryReportPath;
  bool isQuiet = false;
  TrainingRunOptions training;
  // The first option given that belongs to one mode alone; "" if none.
  std::string trainingOption;
  std::string inferenceOption;
  std::string generationOption; // the first one given, likewise
  bool hasLogitsEntry = false;  // --logits-entry is given
  std::string commandLine;      // as typed, for checkpoints
};

struct ExportOptions {
  std::string checkpoint;
  std::string out;
  std::string source; // empty: where the checkpoint says
  std::string dtype = "as-is";
};

struct BenchOptions {
  SessionOptions session;
  int64_t numPromptTokens = 512;
  int64_t numDecodeTokens = 64;
  int repetitions = 3;
  std::string output = "table";
  bool measuresCeiling = true;
};

struct CompareOptions {
  std::string basePath;
  std::string newPath;
  double tolerance = 0.05;
};

/// Each adds one command and its options, bound to `options`.
CLI::App* addRunCommand(CLI::App& app, RunOptions& options);
CLI::App* addBenchCommand(CLI::App& app, BenchOptions& options);
CLI::App* addCompareCommand(CLI::App& app, CompareOptions& options);
CLI::App* addExportCommand(CLI::App& app, ExportOptions& options);

/// Returns OptionsContradict or BadOptionValue if the options make no sense
/// together.
absl::Status checkRunOptions(const RunOptions& options);

/// Returns OptionsContradict or FileNotWritable if a file that the run is to
/// write cannot be written, or is one that it reads; `inputs` are those that
/// the options do not name.
absl::Status checkRunOutputs(const RunOptions& options,
                             std::vector<std::string> inputs);
absl::Status checkBenchOptions(const BenchOptions& options);

/// Sets the first option given of each mode.
void findModeOptions(const CLI::App& run, RunOptions& options);

/// Returns BadOptionValue if an argument is --option= and no more: the parser
/// would take the argument behind it.
absl::Status checkValuesAreThere(absl::Span<char* const> arguments);

/// Returns BadOptionValue if an option was taken for the value of another one.
absl::Status checkNoOptionIsAValue(const CLI::App& command,
                                   absl::Span<char* const> arguments);

/// Returns UnknownOption for what the parser could not place, with the nearest
/// name.
absl::Status checkNothingRemains(const CLI::App& command);

} // namespace llmrt
