// SPDX-License-Identifier: Apache-2.0
// One launch as the executor makes it: every vector that an argument points
// into is copied to memory of the device, whole, and back. The device is the
// GPU, or one that emulates the kernels and closes its memory to the host.
#include "tests/kernels/cuda/CudaKernelCase.h"

#include "runtime/base/Error.h"
#include "runtime/plan/KernelSignatures.h"
#include "tests/support/HostBlocks.h"
#include "tests/support/WrongElements.h"
#include "tests/support/cuda/RecordingDevice.h"
#include "tests/support/cuda/TestGpu.h"

#include <array>
#include <cstdio>
#include <map>

namespace llmrt::testing {
namespace {

/// A launch with its memory on the device.
class DeviceRun {
public:
  DeviceRun(Device& device, const KernelSignature& kernel)
      : device_(device), kernel_(kernel) {}

  ~DeviceRun() {
    for (const auto& [begin, block] : blocks_)
      device_.release(block.copy);
    device_.release(words_);
  }

  absl::Status prepare(const uint64_t* words, int64_t rows) {
    hostWords_.assign(words, words + kernel_.words.size());
    for (size_t i = 0; i < hostWords_.size(); ++i)
      if (kernel_.types[i] == 'p' && hostWords_[i])
        LLMRT_RETURN_IF_ERROR(move(kernel_.words[i], hostWords_[i]));
    LLMRT_ASSIGN_OR_RETURN(void* memory,
                           device_.allocate(MemorySpace::Device,
                                            MemoryClass::Constants,
                                            hostWords_.size() * 8));
    words_ = static_cast<uint64_t*>(memory);
    LLMRT_ASSIGN_OR_RETURN(
        number_, device_.findHandTunedKernel(kernel_.name, kernel_.version));
    std::vector<uint64_t> ofAllRows = hostWords_;
    ofAllRows[0] = std::max<uint64_t>(ofAllRows[0], rows);
    scratchBytes_ = device_.scratchBytes(number_, ofAllRows.data());
    return device_.reserveScratch(scratchBytes_);
  }

  /// Runs it on the values that the host has, which stay as they are. Returns
  /// all vectors as they are afterwards.
  absl::StatusOr<std::vector<std::vector<uint8_t>>> run(int64_t rows,
                                                        int64_t cols) {
    for (const auto& [begin, block] : blocks_)
      device_.copy(Stream::Compute, block.copy, begin, block.sizeBytes);
    device_.copy(Stream::Compute, words_, hostWords_.data(),
                 hostWords_.size() * 8);
    device_.launch({number_, words_, hostWords_.data(), rows, cols,
                    kernel_.rowTile, kernel_.colTile, scratchBytes_});
    std::vector<std::vector<uint8_t>> results;
    results.reserve(blocks_.size());
    for (const auto& [begin, block] : blocks_) {
      results.emplace_back(block.sizeBytes);
      device_.copy(Stream::Compute, results.back().data(), block.copy,
                   block.sizeBytes);
    }
    LLMRT_RETURN_IF_ERROR(device_.synchronize());
    return results;
  }

  /// Which vectors of two runs have other bits, and where.
  std::string differences(const std::vector<std::vector<uint8_t>>& first,
                          const std::vector<std::vector<uint8_t>>& second) {
    std::string text;
    size_t i = 0;
    for (const auto& [begin, block] : blocks_) {
      const std::string bits = test::describeOtherBits(first[i], second[i]);
      ++i;
      if (!bits.empty())
        absl::StrAppend(&text, text.empty() ? "" : "; ", block.name, " in ",
                        bits);
    }
    return text;
  }

  void keep(const std::vector<std::vector<uint8_t>>& results) {
    size_t i = 0;
    for (const auto& [begin, block] : blocks_)
      std::memcpy(begin, results[i++].data(), block.sizeBytes);
  }

private:
  struct Block {
    size_t sizeBytes;
    uint8_t* copy;
    std::string name; // of the first argument that points into it
  };

  /// Gives `word` the address that its value has on the device.
  absl::Status move(absl::string_view name, uint64_t& word) {
    const HostBlock host = hostBlockOf(reinterpret_cast<const void*>(word));
    if (!host.begin)
      return absl::InternalError(absl::StrCat(
          "argument ", name, " points into no vector of the test"));
    auto known = blocks_.find(host.begin);
    if (known == blocks_.end()) {
      LLMRT_ASSIGN_OR_RETURN(
          void* copy, device_.allocate(MemorySpace::Device,
                                       MemoryClass::Workspace, host.sizeBytes));
      known = blocks_
                  .emplace(host.begin,
                           Block{host.sizeBytes, static_cast<uint8_t*>(copy),
                                 std::string(name)})
                  .first;
    }
    const uint64_t offset = word - reinterpret_cast<uint64_t>(host.begin);
    word = reinterpret_cast<uint64_t>(known->second.copy) + offset;
    return absl::OkStatus();
  }

  Device& device_;
  const KernelSignature& kernel_;
  std::map<uint8_t*, Block> blocks_; // by where the host has them
  std::vector<uint64_t> hostWords_;
  uint64_t* words_ = nullptr;
  KernelId number_{};
  int64_t scratchBytes_ = 0;
};

CudaFeatures featuresInUse;
bool usesFakeLibrary = false;
int64_t numLibraryLaunches = 0;

Device& deviceOfTests() {
  static auto make = [](bool hasWgmma, bool hasCublasLt) {
    return test::createRecordingDevice(
        {.features = {.hasWgmma = hasWgmma},
         .hasCublasLt = hasCublasLt,
         .observe = [](const test::RecordedCommand& command) {
           numLibraryLaunches += command.isByLibrary;
         }});
  };
  static std::unique_ptr<Device> emulations[2][2] = {
      {make(false, false), make(false, true)},
      {make(true, false), make(true, true)}};
  return isOnGpu() ? *gpuOfTests()
                   : *emulations[featuresInUse.hasWgmma][usesFakeLibrary];
}

/// Of the latest comparison of the test that runs.
std::string& latestDifference() {
  static std::string text;
  return text;
}

/// Says what a failed comparison looked like, behind the failure itself.
class DifferencePrinter final : public ::testing::EmptyTestEventListener {
  void OnTestStart(const ::testing::TestInfo&) override {
    latestDifference().clear();
  }

  void OnTestPartResult(const ::testing::TestPartResult& result) override {
    if (result.failed() && !latestDifference().empty())
      std::printf("wrong: %s\n", latestDifference().c_str());
    latestDifference().clear();
  }
};

absl::Status runOnce(const KernelSignature& kernel, const uint64_t* words,
                     int64_t rows, int64_t cols) {
  DeviceRun run(deviceOfTests(), kernel);
  LLMRT_RETURN_IF_ERROR(run.prepare(words, rows));
  LLMRT_ASSIGN_OR_RETURN(auto results, run.run(rows, cols));
  if (isOnGpu()) { // the emulation has one order
    LLMRT_ASSIGN_OR_RETURN(auto again, run.run(rows, cols));
    if (results != again)
      return absl::InternalError(
          absl::StrCat("two runs differ: ", run.differences(results, again)));
  }
  run.keep(results);
  return absl::OkStatus();
}

} // namespace

std::vector<CudaFeatures> featuresToTry() {
  if (isOnGpu())
    return {CudaFeatures{}};
  return {CudaFeatures{}, CudaFeatures{.hasWgmma = true}};
}

void useFeatures(CudaFeatures features) { featuresInUse = features; }

std::string runCudaKernel(std::string_view name, const uint64_t* words,
                          int64_t rows, int64_t cols) {
  const absl::string_view view(name.data(), name.size());
  const KernelSignature* kernel =
      findKernelSignature(view, newestKernelVersion(view));
  if (!kernel)
    return "no kernel " + std::string(name);
  latestDifference().clear();
  return std::string(runOnce(*kernel, words, rows, cols).message());
}

FakeLibrary::FakeLibrary() {
  usesFakeLibrary = true;
  numLibraryLaunches = 0;
}

FakeLibrary::~FakeLibrary() { usesFakeLibrary = false; }

void FakeLibrary::expectLaunches(int64_t number) const {
  if (!isOnGpu()) {
    EXPECT_EQ(numLibraryLaunches, number);
  }
}

void noteComparison(double error, const std::vector<float>& actual,
                    const std::vector<float>& expected) {
  [[maybe_unused]] static const bool isListening = [] {
    ::testing::UnitTest::GetInstance()->listeners().Append(
        new DifferencePrinter()); // owned by the list
    return true;
  }();
  latestDifference() = test::describeWrong(actual, expected);
  static const ::testing::TestInfo* test = nullptr;
  static double largest = 0;
  const auto* now = ::testing::UnitTest::GetInstance()->current_test_info();
  largest = now == test ? std::max(largest, error) : error;
  test = now;
  std::array<char, 32> text{};
  std::snprintf(text.data(), text.size(), "%.3g", largest);
  ::testing::Test::RecordProperty("largest_error", text.data());
}

} // namespace llmrt::testing
