// SPDX-License-Identifier: Apache-2.0
// Batches by hand: the byte tokenizer makes every id visible.
#include "tests/runtime/data/DataTest.h"

#include <algorithm>
#include <map>
#include <set>

namespace llmrt {
namespace {

using ::testing::ElementsAre;
using testing::fillAll;
using ::testing::HasSubstr;
using testing::Ids;
using testing::idsOf;
using testing::kEndOfText;
using testing::kIgnored;

class BatchSourceTest : public testing::DataTest {};

std::string textLines(int count) {
  std::string lines;
  for (int i = 0; i < count; ++i)
    lines +=
        "{\"text\": \"" + std::string(1 + i * 7 % 11, 'a' + i % 26) + "\"}\n";
  return lines;
}

// Three documents abc^ d^ efgh^ in sequences of four: the stream is cut, no
// token is lost, attention starts again at each document.
TEST_F(BatchSourceTest, CutsAStreamOfDocuments) {
  auto source = openText(R"({"text": "abc"}
{"text": "d"}

{"text": "efgh", "meta": {"a": [1]}})",
                         Objective::Pretrain, 4);
  ASSERT_TRUE(source.ok()) << source.status();
  EXPECT_EQ(source->numTokens(), 11);
  ASSERT_EQ(source->numSequences(), 3);
  TrainingBatch batch = fillAll(*source);
  EXPECT_EQ(batch.ids, idsOf("abc^"
                             "d^ef"
                             "gh^" +
                             std::string(1, 0)));
  EXPECT_THAT(batch.positions, ElementsAre(0, 1, 2, 3, 0, 1, 0, 1, 0, 1, 2, 0));
  EXPECT_THAT(batch.starts, ElementsAre(0, 0, 0, 0, 0, 0, 2, 2, 0, 0, 0, 3));
  EXPECT_THAT(batch.labels,
              ElementsAre('b', 'c', kEndOfText, kIgnored, kEndOfText, kIgnored,
                          'f', 'g', 'h', kEndOfText, kIgnored, kIgnored));
  EXPECT_EQ(source->statistics().layout.numCounted, 8);

  auto origin = source->trace(1, 3); // 'f'
  ASSERT_TRUE(origin.ok()) << origin.status();
  EXPECT_EQ(origin->file, pathOf("data.jsonl"));
  EXPECT_EQ(origin->line, 4);
  EXPECT_EQ(origin->token, 1);
  EXPECT_EQ(source->trace(2, 3).status().code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(source->trace(3, 0).status().code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(source->trace(0, -1).status().code(), absl::StatusCode::kNotFound);
}

// The last token of the stream has no label: it needs no sequence.
TEST_F(BatchSourceTest, EndsBeforeARowWithoutALabel) {
  auto source = openText("{\"text\": \"abcd\"}", Objective::Pretrain, 4);
  ASSERT_TRUE(source.ok()) << source.status();
  EXPECT_EQ(source->numSequences(), 1);
  EXPECT_EQ(fillAll(*source).labels, idsOf("bcd^"));
}

// Every label of the stream appears once, whatever the length of a sequence.
TEST_F(BatchSourceTest, LosesNoTokenAtAnyLength) {
  std::string text = textLines(23);
  for (int64_t numRows : {1, 2, 3, 5, 8, 64, 1000}) {
    auto source = openText(text, Objective::Pretrain, numRows);
    ASSERT_TRUE(source.ok()) << source.status();
    TrainingBatch batch = fillAll(*source);
    int64_t numLabels = std::count_if(batch.labels.begin(), batch.labels.end(),
                                      [](int32_t id) { return id >= 0; });
    EXPECT_EQ(numLabels, source->numTokens() - 23) << numRows;
    EXPECT_EQ(source->statistics().layout.numCounted, numLabels);
    for (size_t i = 0; i < batch.ids.size(); ++i) {
      auto row = static_cast<int64_t>(i) % numRows;
      EXPECT_EQ(batch.positions[i], row - batch.starts[i]);
    }
  }
}

TEST_F(BatchSourceTest, SplitsAStepTheSameWayForAnyMesh) {
  DataOptions options = optionsOf({write("data.jsonl", textLines(40))});
  auto source = open(options, {.numRows = 5, .seed = 3});
  ASSERT_TRUE(source.ok()) << source.status();
  TrainingBatch whole;
  ASSERT_EQ(source->fill({.position = 36, .batch = 12}, whole),
            absl::OkStatus());
  for (int64_t dataRanks : {1, 2, 3, 4, 6})
    for (int64_t microBatches : {1, 2, 3}) {
      if (12 % (dataRanks * microBatches) != 0)
        continue;
      TrainingBatch joined, part;
      for (int64_t rank = 0; rank < dataRanks; ++rank)
        for (int64_t micro = 0; micro < microBatches; ++micro) {
          ASSERT_EQ(source->fill({36, 12, dataRanks, microBatches, rank, micro},
                                 part),
                    absl::OkStatus());
          EXPECT_EQ(part.numSequences, 12 / dataRanks / microBatches);
          joined.ids.insert(joined.ids.end(), part.ids.begin(), part.ids.end());
          joined.labels.insert(joined.labels.end(), part.labels.begin(),
                               part.labels.end());
          joined.starts.insert(joined.starts.end(), part.starts.begin(),
                               part.starts.end());
        }
      EXPECT_EQ(joined.ids, whole.ids);
      EXPECT_EQ(joined.labels, whole.labels);
      EXPECT_EQ(joined.starts, whole.starts);
    }
}

// Steps of a size that does not divide the epoch: each sequence is seen exactly
// once in each epoch, in another order, and the same after a resume.
TEST_F(BatchSourceTest, CoversEachEpochOnce) {
  DataOptions options = optionsOf({write("data.jsonl", textLines(50))});
  auto source = open(options, {.numRows = 3, .seed = 11});
  auto resumed = open(options, {.numRows = 3, .seed = 11});
  auto other = open(options, {.numRows = 3, .seed = 12});
  ASSERT_TRUE(source.ok() && resumed.ok() && other.ok());
  EXPECT_TRUE(report_.isReused);
  int64_t count = source->numSequences();
  ASSERT_NE(count % 7, 0);
  std::vector<std::pair<int64_t, int64_t>> order;
  int numDifferent = 0;
  for (int64_t position = 0; position < 3 * count; position += 7) {
    TrainingBatch batch, again, differing;
    ASSERT_EQ(source->fill({.position = position, .batch = 7}, batch),
              absl::OkStatus());
    ASSERT_EQ(resumed->fill({.position = position, .batch = 7}, again),
              absl::OkStatus());
    ASSERT_EQ(other->fill({.position = position, .batch = 7}, differing),
              absl::OkStatus());
    EXPECT_EQ(batch.ids, again.ids);
    numDifferent += batch.ids != differing.ids;
    for (int64_t i = 0; i < 7; ++i) {
      auto origin = source->trace(position + i, 0);
      ASSERT_TRUE(origin.ok());
      order.emplace_back(origin->line, origin->token);
    }
  }
  EXPECT_GT(numDifferent, 3 * count / 7 - 3);
  auto begin = order.begin();
  std::set<std::pair<int64_t, int64_t>> first(begin, begin + count);
  std::set<std::pair<int64_t, int64_t>> second(begin + count,
                                               begin + 2 * count);
  EXPECT_EQ(static_cast<int64_t>(first.size()), count);
  EXPECT_EQ(first, second);
  EXPECT_FALSE(std::equal(begin, begin + count, begin + count));
  EXPECT_EQ(source->epoch(count - 1), 0);
  EXPECT_EQ(source->epoch(count), 1);
}

TEST_F(BatchSourceTest, PadsTheEndOfAnEvaluation) {
  auto source = openText(R"({"text": "ab"}
{"text": "cd"})",
                         Objective::Pretrain, 3);
  ASSERT_TRUE(source.ok()) << source.status();
  EXPECT_EQ(source->numSequences(), 2);
  EXPECT_EQ(source->numSteps(4), 1);
  TrainingBatch batch;
  ASSERT_EQ(source->fill({.batch = 4}, batch), absl::OkStatus());
  EXPECT_EQ(batch.ids, idsOf("ab^cd^" + std::string(6, 0)));
  EXPECT_TRUE(std::all_of(batch.labels.begin() + 6, batch.labels.end(),
                          [](int32_t label) { return label == kIgnored; }));
  EXPECT_EQ(Ids(batch.starts.begin() + 6, batch.starts.end()),
            (Ids{0, 1, 2, 0, 1, 2}));
}

TEST_F(BatchSourceTest, RefusesWhatDoesNotDivide) {
  auto source = openText("{\"text\": \"abcdefgh\"}", Objective::Pretrain, 2);
  ASSERT_TRUE(source.ok()) << source.status();
  TrainingBatch batch;
  for (const BatchPlace& place :
       {BatchPlace{0, 5, 2, 1, 0, 0}, BatchPlace{0, 4, 2, 3, 0, 0},
        BatchPlace{0, 0, 1, 1, 0, 0}, BatchPlace{-1, 4, 1, 1, 0, 0},
        BatchPlace{0, 4, 2, 1, 2, 0}, BatchPlace{0, 4, 2, 1, 0, 1}})
    EXPECT_THAT(std::string(source->fill(place, batch).message()),
                HasSubstr("LLMC-E1209"));
  EXPECT_THAT(
      std::string(open(optionsOf({pathOf("data.jsonl")}), {.numRows = 0})
                      .status()
                      .message()),
      HasSubstr("LLMC-E1209"));
}

} // namespace
} // namespace llmrt
