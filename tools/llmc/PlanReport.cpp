// SPDX-License-Identifier: Apache-2.0
#include "tools/llmc/PlanReport.h"

#include "runtime/base/Error.h"
#include "runtime/io/AtomicFile.h"
#include "runtime/kernels/KernelAbi.h"
#include "runtime/plan/KernelFlops.h"
#include "runtime/plan/KernelSignatures.h"

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"

#include <algorithm>
#include <cerrno>
#include <set>
#include <unistd.h>

namespace llmc {
namespace {

bool isUpper(char c) { return c >= 'A' && c <= 'Z'; }

bool isDigit(char c) { return c >= '0' && c <= '9'; }

/// Rows that a launch runs over when every row of the entry is valid.
int64_t fullRows(const fb::Plan& plan, const fb::Entry& entry,
                 const fb::Word& rows) {
  int64_t all = entry.sequences() * entry.rows_per_sequence();
  switch (rows.kind()) {
  case fb::WordKind::Rows:
    return all * rows.value();
  case fb::WordKind::Sequences:
    return entry.sequences() * rows.value();
  case fb::WordKind::RowsShard:
    return all / plan.axes()->Get(rows.index())->size() * rows.value();
  default:
    return rows.value();
  }
}

void addAddresses(
    const ::flatbuffers::Vector<::flatbuffers::Offset<fb::Word>>* words,
    std::vector<int>& buffers) {
  for (const fb::Word* word : listOf(words))
    if (word->kind() == fb::WordKind::Address)
      buffers.push_back(word->index());
}

bool appendsToCache(const fb::Plan& plan, const fb::Command& command) {
  return absl::StrContains(
      textOf(plan.kernels()->Get(command.kernel())->name()), "append");
}

} // namespace

absl::StatusOr<OpenPlan> OpenPlan::open(const std::string& path) {
  OpenPlan open;
  LLMRT_ASSIGN_OR_RETURN(open.file_, llmrt::MappedFile::open(path));
  auto plan = llmrt::readPlan(open.file_.bytes());
  if (!plan.ok()) {
    // "LLMC-E0601: what" becomes "LLMC-E0601: path: what".
    std::string text(plan.status().message());
    size_t colon = text.find(": ");
    size_t at = colon == std::string::npos ? 0 : colon + 2;
    return absl::Status(plan.status().code(), text.insert(at, path + ": "));
  }
  open.plan_ = *plan;
  return open;
}

std::string textOf(const ::flatbuffers::String* text) {
  return text ? text->str() : std::string();
}

std::string snakeCase(absl::string_view camelCase) {
  std::string text;
  for (size_t i = 0; i < camelCase.size(); ++i) {
    char c = camelCase[i];
    bool startsWord = isUpper(c) && i > 0 && !isUpper(camelCase[i - 1]);
    if (startsWord)
      text += '_';
    text += isUpper(c) ? static_cast<char>(c - 'A' + 'a') : c;
  }
  return text;
}

std::string nameOf(fb::MemoryClass memoryClass) {
  return snakeCase(fb::EnumNameMemoryClass(memoryClass));
}

std::string nameOf(fb::CommandKind kind) {
  return snakeCase(fb::EnumNameCommandKind(kind));
}

std::string nameOf(fb::ElementType dtype) {
  return snakeCase(fb::EnumNameElementType(dtype));
}

std::string nameOf(fb::WeightLayout layout) {
  return snakeCase(fb::EnumNameWeightLayout(layout));
}

std::string nameOf(fb::MemorySpace space) {
  return snakeCase(fb::EnumNameMemorySpace(space));
}

std::string nameOf(fb::InitKind init) {
  return snakeCase(fb::EnumNameInitKind(init));
}

std::string nameOf(fb::KernelKind kind) {
  return snakeCase(fb::EnumNameKernelKind(kind));
}

std::string nameOfCodeLevel(const fb::CodeObject& code) {
  static const char* const kNames[] = {"baseline", "avx2", "avx512"};
  int level = code.level();
  if (textOf(code.target()) != "cpu")
    return absl::StrCat("sm_", level);
  return level >= 0 && level < 3 ? kNames[level] : absl::StrCat(level);
}

std::string nameOfCode(const fb::CodeObject& code) {
  return absl::StrCat(textOf(code.target()), " ", nameOfCodeLevel(code));
}

std::string nameOfEntry(const fb::Plan& plan, int entry) {
  return entry < 0 ? std::string() : textOf(plan.entries()->Get(entry)->name());
}

std::string nameOfBuffer(const fb::Stage& stage, int buffer) {
  return buffer < 0 ? std::string()
                    : textOf(stage.buffers()->Get(buffer)->name());
}

std::string shortBytes(int64_t bytes) {
  static const char* const kUnits[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB"};
  double amount = static_cast<double>(bytes);
  int unit = 0;
  while (std::abs(amount) >= 1024 && unit < 5) {
    amount /= 1024;
    ++unit;
  }
  return unit == 0 ? absl::StrCat(bytes, " B")
                   : absl::StrFormat("%.1f %s", amount, kUnits[unit]);
}

std::string bytesText(int64_t bytes) {
  return std::abs(bytes) < 1024
             ? absl::StrCat(bytes)
             : absl::StrCat(bytes, " (", shortBytes(bytes), ")");
}

std::string shapeText(const ::flatbuffers::Vector<int64_t>* shape) {
  return absl::StrCat("[", absl::StrJoin(listOf(shape), ", "), "]");
}

std::string axesText(const fb::Plan& plan,
                     const ::flatbuffers::Vector<int32_t>* axes) {
  std::vector<std::string> names;
  for (int axis : listOf(axes))
    names.push_back(textOf(plan.axes()->Get(axis)->name()));
  return absl::StrJoin(names, "+");
}

std::string meshText(const fb::Plan& plan) {
  std::vector<std::string> axes;
  for (const fb::Axis* axis : listOf(plan.axes()))
    axes.push_back(absl::StrCat(textOf(axis->name()), "=", axis->size()));
  return absl::StrJoin(axes, ", ");
}

std::string ranksText(const std::vector<int>& ranks) {
  std::vector<std::string> runs;
  for (size_t i = 0; i < ranks.size();) {
    size_t end = i + 1;
    while (end < ranks.size() && ranks[end] == ranks[end - 1] + 1)
      ++end;
    runs.push_back(end == i + 1 ? absl::StrCat(ranks[i])
                                : absl::StrCat(ranks[i], "-", ranks[end - 1]));
    i = end;
  }
  return absl::StrJoin(runs, ", ");
}

std::string groupName(absl::string_view name) {
  std::string group;
  auto isBorder = [](char c) { return c == '.' || c == '/'; };
  for (size_t i = 0; i < name.size();) {
    size_t end = i;
    while (end < name.size() && isDigit(name[end]))
      ++end;
    bool isNumber = end > i && (i == 0 || isBorder(name[i - 1])) &&
                    (end == name.size() || isBorder(name[end]));
    if (isNumber) {
      group += '*';
      i = end;
      continue;
    }
    group += name[i++];
  }
  return group;
}

std::vector<int> ranksOfStage(const fb::Plan& plan, int stage) {
  std::vector<int> ranks;
  for (int rank = 0; rank < llmrt::numRanks(plan); ++rank)
    if (llmrt::stageOfCoordinates(plan, llmrt::coordinatesOfRank(plan, rank)) ==
        stage)
      ranks.push_back(rank);
  return ranks;
}

std::vector<StageProgram> programsOf(const fb::Plan& plan) {
  std::vector<StageProgram> all;
  int stageNumber = 0;
  for (const fb::Stage* stage : listOf(plan.stages())) {
    if (stage->initialise())
      all.push_back({stageNumber, stage, stage->initialise(), ""});
    for (const fb::Program* program : listOf(stage->programs()))
      all.push_back(
          {stageNumber, stage, program, nameOfEntry(plan, program->entry())});
    ++stageNumber;
  }
  return all;
}

bool isCollective(const fb::Command& command) {
  return command.kind() >= fb::CommandKind::AllGather &&
         command.kind() <= fb::CommandKind::Exchange;
}

Origin originOf(const fb::Plan& plan, const fb::Command& command) {
  if (command.provenance() < 0 || !plan.provenance())
    return {};
  const fb::Provenance* origin = plan.provenance()->Get(command.provenance());
  return {textOf(origin->op()), textOf(origin->pass()),
          textOf(origin->subject())};
}

Sent sentBy(const fb::Plan& plan, const fb::Command& command) {
  if (!isCollective(command) || command.kind() == fb::CommandKind::Recv ||
      !command.axes() || command.axes()->size() == 0)
    return {};
  Sent sent{static_cast<int>(command.axes()->Get(command.axes()->size() - 1)),
            command.bytes()};
  int64_t ranks = llmrt::sizeAlongAxes(plan, llmrt::spanOf(command.axes()));
  // Further parts of a bucket: words in threes, the last one its bytes.
  for (unsigned i = 2; command.words() && i < command.words()->size(); i += 3)
    sent.bytes += command.words()->Get(i)->value();
  switch (command.kind()) {
  case fb::CommandKind::AllGather:
  case fb::CommandKind::ReduceScatter:
    sent.bytes *= ranks - 1;
    break;
  case fb::CommandKind::AllReduce:
    sent.bytes = 2 * sent.bytes * (ranks - 1) / ranks;
    break;
  default:
    break;
  }
  return sent;
}

int64_t launchWord(const fb::Plan& plan, const fb::Command& command,
                   absl::string_view name) {
  const fb::Kernel& kernel = *plan.kernels()->Get(command.kernel());
  const llmrt::KernelSignature* signature =
      llmrt::findKernelSignature(textOf(kernel.name()), kernel.version());
  if (!signature || !command.words())
    return 0;
  auto found =
      std::find(signature->words.begin(), signature->words.end(), name);
  size_t i = found - signature->words.begin();
  if (i >= command.words()->size())
    return 0;
  const fb::Word* word = command.words()->Get(i);
  if (word->kind() == fb::WordKind::Coordinate)
    return word->by_coordinate()->values()->Get(0);
  return word->value();
}

double flopsOf(const fb::Plan& plan, const fb::Program& program,
               const fb::Command& command) {
  if (command.kind() != fb::CommandKind::Launch || program.entry() < 0)
    return 0;
  const fb::Kernel& kernel = *plan.kernels()->Get(command.kernel());
  if (kernel.kind() != fb::KernelKind::HandTuned)
    return 0;
  const fb::Entry& entry = *plan.entries()->Get(program.entry());
  return llmrt::kernelFlops(
      textOf(kernel.name()),
      {fullRows(plan, entry, *command.grid_rows()),
       entry.pages_per_sequence() * llmrt::kPageTokens},
      [&](absl::string_view name) { return launchWord(plan, command, name); });
}

std::vector<int> buffersOf(const fb::Command& command) {
  std::vector<int> buffers;
  addAddresses(command.words(), buffers);
  for (const fb::Slot* slot : listOf(command.slots()))
    addAddresses(slot->words(), buffers);
  for (int buffer : {command.send_buffer(), command.recv_buffer()})
    if (buffer >= 0)
      buffers.push_back(buffer);
  std::sort(buffers.begin(), buffers.end());
  buffers.erase(std::unique(buffers.begin(), buffers.end()), buffers.end());
  return buffers;
}

std::vector<std::vector<Access>> accessesOf(const fb::Plan& plan,
                                            const StageProgram& program) {
  std::vector<std::vector<Access>> all(
      listOf(program.holder->buffers()).size());
  int number = 0;
  for (const fb::Command* command : listOf(program.program->commands())) {
    bool isLaunch = command->kind() == fb::CommandKind::Launch;
    for (int buffer : buffersOf(*command)) {
      Access access{number};
      switch (program.holder->buffers()->Get(buffer)->memory_class()) {
      case fb::MemoryClass::Parameters:
      case fb::MemoryClass::Inputs:
        break;
      case fb::MemoryClass::Caches:
        access.isWrite = isLaunch && appendsToCache(plan, *command);
        break;
      case fb::MemoryClass::Constants:
        access.isWrite = program.entry.empty();
        break;
      default:
        access.isWrite = isLaunch && all[buffer].empty();
      }
      if (!isLaunch)
        access.isWrite = command->recv_buffer() == buffer;
      access.isRead = !access.isWrite || command->send_buffer() == buffer;
      all[buffer].push_back(access);
    }
    ++number;
  }
  return all;
}

bool isPersistent(fb::MemoryClass memoryClass) {
  switch (memoryClass) {
  case fb::MemoryClass::GatheredParameters:
  case fb::MemoryClass::Activations:
  case fb::MemoryClass::Communication:
  case fb::MemoryClass::Workspace:
    return false;
  default:
    return true;
  }
}

absl::Status writeResult(const std::string& path, absl::string_view text) {
  if (!path.empty() && path != "-") {
    LLMRT_ASSIGN_OR_RETURN(auto file, llmrt::AtomicFile::create(path));
    LLMRT_RETURN_IF_ERROR(file.append(text));
    return file.commit();
  }
  while (!text.empty()) {
    ssize_t count = ::write(STDOUT_FILENO, text.data(), text.size());
    if (count < 0 && errno == EINTR)
      continue;
    if (count < 0 && errno == EPIPE)
      return absl::OkStatus();
    if (count < 0)
      return llmrt::makeSystemError(llmrt::ErrorCode::FileNotWritable, errno,
                                    "cannot write", "standard output");
    text.remove_prefix(static_cast<size_t>(count));
  }
  return absl::OkStatus();
}

} // namespace llmc
