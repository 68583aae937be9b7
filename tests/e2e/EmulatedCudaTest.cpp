// SPDX-License-Identifier: Apache-2.0
// Whole plans for cuda without a GPU: the executor's commands on a device that
// runs hand-tuned kernels from their sources and generated ones from their LLVM
// IR, a fiber for each thread of a block. Every family's tiny model gives the
// logits that its plan for cpu gives, in prefill, decode and scoring.
#include "tests/codegen/CudaKernels.h"
#include "tests/e2e/CudaParity.h"
#include "tests/support/cuda/RecordingDevice.h"

#include <gtest/gtest.h>

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

/// The plan of a model for cuda, with its generated kernels for the host.
class EmulatedPlan {
public:
  /// Error  what llmc printed.
  absl::Status compile(const std::string& model,
                       std::vector<std::string> options) {
    options.push_back("--target=cuda:ptx");
    options.push_back("--compile-to=kernels");
    absl::Status status = compilePlan(model, dump_, options);
    if (!status.ok())
      return status;
    kernels_.emplace(llmc::EmulatedKernels::ofDump(dump_));
    return compilePlan(dump_, path_, {"--compile-from=kernels"});
  }

  ~EmulatedPlan() {
    std::filesystem::remove(dump_);
    std::filesystem::remove(path_);
  }

  absl::StatusOr<RunResult> run(RunRequest request,
                                bool sharesHostMemory = false) {
    request.plan = path_;
    request.device = [&](const fb::Stage& stage) {
      test::RecordingOptions options;
      options.generated = [this](const std::string& symbol,
                                 const uint64_t* words, int64_t numBlocks) {
        return kernels_->run(symbol, words, numBlocks);
      };
      options.poisoned = valuesOfOneCall(stage);
      options.sharesHostMemory = sharesHostMemory;
      return test::createRecordingDevice(options);
    };
    return runPlan(request);
  }

private:
  std::string dump_ = temporaryPath("emulated.mlir");
  std::string path_ = temporaryPath("emulated.fb");
  std::optional<llmc::EmulatedKernels> kernels_;
};

class EmulatedCuda : public testing::TestWithParam<CudaCase> {};

TEST_P(EmulatedCuda, GivesTheLogitsOfTheCpu) {
  const CudaCase& c = GetParam();
  std::string cpuPlan = temporaryPath("cpu.fb");
  absl::Status compiled = compilePlan(c.folder(), cpuPlan, c.compileOptions());
  ASSERT_TRUE(compiled.ok()) << compiled;
  EmulatedPlan cuda;
  compiled = cuda.compile(c.folder(), c.compileOptions());
  ASSERT_TRUE(compiled.ok()) << compiled;
  // Ranks are threads with a device each, which the host's memory connects.
  expectLogitsOfCpu(c, cpuPlan, [&](RunRequest request) {
    return cuda.run(std::move(request), /*sharesHostMemory=*/*c.mesh != 0);
  });
  std::filesystem::remove(cpuPlan);
}

std::string nameOf(const testing::TestParamInfo<CudaCase>& info) {
  return info.param.name();
}

INSTANTIATE_TEST_SUITE_P(Families, EmulatedCuda, testing::ValuesIn(cudaCases()),
                         nameOf);
INSTANTIATE_TEST_SUITE_P(Meshes, EmulatedCuda,
                         testing::ValuesIn(cudaMeshCases()), nameOf);

} // namespace
} // namespace llmrt
