// SPDX-License-Identifier: Apache-2.0
#include "tests/plan/tools/RunLlmc.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <sys/wait.h>

namespace llmc::test {

LlmcFolder::LlmcFolder() {
  std::string name = testing::TempDir() + "/llmc-XXXXXX";
  folder_ = mkdtemp(name.data());
}

LlmcFolder::~LlmcFolder() { std::filesystem::remove_all(folder_); }

void LlmcFolder::write(const std::string& name, const std::string& text) const {
  std::ofstream(path(name), std::ios::binary) << text;
}

std::string LlmcFolder::read(const std::string& name) const {
  std::ifstream file(path(name), std::ios::binary);
  std::stringstream text;
  text << file.rdbuf();
  return text.str();
}

bool LlmcFolder::exists(const std::string& name) const {
  return std::filesystem::exists(path(name));
}

ToolEnd LlmcFolder::run(const std::string& command) const {
  const char* bin = std::getenv("LLMC_BIN_DIR");
  std::string line = "cd '" + folder_ + "' && PATH='" + (bin ? bin : "") +
                     "':\"$PATH\" && { " + command +
                     " ; } >.out 2>.err </dev/null";
  int status = std::system(line.c_str());
  ToolEnd end;
  end.status = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  end.output = read(".out");
  end.errors = read(".err");
  return end;
}

void LlmcFolder::makePlan(const std::string& plan, const std::string& model,
                          const std::string& options) const {
  ToolEnd end =
      run("llmc import --new=" + model + " -o " + plan +
          ".mlir && llmc compile " + plan + ".mlir -o " + plan + " " + options);
  ASSERT_EQ(end.status, 0) << end.errors;
}

} // namespace llmc::test
