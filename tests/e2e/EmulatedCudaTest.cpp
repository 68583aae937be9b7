// SPDX-License-Identifier: Apache-2.0
// Whole plans for cuda without a GPU: the executor's commands on a device that
// runs hand-tuned kernels from their sources and generated ones from their LLVM
// IR, a fiber for each thread of a block. Every family's tiny model gives the
// logits that its plan for cpu gives, in prefill, decode and scoring.
#include "tests/codegen/CudaKernels.h"
#include "tests/e2e/CudaParity.h"
#include "tests/support/cuda/RecordingDevice.h"

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
    numReplays_ = numLaunches_ = numLibraryLaunches_ = 0;
    request.device = [&](const fb::Stage& stage) {
      test::RecordingOptions options;
      options.generated = [this](const std::string& symbol,
                                 const uint64_t* words, int64_t numBlocks) {
        return kernels_->run(symbol, words, numBlocks);
      };
      options.poisoned = valuesOfOneCall(stage);
      options.sharesHostMemory = sharesHostMemory;
      options.observe = [this](const test::RecordedCommand& command) {
        numReplays_ += command.kind == test::CommandKind::Replay;
        numLaunches_ += command.kind == test::CommandKind::Launch;
        numLibraryLaunches_ += command.isByLibrary;
      };
      options.hasCublasLt = hasCublasLt;
      return test::createRecordingDevice(options);
    };
    return runPlan(request);
  }

  // Of the last run: what was launched, or captured to be launched later.
  int64_t numReplays() const { return numReplays_; }

  int64_t numLaunches() const { return numLaunches_; }

  int64_t numLibraryLaunches() const { return numLibraryLaunches_; }

  bool hasCublasLt = false;

private:
  std::atomic<int64_t> numReplays_{0}, numLaunches_{0}, numLibraryLaunches_{0};
  std::string dump_ = temporaryPath("emulated.mlir");
  std::string path_ = temporaryPath("emulated.fb");
  std::optional<llmc::EmulatedKernels> kernels_;
};

class EmulatedCuda : public testing::TestWithParam<CudaCase> {
protected:
  void SetUp() override {
    const CudaCase& c = GetParam();
    absl::Status compiled =
        compilePlan(c.folder(), cpuPlan_, c.compileOptions());
    ASSERT_TRUE(compiled.ok()) << compiled;
    compiled = cuda_.compile(c.folder(), c.compileOptions());
    ASSERT_TRUE(compiled.ok()) << compiled;
  }

  void TearDown() override { std::filesystem::remove(cpuPlan_); }

  std::string cpuPlan_ = temporaryPath("cpu.fb");
  EmulatedPlan cuda_;
};

TEST_P(EmulatedCuda, GivesTheLogitsOfTheCpu) {
  // Ranks are threads with a device each, which the host's memory connects.
  expectLogitsOfCpu(GetParam(), cpuPlan_, [&](RunRequest request) {
    return cuda_.run(std::move(request),
                     /*sharesHostMemory=*/*GetParam().mesh != 0);
  });
}

class EmulatedCudaFamily : public EmulatedCuda {};

// Prefill and scoring have rows enough; weights that are not bf16 never go
// there.
TEST_P(EmulatedCudaFamily, CublasLtGivesTheLogitsOfTheCpu) {
  cuda_.hasCublasLt = true;
  int64_t numByLibrary = 0;
  expectLogitsOfCpu(GetParam(), cpuPlan_, [&](RunRequest request) {
    absl::StatusOr<RunResult> result = cuda_.run(std::move(request));
    numByLibrary += cuda_.numLibraryLaunches();
    return result;
  });
  EXPECT_EQ(numByLibrary > 0, std::string(GetParam().dtype) == "bf16");
}

// Every call but the first two of its kind is a graph, with the same bits.
TEST_P(EmulatedCudaFamily, GraphsGiveTheBitsOfSingleCommands) {
  RunRequest request;
  request.weights = GetParam().folder();
  request.tokens = readTokens(request.weights + "/tokens.json", "tokens");
  request.tokens.resize(33);
  request.prefill = 7;
  request.chunk = 7;
  request.greedy = 3;
  request.usesGraphs = false;
  absl::StatusOr<RunResult> commands = cuda_.run(request);
  ASSERT_TRUE(commands.ok()) << commands.status();
  EXPECT_EQ(cuda_.numReplays(), 0);
  const int64_t numLaunches = cuda_.numLaunches();
  request.usesGraphs = true;
  absl::StatusOr<RunResult> graphs = cuda_.run(request);
  ASSERT_TRUE(graphs.ok()) << graphs.status();
  EXPECT_EQ(graphs->logits, commands->logits);
  EXPECT_EQ(graphs->sampled, commands->sampled);
  // One graph for each decoded token but the first, which the second one made.
  const int64_t numDecoded =
      request.tokens.size() - request.prefill + request.greedy;
  EXPECT_EQ(cuda_.numReplays(), numDecoded - 1);
  // What remains: the first prefill and two decodes, instead of them all.
  EXPECT_LT(cuda_.numLaunches(), numLaunches / 5);
}

std::string nameOf(const testing::TestParamInfo<CudaCase>& info) {
  return info.param.name();
}

INSTANTIATE_TEST_SUITE_P(Families, EmulatedCuda, testing::ValuesIn(cudaCases()),
                         nameOf);
INSTANTIATE_TEST_SUITE_P(Families, EmulatedCudaFamily,
                         testing::ValuesIn(cudaCases()), nameOf);
INSTANTIATE_TEST_SUITE_P(Meshes, EmulatedCuda,
                         testing::ValuesIn(cudaMeshCases()), nameOf);

} // namespace
} // namespace llmrt
