// SPDX-License-Identifier: Apache-2.0
// Argument blocks are made once. A call with as many valid rows as the last one
// changes none of them.
#include "runtime/executor/Program.h"

#include "runtime/base/Error.h"

#include <algorithm>

namespace llmrt {
namespace {

constexpr int64_t kBlockWords = 8; // blocks start at a cache line

int64_t roundUpToBlock(int64_t numWords) {
  return (numWords + kBlockWords - 1) / kBlockWords * kBlockWords;
}

int64_t countWords(const fb::Program& program) {
  int64_t count = 0;
  if (!program.commands())
    return count;
  for (const fb::Command* command : *program.commands()) {
    if (command->kind() != fb::CommandKind::Launch)
      continue;
    count +=
        roundUpToBlock(command->words()->size() + 1); // and the grid's rows
    if (command->slots())
      for (const fb::Slot* slot : *command->slots())
        count += roundUpToBlock(slot->words()->size());
  }
  return count;
}

CommandPtr prepareCommand(const fb::Command& command, PrepareContext& context) {
  switch (command.kind()) {
  case fb::CommandKind::Launch:
    return prepareLaunch(command, context);
  case fb::CommandKind::Copy:
    return prepareCopy(command, context);
  case fb::CommandKind::RecordEvent:
  case fb::CommandKind::WaitEvent:
    return prepareEvent(command, context);
  default:
    return prepareCollective(command, context);
  }
}

const char* textOrEmpty(const ::flatbuffers::String* text) {
  return text ? text->c_str() : "";
}

} // namespace

CollectiveTag tagOf(const fb::Command& command, const PrepareContext& context) {
  CollectiveTag tag;
  tag.command = context.commandIndex;
  tag.kind = fb::EnumNameCommandKind(command.kind());
  if (command.provenance() < 0)
    return tag;
  const fb::Provenance* provenance =
      context.rank.plan.provenance()->Get(command.provenance());
  tag.subject = textOrEmpty(provenance->subject());
  if (!*tag.subject)
    tag.subject = textOrEmpty(provenance->op());
  tag.pass = textOrEmpty(provenance->pass());
  return tag;
}

absl::StatusOr<std::unique_ptr<Program>>
Program::create(const fb::Program& program, const fb::Entry* entry, Rank& rank,
                const Slots& slots) {
  std::unique_ptr<Program> prepared(new Program(rank, entry, slots));
  prepared->words_.resize(countWords(program));
  int64_t sizeBytes = prepared->words_.size() * sizeof(uint64_t);
  LLMRT_ASSIGN_OR_RETURN(
      void* memory,
      rank.device.allocate(MemorySpace::Device, MemoryClass::Code, sizeBytes));
  prepared->deviceWords_ = static_cast<uint64_t*>(memory);
  if (rank.checked) {
    LLMRT_ASSIGN_OR_RETURN(
        prepared->checkedNumber_,
        rank.checked->addProgram(program, entry, slots.byKind));
  }
  for (int i = 0; i < program.num_events(); ++i)
    prepared->events_.push_back(rank.device.createEvent());
  int64_t numCommands = program.commands() ? program.commands()->size() : 0;
  PrepareContext context{rank, *prepared, prepared->events_, 0,
                         prepared->slots_};
  for (int64_t i = 0; i < numCommands; ++i) {
    context.commandIndex = i;
    prepared->commands_.push_back(
        prepareCommand(*program.commands()->Get(i), context));
  }
  LLMRT_RETURN_IF_ERROR(rank.device.reserveScratch(prepared->scratchBytes_));
  prepared->setRows(0);
  return prepared;
}

Program::~Program() { rank_.device.release(deviceWords_); }

int64_t Program::takeWords(int64_t numWords) {
  int64_t first = numTaken_;
  numTaken_ += roundUpToBlock(numWords);
  return first;
}

void Program::setWord(int64_t number, const fb::Word& word,
                      const fb::Command& command,
                      absl::Span<const int64_t> slotWords) {
  uint64_t& value = words_[number];
  int64_t rows = entry_ ? entry_->sequences() * entry_->rows_per_sequence() : 0;
  switch (word.kind()) {
  case fb::WordKind::Integer:
  case fb::WordKind::Real:
    value = word.value();
    return;
  case fb::WordKind::Address:
    value = reinterpret_cast<uint64_t>(rank_.address(word.index(), slots_)) +
            word.value() +
            atCoordinates(word.by_coordinate(), rank_.coordinates, 0);
    return;
  case fb::WordKind::Coordinate:
    value = atCoordinates(word.by_coordinate(), rank_.coordinates, 0);
    return;
  case fb::WordKind::Sequences:
    value = entry_->sequences() * word.value();
    return;
  case fb::WordKind::Rows:
    value = rows * word.value();
    rowWords_.push_back({number, 0, rows, word.value()});
    return;
  case fb::WordKind::RowsShard: {
    int64_t ranks = rank_.plan.axes()->Get(word.index())->size();
    int64_t runRows = (rows + ranks - 1) / ranks;
    value = runRows * word.value();
    rowWords_.push_back({number, rank_.coordinates[word.index()] * runRows,
                         runRows, word.value()});
    return;
  }
  case fb::WordKind::SlotKernel: {
    int kernel = command.slots()->Get(word.index())->kernel();
    value = rank_.device.kernelAddress(rank_.kernels[kernel]);
    return;
  }
  case fb::WordKind::SlotWords:
    value = deviceAddress(slotWords[word.index()]);
    return;
  }
}

void Program::setRows(int64_t validRows) {
  if (validRows == validRows_)
    return;
  validRows_ = validRows;
  for (const RowWord& word : rowWords_)
    words_[word.number] =
        std::clamp<int64_t>(validRows - word.firstRow, 0, word.numRows) *
        word.factor;
  if (!words_.empty())
    rank_.device.copy(Stream::Compute, deviceWords_, words_.data(),
                      words_.size() * sizeof(uint64_t));
}

void Program::enqueueChecked(int64_t validRows) {
  bool isFull = !entry_ || rowWords_.empty() ||
                validRows == entry_->sequences() * entry_->rows_per_sequence();
  for (int64_t i = 0; i < numCommands() && rank_.checked->status().ok(); ++i) {
    rank_.checked->beforeCommand(checkedNumber_, i);
    commands_[i]->enqueue();
    rank_.checked->afterCommand(checkedNumber_, i, isFull);
  }
}

void Program::enqueue(int64_t validRows) {
  setRows(validRows);
  if (rank_.checked)
    return enqueueChecked(validRows);
  for (const CommandPtr& command : commands_)
    command->enqueue();
}

} // namespace llmrt
