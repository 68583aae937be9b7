// SPDX-License-Identifier: Apache-2.0
#include "runtime/executor/CheckedMemory.h"

#include "runtime/base/Error.h"
#include "runtime/executor/LocalBox.h"
#include "runtime/plan/Mesh.h"

#include "absl/strings/str_cat.h"

#include <algorithm>
#include <cstring>

namespace llmrt {
namespace {

constexpr int64_t kAlignment = 64;

int64_t roundUp(int64_t value, int64_t multiple) {
  return (value + multiple - 1) / multiple * multiple;
}

absl::string_view viewOf(const ::flatbuffers::String* text) {
  return text ? absl::string_view(text->data(), text->size())
              : absl::string_view();
}

bool isSlotted(const fb::Buffer& buffer) {
  // The host gives inputs of micro-batches as one array.
  return buffer.slot_kind() != fb::SlotKind::None &&
         buffer.slot_kind() != fb::SlotKind::MicroBatch;
}

int64_t markOf(int program, int64_t command) {
  return (static_cast<int64_t>(program) << 32) | command;
}

} // namespace

absl::StatusOr<std::unique_ptr<CheckedMemory>>
CheckedMemory::create(const fb::Plan& plan, const fb::Stage& stage,
                      absl::Span<const int> coordinates, int rank,
                      Device& device) {
  std::unique_ptr<CheckedMemory> memory(new CheckedMemory(plan, stage, rank));
  // The page size is known only from memory: lay out for 4 KiB, as the cpu has.
  memory->lifespans_ = lifespansOf(stage);
  memory->layOut();
  memory->findShardPadding(coordinates);
  LLMRT_ASSIGN_OR_RETURN(memory->pages_,
                         device.allocateGuarded(memory->totalBytes_));
  for (Part& part : memory->parts_)
    if (memory->isKept(part))
      memory->pages_->open(part.offset, part.sizeBytes,
                           memory->patternOf(part));
  return memory;
}

void CheckedMemory::layOut() {
  constexpr int64_t kPageBytes = 4096;
  totalBytes_ = kPageBytes;
  int64_t count = stage_.buffers() ? stage_.buffers()->size() : 0;
  for (int64_t i = 0; i < count; ++i) {
    const fb::Buffer& b = *stage_.buffers()->Get(i);
    firstPart_.push_back(parts_.size());
    int64_t slots = isSlotted(b) ? std::max(b.slots(), 1) : 1;
    for (int64_t s = 0; s < slots; ++s) {
      Part part;
      part.buffer = i;
      part.slot = isSlotted(b) ? s : -1;
      part.sizeBytes = b.size_bytes() / slots;
      part.requiredBytes = (b.size_bytes() - b.padding_bytes()) / slots;
      part.arenaOffset = b.offset() + s * part.sizeBytes;
      part.pagesOffset = totalBytes_;
      part.pagesBytes = roundUp(part.sizeBytes, kPageBytes);
      part.offset = part.pagesOffset + part.pagesBytes -
                    roundUp(part.sizeBytes, kAlignment);
      totalBytes_ += part.pagesBytes + kPageBytes;
      parts_.push_back(part);
    }
  }
}

// The last ranks' runs of a ZeRO shard may hold less than the others', or
// nothing.
void CheckedMemory::findShardPadding(absl::Span<const int> coordinates) {
  auto require = [&](const fb::Parameter& parameter, DType dtype, int buffer,
                     absl::Span<const int> axes, int64_t shardBytes) {
    if (axes.empty())
      return;
    LocalBox box(parameter, coordinates);
    int64_t rows = box.rows();
    if (parameter.layout() == fb::WeightLayout::Panel)
      rows = roundUp(rows, kPanelBytes / dtypeBytes(dtype));
    int64_t begin = shardBytes * indexAlongAxes(plan_, coordinates, axes);
    int64_t held = std::clamp<int64_t>(
        rows * box.cols() * dtypeBytes(dtype) - begin, 0, shardBytes);
    int64_t& required = parts_[firstPart_[buffer]].requiredBytes;
    required = std::min(required, held);
  };
  if (stage_.parameters())
    for (const fb::Parameter* p : *stage_.parameters())
      require(*p, static_cast<DType>(p->dtype()), p->buffer(),
              spanOf(p->shard_axes()), p->shard_bytes());
  if (stage_.states())
    for (const fb::State* s : *stage_.states())
      if (s->parameter() >= 0)
        require(*stage_.parameters()->Get(s->parameter()),
                static_cast<DType>(s->dtype()), s->buffer(),
                spanOf(s->shard_axes()), s->shard_bytes());
}

int CheckedMemory::partOf(int buffer, int slot) const {
  bool hasSlots = isSlotted(*stage_.buffers()->Get(buffer));
  return firstPart_[buffer] + (hasSlots ? std::max(slot, 0) : 0);
}

uint8_t* CheckedMemory::address(int buffer, int slot) const {
  uint8_t* begin = pages_->data() + parts_[partOf(buffer, slot)].offset;
  const fb::Buffer& b = *stage_.buffers()->Get(buffer);
  if (b.slot_kind() == fb::SlotKind::MicroBatch)
    begin += std::max(slot, 0) * (b.size_bytes() / std::max(b.slots(), 1));
  return begin;
}

// Outputs stay open for the caller, but their contents do not.
bool CheckedMemory::isKept(const Part& part) const {
  const fb::Buffer& b = *stage_.buffers()->Get(part.buffer);
  return lifespans_[part.buffer] == Lifespan::Stays && !isSlotted(b) &&
         b.memory_class() != fb::MemoryClass::Outputs;
}

// What stays is measured by what is touched, or begins as without the check: a
// plan counts on optimizer states that are zero.
uint32_t CheckedMemory::patternOf(const Part& part) const {
  if (!isKept(part))
    return kPattern;
  const fb::Buffer& b = *stage_.buffers()->Get(part.buffer);
  bool beginsAsZeros =
      pages_->trapsAccesses() || b.memory_class() == fb::MemoryClass::Optimizer;
  return beginsAsZeros ? 0 : kPattern;
}

void CheckedMemory::open(int number) {
  Part& part = parts_[number];
  if (part.isOpen) // behind a transfer: who uses it next has waited
    close(number, /*mustBeWritten=*/true);
  part.isOpen = true;
  if (part.sizeBytes == 0)
    return;
  if (!pages_->trapsAccesses())
    lookAtClosed(part);
  pages_->open(part.offset, part.sizeBytes, kPattern);
}

void CheckedMemory::close(int number, bool mustBeWritten) {
  Part& part = parts_[number];
  part.isOpen = false;
  if (part.sizeBytes == 0)
    return;
  checkBorders(part, describeLast());
  int64_t written = writtenBytes(part);
  if (written == 0 && mustBeWritten)
    report(absl::StrCat(describeMark(mark_), ": ", nameOf(part),
                        " was never written before its last use"));
  touch(part, written);
  pages_->close(part.offset, part.sizeBytes);
}

void CheckedMemory::touch(Part& part, int64_t bytes) {
  part.touched = std::max(part.touched,
                          bytes >= part.requiredBytes ? part.sizeBytes : bytes);
}

int64_t CheckedMemory::writtenBytes(const Part& part) const {
  int64_t end =
      pages_->endOfOther(part.offset, part.offset + part.sizeBytes, kPattern) -
      part.offset;
  return std::min(roundUp(end, 4), part.sizeBytes);
}

// Of its own pages, and where accesses are not trapped of the closed ones on
// both sides.
void CheckedMemory::checkBorders(const Part& part, const std::string& who) {
  bool isTrapped = pages_->trapsAccesses();
  int64_t outside = isTrapped ? 0 : pages_->pageBytes();
  uint32_t pattern = isTrapped ? patternOf(part) : kPattern;
  auto check = [&](int64_t begin, int64_t end) {
    int64_t at = pages_->firstOther(begin, end, pattern);
    if (at < end)
      report(absl::StrCat(who, ": wrote ", outsideOf(part, at)));
  };
  check(part.pagesOffset - outside, part.offset);
  check(part.offset + part.sizeBytes,
        part.pagesOffset + part.pagesBytes + outside);
}

void CheckedMemory::lookAtClosed(const Part& part) {
  int64_t end = part.offset + part.sizeBytes;
  int64_t at = pages_->firstOther(part.offset, end, kPattern);
  if (at < end)
    report(absl::StrCat(describeLast(), ": wrote ", outsideLifetime(part, at)));
}

void CheckedMemory::lookAtKept(Part& part) {
  // To look at a page is to touch it: first what was touched, then only there.
  touch(part, part.touched + pages_->touchedBytes(part.offset + part.touched,
                                                  part.sizeBytes - part.touched,
                                                  patternOf(part)));
  if (part.touched == part.sizeBytes || !pages_->trapsAccesses())
    checkBorders(part, describeLast());
}

absl::StatusOr<int> CheckedMemory::addProgram(const fb::Program& program,
                                              const fb::Entry* entry,
                                              absl::Span<const int> slots) {
  CheckedProgram checked;
  checked.program = &program;
  checked.entry = entry ? std::string(viewOf(entry->name())) : "initialise";
  int64_t count = program.commands() ? program.commands()->size() : 0;
  checked.births.resize(count);
  checked.deaths.resize(count);
  checked.named.resize(count);
  for (int64_t i = 0; i < count; ++i)
    forEachBuffer(*program.commands()->Get(i), [&](int buffer) {
      const fb::Buffer& b = *stage_.buffers()->Get(buffer);
      checked.named[i].insert(
          partOf(buffer, slots[static_cast<int>(b.slot_kind())]));
    });
  for (const Lifetime& lifetime : lifetimesOf(program, stage_)) {
    checked.births[lifetime.first].push_back(lifetime.buffer);
    if (lifetime.last < count)
      checked.deaths[lifetime.last].push_back(lifetime.buffer);
  }
  LLMRT_RETURN_IF_ERROR(checkLifetimes(
      program, stage_, [&](int64_t at) { return describe(checked, at); }));
  programs_.push_back(std::move(checked));
  return programs_.size() - 1;
}

int CheckedMemory::addSchedule(const std::vector<const fb::Action*>& actions) {
  constexpr int kFirst = static_cast<int>(fb::SlotKind::Saved);
  std::map<int, const fb::Program*> byEntry;
  for (const fb::Program* program : *stage_.programs())
    byEntry[program->entry()] = program;
  SlotLifetimes lifetimes;
  lifetimes.births.resize(actions.size());
  lifetimes.deaths.resize(actions.size());

  // What a slot holds lives while actions of one micro-batch follow each other,
  // what programs pass on besides from the first to the last of them.
  // A transfer goes on after it was enqueued: only who uses the slot next has
  // waited for it.
  struct Use {
    int microBatch;
    size_t last;
  };

  std::map<int, Use> uses; // by part
  for (size_t i = 0; i < actions.size(); ++i) {
    const fb::Action* action = actions[i];
    auto useBuffer = [&](int buffer) {
      const fb::Buffer& b = *stage_.buffers()->Get(buffer);
      bool isOfCall = lifespans_[buffer] == Lifespan::Call;
      if (!isSlotted(b) && !isOfCall)
        return;
      int microBatch = isOfCall ? -1 : action->micro_batch();
      unsigned kind = static_cast<int>(b.slot_kind()) - kFirst;
      int slot =
          isSlotted(b) && action->slots() && kind < action->slots()->size()
              ? action->slots()->Get(kind)
              : 0;
      int part = partOf(buffer, slot);
      auto [place, isNew] = uses.try_emplace(part, Use{microBatch, i});
      Use& use = place->second;
      if (!isNew && use.microBatch != microBatch) {
        if (!isTransfer(*byEntry[actions[use.last]->entry()]))
          lifetimes.deaths[use.last].push_back(part);
        use.microBatch = microBatch;
        isNew = true;
      }
      if (isNew)
        lifetimes.births[i].push_back(part);
      use.last = i;
    };
    if (const fb::Program* program = byEntry[action->entry()];
        program && program->commands())
      for (const fb::Command* command : *program->commands())
        forEachBuffer(*command, useBuffer);
  }
  for (const auto& [part, use] : uses)
    if (!isTransfer(*byEntry[actions[use.last]->entry()]))
      lifetimes.deaths[use.last].push_back(part);
  schedules_.push_back(std::move(lifetimes));
  return schedules_.size() - 1;
}

void CheckedMemory::beginCall() {
  misuse_.clear();
  mark_ = -1;
  for (const Part& part : parts_) {
    const fb::Buffer& b = *stage_.buffers()->Get(part.buffer);
    if (b.memory_class() != fb::MemoryClass::Outputs)
      continue;
    pages_->close(part.offset, part.sizeBytes);
    pages_->open(part.offset, part.sizeBytes, kPattern);
  }
}

void CheckedMemory::beginAction(int schedule, int64_t action) {
  for (int part : schedules_[schedule].births[action])
    open(part);
}

void CheckedMemory::endAction(int schedule, int64_t action) {
  for (int part : schedules_[schedule].deaths[action])
    close(part, /*mustBeWritten=*/true);
}

void CheckedMemory::beforeCommand(int program, int64_t command) {
  for (int buffer : programs_[program].births[command])
    open(partOf(buffer, 0));
  mark_ = markOf(program, command);
  pages_->setMark(Stream::Compute, mark_);
}

void CheckedMemory::afterCommand(int program, int64_t command, bool isFull) {
  if (!pages_->trapsAccesses()) {
    std::string who = describeMark(mark_);
    for (int part : programs_[program].named[command])
      checkBorders(parts_[part], who);
  }
  for (int buffer : programs_[program].deaths[command])
    close(partOf(buffer, 0), isFull);
}

void CheckedMemory::markCommunication(int program, int64_t command) {
  pages_->setMark(Stream::Communication, markOf(program, command));
}

absl::Status CheckedMemory::endCall() {
  pages_->setMark(Stream::Compute, -1);
  if (std::optional<AccessFault> fault = pages_->takeFault())
    misuse_ = describeFault(*fault); // tells more than what it left behind
  for (size_t i = 0; i < parts_.size(); ++i) {
    Part& part = parts_[i];
    const fb::Buffer& b = *stage_.buffers()->Get(part.buffer);
    if (part.isOpen) { // behind a transfer
      close(i, /*mustBeWritten=*/true);
    } else if (isKept(part)) {
      lookAtKept(part);
    } else if (b.memory_class() == fb::MemoryClass::Outputs) {
      checkBorders(part, describeLast());
      touch(part, writtenBytes(part));
    } else if (!pages_->trapsAccesses()) {
      lookAtClosed(part);
      checkBorders(part, describeLast());
    }
  }
  if (misuse_.empty())
    return absl::OkStatus();
  return makeError(ErrorCode::MemoryMisuse, misuse_,
                   "report this mistake of llmc or of a kernel, with the plan "
                   "and the way it was compiled");
}

BytesByClass CheckedMemory::touchedBytes() const {
  std::map<int, std::vector<std::pair<int64_t, int64_t>>> ranges;
  for (const Part& part : parts_) {
    const fb::Buffer* b = stage_.buffers()->Get(part.buffer);
    ranges[static_cast<int>(b->memory_class())].emplace_back(
        part.arenaOffset, part.arenaOffset + part.touched);
  }
  BytesByClass bytes{};
  for (auto& [memoryClass, all] : ranges) {
    std::sort(all.begin(), all.end());
    int64_t covered = 0;
    for (auto [begin, end] : all) {
      begin = std::max(begin, covered);
      if (end > begin)
        bytes[memoryClass] += end - begin;
      covered = std::max(covered, end);
    }
  }
  return bytes;
}

int64_t CheckedMemory::highestOffset() const {
  int64_t highest = 0;
  for (const Part& part : parts_)
    if (part.touched > 0)
      highest = std::max(highest, part.arenaOffset + part.touched);
  return highest;
}

std::string CheckedMemory::nameOf(const Part& part) const {
  const fb::Buffer* b = stage_.buffers()->Get(part.buffer);
  std::string slot =
      part.slot < 0 ? std::string() : absl::StrCat(" slot ", part.slot);
  return absl::StrCat("buffer '", viewOf(b->name()), "'", slot);
}

std::string CheckedMemory::outsideOf(const Part& part, int64_t offset) const {
  return absl::StrCat("byte ", offset - part.offset, " of ", nameOf(part),
                      ", which has ", part.sizeBytes, " bytes");
}

std::string CheckedMemory::outsideLifetime(const Part& part,
                                           int64_t offset) const {
  return absl::StrCat("byte ", offset - part.offset, " of ", nameOf(part),
                      " outside its lifetime");
}

std::string CheckedMemory::describe(const CheckedProgram& checked,
                                    int64_t number) const {
  const fb::Command* command = checked.program->commands()->Get(number);
  std::string what =
      command->kernel() >= 0
          ? std::string(viewOf(plan_.kernels()->Get(command->kernel())->name()))
          : fb::EnumNameCommandKind(command->kind());
  if (command->provenance() >= 0) {
    const fb::Provenance* from = plan_.provenance()->Get(command->provenance());
    absl::StrAppend(&what, " of ", viewOf(from->op()));
    if (from->subject() && from->subject()->size() > 0)
      absl::StrAppend(&what, " for ", viewOf(from->subject()));
    if (from->pass() && from->pass()->size() > 0)
      absl::StrAppend(&what, ", pass ", viewOf(from->pass()));
  }
  return absl::StrCat("rank ", rank_, ", entry ", checked.entry, ", command ",
                      number, " (", what, ")");
}

std::string CheckedMemory::describeMark(int64_t mark) const {
  if (mark < 0)
    return absl::StrCat("rank ", rank_, ", outside of commands");
  return describe(programs_[mark >> 32], mark & 0xFFFFFFFF);
}

std::string CheckedMemory::describeLast() const {
  return absl::StrCat(describeMark(mark_),
                      mark_ < 0 ? "" : " or something before it");
}

std::string CheckedMemory::describeFault(const AccessFault& fault) const {
  // The pages of a part, with the closed page behind them.
  const Part* found = &parts_.front();
  for (const Part& part : parts_)
    if (part.sizeBytes > 0 && part.pagesOffset <= fault.offset)
      found = &part;
  std::string text = absl::StrCat(describeMark(fault.mark), ": ",
                                  fault.isWrite ? "wrote" : "read");
  if (fault.offset >= found->offset + found->sizeBytes)
    return absl::StrCat(text, " ", outsideOf(*found, fault.offset));
  return absl::StrCat(text, " ", outsideLifetime(*found, fault.offset));
}

void CheckedMemory::report(std::string misuse) {
  if (misuse_.empty())
    misuse_ = std::move(misuse);
}

} // namespace llmrt
