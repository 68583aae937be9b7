// SPDX-License-Identifier: Apache-2.0
#include "tests/runtime/generation/RunTool.h"

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <sys/wait.h>
#include <unistd.h>

namespace llmrt::test {

ToolFolder::ToolFolder() {
  std::string pattern =
      (std::filesystem::temp_directory_path() / "llmrt-test-XXXXXX").string();
  folder_ = ::mkdtemp(pattern.data());
  write("tokenizer.json", byteTokenizerJson());
}

ToolFolder::~ToolFolder() {
  std::error_code ignored;
  std::filesystem::remove_all(folder_, ignored);
}

void ToolFolder::write(const std::string& name, const std::string& text) const {
  std::ofstream(path(name), std::ios::binary) << text;
}

std::string ToolFolder::read(const std::string& name) const {
  std::ifstream file(path(name), std::ios::binary);
  std::stringstream text;
  text << file.rdbuf();
  return text.str();
}

bool ToolFolder::exists(const std::string& name) const {
  return std::filesystem::exists(path(name));
}

void ToolFolder::writePlan(const std::string& name,
                           const BigramShape& shape) const {
  BigramShape withTokenizer = shape;
  withTokenizer.tokenizer = "tokenizer.json";
  PlanBytes bytes = finishPlan(bigramModel(withTokenizer).plan);
  write(name, {bytes.begin(), bytes.end()});
}

pid_t ToolFolder::start(const std::string& command) const {
  const char* binDir = std::getenv("LLMC_BIN_DIR");
  std::string script = "cd '" + folder_ + "'; PATH='" +
                       std::string(binDir ? binDir : ".") + "':$PATH; { " +
                       command + "\n} >out 2>err";
  pid_t process = ::fork();
  if (process == 0) {
    ::execl("/bin/sh", "sh", "-c", script.c_str(), nullptr);
    ::_exit(127);
  }
  return process;
}

int ToolFolder::wait(pid_t process) {
  int status = 0;
  ::waitpid(process, &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

ToolEnd ToolFolder::run(const std::string& command) const {
  ToolEnd end;
  end.status = wait(start(command));
  end.output = read("out");
  end.errors = read("err");
  return end;
}

} // namespace llmrt::test
