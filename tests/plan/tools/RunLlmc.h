// SPDX-License-Identifier: Apache-2.0
// Runs llmc as a user does, in a folder of its own.
#pragma once

#include <string>

namespace llmc::test {

struct ToolEnd {
  int status = -1; // exit status; 128 + signal if a signal ended it
  std::string output;
  std::string errors;
};

class LlmcFolder {
public:
  LlmcFolder();
  ~LlmcFolder();
  LlmcFolder(const LlmcFolder&) = delete;

  std::string path(const std::string& name) const {
    return folder_ + "/" + name;
  }

  void write(const std::string& name, const std::string& text) const;
  std::string read(const std::string& name) const;
  bool exists(const std::string& name) const;

  /// Runs a shell command in the folder; "llmc" is the tool.
  ToolEnd run(const std::string& command) const;

  /// Makes a new model and compiles it; fails the test if either fails.
  void makePlan(const std::string& plan, const std::string& model,
                const std::string& options = "") const;

private:
  std::string folder_;
};

/// A Llama of 4 layers that compiles in a few hundredths of a second.
inline constexpr const char* kTinyLlama =
    "llama,layers=4,hidden=64,heads=4,kv_heads=2,intermediate=128,vocab=128,"
    "context=128";

} // namespace llmc::test
