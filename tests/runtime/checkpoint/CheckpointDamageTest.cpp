// SPDX-License-Identifier: Apache-2.0
// Saves that fail tell every rank the same and leave the older checkpoints;
// damaged checkpoints are refused whatever the damage.
#include "runtime/base/Crc64.h"
#include "runtime/checkpoint/CheckpointFolder.h"
#include "tests/runtime/checkpoint/CheckpointCases.h"
#include "tests/runtime/io/FolderTest.h"

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_replace.h"

#include <fstream>
#include <gmock/gmock.h>

namespace llmrt::testing {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

std::string readAll(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

void writeAll(const std::string& path, const std::string& text) {
  std::ofstream(path, std::ios::binary) << text;
}

class CheckpointDamageTest : public FolderTest {};

TEST_F(CheckpointDamageTest, UnwritableFolder) {
  writeAll(pathOf("file"), "");
  for (int numRanks : {1, 3})
    for (const absl::Status& status :
         save(smallRequest(pathOf("file/c"), 1), numRanks))
      EXPECT_THAT(std::string(status.message()),
                  AllOf(HasSubstr("LLMC-E0104"), HasSubstr("file/c")));
}

TEST_F(CheckpointDamageTest, FolderThatVanishes) {
  std::string folder = pathOf("c");
  ASSERT_TRUE(save(smallRequest(folder, 1), 1)[0].ok());
  CheckpointRequest request = smallRequest(folder, 2);
  // Before the ranks beside rank 0 open its files, and after all have.
  for (bool isEarly : {true, false}) {
    std::vector<absl::Status> statuses =
        runOnRanks(3, [&](Communicator* communicator) {
          auto writer = CheckpointWriter::begin(request, communicator);
          if (!writer.ok())
            return writer.status();
          auto vanish = [&] {
            (void)communicator->barrier({});
            if (communicator->rank() == 2)
              std::filesystem::remove_all(folder + "/" +
                                          partialCheckpointName(2));
            (void)communicator->barrier({});
          };
          if (isEarly)
            vanish();
          writeOwnPart(**writer, request, communicator->rank(), 3);
          if (!isEarly)
            vanish();
          return (*writer)->commit().status();
        });
    for (const absl::Status& status : statuses) {
      EXPECT_THAT(std::string(status.message()),
                  AllOf(HasSubstr("LLMC-E1305"), HasSubstr("(rank ")));
      EXPECT_EQ(status, statuses[0]);
    }
    EXPECT_EQ(compareWithValues(folder + "/step-00000001", 1), "");
    EXPECT_EQ(numFiles(), 1u);
  }
  EXPECT_TRUE(save(request, 3)[0].ok());
}

TEST_F(CheckpointDamageTest, TensorsThatCannotBeHeld) {
  CheckpointRequest request = smallRequest(pathOf("c"), 1);
  request.tensors.push_back(request.tensors[0]);
  for (const absl::Status& status : save(request, 2))
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  request = smallRequest(pathOf("c"), 1);
  request.tensors[0].dtype = SourceType::I64;
  EXPECT_EQ(save(request, 1)[0].code(), absl::StatusCode::kInvalidArgument);
  EXPECT_FALSE(std::filesystem::exists(pathOf("c")));
}

TEST_F(CheckpointDamageTest, WritesOutsideATensor) {
  CheckpointRequest request = smallRequest(pathOf("c"), 1);
  const float values[8] = {};
  auto writer = CheckpointWriter::begin(request, nullptr);
  ASSERT_TRUE(writer.ok());
  EXPECT_FALSE((*writer)->write("norm", 3, absl::MakeConstSpan(values)).ok());
  EXPECT_FALSE((*writer)->commit().ok());
  writer = CheckpointWriter::begin(request, nullptr);
  EXPECT_FALSE((*writer)
                   ->writeBox("embed",
                              {.rowBegin = 6, .numRows = 2, .numCols = 1},
                              values)
                   .ok());
  writer->reset();
  EXPECT_TRUE(std::filesystem::is_empty(pathOf("c")));
}

TEST_F(CheckpointDamageTest, AnyChangedByteOfTheDescription) {
  ASSERT_TRUE(save(smallRequest(pathOf("c"), 1), 1)[0].ok());
  std::string json = pathOf("c/step-00000001/checkpoint.json");
  const std::string good = readAll(json);
  for (size_t i = 0; i < good.size(); i += 7) {
    std::string bad = good;
    bad[i] ^= 4;
    writeAll(json, bad);
    auto opened = Checkpoint::open(pathOf("c/step-00000001"));
    ASSERT_THAT(std::string(opened.status().message()),
                AllOf(HasSubstr("LLMC-E1302"), HasSubstr("checkpoint.json")))
        << "byte " << i;
  }
  for (size_t length :
       {size_t{0}, size_t{1}, good.size() / 2, good.size() - 1}) {
    writeAll(json, good.substr(0, length));
    EXPECT_FALSE(Checkpoint::open(pathOf("c/step-00000001")).ok());
  }
}

// Replaces a text of checkpoint.json and makes its checksum right again.
std::string withChange(const std::string& good, const std::string& from,
                       const std::string& to) {
  size_t tail = good.rfind(",\n\"checksum\"");
  std::string body = good.substr(0, tail);
  EXPECT_THAT(body, HasSubstr(from));
  body = absl::StrReplaceAll(body, {{from, to}});
  uint64_t checksum = crc64(absl::MakeConstSpan(
      reinterpret_cast<const uint8_t*>(body.data()), body.size()));
  return absl::StrCat(body, ",\n\"checksum\": \"",
                      absl::StrFormat("%016x", checksum), "\"\n}\n");
}

TEST_F(CheckpointDamageTest, DescriptionsThatLie) {
  ASSERT_TRUE(save(smallRequest(pathOf("c"), 1), 1)[0].ok());
  std::string json = pathOf("c/step-00000001/checkpoint.json");
  const std::string good = readAll(json);
  auto messageWith = [&](const std::string& from, const std::string& to) {
    writeAll(json, withChange(good, from, to));
    return std::string(
        Checkpoint::open(pathOf("c/step-00000001")).status().message());
  };
  EXPECT_EQ(messageWith("{", "{"), "");
  EXPECT_THAT(messageWith("\"version\": 1", "\"version\": 2"),
              HasSubstr("LLMC-E1303"));
  EXPECT_THAT(messageWith("llmc-checkpoint", "other"), HasSubstr("LLMC-E1302"));
  EXPECT_THAT(messageWith("\"step\": 1", "\"step\": \"1\""),
              HasSubstr("no valid step"));
  EXPECT_THAT(messageWith("\"seed\": 1", "\"seed\": -1"),
              HasSubstr("no valid seed"));
  EXPECT_THAT(messageWith("\"model.safetensors\"", "\"../m\""),
              HasSubstr("no valid name"));
  EXPECT_THAT(messageWith("\"size_bytes\": ", "\"size_bytes\": 1"),
              HasSubstr("bytes, not 1"));
  EXPECT_THAT(messageWith("\"norm\"", "\"gone\""), HasSubstr("tensor norm"));
  EXPECT_THAT(messageWith("\"BF16\"", "\"F32\""), HasSubstr("tensor"));
  EXPECT_THAT(messageWith("\"dtype\": \"BF16\"", "\"dtype\": \"I8\""),
              HasSubstr("no valid dtype"));
  EXPECT_THAT(messageWith("\"part\": \"model\"", "\"part\": \"m\""),
              HasSubstr("no valid part"));
  EXPECT_THAT(messageWith("\"checksums\"", "\"checksum\""),
              HasSubstr("no valid checksums"));
  EXPECT_THAT(messageWith("\"tensors\": [", "\"tensors\": [3, "),
              HasSubstr("no valid name"));
  EXPECT_THAT(messageWith("\"rows\": [", "\"rows\": [12,"),
              HasSubstr("no valid rows"));
}

TEST_F(CheckpointDamageTest, MissingAndShortFiles) {
  ASSERT_TRUE(save(smallRequest(pathOf("c"), 1), 1)[0].ok());
  std::string path = pathOf("c/step-00000001");
  std::filesystem::resize_file(path + "/optimizer.safetensors", 100);
  EXPECT_THAT(std::string(Checkpoint::open(path).status().message()),
              AllOf(HasSubstr("LLMC-E1302"),
                    HasSubstr("optimizer.safetensors: has 100 bytes")));
  std::filesystem::remove(path + "/optimizer.safetensors");
  EXPECT_THAT(
      std::string(Checkpoint::open(path).status().message()),
      AllOf(HasSubstr("LLMC-E1302"), HasSubstr("optimizer.safetensors")));
  EXPECT_THAT(
      std::string(
          findNewestCheckpoint(pathOf("c"), nullptr).status().message()),
      HasSubstr("LLMC-E1302"));
}

} // namespace
} // namespace llmrt::testing
