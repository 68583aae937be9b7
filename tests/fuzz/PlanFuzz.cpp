// SPDX-License-Identifier: Apache-2.0
// Fuzz target of the plan reader, its checksum off. What it accepts is walked
// through as the executor does when it prepares: nothing may point outside.
#include "tests/fuzz/FuzzDriver.h"

#include "runtime/plan/Mesh.h"
#include "tests/plan/PlanBuilder.h"

#include <cstdlib>
#include <cstring>
#include <memory>

namespace llmrt {
namespace {

/// Adds up what is read, so that no read is optimised away.
volatile int64_t sink = 0;

void require(bool condition) {
  if (!condition)
    std::abort();
}

void requireInside(const fb::Stage& stage, int buffer, int64_t offset,
                   int64_t sizeBytes) {
  const fb::Buffer* b = stage.buffers()->Get(buffer);
  require(offset >= 0 && sizeBytes >= 0 &&
          offset + sizeBytes <= b->size_bytes());
}

void walkCommand(const fb::Plan& plan, const fb::Stage& stage,
                 const fb::Command& command,
                 absl::Span<const int> coordinates) {
  absl::Span<const int> axes = spanOf(command.axes());
  if (!axes.empty() && sizeAlongAxes(plan, axes) <= 64)
    sink = sink + groupAlongAxes(plan, coordinates, axes).back();
  int64_t offset = atCoordinates(command.send_offset(), coordinates, 0);
  bool isLaunch = command.kind() == fb::CommandKind::Launch;
  if (!isLaunch && command.kind() < fb::CommandKind::RecordEvent) {
    if (command.send_buffer() >= 0)
      requireInside(stage, command.send_buffer(), offset, 0);
    if (command.recv_buffer() >= 0)
      requireInside(stage, command.recv_buffer(), 0, 0);
  }
  if (!isLaunch)
    return;
  sink = sink + plan.kernels()->Get(command.kernel())->name()->size();
  for (const fb::Word* word : *command.words()) {
    if (word->kind() == fb::WordKind::Address)
      requireInside(stage, word->index(), word->value(), 0);
    if (word->kind() == fb::WordKind::Coordinate)
      sink = sink + atCoordinates(word->by_coordinate(), coordinates, 0);
    if (word->kind() == fb::WordKind::SlotWords)
      sink = sink + command.slots()->Get(word->index())->words()->size();
  }
}

void walkStage(const fb::Plan& plan, const std::vector<int>& coordinates) {
  const fb::Stage& stage =
      *plan.stages()->Get(stageOfCoordinates(plan, coordinates));
  for (unsigned i = 0; stage.parameters() && i < stage.parameters()->size();
       ++i) {
    const fb::Parameter* parameter = stage.parameters()->Get(i);
    sink = sink + parameter->name()->size();
    requireInside(
        stage, parameter->buffer(), 0,
        spanOf(parameter->shard_axes()).empty() ? 0 : parameter->shard_bytes());
    for (unsigned d = 0; parameter->box() && d < parameter->box()->size();
         ++d) {
      const fb::BoxDim* cut = parameter->box()->Get(d);
      int64_t end = atCoordinates(cut->offset(), coordinates, 0) +
                    atCoordinates(cut->count(), coordinates, 0);
      require(end <= parameter->global_shape()->Get(cut->dim()));
    }
  }
  for (const fb::Program* program : *stage.programs())
    for (unsigned i = 0; program->commands() && i < program->commands()->size();
         ++i)
      walkCommand(plan, stage, *program->commands()->Get(i), coordinates);
}

} // namespace
} // namespace llmrt

namespace {

void readAndWalk(absl::Span<const uint8_t> bytes) {
  // Files are mapped at a page; `bytes` may lie anywhere.
  std::unique_ptr<uint8_t[]> file(new uint8_t[bytes.size()]);
  std::copy(bytes.begin(), bytes.end(), file.get());
  auto plan =
      llmrt::readPlan({file.get(), bytes.size()}, {.verifyChecksum = false});
  if (!plan.ok())
    return;
  for (int rank = 0; rank < std::min(llmrt::numRanks(**plan), 4); ++rank)
    llmrt::walkStage(**plan, llmrt::coordinatesOfRank(**plan, rank));
}

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t sizeBytes) {
  absl::Span<const uint8_t> bytes(data, sizeBytes);
  readAndWalk(bytes);
  // Behind a good envelope, so that a changed length does not hide the rest.
  if (sizeBytes >= llmrt::kPlanEnvelopeBytes)
    readAndWalk(llmrt::wrapPlan(bytes.subspan(llmrt::kPlanEnvelopeBytes)));
  return 0;
}

std::vector<std::string> fuzzSeeds() {
  std::vector<std::string> seeds;
  llmrt::test::PlanBuilder pipeline({{"dp", 2}, {"pp", 2}});
  pipeline.entry("decode", 2, 1);
  for (int stage : {0, 1}) {
    pipeline.select(stage);
    int a = pipeline.buffer("a", llmrt::fb::MemoryClass::Activations, 64);
    int b = pipeline.buffer("b", llmrt::fb::MemoryClass::Parameters, 128);
    llmrt::fb::ParameterT& p = pipeline.parameter("p", {32}, b);
    p.shard_axes = {0};
    p.shard_bytes = 64;
    pipeline.collective(0, llmrt::fb::CommandKind::AllGather, {0}, a, b, 64, 1)
        .send_offset = llmrt::test::values(0, {0, 0});
    pipeline.record(0, 0, 1);
    pipeline.wait(0, 0, 0);
    pipeline.collective(0, llmrt::fb::CommandKind::Broadcast, {1}, -1, a, 64)
        .root = 1;
  }
  llmrt::test::PlanBuilder tiny = llmrt::test::tinyModel();
  for (const llmrt::fb::PlanT* plan : {&tiny.plan, &pipeline.plan}) {
    llmrt::test::PlanBytes bytes = llmrt::test::finishPlan(*plan);
    seeds.emplace_back(bytes.begin(), bytes.end());
  }
  return seeds;
}
