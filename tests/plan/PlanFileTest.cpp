// SPDX-License-Identifier: Apache-2.0
// The envelope: every flipped bit and every truncation of a plan is refused.
#include "runtime/plan/PlanFile.h"
#include "runtime/plan/Mesh.h"
#include "tests/plan/PlanBuilder.h"

#include <chrono>
#include <cstring>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace llmrt {
namespace {

using test::finishPlan;
using test::PlanBytes;
using test::tinyModel;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

// The check value of the CRC catalogue for CRC-64/XZ.
TEST(Crc64, HasTheCatalogueValue) {
  const char* digits = "123456789";
  absl::Span<const uint8_t> bytes(reinterpret_cast<const uint8_t*>(digits), 9);
  EXPECT_EQ(crc64(bytes), 0x995DC9BBDF1939FAu);
  for (int cut = 0; cut <= 9; ++cut)
    EXPECT_EQ(crc64(bytes.subspan(cut), crc64(bytes.subspan(0, cut))),
              0x995DC9BBDF1939FAu);
}

TEST(Crc64, EqualsTheBitwiseDefinition) {
  std::vector<uint8_t> bytes(1000);
  for (size_t i = 0; i < bytes.size(); ++i)
    bytes[i] = static_cast<uint8_t>(i * i * 31 + 7);
  uint64_t crc = ~uint64_t{0};
  for (uint8_t byte : bytes) {
    crc ^= byte;
    for (int bit = 0; bit < 8; ++bit)
      crc = (crc >> 1) ^ (crc & 1 ? 0xC96C5795D7870F42u : 0);
  }
  EXPECT_EQ(crc64(bytes), ~crc);
}

TEST(PlanFile, ReadsWhatWasWritten) {
  PlanBytes file = finishPlan(tinyModel().plan);
  auto plan = readPlan(file);
  ASSERT_TRUE(plan.ok()) << plan.status();
  EXPECT_EQ((*plan)->entries()->size(), 2u);
  EXPECT_EQ((*plan)->target()->str(), "cpu");
}

TEST(PlanFile, RefusesEveryFlippedBit) {
  PlanBytes file = finishPlan(tinyModel().plan);
  for (size_t bit = 0; bit < file.size() * 8; ++bit) {
    file[bit / 8] ^= 1 << (bit % 8);
    auto plan = readPlan(file);
    ASSERT_FALSE(plan.ok()) << "bit " << bit;
    ASSERT_THAT(plan.status().message(), HasSubstr("LLMC-E06"));
    file[bit / 8] ^= 1 << (bit % 8);
  }
}

TEST(PlanFile, RefusesEveryTruncationAndExtension) {
  PlanBytes file = finishPlan(tinyModel().plan);
  for (size_t size = 0; size < file.size(); ++size) {
    PlanBytes cut(file.begin(), file.begin() + size);
    auto plan = readPlan(cut);
    ASSERT_FALSE(plan.ok()) << size;
    ASSERT_THAT(plan.status().message(), HasSubstr("LLMC-E0601")) << size;
  }
  file.push_back(0);
  EXPECT_THAT(readPlan(file).status().message(), HasSubstr("LLMC-E0602"));
}

TEST(PlanFile, SaysThatANewerPlanIsNewer) {
  PlanBytes file = finishPlan(tinyModel().plan);
  file[8] = kPlanSchemaVersion + 1;
  EXPECT_THAT(readPlan(file).status().message(), HasSubstr("LLMC-E0602"));
  EXPECT_THAT(readPlan(file, {.verifyChecksum = false}).status().message(),
              HasSubstr("LLMC-E0603"));
}

TEST(PlanFile, RefusesOtherFiles) {
  PlanBytes gguf = {'G', 'G', 'U', 'F', 3, 0, 0, 0, 0, 0, 0, 0};
  EXPECT_THAT(readPlan(gguf).status().message(),
              HasSubstr("this is not a plan file"));
}

// With the checksum off, no flipped bit may crash the reader.
TEST(PlanFile, SurvivesFlippedBitsWithoutChecksum) {
  PlanBytes file = finishPlan(tinyModel().plan);
  int numRefused = 0;
  for (size_t bit = 0; bit < file.size() * 8; ++bit) {
    file[bit / 8] ^= 1 << (bit % 8);
    numRefused += !readPlan(file, {.verifyChecksum = false}).ok();
    file[bit / 8] ^= 1 << (bit % 8);
  }
  EXPECT_GT(numRefused, 0);
}

TEST(Mesh, NumbersRanksWithTheLastAxisFastest) {
  test::PlanBuilder b({{"dp", 2}, {"pp", 3}, {"tp", 2}});
  b.entry("decode", 1, 1);
  PlanBytes file = finishPlan(b.plan);
  auto plan = readPlan(file);
  ASSERT_TRUE(plan.ok()) << plan.status();
  EXPECT_EQ(numRanks(**plan), 12);
  EXPECT_THAT(coordinatesOfRank(**plan, 9), ElementsAre(1, 1, 1));
  EXPECT_EQ(stageOfCoordinates(**plan, {1, 2, 0}), 2);
  EXPECT_THAT(groupAlongAxes(**plan, {1, 1, 1}, {1}), ElementsAre(7, 9, 11));
  EXPECT_THAT(groupAlongAxes(**plan, {1, 1, 1}, {0, 2}),
              ElementsAre(2, 3, 8, 9));
  EXPECT_THAT(groupAlongAxes(**plan, {1, 1, 1}, {2, 0}),
              ElementsAre(2, 8, 3, 9));
  EXPECT_EQ(indexAlongAxes(**plan, {1, 1, 0}, {2, 0}), 1);
}

} // namespace
} // namespace llmrt
