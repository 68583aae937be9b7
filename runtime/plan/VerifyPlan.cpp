// SPDX-License-Identifier: Apache-2.0
// Checks of a plan's tables other than parameters and programs: mesh, entries,
// kernels, code, memory, and what each stage holds.
#include "runtime/plan/VerifyPlan.h"

#include "runtime/base/Error.h"
#include "runtime/kernels/KernelAbi.h"
#include "runtime/plan/KernelSignatures.h"
#include "runtime/plan/Mesh.h"

#include <cmath>
#include <map>
#include <set>
#include <tuple>

namespace llmrt {
namespace {

constexpr int kMaxRanks = 1 << 20;

absl::Status verifyMesh(const fb::Plan& plan) {
  Place axes{nullptr, "axes"};
  LLMRT_PLAN_CHECK(plan.axes(), axes, "the mesh is missing");
  std::set<absl::string_view> names;
  int64_t ranks = 1;
  for (int64_t i = 0; i < lengthOf(plan.axes()); ++i) {
    const fb::Axis* axis = plan.axes()->Get(i);
    Place place{nullptr, "axes", i};
    absl::string_view name = textOf(axis->name());
    LLMRT_PLAN_CHECK(!name.empty() && names.insert(name).second, place,
                     "the name is empty or used twice");
    LLMRT_PLAN_CHECK(isWithin(axis->size(), 1, kMaxRanks), place,
                     absl::StrCat("size ", axis->size()));
    ranks *= axis->size();
    LLMRT_PLAN_CHECK(ranks <= kMaxRanks, place, "too many ranks");
  }
  int stageAxis = findAxis(plan, kStageAxis);
  int64_t stages = stageAxis < 0 ? 1 : plan.axes()->Get(stageAxis)->size();
  Place place{nullptr, "stages"};
  LLMRT_PLAN_CHECK(
      lengthOf(plan.stages()) == stages, place,
      absl::StrCat(lengthOf(plan.stages()), " stages, the mesh has ", stages));
  return absl::OkStatus();
}

absl::Status verifyEntries(const fb::Plan& plan) {
  std::set<absl::string_view> names;
  constexpr int64_t kMaxRows = int64_t{1} << 31;
  Place entries{nullptr, "entries"};
  LLMRT_PLAN_CHECK(lengthOf(plan.entries()) > 0, entries, "there are none");
  for (int64_t i = 0; i < lengthOf(plan.entries()); ++i) {
    const fb::Entry* entry = plan.entries()->Get(i);
    Place place{nullptr, "entries", i};
    absl::string_view name = textOf(entry->name());
    LLMRT_PLAN_CHECK(!name.empty() && names.insert(name).second, place,
                     "the name is empty or used twice");
    LLMRT_PLAN_CHECK(isWithin(entry->sequences(), 1, kMaxRows) &&
                         isWithin(entry->rows_per_sequence(), 1, kMaxRows) &&
                         entry->sequences() * entry->rows_per_sequence() <
                             kMaxRows &&
                         isWithin(entry->pages_per_sequence(), 0, kMaxRows),
                     place, "its block of rows has an impossible size");
  }
  return absl::OkStatus();
}

absl::Status verifyHandTuned(const fb::Kernel& kernel, bool isCuda,
                             const Place& place) {
  absl::string_view name = textOf(kernel.name());
  const KernelSignature* signature =
      findKernelSignature(name, kernel.version());
  if (!signature)
    return makeError(ErrorCode::KernelMissing,
                     absl::StrCat("the plan needs kernel ", name, " version ",
                                  kernel.version(),
                                  ", this program has version ",
                                  newestKernelVersion(name), " (0: none)"),
                     "compile the plan again with this version's llmc");
  if (isCuda) {
    if (!signature->hasCudaForm)
      return makeError(ErrorCode::KernelMissing,
                       absl::StrCat("the plan is for cuda, and kernel ", name,
                                    " has no form there"),
                       "compile the plan again with this version's llmc");
    return absl::OkStatus(); // a launch chooses its tile
  }
  if (!signature->hasCpuForm)
    return makeError(ErrorCode::KernelMissing,
                     absl::StrCat("the plan is for cpu, and kernel ", name,
                                  " exists on cuda only"),
                     "compile the plan again with this version's llmc");
  auto isTile = [](int64_t tile, int64_t step) {
    return tile == 0 || (tile > 0 && step > 0 && tile % step == 0);
  };
  LLMRT_PLAN_CHECK(isTile(kernel.row_tile(), signature->rowTile) &&
                       isTile(kernel.col_tile(), signature->colTile),
                   place, "the tile is not a multiple of the kernel's tile");
  return absl::OkStatus();
}

absl::Status verifyKernels(const fb::Plan& plan) {
  absl::string_view target = textOf(plan.target());
  bool isCuda = target == "cuda";
  Place targetPlace{nullptr, "target"};
  LLMRT_PLAN_CHECK(isCuda || target == "cpu", targetPlace,
                   absl::StrCat("unknown target '", target, "'"));
  bool hasGenerated = false;
  constexpr int64_t kMaxScratchBytes = int64_t{1} << 30;
  constexpr int64_t kCudaColumns = 1024; // of a tile of an elementwise kernel
  for (int64_t i = 0; i < lengthOf(plan.kernels()); ++i) {
    const fb::Kernel* kernel = plan.kernels()->Get(i);
    Place place{nullptr, "kernels", i};
    LLMRT_PLAN_CHECK(!textOf(kernel->name()).empty(), place,
                     "the name is empty");
    LLMRT_PLAN_CHECK(isWithin(kernel->row_tile(), 0, kMaxPlanInteger) &&
                         isWithin(kernel->col_tile(), 0, kMaxPlanInteger) &&
                         isWithin(kernel->scratch_bytes(), 0, kMaxScratchBytes),
                     place, "a tile or the scratch has an impossible size");
    switch (kernel->kind()) {
    case fb::KernelKind::HandTuned:
      LLMRT_RETURN_IF_ERROR(verifyHandTuned(*kernel, isCuda, place));
      break;
    case fb::KernelKind::Generated:
      hasGenerated = true;
      // The kernel itself knows its tile, and takes no other.
      LLMRT_PLAN_CHECK(!isCuda || (kernel->row_tile() == 1 &&
                                   (kernel->col_tile() == 0 ||
                                    kernel->col_tile() == kCudaColumns)),
                       place, "the tile is not that of generated code");
      break;
    default:
      return invalidPlan(place, "unknown kind");
    }
  }
  // A plan for cuda may have machine code and PTX of one architecture.
  std::set<std::pair<absl::string_view, int>> levels;
  for (int64_t i = 0; i < lengthOf(plan.code()); ++i) {
    const fb::CodeObject* code = plan.code()->Get(i);
    Place place{nullptr, "code", i};
    LLMRT_PLAN_CHECK(lengthOf(code->image()) > 0, place, "the image is empty");
    absl::string_view kind = textOf(code->target());
    LLMRT_PLAN_CHECK(
        kind == target || (isCuda && kind == "cuda-ptx"), place,
        absl::StrCat("code for '", kind, "' in a plan for '", target, "'"));
    LLMRT_PLAN_CHECK(code->level() >= 0 &&
                         levels.insert({kind, code->level()}).second,
                     place, "the level is negative or used twice");
  }
  Place code{nullptr, "code"};
  LLMRT_PLAN_CHECK(!hasGenerated || !levels.empty(), code,
                   "kernels are generated but there is no code");
  return absl::OkStatus();
}

constexpr int64_t kHyperparameters = 16;

bool isMemorySpace(fb::MemorySpace space) {
  return space >= fb::MemorySpace::MIN && space <= fb::MemorySpace::MAX;
}

bool isMemoryClass(fb::MemoryClass memoryClass) {
  return memoryClass >= fb::MemoryClass::MIN &&
         memoryClass <= fb::MemoryClass::MAX;
}

absl::Status verifyBuffers(const fb::Stage& stage, const Place& outer) {
  int64_t arenaBytes[static_cast<int>(fb::MemorySpace::MAX) + 1];
  std::fill(std::begin(arenaBytes), std::end(arenaBytes), -1);
  for (int64_t i = 0; i < lengthOf(stage.arenas()); ++i) {
    const fb::Arena* arena = stage.arenas()->Get(i);
    Place place{&outer, "arenas", i};
    LLMRT_PLAN_CHECK(isMemorySpace(arena->space()), place,
                     "unknown memory space");
    int64_t& sizeBytes = arenaBytes[static_cast<int>(arena->space())];
    LLMRT_PLAN_CHECK(sizeBytes < 0, place, "two arenas in one space");
    LLMRT_PLAN_CHECK(isWithin(arena->size_bytes(), 0, kMaxPlanInteger), place,
                     "impossible size");
    sizeBytes = arena->size_bytes();
  }
  for (int64_t i = 0; i < lengthOf(stage.buffers()); ++i) {
    const fb::Buffer* buffer = stage.buffers()->Get(i);
    Place place{&outer, "buffers", i};
    LLMRT_PLAN_CHECK(isMemorySpace(buffer->space()) &&
                         isMemoryClass(buffer->memory_class()),
                     place, "unknown memory space or class");
    int64_t capacityBytes = arenaBytes[static_cast<int>(buffer->space())];
    LLMRT_PLAN_CHECK(
        isWithin(buffer->offset(), 0, capacityBytes) &&
            isWithin(buffer->size_bytes(), 0, capacityBytes - buffer->offset()),
        place, "it is not inside its arena");
    LLMRT_PLAN_CHECK(
        buffer->offset() % kBufferAlignment == 0, place,
        absl::StrCat("offset ", buffer->offset(), " is not aligned"));
    LLMRT_PLAN_CHECK(isWithin(buffer->padding_bytes(), 0, buffer->size_bytes()),
                     place, "more padding than bytes");
    LLMRT_PLAN_CHECK(buffer->slot_kind() >= fb::SlotKind::MIN &&
                         buffer->slot_kind() <= fb::SlotKind::MAX,
                     place, "unknown slot kind");
    LLMRT_PLAN_CHECK(isWithin(buffer->slots(), 1, kMaxSlots) &&
                         buffer->size_bytes() % buffer->slots() == 0,
                     place, "its slots are not equal parts");
  }
  return absl::OkStatus();
}

// What a named input or output must be; elements 0: only the shape must fit the
// buffer.
struct NamedBufferKind {
  absl::string_view name;
  fb::ElementType dtype;
  int64_t elements;
};

absl::Status verifyNamedBuffer(const fb::Stage& stage,
                               const fb::NamedBuffer& named,
                               absl::Span<const NamedBufferKind> kinds,
                               const Place& place) {
  absl::string_view name = textOf(named.name());
  LLMRT_PLAN_CHECK(isElementType(named.dtype()), place, "unknown dtype");
  LLMRT_PLAN_CHECK(isWithin(named.buffer(), 0, lengthOf(stage.buffers()) - 1),
                   place,
                   absl::StrCat("buffer ", named.buffer(), " does not exist"));
  int64_t elements = productOf(named.shape());
  int64_t neededBytes =
      multiply(elements, dtypeBytes(static_cast<DType>(named.dtype())));
  LLMRT_PLAN_CHECK(isWithin(neededBytes, 0,
                            stage.buffers()->Get(named.buffer())->size_bytes()),
                   place, absl::StrCat("'", name, "' does not fit its buffer"));
  for (const NamedBufferKind& kind : kinds)
    if (kind.name == name) {
      LLMRT_PLAN_CHECK(kind.dtype == named.dtype() &&
                           (kind.elements == 0 || kind.elements == elements),
                       place,
                       absl::StrCat("'", name,
                                    "' has another dtype or shape than "
                                    "its entry needs"));
      return absl::OkStatus();
    }
  return invalidPlan(place, absl::StrCat("unknown name '", name, "'"));
}

absl::Status verifyEntryBuffers(
    const fb::Plan& plan, const fb::Stage& stage,
    const ::flatbuffers::Vector<::flatbuffers::Offset<fb::EntryBuffers>>* all,
    bool isInput, const Place& outer) {
  std::set<int> seen;
  for (int64_t i = 0; i < lengthOf(all); ++i) {
    Place place{&outer, isInput ? "inputs" : "outputs", i};
    int number = all->Get(i)->entry();
    LLMRT_PLAN_CHECK(isWithin(number, 0, lengthOf(plan.entries()) - 1) &&
                         seen.insert(number).second,
                     place, "the entry does not exist or is named twice");
    const fb::Entry* entry = plan.entries()->Get(number);
    int64_t S = entry->sequences();
    int64_t rows = S * entry->rows_per_sequence();
    using enum fb::ElementType;
    const NamedBufferKind inputs[] = {
        {"ids", I32, rows},
        {"positions", I32, rows},
        {"valid_rows", I32, S},
        {"block_table", I32, multiply(S, entry->pages_per_sequence())},
        {"temperature", F32, S},
        {"top_k", I32, S},
        {"top_p", F32, S},
        {"seed", I64, S},
        {"sequence", I32, S},
        {"sample_positions", I32, S},
        {"starts", I32, rows},
        {"labels", I32, rows},
        {"hyper", F32, kHyperparameters},
        {"reference_loss", F32, rows}};
    const NamedBufferKind outputs[] = {{"next_ids", I32, S},
                                       {"logits", F32, 0},
                                       {"norm", F32, 4},
                                       {"row_loss", F32, rows}};
    auto kinds = isInput ? absl::Span<const NamedBufferKind>(inputs)
                         : absl::Span<const NamedBufferKind>(outputs);
    std::set<absl::string_view> names;
    for (int64_t b = 0; b < lengthOf(all->Get(i)->buffers()); ++b) {
      const fb::NamedBuffer* named = all->Get(i)->buffers()->Get(b);
      Place at{&place, "buffers", b};
      LLMRT_PLAN_CHECK(names.insert(textOf(named->name())).second, at,
                       "the name is used twice");
      LLMRT_RETURN_IF_ERROR(verifyNamedBuffer(stage, *named, kinds, at));
    }
  }
  return absl::OkStatus();
}

absl::Status verifyStage(const fb::Plan& plan, const fb::Stage& stage,
                         const Place& place) {
  LLMRT_RETURN_IF_ERROR(verifyBuffers(stage, place));
  std::set<std::pair<absl::string_view, absl::string_view>> names;
  for (int64_t i = 0; i < lengthOf(stage.parameters()); ++i) {
    const fb::Parameter* parameter = stage.parameters()->Get(i);
    Place at{&place, "parameters", i};
    LLMRT_RETURN_IF_ERROR(verifyParameter(plan, stage, *parameter, at));
    LLMRT_PLAN_CHECK(names
                         .insert({textOf(parameter->weight_set()),
                                  textOf(parameter->name())})
                         .second,
                     at, "the name is used twice");
  }
  for (int64_t i = 0; i < lengthOf(stage.caches()); ++i) {
    const fb::Cache* cache = stage.caches()->Get(i);
    Place at{&place, "caches", i};
    LLMRT_PLAN_CHECK(
        isWithin(cache->buffer(), 0, lengthOf(stage.buffers()) - 1), at,
        "its buffer does not exist");
    LLMRT_PLAN_CHECK(
        isWithin(multiply(cache->pages(), cache->page_bytes()), 0,
                 stage.buffers()->Get(cache->buffer())->size_bytes()),
        at, "its pages do not fit its buffer");
  }
  LLMRT_RETURN_IF_ERROR(verifyStates(plan, stage, place));
  LLMRT_RETURN_IF_ERROR(
      verifyEntryBuffers(plan, stage, stage.inputs(), true, place));
  LLMRT_RETURN_IF_ERROR(
      verifyEntryBuffers(plan, stage, stage.outputs(), false, place));
  LLMRT_RETURN_IF_ERROR(verifyPrograms(plan, stage, place));
  return verifySchedule(plan, stage, place);
}

// Bytes of the arenas that buffers of a class cover, each counted once.
int64_t coveredBytes(const fb::Stage& stage, fb::MemoryClass memoryClass) {
  std::vector<std::tuple<fb::MemorySpace, int64_t, int64_t>> ranges;
  for (int64_t i = 0; i < lengthOf(stage.buffers()); ++i) {
    const fb::Buffer* buffer = stage.buffers()->Get(i);
    if (buffer->memory_class() == memoryClass)
      ranges.emplace_back(buffer->space(), buffer->offset(),
                          buffer->offset() + buffer->size_bytes());
  }
  std::sort(ranges.begin(), ranges.end());
  int64_t coveredBytes = 0;
  int64_t reached = 0;
  fb::MemorySpace current = fb::MemorySpace::MIN;
  for (auto [space, begin, end] : ranges) {
    reached = space == current ? reached : 0;
    current = space;
    coveredBytes += std::max<int64_t>(0, end - std::max(begin, reached));
    reached = std::max(reached, end);
  }
  return coveredBytes;
}

// The table is a prediction that others rely on, so it must be the buffers'
// own.
absl::Status verifyMemory(const fb::Plan& plan) {
  std::map<std::pair<int, fb::MemoryClass>, int64_t> predicted;
  for (int64_t i = 0; i < lengthOf(plan.memory()); ++i) {
    const fb::MemoryRow* row = plan.memory()->Get(i);
    Place place{nullptr, "memory", i};
    LLMRT_PLAN_CHECK(isWithin(row->stage(), 0, lengthOf(plan.stages()) - 1) &&
                         isMemoryClass(row->memory_class()),
                     place, "unknown stage or class");
    LLMRT_PLAN_CHECK(isWithin(row->size_bytes(), 0, kMaxPlanInteger) &&
                         isWithin(row->padding_bytes(), 0, row->size_bytes()),
                     place, "impossible size");
    auto [at, isFirst] = predicted.try_emplace(
        {row->stage(), row->memory_class()}, row->size_bytes());
    LLMRT_PLAN_CHECK(isFirst, place, "the class has two rows");
    bool isArenaClass = row->memory_class() != fb::MemoryClass::Code &&
                        row->memory_class() != fb::MemoryClass::Library;
    int64_t covered =
        coveredBytes(*plan.stages()->Get(row->stage()), row->memory_class());
    LLMRT_PLAN_CHECK(!isArenaClass || covered == row->size_bytes(), place,
                     absl::StrCat(row->size_bytes(),
                                  " bytes, the buffers of "
                                  "the class cover ",
                                  covered));
  }
  return absl::OkStatus();
}

absl::Status verifyTables(const fb::Plan& plan) {
  LLMRT_RETURN_IF_ERROR(verifyMemory(plan));
  int64_t numStages = lengthOf(plan.stages());
  for (int64_t i = 0; i < lengthOf(plan.costs()); ++i) {
    const fb::CostRow* row = plan.costs()->Get(i);
    Place place{nullptr, "costs", i};
    LLMRT_PLAN_CHECK(
        isWithin(row->stage(), 0, numStages - 1) &&
            isWithin(row->entry(), 0, lengthOf(plan.entries()) - 1),
        place, "unknown stage or entry");
    LLMRT_PLAN_CHECK(lengthOf(row->axis_bytes()) == lengthOf(plan.axes()) &&
                         isAligned(row->axis_bytes()),
                     place, "not one number for each axis");
  }
  return absl::OkStatus();
}

} // namespace

std::string Place::text() const {
  std::string text = outer ? absl::StrCat(outer->text(), ".") : "";
  absl::StrAppend(&text, field);
  if (index >= 0)
    absl::StrAppend(&text, "[", index, "]");
  return text;
}

absl::Status invalidPlan(const Place& place, absl::string_view what) {
  return makeError(
      ErrorCode::PlanInvalid,
      absl::StrCat("the plan contradicts itself at ", place.text(), ": ", what),
      "this is a fault of the compiler that made it; please "
      "report it with the command line");
}

int64_t multiply(int64_t a, int64_t b) {
  int64_t product;
  if (a < 0 || b < 0 || __builtin_mul_overflow(a, b, &product) ||
      product > kMaxPlanInteger)
    return -1;
  return product;
}

int64_t productOf(const ::flatbuffers::Vector<int64_t>* shape) {
  if (!isAligned(shape))
    return -1;
  int64_t product = 1;
  for (int64_t i = 0; i < lengthOf(shape); ++i)
    product = multiply(product, shape->Get(i));
  return product;
}

absl::Status verifyByCoordinate(const fb::Plan& plan,
                                const fb::ByCoordinate* value, int64_t low,
                                int64_t high, const Place& place) {
  LLMRT_PLAN_CHECK(isWithin(value->axis(), -1, lengthOf(plan.axes()) - 1),
                   place,
                   absl::StrCat("axis ", value->axis(), " does not exist"));
  int64_t needed =
      value->axis() < 0 ? 1 : plan.axes()->Get(value->axis())->size();
  LLMRT_PLAN_CHECK(isAligned(value->values()), place, "it is not aligned");
  LLMRT_PLAN_CHECK(lengthOf(value->values()) == needed, place,
                   absl::StrCat(lengthOf(value->values()),
                                " values, one for each coordinate makes ",
                                needed));
  for (int64_t v : *value->values())
    LLMRT_PLAN_CHECK(isWithin(v, low, high), place,
                     absl::StrCat("value ", v, " is out of range"));
  return absl::OkStatus();
}

absl::Status verifyAxes(const fb::Plan& plan,
                        const ::flatbuffers::Vector<int32_t>* axes,
                        const Place& place) {
  LLMRT_PLAN_CHECK(lengthOf(axes) > 0, place, "there are none");
  std::set<int> seen;
  for (int axis : *axes)
    LLMRT_PLAN_CHECK(
        isWithin(axis, 0, lengthOf(plan.axes()) - 1) &&
            seen.insert(axis).second,
        place,
        absl::StrCat("axis ", axis, " does not exist or is named twice"));
  return absl::OkStatus();
}

absl::Status verifyPlan(const fb::Plan& plan) {
  Place version{nullptr, "schema_version"};
  LLMRT_PLAN_CHECK(plan.schema_version() == kPlanSchemaVersion, version,
                   "it differs from the one in the header");
  LLMRT_RETURN_IF_ERROR(verifyMesh(plan));
  LLMRT_RETURN_IF_ERROR(verifyEntries(plan));
  LLMRT_RETURN_IF_ERROR(verifyKernels(plan));
  for (int64_t i = 0; i < lengthOf(plan.stages()); ++i) {
    Place place{nullptr, "stages", i};
    LLMRT_RETURN_IF_ERROR(verifyStage(plan, *plan.stages()->Get(i), place));
  }
  LLMRT_RETURN_IF_ERROR(verifyTables(plan));
  return verifyExchange(plan);
}

} // namespace llmrt
