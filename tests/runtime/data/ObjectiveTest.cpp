// SPDX-License-Identifier: Apache-2.0
// Batches of sft and dpo: packing, truncation, pairs.
#include "tests/runtime/data/DataTest.h"

#include <algorithm>
#include <map>

namespace llmrt {
namespace {

using ::testing::ElementsAre;
using testing::fillAll;
using ::testing::HasSubstr;
using testing::Ids;
using testing::idsOf;
using testing::kEndOfText;
using testing::kIgnored;

class ObjectiveTest : public testing::DataTest {};

std::string pair(const std::string& prompt, const std::string& completion) {
  nlohmann::json line = {{"prompt", prompt}, {"completion", completion}};
  return line.dump() + "\n";
}

std::string preference(const std::string& prompt, const std::string& chosen,
                       const std::string& rejected) {
  nlohmann::json line = {
      {"prompt", prompt}, {"chosen", chosen}, {"rejected", rejected}};
  return line.dump() + "\n";
}

// abCD^ (5 rows), longer^ (7) and xY^ (3) into sequences of 8: the third fits
// behind the first.
TEST_F(ObjectiveTest, PacksSamplesWithAttentionInside) {
  auto source = openText(pair("ab", "CD") + pair("long", "er") + pair("x", "Y"),
                         Objective::Sft, 8);
  ASSERT_TRUE(source.ok()) << source.status();
  ASSERT_EQ(source->numSequences(), 2);
  TrainingBatch batch = fillAll(*source);
  EXPECT_EQ(batch.ids, idsOf("abCD^xY^longer^" + std::string(1, 0)));
  EXPECT_THAT(batch.positions,
              ElementsAre(0, 1, 2, 3, 4, 0, 1, 2, 0, 1, 2, 3, 4, 5, 6, 0));
  EXPECT_THAT(batch.starts,
              ElementsAre(0, 0, 0, 0, 0, 5, 5, 5, 0, 0, 0, 0, 0, 0, 0, 7));
  EXPECT_THAT(batch.labels,
              ElementsAre(kIgnored, 'C', 'D', kEndOfText, kIgnored, //
                          'Y', kEndOfText, kIgnored,                //
                          kIgnored, kIgnored, kIgnored, 'e', 'r', kEndOfText,
                          kIgnored, kIgnored));
  EXPECT_EQ(source->trace(0, 6)->line, 3);
  EXPECT_EQ(source->trace(0, 6)->token, 1);
  EXPECT_EQ(source->trace(1, 0)->line, 2);
  DataStatistics statistics = source->statistics();
  EXPECT_EQ(statistics.numRecords, 3);
  EXPECT_EQ(statistics.layout.numCounted, 8);
  EXPECT_EQ(statistics.layout.numTruncated, 0);
}

// Every sample whole, in one sequence, once; sequences well filled.
TEST_F(ObjectiveTest, PacksEverySampleOnce) {
  std::string text;
  int64_t numTokens = 0;
  for (int i = 0; i < 500; ++i) {
    std::string completion(1 + i * 37 % 50, 'a' + i % 26);
    text += pair("p", completion);
    numTokens += static_cast<int64_t>(completion.size()) + 2;
  }
  constexpr int64_t kRows = 64;
  auto source = openText(text, Objective::Sft, kRows);
  ASSERT_TRUE(source.ok()) << source.status();
  EXPECT_EQ(source->numTokens(), numTokens);
  std::map<int64_t, std::vector<int64_t>> placesOfLine;
  for (int64_t i = 0; i < source->numSequences(); ++i)
    for (int64_t row = 0; row < kRows; ++row)
      if (auto origin = source->trace(i, row); origin.ok()) {
        EXPECT_EQ(origin->token,
                  static_cast<int64_t>(placesOfLine[origin->line].size()));
        placesOfLine[origin->line].push_back(i * kRows + row);
      }
  ASSERT_EQ(placesOfLine.size(), 500u);
  int64_t numPlaced = 0;
  for (const auto& [line, places] : placesOfLine) {
    EXPECT_EQ(places.back() - places.front() + 1,
              static_cast<int64_t>(places.size()));
    EXPECT_EQ(places.front() / kRows, places.back() / kRows);
    numPlaced += static_cast<int64_t>(places.size());
  }
  EXPECT_EQ(numPlaced, numTokens);
  EXPECT_GT(numTokens, source->numSequences() * kRows * 9 / 10);
}

TEST_F(ObjectiveTest, CountsWhatItTruncates) {
  // Five tokens fit with the last one as a label only; six do not.
  auto source =
      openText(pair("a", "bcd") + pair("a", "bcde") + pair("nothing fits", "x"),
               Objective::Sft, 4);
  ASSERT_TRUE(source.ok()) << source.status();
  ASSERT_EQ(source->numSequences(), 2);
  TrainingBatch batch = fillAll(*source);
  EXPECT_EQ(batch.ids, idsOf("abcdabcd"));
  EXPECT_THAT(batch.labels,
              ElementsAre('b', 'c', 'd', kEndOfText, 'b', 'c', 'd', 'e'));
  LayoutCounts counts = source->statistics().layout;
  EXPECT_EQ(counts.numTruncated, 2);
  EXPECT_EQ(counts.numTruncatedTokens, 1 + 14 - 5);
  EXPECT_EQ(counts.numDropped, 1);
  EXPECT_EQ(counts.numCounted, 8);
  auto none = openText(pair("nothing fits", "x"), Objective::Sft, 4);
  EXPECT_THAT(std::string(none.status().message()),
              ::testing::AllOf(HasSubstr("LLMC-E1205"), HasSubstr("--seq")));
}

TEST_F(ObjectiveTest, KeepsPairsTogether) {
  auto source = openText(preference("q", "yes", "no") +
                             preference("too long for it", "a", "b") +
                             preference("p", "", "long"),
                         Objective::Dpo, 5);
  ASSERT_TRUE(source.ok()) << source.status();
  ASSERT_EQ(source->numSequences(), 4);
  TrainingBatch batch = fillAll(*source);
  std::string zero(1, 0);
  EXPECT_EQ(batch.ids, idsOf("qyes^"
                             "qno^" +
                             zero + "p^" + zero + zero + zero + "plong"));
  EXPECT_THAT(batch.labels,
              ElementsAre('y', 'e', 's', kEndOfText, kIgnored, //
                          'n', 'o', kEndOfText, kIgnored, kIgnored, kEndOfText,
                          kIgnored, kIgnored, kIgnored, kIgnored, 'l', 'o', 'n',
                          'g', kEndOfText));
  EXPECT_THAT(batch.starts, ElementsAre(0, 0, 0, 0, 0, 0, 0, 0, 0, 4, //
                                        0, 0, 2, 3, 4, 0, 0, 0, 0, 0));
  EXPECT_EQ(source->statistics().layout.numDropped, 1);
  EXPECT_FALSE(source->trace(2, 0)->isRejected);
  EXPECT_TRUE(source->trace(3, 0)->isRejected);
  EXPECT_EQ(source->trace(3, 0)->line, 3);
  EXPECT_THAT(std::string(source->fill({.batch = 3}, batch).message()),
              HasSubstr("LLMC-E1209"));
  EXPECT_THAT(
      std::string(source->fill({.position = 1, .batch = 2}, batch).message()),
      HasSubstr("LLMC-E1209"));
}

TEST_F(ObjectiveTest, ShufflesPairsAsOne) {
  std::string text;
  for (int i = 0; i < 9; ++i)
    text += preference("q", std::string(1, 'a' + i), std::string(1, 'A' + i));
  DataOptions options = optionsOf({write("data.jsonl", text)}, Objective::Dpo);
  auto source = open(options, {.numRows = 4, .seed = 2});
  ASSERT_TRUE(source.ok()) << source.status();
  TrainingBatch batch;
  ASSERT_EQ(source->fill({.batch = 36}, batch), absl::OkStatus());
  std::map<int32_t, int> numSeen;
  for (size_t i = 0; i < 36; i += 2) {
    int32_t chosen = batch.ids[i * 4 + 1], rejected = batch.ids[i * 4 + 5];
    EXPECT_EQ(rejected, chosen - 'a' + 'A');
    ++numSeen[chosen];
  }
  EXPECT_EQ(numSeen.size(), 9u);
  for (const auto& [id, count] : numSeen)
    EXPECT_EQ(count, 2) << id;
}

} // namespace
} // namespace llmrt
