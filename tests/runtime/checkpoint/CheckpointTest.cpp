// SPDX-License-Identifier: Apache-2.0
// Checkpoints are the same bytes whoever writes them, and are read back whole
// or in part.
#include "runtime/base/Error.h"
#include "runtime/checkpoint/CheckpointFolder.h"
#include "runtime/io/WeightSource.h"
#include "tests/runtime/checkpoint/CheckpointCases.h"
#include "tests/runtime/io/FolderTest.h"

#include "absl/strings/str_cat.h"

#include <fstream>
#include <gmock/gmock.h>
#include <set>

namespace llmrt::testing {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::UnorderedElementsAre;

std::string readAll(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

std::set<std::string> namesIn(const std::string& folder) {
  std::set<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(folder))
    names.insert(entry.path().filename().string());
  return names;
}

std::vector<absl::Status> allOk(int numRanks) {
  return std::vector<absl::Status>(numRanks);
}

class CheckpointTest : public FolderTest {};

TEST_F(CheckpointTest, RanksWriteEqualBytes) {
  for (int numRanks : {1, 2, 3}) {
    std::string folder = pathOf(absl::StrCat("by", numRanks));
    ASSERT_EQ(save(smallRequest(folder, 100), numRanks), allOk(numRanks));
    EXPECT_THAT(namesIn(folder), UnorderedElementsAre("step-00000100"));
    std::string path = folder + "/step-00000100";
    EXPECT_EQ(compareWithValues(path, 100), "");
    EXPECT_THAT(namesIn(path), UnorderedElementsAre("model.safetensors",
                                                    "optimizer.safetensors",
                                                    "checkpoint.json"));
    for (const std::string& name : namesIn(path))
      EXPECT_EQ(readAll(path + "/" + name),
                readAll(pathOf("by1/step-00000100/") + name))
          << name << " by " << numRanks;
  }
}

TEST_F(CheckpointTest, KeepsTheStateOfTheRun) {
  CheckpointRequest request = smallRequest(pathOf("c"), 7);
  ASSERT_EQ(save(request, 1), allOk(1));
  auto checkpoint = Checkpoint::open(pathOf("c/step-00000007"));
  ASSERT_TRUE(checkpoint.ok()) << checkpoint.status();
  const CheckpointMeta& meta = (*checkpoint)->meta();
  EXPECT_EQ(meta.updates, 6);
  EXPECT_EQ(meta.epoch, 2);
  EXPECT_EQ(meta.dataPosition, 4711);
  EXPECT_EQ(meta.tokens, int64_t{1} << 40);
  EXPECT_EQ(meta.seed, ~uint64_t{0});
  EXPECT_EQ(meta.options, request.meta.options);
  EXPECT_EQ(meta.mesh, "dp=2,tp=3");
  EXPECT_EQ(meta.notes, request.meta.notes);
  ASSERT_EQ(meta.sources.size(), 2u);
  EXPECT_EQ(meta.sources[0].source, "wte.weight");
  EXPECT_EQ(meta.sources[0].rowEnd, -1);
  EXPECT_FALSE(meta.sources[0].isTransposed);
  EXPECT_EQ(meta.sources[1].rowBegin, 6);
  EXPECT_EQ(meta.sources[1].rowEnd, 12);
  EXPECT_TRUE(meta.sources[1].isTransposed);
}

TEST_F(CheckpointTest, SplitsLargeParts) {
  CheckpointRequest request = smallRequest(pathOf("c"), 1);
  request.maxFileBytes = 150;
  ASSERT_EQ(save(request, 2), allOk(2));
  std::string path = pathOf("c/step-00000001");
  EXPECT_EQ(compareWithValues(path, 1), "");
  EXPECT_TRUE(namesIn(path).count("model-00001-of-00003.safetensors"));
  // What transformers would read: an index of the split part.
  auto weights = WeightSource::open(path);
  ASSERT_TRUE(weights.ok()) << weights.status();
  EXPECT_EQ((*weights)->tensors().size(), 6u);
  EXPECT_TRUE((*weights)->find("layers.0.w"));
}

TEST_F(CheckpointTest, ReadsPartsAndRefusesWhatIsNotThere) {
  ASSERT_EQ(save(smallRequest(pathOf("c"), 3), 1), allOk(1));
  auto opened = Checkpoint::open(pathOf("c/step-00000003"));
  ASSERT_TRUE(opened.ok()) << opened.status();
  const Checkpoint& checkpoint = **opened;
  float part[4];
  ASSERT_TRUE(checkpoint.read("layers.0.w", 11, absl::MakeSpan(part)).ok());
  for (int i = 0; i < 4; ++i)
    EXPECT_EQ(part[i], valueOf(*checkpoint.find("layers.0.w"), 11 + i, 3));
  float box[2 * 3];
  ASSERT_TRUE(checkpoint
                  .readBox("layers.0.cube",
                           {.rowBegin = 4,
                            .numRows = 2,
                            .colBegin = 1,
                            .numCols = 2,
                            .rowStride = 3},
                           box)
                  .ok());
  for (int i = 0; i < 2; ++i)
    for (int j = 0; j < 2; ++j)
      EXPECT_EQ(box[i * 3 + j], valueOf(*checkpoint.find("layers.0.cube"),
                                        (4 + i) * 4 + 1 + j, 3));
  EXPECT_EQ(checkpoint
                .readBox("layers.0.cube",
                         {.rowBegin = 5, .numRows = 2, .numCols = 1}, box)
                .code(),
            absl::StatusCode::kOutOfRange);
  EXPECT_EQ(checkpoint.read("layers.0.w", 57, absl::MakeSpan(part)).code(),
            absl::StatusCode::kOutOfRange);
  EXPECT_THAT(
      std::string(checkpoint.read("head", 0, absl::MakeSpan(part)).message()),
      HasSubstr("LLMC-E1304"));
  EXPECT_TRUE(checkpoint.require("embed", {7, 5}).ok());
  EXPECT_THAT(
      std::string(checkpoint.require("embed", {5, 7}).status().message()),
      HasSubstr("has shape [7, 5], the model's has [5, 7]"));
}

TEST_F(CheckpointTest, VerifiesTensorsOfSeveralChecksums) {
  CheckpointRequest request = smallRequest(pathOf("c"), 1);
  request.tensors = {
      {"big", CheckpointPart::Model, SourceType::F32, {5000, 1000}}};
  ASSERT_EQ(save(request, 2), allOk(2));
  auto checkpoint = Checkpoint::open(pathOf("c/step-00000001"));
  ASSERT_TRUE(checkpoint.ok()) << checkpoint.status();
  std::vector<float> values(10);
  EXPECT_TRUE(
      (*checkpoint)->read("big", 4'194'300, absl::MakeSpan(values)).ok());
  // A change in the second part of the tensor leaves the first readable.
  std::fstream file(pathOf("c/step-00000001/model.safetensors"),
                    std::ios::in | std::ios::out | std::ios::binary);
  file.seekp(-1, std::ios::end).put('\x55');
  file.close();
  checkpoint = Checkpoint::open(pathOf("c/step-00000001"));
  EXPECT_TRUE(
      (*checkpoint)->read("big", 4'194'294, absl::MakeSpan(values)).ok());
  EXPECT_THAT(std::string((*checkpoint)
                              ->read("big", 4'194'295, absl::MakeSpan(values))
                              .message()),
              ::testing::AllOf(HasSubstr("LLMC-E1302"), HasSubstr("tensor big"),
                               HasSubstr("model.safetensors")));
  auto unverified =
      Checkpoint::open(pathOf("c/step-00000001"), {.verifyChecksums = false});
  EXPECT_TRUE(
      (*unverified)->read("big", 4'194'295, absl::MakeSpan(values)).ok());
}

TEST_F(CheckpointTest, KeepsTheLastAndClearsWhatDiedHalfway) {
  std::string folder = pathOf("c");
  for (int64_t step : {10, 20, 30}) {
    CheckpointRequest request = smallRequest(folder, step);
    request.keep = 2;
    std::filesystem::create_directories(folder + "/.step-00000015.partial");
    std::filesystem::create_directories(folder + "/unrelated");
    ASSERT_EQ(save(request, 2), allOk(2));
  }
  EXPECT_THAT(
      namesIn(folder),
      UnorderedElementsAre("step-00000020", "step-00000030", "unrelated"));
  // A damaged one does not count, and a good one is not deleted for it.
  std::filesystem::resize_file(folder + "/step-00000030/model.safetensors", 9);
  CheckpointRequest request = smallRequest(folder, 40);
  request.keep = 2;
  ASSERT_EQ(save(request, 1), allOk(1));
  EXPECT_THAT(listCheckpointSteps(folder), ElementsAre(20, 30, 40));
}

TEST_F(CheckpointTest, ReplacesTheSameStep) {
  std::string folder = pathOf("c");
  ASSERT_EQ(save(smallRequest(folder, 5), 1), allOk(1));
  std::filesystem::resize_file(folder + "/step-00000005/model.safetensors", 9);
  ASSERT_EQ(save(smallRequest(folder, 5), 2), allOk(2));
  EXPECT_EQ(compareWithValues(folder + "/step-00000005", 5), "");
  EXPECT_THAT(namesIn(folder), UnorderedElementsAre("step-00000005"));
}

TEST_F(CheckpointTest, FindsTheNewestThatIsWhole) {
  std::string folder = pathOf("c");
  EXPECT_THAT(
      std::string(findNewestCheckpoint(folder, nullptr).status().message()),
      HasSubstr("LLMC-E1301"));
  for (int64_t step : {10, 20, 30, 100'000'000})
    ASSERT_EQ(save(smallRequest(folder, step), 1), allOk(1));
  std::filesystem::create_directories(folder + "/.step-00000040.partial");
  std::filesystem::remove(folder + "/step-100000000/checkpoint.json");
  std::fstream file(folder + "/step-00000030/optimizer.safetensors",
                    std::ios::in | std::ios::out | std::ios::binary);
  file.seekp(-2, std::ios::end).put('\x55');
  file.close();
  for (int numRanks : {1, 3})
    EXPECT_EQ(
        runOnRanks(numRanks,
                   [&](Communicator* communicator) {
                     auto found = findNewestCheckpoint(folder, communicator);
                     if (!found.ok())
                       return found.status();
                     EXPECT_EQ(found->step, 20);
                     EXPECT_EQ(found->path, folder + "/step-00000020");
                     EXPECT_THAT(
                         found->messages,
                         ElementsAre(HasSubstr("step-100000000"),
                                     ::testing::AllOf(
                                         HasSubstr("optimizer.safetensors"),
                                         HasSubstr("checksum of tensor"))));
                     return absl::OkStatus();
                   }),
        allOk(numRanks));
}

TEST_F(CheckpointTest, SaysWhatNobodyWrote) {
  CheckpointRequest request = smallRequest(pathOf("c"), 5);
  for (const absl::Status& status :
       runOnRanks(2, [&](Communicator* communicator) {
         auto writer = CheckpointWriter::begin(request, communicator);
         if (communicator->rank() == 1)
           writeOwnPart(**writer, request, 1, 2);
         return (*writer)->commit().status();
       }))
    EXPECT_THAT(std::string(status.message()),
                HasSubstr("elements of tensor embed were written"));
  EXPECT_TRUE(namesIn(pathOf("c")).empty());
}

} // namespace
} // namespace llmrt::testing
