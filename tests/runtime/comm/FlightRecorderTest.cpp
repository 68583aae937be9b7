// SPDX-License-Identifier: Apache-2.0
#include "runtime/comm/FlightRecorder.h"

#include "absl/strings/str_split.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>
#include <thread>

namespace llmrt {
namespace {

using ::testing::HasSubstr;

std::vector<std::string> linesOf(const FlightRecorder& recorder) {
  return absl::StrSplit(recorder.dump(), '\n', absl::SkipEmpty());
}

TEST(FlightRecorder, SaysWhatRunsAndWhatIsDone) {
  FlightRecorder recorder(3);
  EXPECT_EQ(recorder.dump(), "");
  recorder.begin({17, "all_gather", "layers.3.mlp", "lower-collectives"});
  recorder.end();
  recorder.begin({18, "kernel", "layers.3.mlp.up", "fuse"});
  recorder.end(false);
  recorder.begin({19, "send", "hidden", "insert-pipeline"});
  std::vector<std::string> lines = linesOf(recorder);
  ASSERT_EQ(lines.size(), 3u);
  EXPECT_THAT(lines[0], HasSubstr("command 17 all_gather layers.3.mlp "
                                  "[lower-collectives] done"));
  EXPECT_THAT(lines[0], HasSubstr("rank 3  #0 "));
  EXPECT_THAT(lines[1], HasSubstr("command 18 kernel"));
  EXPECT_THAT(lines[1], HasSubstr("failed"));
  EXPECT_THAT(lines[2], HasSubstr("command 19 send hidden [insert-pipeline] "
                                  "running"));
}

TEST(FlightRecorder, KeepsTheLastEntries) {
  FlightRecorder recorder(0);
  for (int i = 0; i < 1000; ++i) {
    recorder.begin({i, "kernel", "", ""});
    recorder.end();
  }
  std::vector<std::string> lines = linesOf(recorder);
  ASSERT_EQ(lines.size(), size_t{FlightRecorder::kNumEntries});
  EXPECT_THAT(lines.front(), HasSubstr("command 744 kernel"));
  EXPECT_THAT(lines.back(), HasSubstr("command 999 kernel"));
}

TEST(FlightRecorder, DumpsWhileAnotherThreadRecords) {
  FlightRecorder recorder(0);
  std::atomic<bool> stop{false};
  std::thread writer([&] {
    for (int64_t i = 0; !stop; ++i) {
      bool isEven = i % 2 == 0;
      recorder.begin({i, isEven ? "even" : "odd", "", ""});
      recorder.end();
    }
  });
  for (int i = 0; i < 50; ++i) {
    for (const std::string& line : linesOf(recorder)) {
      size_t at = line.find("command ") + 8;
      bool isEven = std::stoll(line.substr(at)) % 2 == 0;
      EXPECT_THAT(line, HasSubstr(isEven ? " even " : " odd "));
    }
  }
  stop = true;
  writer.join();
}

} // namespace
} // namespace llmrt
