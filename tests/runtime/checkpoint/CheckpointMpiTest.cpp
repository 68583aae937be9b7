// SPDX-License-Identifier: Apache-2.0
// Ranks that are MPI processes write the bytes that one rank writes, and agree
// on errors. Run under mpirun; every process runs every test.
#include "runtime/checkpoint/CheckpointFolder.h"
#include "tests/runtime/checkpoint/CheckpointCases.h"

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <gmock/gmock.h>
#include <numeric>

namespace llmrt::testing {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

std::string readAll(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

class CheckpointMpiTest : public ::testing::Test {
protected:
  void SetUp() override {
    auto fabric = createMpiFabric({});
    ASSERT_TRUE(fabric.ok()) << fabric.status();
    fabric_ = *std::move(fabric);
    std::vector<int> ranks(fabric_->size());
    std::iota(ranks.begin(), ranks.end(), 0);
    auto communicator = fabric_->createCommunicator(ranks);
    ASSERT_TRUE(communicator.ok()) << communicator.status();
    communicator_ = *std::move(communicator);
    char name[64] = "/tmp/llmrtXXXXXX";
    if (communicator_->rank() == 0) {
      ASSERT_NE(mkdtemp(name), nullptr);
    }
    ASSERT_TRUE(communicator_->broadcast(name, sizeof(name), 0, {}).ok());
    folder_ = name;
  }

  void TearDown() override {
    ASSERT_TRUE(communicator_->barrier({}).ok());
    if (communicator_->rank() == 0)
      std::filesystem::remove_all(folder_);
  }

  std::unique_ptr<Fabric> fabric_;
  std::unique_ptr<Communicator> communicator_;
  std::string folder_;
};

TEST_F(CheckpointMpiTest, WritesTheBytesOfOneRank) {
  CheckpointRequest request = smallRequest(folder_ + "/c", 9);
  auto writer = CheckpointWriter::begin(request, communicator_.get());
  ASSERT_TRUE(writer.ok()) << writer.status();
  writeOwnPart(**writer, request, communicator_->rank(), communicator_->size());
  auto result = (*writer)->commit();
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_EQ(compareWithValues(result->path, 9), "");
  auto found = findNewestCheckpoint(folder_ + "/c", communicator_.get());
  ASSERT_TRUE(found.ok()) << found.status();
  EXPECT_EQ(found->step, 9);
  if (communicator_->rank() != 0)
    return;
  ASSERT_TRUE(save(smallRequest(folder_ + "/one", 9), 1)[0].ok());
  for (const char* name :
       {"model.safetensors", "optimizer.safetensors", "checkpoint.json"})
    EXPECT_EQ(readAll(result->path + "/" + name),
              readAll(folder_ + "/one/step-00000009/" + name))
        << name;
}

TEST_F(CheckpointMpiTest, AgreesOnTheErrorOfOneRank) {
  CheckpointRequest request = smallRequest(folder_ + "/c", 9);
  auto writer = CheckpointWriter::begin(request, communicator_.get());
  ASSERT_TRUE(writer.ok()) << writer.status();
  int last = communicator_->size() - 1;
  if (communicator_->rank() == last)
    std::filesystem::remove_all(folder_ + "/c");
  ASSERT_TRUE(communicator_->barrier({}).ok());
  writeOwnPart(**writer, request, communicator_->rank(), communicator_->size());
  EXPECT_THAT(std::string((*writer)->commit().status().message()),
              AllOf(HasSubstr("LLMC-E1305"), HasSubstr("(rank ")));
}

} // namespace
} // namespace llmrt::testing
