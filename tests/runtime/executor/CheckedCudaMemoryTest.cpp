// SPDX-License-Identifier: Apache-2.0
// The check of memory on a device that traps no access: right plans pass with
// the bits that they have without it, and every mistake that leaves something
// behind is found and named. A generated kernel of the test's makes them.
#include "tests/runtime/executor/RecordedPlan.h"

#include "absl/strings/str_cat.h"

#include <algorithm>
#include <cmath>
#include <gmock/gmock.h>
#include <map>

namespace llmrt {
namespace {

using test::PlanBuilder;
using test::Recorded;
using test::RecordingOptions;
using test::tinyCudaModel;
using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

ExecutorOptions checked() { return {.weights = {}, .checkMemory = true}; }

/// What a run of a plan's prefill says, with 3 rows or fewer.
std::string messageOf(const PlanBuilder& b, const RecordingOptions& options,
                      int64_t numRows = 3) {
  Recorded cuda(b.plan, options, checked());
  if (!cuda.status().ok())
    return std::string(cuda.status().message());
  absl::Status status = cuda->initialise();
  if (!status.ok())
    return std::string(status.message());
  auto ids = test::inputAs<int32_t>(*cuda, 0, "ids");
  std::fill(ids.begin(), ids.end(), 3);
  return std::string(cuda->execute(0, numRows, nullptr).message());
}

std::string messageAfter(const std::function<void(PlanBuilder&)>& change) {
  PlanBuilder b = tinyCudaModel();
  change(b);
  return messageOf(b, {});
}

fb::BufferT& buffer(PlanBuilder& b, const std::string& name) {
  for (auto& buffer : b.stage().buffers)
    if (buffer->name == name)
      return *buffer;
  ADD_FAILURE() << "no buffer " << name;
  return *b.stage().buffers[0];
}

constexpr int kX = 3; // number of the buffer `x`

/// Launches the test's own kernel on a buffer, as prefill's command `at`.
void launchOwn(PlanBuilder& b, const std::string& symbol, int buffer, int at) {
  auto kernel = std::make_unique<fb::KernelT>();
  kernel->kind = fb::KernelKind::Generated;
  kernel->name = symbol;
  kernel->row_tile = 1;
  b.plan.kernels.push_back(std::move(kernel));
  if (b.plan.code.empty()) {
    b.plan.code.push_back(std::make_unique<fb::CodeObjectT>());
    b.plan.code.back()->target = "cuda";
    b.plan.code.back()->level = 90;
    b.plan.code.back()->image = {1, 2, 3};
  }
  std::vector<fb::WordT> words;
  words.push_back(test::rows());
  words.push_back(test::address(buffer));
  b.launch(0, static_cast<int>(b.plan.kernels.size()) - 1, std::move(words),
           test::rows(), 1);
  auto& commands = b.program(0).commands;
  std::rotate(commands.begin() + at, commands.end() - 1, commands.end());
}

/// Kernels by name, which get the address of their buffer.
using OwnKernels = std::map<std::string, std::function<void(float* buffer)>>;

RecordingOptions running(const OwnKernels& kernels) {
  RecordingOptions options;
  options.generated = [kernels](const std::string& symbol,
                                const uint64_t* words, int64_t) {
    kernels.at(symbol)(reinterpret_cast<float*>(words[1]));
    return std::string();
  };
  return options;
}

/// What is said of a plan whose second command does this with the address of
/// `x`, [3, 5] f32.
std::string messageWhen(const std::function<void(float* x)>& misbehave) {
  PlanBuilder b = tinyCudaModel();
  launchOwn(b, "misbehave", kX, 1);
  return messageOf(b, running({{"misbehave", misbehave}}));
}

TEST(CheckedCudaMemory, ARightPlanTouchesWhatItSays) {
  PlanBuilder b = tinyCudaModel();
  Recorded cuda(b.plan, {}, checked());
  ASSERT_TRUE(cuda.status().ok()) << cuda.status();
  const BytesByClass outside = cuda->memory().outside;
  EXPECT_EQ(outside[static_cast<int>(MemoryClass::Workspace)], 0);
  ASSERT_TRUE(cuda->initialise().ok());
  auto touched = [&](MemoryClass memoryClass) {
    return cuda->memory().touched[static_cast<int>(memoryClass)];
  };
  // Of the head's 32 rows, 7 are the model's.
  EXPECT_EQ(touched(MemoryClass::Parameters), (7 * 5 + 7 * 5) * 4);
  EXPECT_EQ(touched(MemoryClass::Activations), 0);
  test::run(*cuda, 0, {3});
  EXPECT_EQ(touched(MemoryClass::Activations), 5 * 4);
  test::run(*cuda, 0, {3, 1, 6});
  EXPECT_EQ(touched(MemoryClass::Inputs), 3 * 4);
  EXPECT_EQ(touched(MemoryClass::Activations), 3 * 5 * 4);
  EXPECT_EQ(touched(MemoryClass::Outputs), 3 * 7 * 4);
  fb::BufferT& logits = buffer(b, "logits");
  EXPECT_EQ(cuda->memory().highestTouched, logits.offset + logits.size_bytes);
}

TEST(CheckedCudaMemory, ARightPlanKeepsItsBits) {
  std::vector<std::vector<float>> logits;
  for (bool isChecked : {false, true}) {
    Recorded cuda(tinyCudaModel().plan, {},
                  {.weights = {}, .checkMemory = isChecked});
    ASSERT_TRUE(cuda->initialise().ok());
    for (int i = 0; i < 2; ++i) {
      logits.push_back(test::run(*cuda, 0, {4, 1, 6}));
      logits.push_back(test::run(*cuda, 1, {5}));
      logits.push_back(test::run(*cuda, 0, {}));
    }
  }
  for (size_t i : {0, 1, 3, 4})
    EXPECT_EQ(logits[i + 6], logits[i]) << i;
}

TEST(CheckedCudaMemory, NamesAWriteBehindTheEnd) {
  const std::string command =
      "LLMC-E0806: rank 0, entry prefill, command 1 (misbehave of "
      "layers.0.test for layers.0.weight, pass by-hand): ";
  // In the cache line, on the page behind it, and far from it.
  for (int element : {15, 16, 100})
    EXPECT_THAT(messageWhen([&](float* x) { x[element] = 1; }),
                HasSubstr(absl::StrCat(command, "wrote byte ", 4 * element,
                                       " of buffer 'x', which has 60 bytes")));
  EXPECT_THAT(messageWhen([](float* x) { reinterpret_cast<char*>(x)[61] = 7; }),
              HasSubstr("wrote byte 61 of buffer 'x'"));
  EXPECT_EQ(messageWhen([](float* x) { x[14] = 1; }), "");
}

TEST(CheckedCudaMemory, NamesAKernelThatWritesOneElementTooMany) {
  EXPECT_THAT(
      messageAfter([](PlanBuilder& b) { buffer(b, "x").size_bytes -= 4; }),
      AllOf(HasSubstr("LLMC-E0806: rank 0, entry prefill, command 0 (embedding "
                      "of layers.0.test for layers.0.weight, pass by-hand)"),
            HasSubstr("wrote byte 56 of buffer 'x', which has 56 bytes")));
}

TEST(CheckedCudaMemory, NamesAWriteInFrontOfTheBeginning) {
  for (int element : {1, 15, 16, 1020})
    EXPECT_THAT(messageWhen([&](float* x) { x[-element] = 1; }),
                AllOf(HasSubstr("entry prefill, command 1 (misbehave"),
                      HasSubstr(absl::StrCat("wrote byte ", -4 * element,
                                             " of buffer 'x', which has 60 "
                                             "bytes"))));
}

// What stays has borders too.
TEST(CheckedCudaMemory, NamesAWriteBehindAParameter) {
  PlanBuilder b = tinyCudaModel();
  launchOwn(b, "misbehave", 1, 0);
  EXPECT_THAT(
      messageOf(b, running({{"misbehave", [](float* x) { x[35] = 1; }}})),
      AllOf(HasSubstr("entry prefill, command 0 (misbehave"),
            HasSubstr("wrote byte 140 of buffer 'embed', which has 140 "
                      "bytes")));
}

/// prefill with a buffer `late` that one command uses: the test's kernel
/// `useLate`, which is command `at`; and `misbehave`, another one.
PlanBuilder withLate(int at, int misbehave, int64_t lateBytes = 60) {
  PlanBuilder b = tinyCudaModel();
  int late = b.buffer("late", fb::MemoryClass::Activations, lateBytes);
  launchOwn(b, "useLate", late, std::min(at, 2));
  launchOwn(b, "misbehave", kX, misbehave);
  return b;
}

// From `x`: two pages on to each next buffer, `logits` and then `late`.
constexpr int kLateElements = 2 * 8192 / 4;

void useLate(float* late) { std::fill_n(late, 15, 2.0f); }

TEST(CheckedCudaMemory, NamesAWriteOutsideOfALifetime) {
  auto writeLate = [](float* x) { x[kLateElements + 2] = 1; };
  OwnKernels kernels = {{"useLate", useLate}, {"misbehave", writeLate}};
  // Before its first use: embedding, misbehave, linear, useLate.
  EXPECT_THAT(messageOf(withLate(3, 1), running(kernels)),
              AllOf(HasSubstr("LLMC-E0806: rank 0, entry prefill, command 2 "
                              "(linear of layers.0.test for layers.0.weight, "
                              "pass by-hand) or something before it: "),
                    HasSubstr("wrote byte 8 of buffer 'late' outside its "
                              "lifetime")));
  // After it: useLate, embedding, misbehave, linear.
  EXPECT_THAT(messageOf(withLate(0, 2), running(kernels)),
              AllOf(HasSubstr("entry prefill, command 3 (linear"),
                    HasSubstr("or something before it: wrote byte 8 of buffer "
                              "'late' outside its lifetime")));
  // The check can be silent.
  kernels["misbehave"] = [](float*) {};
  EXPECT_EQ(messageOf(withLate(3, 1), running(kernels)), "");
  EXPECT_EQ(messageOf(withLate(0, 2), running(kernels)), "");
}

TEST(CheckedCudaMemory, LooksAtAllOfALargeBuffer) {
  constexpr int64_t kPiece = GuardedMemory::kMostReadBytes;
  constexpr int64_t kBytes = 2 * kPiece + 64; // 64 bytes are on the first page
  auto late = [](float* x) {
    return reinterpret_cast<uint8_t*>(x + kLateElements);
  };
  for (int64_t at : {int64_t{0}, kPiece - 1, kPiece, kBytes - 1}) {
    OwnKernels kernels = {
        {"useLate", [](float* x) { std::fill_n(x, kBytes / 4, 2.0f); }},
        {"misbehave", [&](float* x) { late(x)[at] = 1; }}};
    EXPECT_THAT(messageOf(withLate(0, 2, kBytes), running(kernels)),
                HasSubstr(absl::StrCat("wrote byte ", at,
                                       " of buffer 'late' outside")));
  }
}

TEST(CheckedCudaMemory, WhatIsReadOutsideOfALifetimeIsNoNumber) {
  for (auto [at, misbehave] : {std::pair{3, 1}, {0, 2}}) {
    float seen = 0;
    OwnKernels kernels = {{"useLate", useLate}, {"misbehave", [&](float* x) {
                                                   seen = x[kLateElements];
                                                 }}};
    EXPECT_EQ(messageOf(withLate(at, misbehave), running(kernels)), "");
    EXPECT_TRUE(std::isnan(seen)) << seen;
  }
}

TEST(CheckedCudaMemory, NamesAWriteThatNoCommandDoes) {
  // Weights are loaded into what lives only inside a program.
  EXPECT_THAT(messageAfter([](PlanBuilder& b) {
                buffer(b, "embed").memory_class = fb::MemoryClass::Workspace;
              }),
              AllOf(HasSubstr("rank 0, outside of commands: wrote byte 0 of "
                              "buffer 'embed' outside its lifetime")));
}

TEST(CheckedCudaMemory, NamesABufferThatNobodyWrote) {
  auto eraseEmbedding = [](PlanBuilder& b) {
    auto& commands = b.program(0).commands;
    commands.erase(commands.begin());
  };
  EXPECT_THAT(messageAfter(eraseEmbedding),
              AllOf(HasSubstr("LLMC-E0806: rank 0, entry prefill, command 0 "
                              "(linear of layers.0.test for layers.0.weight, "
                              "pass by-hand)"),
                    HasSubstr("buffer 'x' was never written")));
  // Nobody has to write what a call without rows does not need.
  EXPECT_EQ(messageOf(tinyCudaModel(), {}, /*numRows=*/0), "");
}

TEST(CheckedCudaMemory, NamesBuffersThatOverlap) {
  EXPECT_THAT(
      messageAfter([](PlanBuilder& b) {
        buffer(b, "x").offset = buffer(b, "logits").offset;
      }),
      AllOf(
          HasSubstr("LLMC-E0806: rank 0, entry prefill, command 0 (embedding"),
          HasSubstr("'x'"), HasSubstr("'logits'"), HasSubstr("overlap")));
}

// What the device itself says comes first, and ends the call.
TEST(CheckedCudaMemory, AnErrorOfTheDeviceIsThatOfTheCall) {
  PlanBuilder b = tinyCudaModel();
  launchOwn(b, "fail", kX, 1);
  RecordingOptions options;
  int64_t numLaunches = 0;
  options.generated = [](const std::string&, const uint64_t* words, int64_t) {
    reinterpret_cast<float*>(words[1])[15] = 1;
    return std::string("the kernel broke");
  };
  options.observe = [&](const test::RecordedCommand& command) {
    numLaunches += command.kind == test::CommandKind::Launch;
  };
  EXPECT_THAT(messageOf(b, options),
              AllOf(HasSubstr("the kernel broke"), Not(HasSubstr("E0806"))));
  EXPECT_EQ(numLaunches, 2); // not the product
}

TEST(CheckedCudaMemory, StreamsMayRunInAnyOrder) {
  for (Stream first : {Stream::Compute, Stream::Communication}) {
    Recorded cuda(test::chainOfCopies(true).plan, {.first = first}, checked());
    ASSERT_TRUE(cuda.status().ok()) << cuda.status();
    ASSERT_TRUE(cuda->initialise().ok());
    for (float value : {3.0f, 4.0f})
      EXPECT_EQ(test::runChain(cuda, value), std::vector<float>(64, value));
  }
}

/// logits = all-gather of `numElements` of the input over two ranks on a
/// stream, through `x`.
PlanBuilder gathering(int64_t numElements, int stream, bool usesEarly = false) {
  PlanBuilder b({{"tp", 2}});
  b.plan.target = "cuda";
  const int64_t bytes = numElements * 4;
  int entry = b.entry("decode", numElements, 1);
  int small = b.buffer("small", fb::MemoryClass::Inputs, bytes);
  int x = b.buffer("x", fb::MemoryClass::GatheredParameters, 2 * bytes);
  int large = b.buffer("large", fb::MemoryClass::Outputs, 2 * bytes);
  b.input(entry, "temperature", small, fb::ElementType::F32, {numElements});
  b.output(entry, "logits", large, fb::ElementType::F32, {2 * numElements});
  b.collective(entry, fb::CommandKind::AllGather, {0}, small, x, bytes, stream);
  if (stream != 0)
    b.record(entry, 0, stream);
  if (usesEarly)
    b.copy(entry, x, large, 2 * bytes);
  if (stream != 0)
    b.wait(entry, 0, 0);
  b.copy(entry, x, large, 2 * bytes);
  return b;
}

/// What two ranks say whose memory the host shares.
std::vector<absl::Status> gatherOnTwo(const PlanBuilder& b) {
  test::RunOptions options;
  options.executor = checked();
  options.device = [] {
    return test::createRecordingDevice({.sharesHostMemory = true});
  };
  return test::runRanks(b.plan, options, [](Executor& e) {
    const auto rank = static_cast<float>(e.coordinates()[0]);
    auto input = test::inputAs<float>(e, 0, "temperature");
    std::fill(input.begin(), input.end(), 1 + rank);
    for (int i = 0; i < 2; ++i) {
      absl::Status status = e.execute(0, input.size(), nullptr);
      if (!status.ok())
        return status;
    }
    auto logits = test::outputAs<float>(e, 0, "logits");
    for (size_t i = 0; i < logits.size(); ++i)
      EXPECT_EQ(logits[i], i < input.size() ? 1 : 2) << i;
    return absl::OkStatus();
  });
}

TEST(CheckedCudaMemory, ChecksCollectivesOfTwoRanks) {
  for (int stream : {0, 1})
    for (int64_t numElements : {1, 4, 37, 1024})
      test::expectAllOk(gatherOnTwo(gathering(numElements, stream)));
  std::string message;
  for (const absl::Status& status : gatherOnTwo(gathering(4, 1, true)))
    if (!absl::IsAborted(status))
      message = std::string(status.message());
  EXPECT_THAT(message, AllOf(HasSubstr("LLMC-E0806"), HasSubstr("command 2"),
                             HasSubstr("uses buffer 'x' before it waits")));
}

} // namespace
} // namespace llmrt
