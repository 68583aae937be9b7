// SPDX-License-Identifier: Apache-2.0
// What the executor enqueues for a compiled cuda plan, on a device that records
// it. The generated kernels are PTX and do not run here, so the numbers mean
// nothing; launches, their grids, words, scratch and memory do.
#include "runtime/base/MappedFile.h"
#include "runtime/executor/Executor.h"
#include "tests/e2e/Workspace.h"
#include "tests/support/cuda/RecordingDevice.h"

#include <algorithm>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace llmrt {
namespace {

using test::CommandKind;
using test::Place;
using test::RecordedCommand;

template <typename T>
void fillInput(Executor& e, int entry, const char* name,
               const std::function<T(int64_t)>& value) {
  absl::Span<uint8_t> bytes = e.input(entry, name);
  auto* elements = reinterpret_cast<T*>(bytes.data());
  for (size_t i = 0; i < bytes.size() / sizeof(T); ++i)
    elements[i] = value(i);
}

void fillInputs(Executor& e, int entry) {
  auto index = [](int64_t i) { return static_cast<int32_t>(i); };
  auto one = [](int64_t) { return 1; };
  fillInput<int32_t>(e, entry, "ids", index);
  fillInput<int32_t>(e, entry, "positions", index);
  fillInput<int32_t>(e, entry, "block_table", index);
  fillInput<int32_t>(e, entry, "valid_rows", one);
}

/// Launches of a call and where the words and inputs that they read were sent.
struct Call {
  std::vector<RecordedCommand> launches;
  std::vector<RecordedCommand> copies;
};

Call runEntry(Executor& e, test::RecordingDevice& device, const char* name,
              int64_t rows) {
  const int entry = e.findEntry(name);
  EXPECT_GE(entry, 0) << name;
  fillInputs(e, entry);
  device.takeCommands();
  absl::Status status = e.execute(entry, rows, nullptr);
  EXPECT_TRUE(status.ok()) << name << ": " << status;
  Call call;
  for (const RecordedCommand& command : device.takeCommands()) {
    if (command.kind == CommandKind::Launch)
      call.launches.push_back(command);
    if (command.kind != CommandKind::Copy)
      continue;
    EXPECT_TRUE(call.launches.empty()) << "a copy behind a launch";
    EXPECT_EQ(command.to, Place::Device);
    call.copies.push_back(command);
  }
  return call;
}

int64_t countForm(const Call& call, const std::string& begin) {
  return std::count_if(call.launches.begin(), call.launches.end(),
                       [&](const RecordedCommand& launch) {
                         return launch.form.rfind(begin, 0) == 0;
                       });
}

TEST(CudaSequence, launchesEveryLayerOfACompiledPlan) {
  Workspace workspace;
  ASSERT_EQ(writeByteModel(workspace), "");
  ToolEnd compiled = workspace.run(
      "llmc compile model.mlir --seq=64 --dtype=bf16 --target=cuda:ptx "
      "-o plan.fb");
  ASSERT_EQ(compiled.status, 0) << compiled.errors;
  auto file = MappedFile::open(workspace.path("plan.fb"));
  ASSERT_TRUE(file.ok()) << file.status();
  auto plan = readPlan(file->bytes());
  ASSERT_TRUE(plan.ok()) << plan.status();
  auto fabrics = createLocalFabrics(1, {});
  auto made = test::createRecordingDevice();
  test::RecordingDevice& device = *made;
  // Also checks that code and scratch keep to the plan's bounds.
  auto executor =
      Executor::create(**plan, *fabrics[0],
                       {.weights = {{"model", "random:3"}}}, std::move(made));
  ASSERT_TRUE(executor.ok()) << executor.status();
  absl::Status initialised = (*executor)->initialise();
  ASSERT_TRUE(initialised.ok()) << initialised;

  constexpr int64_t kLayers = 3;
  Call decode = runEntry(**executor, device, "decode", 1);
  EXPECT_FALSE(decode.copies.empty());
  EXPECT_EQ(countForm(decode, "embedding"), 1);
  EXPECT_EQ(countForm(decode, "attention_rows_"), kLayers);
  EXPECT_EQ(countForm(decode, "sample"), 1);
  EXPECT_EQ(countForm(decode, "linear_rope_append_rows_1"), kLayers);
  // The down product's rows are no multiples of 16 bytes here.
  EXPECT_EQ(countForm(decode, "fused_linear_rows_1"), 2 * kLayers + 1);
  EXPECT_EQ(countForm(decode, "linear_rows_1"), kLayers);
  Call prefill = runEntry(**executor, device, "prefill", 20);
  EXPECT_EQ(countForm(prefill, "attention_bf16_"), kLayers);
  for (const Call* call : {&decode, &prefill})
    for (const RecordedCommand& launch : call->launches) {
      EXPECT_EQ(launch.stream, Stream::Compute);
      EXPECT_GT(launch.blocks, 0) << launch.kernel;
      EXPECT_NE(launch.arguments, nullptr);
    }
  // The same call again sends nothing.
  const int entry = (*executor)->findEntry("decode");
  runEntry(**executor, device, "decode", 1);
  ASSERT_TRUE((*executor)->execute(entry, 1, nullptr).ok());
  for (const RecordedCommand& command : device.takeCommands())
    EXPECT_NE(command.kind, CommandKind::Copy);
}

} // namespace
} // namespace llmrt
