// SPDX-License-Identifier: Apache-2.0
#include "runtime/generation/Traffic.h"

#include "runtime/generation/MeshRoles.h"
#include "runtime/kernels/KernelAbi.h"
#include "runtime/plan/Mesh.h"

#include <set>

namespace llmrt {
namespace {

constexpr absl::string_view kRowLookup = "embedding";

bool isParameter(const fb::Stage& stage, int buffer) {
  fb::MemoryClass memoryClass = stage.buffers()->Get(buffer)->memory_class();
  return memoryClass == fb::MemoryClass::Parameters ||
         memoryClass == fb::MemoryClass::GatheredParameters;
}

void addBuffers(
    const fb::Stage& stage,
    const ::flatbuffers::Vector<::flatbuffers::Offset<fb::Word>>* words,
    std::set<int>& buffers) {
  if (!words)
    return;
  for (const fb::Word* word : *words)
    if (word->kind() == fb::WordKind::Address && word->index() >= 0 &&
        isParameter(stage, word->index()))
      buffers.insert(word->index());
}

std::set<int> buffersRead(const fb::Plan& plan, const fb::Stage& stage,
                          int entry) {
  std::set<int> buffers;
  for (const fb::Program* program : *stage.programs()) {
    if (program->entry() != entry || !program->commands())
      continue;
    for (const fb::Command* command : *program->commands()) {
      if (command->kind() != fb::CommandKind::Launch)
        continue;
      const auto* name = plan.kernels()->Get(command->kernel())->name();
      if (absl::string_view(name->data(), name->size()) == kRowLookup)
        continue;
      addBuffers(stage, command->words(), buffers);
      if (command->slots())
        for (const fb::Slot* slot : *command->slots())
          addBuffers(stage, slot->words(), buffers);
    }
  }
  return buffers;
}

/// Ranks of one replica that run a stage.
int64_t ranksOfStage(const fb::Plan& plan) {
  int64_t count = 1;
  for (const fb::Axis* axis : *plan.axes()) {
    absl::string_view name(axis->name()->data(), axis->name()->size());
    if (name != kStageAxis &&
        name.substr(0, kDataAxisPrefix.size()) != kDataAxisPrefix)
      count *= axis->size();
  }
  return count;
}

} // namespace

int64_t weightBytesRead(const fb::Plan& plan, int entry) {
  int64_t sizeBytes = 0;
  for (const fb::Stage* stage : *plan.stages())
    for (int buffer : buffersRead(plan, *stage, entry))
      sizeBytes += stage->buffers()->Get(buffer)->size_bytes();
  return sizeBytes * ranksOfStage(plan);
}

int64_t cacheBytesRead(const fb::Plan& plan, int64_t position) {
  int64_t pages = position / kPageTokens + 1;
  int64_t sizeBytes = 0;
  for (const fb::Stage* stage : *plan.stages())
    if (stage->caches())
      for (const fb::Cache* cache : *stage->caches())
        sizeBytes += pages * cache->page_bytes();
  return sizeBytes * ranksOfStage(plan);
}

} // namespace llmrt
