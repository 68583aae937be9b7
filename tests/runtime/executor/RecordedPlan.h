// SPDX-License-Identifier: Apache-2.0
// What the tests of cuda plans on a recording device share: an executor on one,
// and two small plans.
#pragma once

#include "tests/runtime/executor/RunRanks.h"
#include "tests/support/cuda/RecordingDevice.h"

namespace llmrt::test {

/// An executor of a one-rank plan on a recording device.
class Recorded {
public:
  explicit Recorded(const fb::PlanT& plan, const RecordingOptions& options = {},
                    ExecutorOptions executorOptions = {})
      : file_(finishPlan(plan)) {
    auto read = readPlan(file_);
    EXPECT_TRUE(read.ok()) << read.status();
    fabrics_ = createLocalFabrics(1, {});
    auto device = createRecordingDevice(options);
    device_ = device.get();
    executorOptions.weights = {{"model", "random:7"}};
    auto made = Executor::create(**read, *fabrics_[0], executorOptions,
                                 std::move(device));
    status_ = made.status();
    if (made.ok())
      executor_ = *std::move(made);
  }

  const absl::Status& status() const { return status_; }

  Executor& operator*() { return *executor_; }

  Executor* operator->() { return executor_.get(); }

  RecordingDevice& device() { return *device_; }

  std::vector<RecordedCommand> take() { return device_->takeCommands(); }

private:
  PlanBytes file_;
  std::vector<std::unique_ptr<Fabric>> fabrics_;
  RecordingDevice* device_;
  absl::Status status_;
  std::unique_ptr<Executor> executor_;
};

inline PlanBuilder tinyCudaModel() {
  PlanBuilder b = tinyModel();
  b.plan.target = "cuda";
  b.stage().parameters[1]->layout = fb::WeightLayout::RowMajor;
  for (auto& program : b.stage().programs)
    program->commands[1]->words[5]->value = 0; // layout of `linear`
  return b;
}

/// Logits of a call of the tiny model.
inline std::vector<float> run(Executor& e, int entry,
                              std::vector<int32_t> ids) {
  auto input = inputAs<int32_t>(e, entry, "ids");
  std::copy(ids.begin(), ids.end(), input.begin());
  absl::Status status = e.execute(entry, ids.size(), nullptr);
  EXPECT_TRUE(status.ok()) << status;
  return outputAs<float>(e, entry, "logits");
}

/// input -> a (compute), a -> b (communication), b -> output (compute), with
/// the events that this order needs, or without the first of them.
inline PlanBuilder chainOfCopies(bool hasFirstEvent) {
  PlanBuilder b;
  b.plan.target = "cuda";
  const int entry = b.entry("chain", 64, 1);
  const int in = b.buffer("in", fb::MemoryClass::Inputs, 256);
  const int first = b.buffer("a", fb::MemoryClass::Activations, 256);
  const int second = b.buffer("b", fb::MemoryClass::Activations, 256);
  const int out = b.buffer("out", fb::MemoryClass::Outputs, 256);
  b.input(entry, "temperature", in, fb::ElementType::F32, {64});
  b.output(entry, "logits", out, fb::ElementType::F32, {64});
  b.copy(entry, in, first, 256, 0);
  if (hasFirstEvent) {
    b.record(entry, 0, 0);
    b.wait(entry, 0, 1);
  }
  b.copy(entry, first, second, 256, 1);
  b.record(entry, 1, 1);
  b.wait(entry, 1, 0);
  b.copy(entry, second, out, 256, 0);
  return b;
}

inline std::vector<float> runChain(Recorded& cuda, float value) {
  auto in = inputAs<float>(*cuda, 0, "temperature");
  std::fill(in.begin(), in.end(), value);
  EXPECT_TRUE(cuda->execute(0, 1, nullptr).ok());
  return outputAs<float>(*cuda, 0, "logits");
}

} // namespace llmrt::test
