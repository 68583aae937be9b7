// SPDX-License-Identifier: Apache-2.0
#include "tests/e2e/EmulatedPlan.h"

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"

#include <gtest/gtest.h>

#include <atomic>
#include <filesystem>

namespace llmrt {
namespace {

/// What no entry may read before it has written it.
std::vector<test::ArenaBytes> valuesOfOneCall(const fb::Stage& stage) {
  std::vector<test::ArenaBytes> values;
  const auto& buffers = *stage.buffers();
  auto isOfOneCall = [](const fb::Buffer* buffer) {
    switch (buffer->memory_class()) {
    case fb::MemoryClass::Activations:
    case fb::MemoryClass::Communication:
    case fb::MemoryClass::GatheredParameters:
    case fb::MemoryClass::Outputs:
    case fb::MemoryClass::Workspace:
      return true;
    default:
      return false;
    }
  };
  for (const fb::Buffer* buffer : buffers) {
    if (buffer->space() != fb::MemorySpace::Device || !isOfOneCall(buffer))
      continue;
    values.push_back({buffer->offset(), buffer->size_bytes()});
    for (const fb::Buffer* other : buffers)
      EXPECT_TRUE(isOfOneCall(other) || other->space() != buffer->space() ||
                  other->offset() >= buffer->offset() + buffer->size_bytes() ||
                  buffer->offset() >= other->offset() + other->size_bytes())
          << buffer->name()->str() << " lies on " << other->name()->str();
  }
  EXPECT_FALSE(values.empty());
  return values;
}

std::string freshPath(const char* ending) {
  static std::atomic<int> number = 0;
  return temporaryPath(absl::StrCat("emulated", number++, ending));
}

} // namespace

EmulatedPlan::EmulatedPlan()
    : dump_(freshPath(".mlir")), path_(freshPath(".fb")) {}

EmulatedPlan::~EmulatedPlan() {
  std::filesystem::remove(dump_);
  std::filesystem::remove(path_);
}

absl::Status EmulatedPlan::compile(const std::string& model,
                                   std::vector<std::string> options) {
  options.push_back("--target=cuda:ptx");
  options.push_back("--compile-to=kernels");
  absl::Status status = compilePlan(model, dump_, options);
  if (!status.ok())
    return status;
  kernels_.emplace(llmc::EmulatedKernels::ofDump(dump_));
  return compilePlan(dump_, path_, {"--compile-from=kernels"});
}

absl::StatusOr<RunResult> EmulatedPlan::run(RunRequest request,
                                            bool sharesHostMemory) {
  request.plan = path_;
  numReplays_ = numLaunches_ = numLibraryLaunches_ = numWgmmaLaunches_ = 0;
  request.device = [&](const fb::Stage& stage) {
    return createDevice(stage, sharesHostMemory);
  };
  return runPlan(request);
}

std::unique_ptr<Device> EmulatedPlan::createDevice(const fb::Stage& stage,
                                                   bool sharesHostMemory) {
  test::RecordingOptions options;
  options.generated = [this](const std::string& symbol, const uint64_t* words,
                             int64_t numBlocks) {
    return kernels_->run(symbol, words, numBlocks);
  };
  options.poisoned = valuesOfOneCall(stage);
  options.sharesHostMemory = sharesHostMemory;
  options.observe = [this](const test::RecordedCommand& command) {
    numReplays_ += command.kind == test::CommandKind::Replay;
    numLaunches_ += command.kind == test::CommandKind::Launch;
    numLibraryLaunches_ += command.isByLibrary;
    numWgmmaLaunches_ += command.form.find("_wgmma_") != std::string::npos;
    numLibraryGradients_ +=
        command.isByLibrary && absl::StrContains(command.kernel, "gradient");
  };
  options.hasCublasLt = hasCublasLt;
  options.features = features;
  return test::createRecordingDevice(options);
}

} // namespace llmrt
