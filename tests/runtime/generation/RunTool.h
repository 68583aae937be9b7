// SPDX-License-Identifier: Apache-2.0
// Runs llmrt as a user does, in a folder of its own that holds a plan, a
// tokenizer and what the test writes.
#pragma once

#include "tests/runtime/generation/BigramPlan.h"

#include <string>
#include <sys/types.h>
#include <vector>

namespace llmrt::test {

struct ToolEnd {
  int status = -1; // exit status; 128 + signal if a signal ended it
  std::string output;
  std::string errors;
};

class ToolFolder {
public:
  ToolFolder();
  ~ToolFolder();

  std::string path(const std::string& name) const {
    return folder_ + "/" + name;
  }

  void write(const std::string& name, const std::string& text) const;
  std::string read(const std::string& name) const;
  bool exists(const std::string& name) const;
  void writePlan(const std::string& name, const BigramShape& shape) const;

  /// Runs a shell command in the folder; "llmrt" is the tool.
  ToolEnd run(const std::string& command) const;
  /// Starts one without waiting; standard output and errors go to files out and
  /// err.
  pid_t start(const std::string& command) const;
  static int wait(pid_t process);

private:
  std::string folder_;
};

} // namespace llmrt::test
