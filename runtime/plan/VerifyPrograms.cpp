// SPDX-License-Identifier: Apache-2.0
// Checks of programs: every command has what its kind needs, inside its
// buffers.
#include "runtime/plan/VerifyPlan.h"

#include "runtime/base/Error.h"
#include "runtime/kernels/KernelAbi.h"
#include "runtime/plan/KernelSignatures.h"
#include "runtime/plan/Mesh.h"

#include <limits>

namespace llmrt {
namespace {

constexpr int64_t kMinInteger = std::numeric_limits<int64_t>::min();
constexpr int64_t kMaxInteger = std::numeric_limits<int64_t>::max();
/// Scratch that hand-tuned kernels leave for the kernels in their slots.
constexpr int64_t kMaxSlotScratchBytes = 4096;

struct Scope {
  const fb::Plan& plan;
  const fb::Stage& stage;
  bool hasRows; // false in the initialise program
};

bool isNumber(const fb::Word& word, const Scope& scope) {
  switch (word.kind()) {
  case fb::WordKind::Integer:
  case fb::WordKind::Coordinate:
    return true;
  case fb::WordKind::Rows:
  case fb::WordKind::Sequences:
  case fb::WordKind::RowsShard:
    return scope.hasRows;
  default:
    return false;
  }
}

bool fitsType(const fb::Word& word, char type, const Scope& scope) {
  if (type == 'i')
    return isNumber(word, scope);
  if (type == 'f')
    return word.kind() == fb::WordKind::Real;
  return word.kind() == fb::WordKind::Address ||
         word.kind() == fb::WordKind::SlotKernel ||
         word.kind() == fb::WordKind::SlotWords ||
         (word.kind() == fb::WordKind::Integer && word.value() == 0);
}

absl::Status verifyWord(const Scope& scope, const fb::Word& word, char type,
                        int64_t numSlots, const Place& place) {
  LLMRT_PLAN_CHECK(
      fitsType(word, type, scope), place,
      absl::StrCat("a word of kind ", static_cast<int>(word.kind()),
                   " where the kernel wants '", std::string(1, type), "'"));
  switch (word.kind()) {
  case fb::WordKind::Address: {
    LLMRT_PLAN_CHECK(
        isWithin(word.index(), 0, lengthOf(scope.stage.buffers()) - 1), place,
        absl::StrCat("buffer ", word.index(), " does not exist"));
    int64_t sizeBytes = scope.stage.buffers()->Get(word.index())->size_bytes();
    sizeBytes /= scope.stage.buffers()->Get(word.index())->slots();
    LLMRT_PLAN_CHECK(isWithin(word.value(), 0, sizeBytes), place,
                     "it points outside its buffer");
    if (!word.by_coordinate())
      return absl::OkStatus();
    return verifyByCoordinate(scope.plan, word.by_coordinate(), 0,
                              sizeBytes - word.value(), place);
  }
  case fb::WordKind::Coordinate:
    LLMRT_PLAN_CHECK(word.by_coordinate(), place, "its values are missing");
    return verifyByCoordinate(scope.plan, word.by_coordinate(), kMinInteger,
                              kMaxInteger, place);
  case fb::WordKind::RowsShard:
    LLMRT_PLAN_CHECK(isWithin(word.index(), 0, lengthOf(scope.plan.axes()) - 1),
                     place,
                     absl::StrCat("axis ", word.index(), " does not exist"));
    [[fallthrough]];
  case fb::WordKind::Rows:
  case fb::WordKind::Sequences:
    LLMRT_PLAN_CHECK(isWithin(word.value(), 0, int64_t{1} << 31), place,
                     "impossible factor");
    return absl::OkStatus();
  case fb::WordKind::SlotKernel:
  case fb::WordKind::SlotWords:
    LLMRT_PLAN_CHECK(isWithin(word.index(), 0, numSlots - 1), place,
                     absl::StrCat("slot ", word.index(), " does not exist"));
    return absl::OkStatus();
  default:
    return absl::OkStatus();
  }
}

// Words of a generated kernel: rows, then addresses.
absl::Status verifyGeneratedWords(
    const Scope& scope,
    const ::flatbuffers::Vector<::flatbuffers::Offset<fb::Word>>* words,
    const Place& place) {
  LLMRT_PLAN_CHECK(lengthOf(words) > 0, place, "there are none");
  for (int64_t i = 0; i < lengthOf(words); ++i) {
    Place at{&place, "words", i};
    LLMRT_RETURN_IF_ERROR(
        verifyWord(scope, *words->Get(i), i == 0 ? 'i' : 'p', 0, at));
  }
  return absl::OkStatus();
}

absl::Status verifySlots(const Scope& scope, const fb::Command& command,
                         const Place& outer) {
  for (int64_t i = 0; i < lengthOf(command.slots()); ++i) {
    const fb::Slot* slot = command.slots()->Get(i);
    Place place{&outer, "slots", i};
    LLMRT_PLAN_CHECK(
        isWithin(slot->kernel(), 0, lengthOf(scope.plan.kernels()) - 1), place,
        absl::StrCat("kernel ", slot->kernel(), " does not exist"));
    const fb::Kernel* kernel = scope.plan.kernels()->Get(slot->kernel());
    LLMRT_PLAN_CHECK(kernel->kind() == fb::KernelKind::Generated &&
                         kernel->scratch_bytes() <= kMaxSlotScratchBytes,
                     place,
                     "only a generated kernel with little scratch can "
                     "be in a slot");
    LLMRT_RETURN_IF_ERROR(verifyGeneratedWords(scope, slot->words(), place));
  }
  return absl::OkStatus();
}

absl::Status verifyLaunch(const Scope& scope, const fb::Command& command,
                          const Place& place) {
  LLMRT_PLAN_CHECK(command.stream() == 0, place,
                   "kernels run on stream 0 only");
  LLMRT_PLAN_CHECK(
      isWithin(command.kernel(), 0, lengthOf(scope.plan.kernels()) - 1), place,
      absl::StrCat("kernel ", command.kernel(), " does not exist"));
  const bool isCuda = textOf(scope.plan.target()) == "cuda";
  LLMRT_PLAN_CHECK(lengthOf(command.slots()) == 0 || !isCuda, place,
                   "slots exist on cpu only");
  LLMRT_RETURN_IF_ERROR(verifySlots(scope, command, place));
  Place grid{&place, "grid_rows"};
  LLMRT_PLAN_CHECK(command.grid_rows(), grid, "it is missing");
  LLMRT_RETURN_IF_ERROR(verifyWord(scope, *command.grid_rows(), 'i', 0, grid));
  LLMRT_PLAN_CHECK(isWithin(command.grid_cols(), 0, kMaxPlanInteger), place,
                   "impossible grid_cols");
  const fb::Kernel* kernel = scope.plan.kernels()->Get(command.kernel());
  if (kernel->kind() == fb::KernelKind::Generated)
    return verifyGeneratedWords(scope, command.words(), place);
  const KernelSignature* signature =
      findKernelSignature(textOf(kernel->name()), kernel->version());
  int64_t numWords = signature->types.size();
  LLMRT_PLAN_CHECK(lengthOf(command.words()) == numWords, place,
                   absl::StrCat(lengthOf(command.words()), " words, ",
                                signature->name, " has ", numWords));
  for (int64_t i = 0; i < numWords; ++i) {
    Place at{&place, "words", i};
    LLMRT_RETURN_IF_ERROR(verifyWord(scope, *command.words()->Get(i),
                                     signature->types[i],
                                     lengthOf(command.slots()), at));
    LLMRT_PLAN_CHECK(
        signature->words[i] != "factorDtype" || isCuda ||
            (command.words()->Get(i)->kind() == fb::WordKind::Integer &&
             command.words()->Get(i)->value() == 0),
        at, "factors of another type than f32 are for cuda");
  }
  return absl::OkStatus();
}

// Checks that `buffer` exists and holds `bytes` from the command's offset on.
absl::Status verifyOperand(const Scope& scope, const fb::Command& command,
                           int buffer, int64_t bytes, bool isSend,
                           const Place& outer) {
  Place place{&outer, isSend ? "send_buffer" : "recv_buffer"};
  LLMRT_PLAN_CHECK(isWithin(buffer, 0, lengthOf(scope.stage.buffers()) - 1),
                   place, absl::StrCat("buffer ", buffer, " does not exist"));
  int64_t sizeBytes = scope.stage.buffers()->Get(buffer)->size_bytes() /
                      scope.stage.buffers()->Get(buffer)->slots();
  LLMRT_PLAN_CHECK(isWithin(bytes, 0, sizeBytes), place,
                   absl::StrCat("it holds ", sizeBytes,
                                " bytes, the command needs ", bytes));
  if (!isSend || !command.send_offset())
    return absl::OkStatus();
  Place offset{&outer, "send_offset"};
  return verifyByCoordinate(scope.plan, command.send_offset(), 0,
                            sizeBytes - bytes, offset);
}

absl::Status verifyPeer(const fb::Plan& plan, const fb::Command& command,
                        int peer, const Place& place) {
  LLMRT_PLAN_CHECK(lengthOf(command.axes()) == 1, place,
                   "it goes along one axis");
  int64_t size = plan.axes()->Get(command.axes()->Get(0))->size();
  LLMRT_PLAN_CHECK(
      isWithin(peer, 0, size - 1), place,
      absl::StrCat("coordinate ", peer, " does not exist on its axis"));
  bool isOneSided = command.kind() == fb::CommandKind::Send ||
                    command.kind() == fb::CommandKind::Recv;
  LLMRT_PLAN_CHECK(size > 1 || !isOneSided, place,
                   "nobody is on the other side");
  return absl::OkStatus();
}

absl::Status verifyInPlace(const Scope& scope, const fb::Command& command,
                           const Place& place) {
  if (command.send_buffer() != -1)
    LLMRT_RETURN_IF_ERROR(verifyOperand(scope, command, command.send_buffer(),
                                        command.bytes(), true, place));
  return verifyOperand(scope, command, command.recv_buffer(), command.bytes(),
                       false, place);
}

absl::Status verifyReducible(const fb::Command& command, const Place& place) {
  LLMRT_PLAN_CHECK(command.dtype() == fb::ElementType::F32 ||
                       command.dtype() == fb::ElementType::BF16,
                   place, "only f32 and bf16 are added");
  LLMRT_PLAN_CHECK(
      command.bytes() % dtypeBytes(static_cast<DType>(command.dtype())) == 0,
      place, "its bytes are not whole elements");
  return absl::OkStatus();
}

// The further parts of a bucket: words in threes, where a part is sent from,
// where it is received, and its bytes.
absl::Status verifyBucket(const Scope& scope, const fb::Command& command,
                          int64_t ranks, const Place& outer) {
  bool isGather = command.kind() == fb::CommandKind::AllGather;
  if (!isGather)
    LLMRT_RETURN_IF_ERROR(verifyReducible(command, outer));
  int64_t unitBytes =
      isGather ? 1 : dtypeBytes(static_cast<DType>(command.dtype()));
  constexpr int64_t kMostParts = 16; // that a communicator makes room for
  LLMRT_PLAN_CHECK(lengthOf(command.words()) % 3 == 0 &&
                       lengthOf(command.words()) < 3 * kMostParts,
                   outer,
                   "the words of its bucket are not in threes, or are "
                   "too many");
  for (int64_t i = 0; i < lengthOf(command.words()); ++i) {
    const fb::Word& word = *command.words()->Get(i);
    Place place{&outer, "words", i};
    bool isBytes = i % 3 == 2;
    LLMRT_PLAN_CHECK(word.kind() == (isBytes ? fb::WordKind::Integer
                                             : fb::WordKind::Address) &&
                         !word.by_coordinate(),
                     place, "it is of another kind than a bucket has there");
    if (!isBytes)
      continue;
    LLMRT_PLAN_CHECK(isWithin(word.value(), 0, kMaxPlanInteger) &&
                         word.value() % unitBytes == 0,
                     place, "impossible bytes");
    int64_t all = multiply(word.value(), ranks);
    for (int64_t side : {i - 2, i - 1}) {
      const fb::Word& address = *command.words()->Get(side);
      bool isWhole = isGather == (side == i - 1);
      LLMRT_PLAN_CHECK(address.value() == 0, place,
                       "a part begins inside its buffer");
      LLMRT_RETURN_IF_ERROR(verifyOperand(scope, command, address.index(),
                                          isWhole ? all : word.value(), false,
                                          place));
    }
  }
  return absl::OkStatus();
}

absl::Status verifyCommunication(const Scope& scope, const fb::Command& command,
                                 const Place& place) {
  Place axes{&place, "axes"};
  LLMRT_RETURN_IF_ERROR(verifyAxes(scope.plan, command.axes(), axes));
  LLMRT_PLAN_CHECK(isWithin(command.bytes(), 0, kMaxPlanInteger), place,
                   "impossible bytes");
  int64_t ranks = sizeAlongAxes(scope.plan, spanOf(command.axes()));
  int64_t blockBytes = command.bytes();
  int64_t allBytes = multiply(blockBytes, ranks);
  auto verifyBoth = [&](int64_t sendBytes, int64_t recvBytes) -> absl::Status {
    LLMRT_RETURN_IF_ERROR(verifyOperand(scope, command, command.send_buffer(),
                                        sendBytes, true, place));
    return verifyOperand(scope, command, command.recv_buffer(), recvBytes,
                         false, place);
  };
  bool canBeBucket = command.kind() == fb::CommandKind::AllGather ||
                     command.kind() == fb::CommandKind::ReduceScatter;
  LLMRT_PLAN_CHECK(canBeBucket || lengthOf(command.words()) == 0, place,
                   "it has words");
  if (canBeBucket)
    LLMRT_RETURN_IF_ERROR(verifyBucket(scope, command, ranks, place));
  switch (command.kind()) {
  case fb::CommandKind::AllGather:
    return verifyBoth(blockBytes, allBytes);
  case fb::CommandKind::AllToAll:
    return verifyBoth(allBytes, allBytes);
  case fb::CommandKind::ReduceScatter:
    return verifyBoth(allBytes, blockBytes);
  case fb::CommandKind::AllReduce:
    LLMRT_RETURN_IF_ERROR(verifyReducible(command, place));
    return verifyInPlace(scope, command, place);
  case fb::CommandKind::Broadcast:
    LLMRT_RETURN_IF_ERROR(
        verifyPeer(scope.plan, command, command.root(), place));
    return verifyInPlace(scope, command, place);
  case fb::CommandKind::Send:
    LLMRT_RETURN_IF_ERROR(
        verifyPeer(scope.plan, command, command.peer(), place));
    return verifyOperand(scope, command, command.send_buffer(), blockBytes,
                         true, place);
  case fb::CommandKind::Recv:
    LLMRT_RETURN_IF_ERROR(
        verifyPeer(scope.plan, command, command.peer(), place));
    return verifyOperand(scope, command, command.recv_buffer(), blockBytes,
                         false, place);
  default: // Exchange
    LLMRT_RETURN_IF_ERROR(
        verifyPeer(scope.plan, command, command.peer(), place));
    LLMRT_RETURN_IF_ERROR(
        verifyPeer(scope.plan, command, command.recv_peer(), place));
    return verifyBoth(blockBytes, blockBytes);
  }
}

// Which events of a program have been recorded so far.
absl::Status verifyEvent(const fb::Command& command,
                         std::vector<bool>& isRecorded, const Place& place) {
  LLMRT_PLAN_CHECK(
      isWithin(command.event(), 0, static_cast<int64_t>(isRecorded.size()) - 1),
      place, absl::StrCat("event ", command.event(), " does not exist"));
  bool isRecord = command.kind() == fb::CommandKind::RecordEvent;
  LLMRT_PLAN_CHECK(isRecorded[command.event()] != isRecord, place,
                   isRecord ? "the event is recorded twice"
                            : "it waits for an event that is recorded later");
  isRecorded[command.event()] = true;
  return absl::OkStatus();
}

absl::Status verifyCopy(const Scope& scope, const fb::Command& command,
                        const Place& place) {
  LLMRT_PLAN_CHECK(isWithin(command.bytes(), 0, kMaxPlanInteger), place,
                   "impossible bytes");
  LLMRT_RETURN_IF_ERROR(verifyOperand(scope, command, command.send_buffer(),
                                      command.bytes(), true, place));
  return verifyOperand(scope, command, command.recv_buffer(), command.bytes(),
                       false, place);
}

absl::Status verifyCommand(const Scope& scope, const fb::Command& command,
                           std::vector<bool>& isRecorded, const Place& place) {
  LLMRT_PLAN_CHECK(isWithin(command.stream(), 0, 1), place, "unknown stream");
  LLMRT_PLAN_CHECK(
      isWithin(command.provenance(), -1, lengthOf(scope.plan.provenance()) - 1),
      place,
      absl::StrCat("provenance ", command.provenance(), " does not exist"));
  bool isLocal = command.kind() == fb::CommandKind::Launch ||
                 command.kind() >= fb::CommandKind::Copy;
  LLMRT_PLAN_CHECK(!isLocal || lengthOf(command.axes()) == 0, place,
                   "axes of a command that does not communicate");
  switch (command.kind()) {
  case fb::CommandKind::Launch:
    return verifyLaunch(scope, command, place);
  case fb::CommandKind::Copy:
    return verifyCopy(scope, command, place);
  case fb::CommandKind::RecordEvent:
  case fb::CommandKind::WaitEvent:
    return verifyEvent(command, isRecorded, place);
  default:
    LLMRT_PLAN_CHECK(command.kind() >= fb::CommandKind::MIN &&
                         command.kind() <= fb::CommandKind::MAX,
                     place, "unknown kind");
    return verifyCommunication(scope, command, place);
  }
}

absl::Status verifyProgram(const Scope& scope, const fb::Program& program,
                           const Place& place) {
  LLMRT_PLAN_CHECK(
      isWithin(program.num_events(), 0, lengthOf(program.commands())), place,
      "more events than commands");
  std::vector<bool> isRecorded(program.num_events());
  for (int64_t i = 0; i < lengthOf(program.commands()); ++i) {
    Place at{&place, "commands", i};
    LLMRT_RETURN_IF_ERROR(
        verifyCommand(scope, *program.commands()->Get(i), isRecorded, at));
  }
  return absl::OkStatus();
}

} // namespace

absl::Status verifyPrograms(const fb::Plan& plan, const fb::Stage& stage,
                            const Place& outer) {
  if (stage.initialise()) {
    Place place{&outer, "initialise"};
    LLMRT_PLAN_CHECK(stage.initialise()->entry() == -1, place,
                     "it belongs to no entry");
    LLMRT_RETURN_IF_ERROR(
        verifyProgram({plan, stage, false}, *stage.initialise(), place));
  }
  Place all{&outer, "programs"};
  LLMRT_PLAN_CHECK(lengthOf(stage.programs()) == lengthOf(plan.entries()) ||
                       textOf(plan.mode()) == "train",
                   all, "there is not one for each entry");
  std::vector<bool> isSeen(lengthOf(plan.entries()));
  for (int64_t i = 0; i < lengthOf(stage.programs()); ++i) {
    const fb::Program* program = stage.programs()->Get(i);
    Place place{&outer, "programs", i};
    LLMRT_PLAN_CHECK(
        isWithin(program->entry(), 0, lengthOf(plan.entries()) - 1) &&
            !isSeen[program->entry()],
        place, "its entry does not exist or has another program");
    isSeen[program->entry()] = true;
    LLMRT_RETURN_IF_ERROR(verifyProgram({plan, stage, true}, *program, place));
  }
  return absl::OkStatus();
}

} // namespace llmrt
