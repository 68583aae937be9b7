// SPDX-License-Identifier: Apache-2.0
#include "runtime/executor/BufferLifetimes.h"

#include "runtime/base/Error.h"

#include "absl/strings/str_cat.h"

#include <algorithm>
#include <map>

namespace llmrt {
namespace {

constexpr const char* kReport =
    "report this mistake of llmc, with the plan and the way it was compiled";

int64_t numCommands(const fb::Program& program) {
  return program.commands() ? program.commands()->size() : 0;
}

bool isAsynchronous(const fb::Command& command) {
  return command.stream() != 0 &&
         command.kind() != fb::CommandKind::RecordEvent &&
         command.kind() != fb::CommandKind::WaitEvent;
}

/// Returns the command that waits for what command `at` of the communication
/// stream does, or the number of commands. The stream keeps its order, so the
/// wait for any later record will do.
int64_t completionOf(const fb::Program& program, int64_t at) {
  int64_t count = numCommands(program);
  std::vector<int> events;
  for (int64_t i = at + 1; i < count; ++i) {
    const fb::Command* command = program.commands()->Get(i);
    if (command->kind() == fb::CommandKind::RecordEvent &&
        command->stream() != 0)
      events.push_back(command->event());
    if (command->kind() == fb::CommandKind::WaitEvent &&
        command->stream() == 0 &&
        std::count(events.begin(), events.end(), command->event()))
      return i;
  }
  return count;
}

absl::string_view nameOf(const fb::Stage& stage, int buffer) {
  const auto* name = stage.buffers()->Get(buffer)->name();
  return name ? absl::string_view(name->data(), name->size())
              : absl::string_view("?");
}

std::string rangeOf(const fb::Stage& stage, int buffer) {
  const fb::Buffer* b = stage.buffers()->Get(buffer);
  return absl::StrCat("'", nameOf(stage, buffer), "' (bytes ", b->offset(),
                      " to ", b->offset() + b->size_bytes(), ")");
}

bool isTransient(const fb::Buffer& buffer) {
  if (buffer.slot_kind() != fb::SlotKind::None)
    return false;
  switch (buffer.memory_class()) {
  case fb::MemoryClass::Activations:
  case fb::MemoryClass::GatheredParameters:
  case fb::MemoryClass::Communication:
  case fb::MemoryClass::Workspace:
    return true;
  default:
    return false;
  }
}

/// What an asynchronous command writes: of a bucket, every part's.
std::vector<int> writtenBy(const fb::Command& command) {
  std::vector<int> written;
  if (command.recv_buffer() >= 0)
    written.push_back(command.recv_buffer());
  unsigned numWords = command.words() ? command.words()->size() : 0;
  for (unsigned i = 1; i < numWords; i += 3)
    written.push_back(command.words()->Get(i)->index());
  return written;
}

absl::Status checkApart(const fb::Program& program, const fb::Stage& stage,
                        absl::FunctionRef<std::string(int64_t)> describe) {
  std::vector<Lifetime> all = lifetimesOf(program, stage);
  std::vector<Lifespan> lifespans = lifespansOf(stage);
  for (size_t i = 0; i < lifespans.size(); ++i)
    if (lifespans[i] != Lifespan::Program)
      all.push_back({static_cast<int>(i), -1, numCommands(program)});
  std::sort(all.begin(), all.end(), [&](const Lifetime& a, const Lifetime& b) {
    return stage.buffers()->Get(a.buffer)->offset() <
           stage.buffers()->Get(b.buffer)->offset();
  });
  for (size_t i = 0; i < all.size(); ++i) {
    const fb::Buffer* a = stage.buffers()->Get(all[i].buffer);
    for (size_t j = i + 1; j < all.size(); ++j) {
      const fb::Buffer* b = stage.buffers()->Get(all[j].buffer);
      if (b->offset() >= a->offset() + a->size_bytes())
        break;
      if (a->space() != b->space() || b->size_bytes() == 0 ||
          all[i].last < all[j].first || all[j].last < all[i].first)
        continue;
      int64_t at = std::max<int64_t>(0, std::max(all[i].first, all[j].first));
      return makeError(ErrorCode::MemoryMisuse,
                       absl::StrCat(describe(at), ": buffers ",
                                    rangeOf(stage, all[i].buffer), " and ",
                                    rangeOf(stage, all[j].buffer),
                                    " overlap and are both in use"),
                       kReport);
    }
  }
  return absl::OkStatus();
}

absl::Status checkWaits(const fb::Program& program, const fb::Stage& stage,
                        absl::FunctionRef<std::string(int64_t)> describe) {
  int64_t count = numCommands(program);
  for (int64_t i = 0; i < count; ++i) {
    const fb::Command* command = program.commands()->Get(i);
    if (!isAsynchronous(*command))
      continue;
    int64_t end = completionOf(program, i);
    std::vector<int> written = writtenBy(*command);
    for (int64_t k = i + 1; k < end; ++k) {
      const fb::Command* other = program.commands()->Get(k);
      int used = -1;
      if (other->stream() == 0)
        forEachBuffer(*other, [&](int buffer) {
          if (std::count(written.begin(), written.end(), buffer))
            used = buffer;
        });
      if (used >= 0)
        return makeError(
            ErrorCode::MemoryMisuse,
            absl::StrCat(describe(k), ": uses buffer '", nameOf(stage, used),
                         "' before it waits for the transfer into it, ",
                         describe(i)),
            kReport);
    }
    if (end == count)
      return makeError(ErrorCode::MemoryMisuse,
                       absl::StrCat(describe(i), ": nothing waits for it"),
                       kReport);
  }
  return absl::OkStatus();
}

} // namespace

void forEachBuffer(const fb::Command& command,
                   absl::FunctionRef<void(int buffer)> use) {
  auto useWord = [&](const fb::Word* word) {
    if (word && word->kind() == fb::WordKind::Address)
      use(word->index());
  };
  if (command.words())
    for (const fb::Word* word : *command.words())
      useWord(word);
  if (command.slots())
    for (const fb::Slot* slot : *command.slots())
      if (slot->words())
        for (const fb::Word* word : *slot->words())
          useWord(word);
  for (int buffer : {command.send_buffer(), command.recv_buffer()})
    if (buffer >= 0)
      use(buffer);
}

std::vector<Lifespan> lifespansOf(const fb::Stage& stage) {
  std::vector<Lifespan> lifespans;
  if (!stage.buffers())
    return lifespans;
  for (const fb::Buffer* buffer : *stage.buffers())
    lifespans.push_back(isTransient(*buffer) ? Lifespan::Program
                                             : Lifespan::Stays);
  // Without a schedule a call is one program.
  bool hasSteps = stage.schedule() && stage.schedule()->size() > 0;
  std::vector<const fb::Program*> users(lifespans.size());
  for (unsigned p = 0; hasSteps && p < stage.programs()->size(); ++p) {
    const fb::Program* program = stage.programs()->Get(p);
    for (int64_t i = 0; i < numCommands(*program); ++i)
      forEachBuffer(*program->commands()->Get(i), [&](int buffer) {
        if (lifespans[buffer] == Lifespan::Program && users[buffer] &&
            users[buffer] != program)
          lifespans[buffer] = Lifespan::Call;
        users[buffer] = program;
      });
  }
  return lifespans;
}

bool isTransfer(const fb::Program& program) {
  int64_t count = numCommands(program);
  for (int64_t i = 0; i < count; ++i)
    if (program.commands()->Get(i)->stream() == 0)
      return false;
  return count > 0;
}

std::vector<Lifetime> lifetimesOf(const fb::Program& program,
                                  const fb::Stage& stage) {
  std::vector<Lifespan> lifespans = lifespansOf(stage);
  std::map<int, Lifetime> lifetimes;
  for (int64_t i = 0; i < numCommands(program); ++i) {
    const fb::Command* command = program.commands()->Get(i);
    int64_t end = isAsynchronous(*command) ? completionOf(program, i) : i;
    forEachBuffer(*command, [&](int buffer) {
      if (lifespans[buffer] != Lifespan::Program)
        return;
      auto place = lifetimes.try_emplace(buffer, Lifetime{buffer, i, end});
      Lifetime& lifetime = place.first->second;
      lifetime.last = std::max(lifetime.last, end);
    });
  }
  std::vector<Lifetime> result;
  for (const auto& [buffer, lifetime] : lifetimes)
    result.push_back(lifetime);
  return result;
}

absl::Status
checkLifetimes(const fb::Program& program, const fb::Stage& stage,
               absl::FunctionRef<std::string(int64_t command)> describe) {
  if (!stage.buffers())
    return absl::OkStatus();
  LLMRT_RETURN_IF_ERROR(checkApart(program, stage, describe));
  return isTransfer(program) ? absl::OkStatus()
                             : checkWaits(program, stage, describe);
}

} // namespace llmrt
