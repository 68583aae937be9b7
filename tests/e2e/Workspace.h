// SPDX-License-Identifier: Apache-2.0
// Runs the tools as a user does, in a folder of its own, with a limit on the
// time: what the end-to-end tests of the command lines share.
#pragma once

#include <map>
#include <string>
#include <sys/types.h>

namespace llmrt {

struct ToolEnd {
  int status =
      -1; // exit status; 124 after the time limit, 128 + signal after a signal
  std::string output;
  std::string errors;
};

class Workspace {
public:
  Workspace();
  ~Workspace();
  Workspace(const Workspace&) = delete;

  std::string path(const std::string& name) const {
    return folder_ + "/" + name;
  }

  void write(const std::string& name, const std::string& bytes) const;
  std::string read(const std::string& name) const;
  bool exists(const std::string& name) const;
  /// Names of all files and their sizes in bytes.
  std::map<std::string, uint64_t> files() const;

  /// Runs a shell command in the folder, with llmc and llmrt in the PATH and no
  /// time left after `limitSeconds`.
  ToolEnd run(const std::string& command, int limitSeconds = 60) const;

  /// Starts a program in a process group of its own; its output goes to the
  /// files NAME.out and NAME.err.
  pid_t start(const std::string& name, const std::string& command) const;
  /// Waits for it, kills its group after the limit, and returns what it
  /// printed.
  ToolEnd finish(const std::string& name, pid_t process,
                 int limitSeconds) const;

private:
  std::string folder_;
};

/// "mpirun ... -n N llmrt", or "" on a machine without mpirun.
std::string mpiLauncher(int numRanks);

/// A byte-level tokenizer.json: ids 0 to 255 are the bytes, 256 ends a text.
std::string byteTokenizerJson();

/// Writes model.mlir, a random Llama of 3 layers with 9 query and 3 key/value
/// heads over the bytes, and tokenizer.json. Returns what llmc printed if it
/// failed, else "".
std::string writeByteModel(const Workspace& workspace);

} // namespace llmrt
