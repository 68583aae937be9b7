// SPDX-License-Identifier: Apache-2.0
// What the tests of models/ share: folders, text of a module, its parameter
// count.
#pragma once

#include "models/Import.h"

#include "dialects/llm/Llm.h"

#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/IR/Verifier.h"
#include "mlir/Parser/Parser.h"
#include "llvm/Support/raw_ostream.h"
#include "gtest/gtest.h"

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>

namespace llmc {

inline std::string environmentPath(const char* name) {
  const char* value = std::getenv(name);
  return value ? value : "";
}

inline std::string fixturePath(const std::string& name) {
  return environmentPath("LLMC_SOURCE_DIR") + "/tests/fixtures/" + name;
}

inline std::string textOf(mlir::ModuleOp module, bool withLocations = false) {
  std::string text;
  llvm::raw_string_ostream stream(text);
  mlir::OpPrintingFlags flags;
  if (withLocations)
    flags.enableDebugInfo(true, false).printNameLocAsPrefix(true);
  module->print(stream, flags);
  return text;
}

inline int64_t numParameters(mlir::ModuleOp module) {
  int64_t count = 0;
  for (auto param : module.getOps<llm::ParamOp>())
    count +=
        llvm::cast<mlir::RankedTensorType>(param.getType()).getNumElements();
  return count;
}

/// A folder that disappears with the test.
class TemporaryFolder {
public:
  TemporaryFolder() {
    std::string name =
        std::filesystem::temp_directory_path() / "llmc-models-XXXXXX";
    path_ = mkdtemp(name.data());
  }

  ~TemporaryFolder() { std::filesystem::remove_all(path_); }

  const std::string& path() const { return path_; }

  void write(const std::string& name, const std::string& text) const {
    std::ofstream(path_ + "/" + name, std::ios::binary) << text;
  }

  void link(const std::string& target, const std::string& name) const {
    std::filesystem::create_symlink(target, path_ + "/" + name);
  }

private:
  std::string path_;
};

inline std::string readText(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

} // namespace llmc
