// SPDX-License-Identifier: Apache-2.0
// The scratch folder that tests of readers and writers need.
#pragma once

#include "gtest/gtest.h"

#include <cstdlib>
#include <filesystem>
#include <string>

namespace llmrt::testing {

/// A test with an empty folder of its own, removed afterwards.
class FolderTest : public ::testing::Test {
protected:
  void SetUp() override {
    std::string pattern =
        (std::filesystem::temp_directory_path() / "llmrtXXXXXX").string();
    ASSERT_NE(mkdtemp(pattern.data()), nullptr);
    folder_ = pattern;
  }

  void TearDown() override { std::filesystem::remove_all(folder_); }

  std::string pathOf(const std::string& name) const {
    return folder_ + "/" + name;
  }

  /// Returns how many files the folder holds, temporary ones included.
  size_t numFiles() const {
    return static_cast<size_t>(
        std::distance(std::filesystem::directory_iterator(folder_),
                      std::filesystem::directory_iterator()));
  }

  std::string folder_;
};

} // namespace llmrt::testing
