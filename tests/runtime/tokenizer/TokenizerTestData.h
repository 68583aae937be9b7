// SPDX-License-Identifier: Apache-2.0
// Where the tokenizer tests find their files: real tokenizers outside the
// repository (skipped if absent) and fixtures inside it.
#pragma once

#include "runtime/io/tokenizer/Tokenizer.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>

namespace llmrt {

inline std::string readWholeFile(const std::filesystem::path& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>()};
}

/// Returns the path of a file of the test data, "" if it is absent.
inline std::string testDataFile(const std::string& name) {
  const char* root = std::getenv("LLMC_TEST_DATA");
  std::filesystem::path path = std::filesystem::path(root ? root : "") / name;
  return root && std::filesystem::exists(path) ? path.string() : "";
}

inline std::string fixtureFile(const std::string& name) {
  const char* root = std::getenv("LLMC_SOURCE_DIR");
  return (std::filesystem::path(root ? root : ".") /
          "tests/runtime/tokenizer/fixtures" / name)
      .string();
}

/// Returns the path of the SmolLM2 GGUF file of the quickstart, "" if absent.
inline std::string smolLm2File() {
  if (const char* named = std::getenv("LLMC_SMOLLM2_GGUF"))
    return std::filesystem::exists(named) ? named : "";
  const char* home = std::getenv("HOME");
  std::filesystem::path path = std::filesystem::path(home ? home : "") /
                               ".cache/llmc/SmolLM2-135M-Instruct.Q4_1.gguf";
  return std::filesystem::exists(path) ? path.string() : "";
}

} // namespace llmrt
