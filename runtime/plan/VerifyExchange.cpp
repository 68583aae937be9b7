// SPDX-License-Identifier: Apache-2.0
// Proves that no rank waits for another for ever. What is used of the runtime:
//
// - A rank runs its communication one command at a time, in the order of the
//   program, whatever the stream (Device::call); events are recorded before
//   they are waited for, so that order on a rank alone is never stuck.
// - The ranks of a stage run the same program. A command along other axes than
//   the pipeline's is therefore met by the same command of the same program.
// - All ranks run the same calls (control records), each to its end.
//
// What remains are the commands along the pipeline's axis: one list for each
// stage. The lists are run with transfers that block both ends, the least that
// a communicator may do, and must come to their ends. Which of two possible
// meetings is taken first changes nothing: a command meets one other only.
#include "runtime/plan/VerifyPlan.h"

#include "runtime/base/Error.h"
#include "runtime/plan/Mesh.h"
#include "runtime/plan/TrainingEntries.h"

#include "absl/strings/str_cat.h"

#include <algorithm>
#include <functional>
#include <map>
#include <vector>

namespace llmrt {
namespace {

using Commands = std::vector<const fb::Command*>;

/// A call: the commands along the pipeline that each stage runs, in order.
using Lists = std::vector<Commands>;

bool isTransfer(const fb::Command& command) {
  return command.kind() == fb::CommandKind::Send ||
         command.kind() == fb::CommandKind::Recv;
}

/// Appends the commands of `program` along `axis`. A transfer along another
/// axis is refused: the whole stage would send, and nobody receive.
absl::Status appendCommands(const fb::Program& program, int axis,
                            const Place& outer, Commands& list) {
  for (int64_t i = 0; i < lengthOf(program.commands()); ++i) {
    const fb::Command* command = program.commands()->Get(i);
    absl::Span<const int> axes = spanOf(command->axes());
    if (std::find(axes.begin(), axes.end(), axis) != axes.end()) {
      list.push_back(command);
      continue;
    }
    Place place{&outer, "commands", i};
    LLMRT_PLAN_CHECK(!isTransfer(*command), place,
                     "nobody receives what every rank of a stage sends: "
                     "transfers go along the pipeline");
  }
  return absl::OkStatus();
}

int64_t bucketBytes(const fb::Command& command) {
  int64_t bytes = command.bytes();
  for (int64_t i = 2; i < lengthOf(command.words()); i += 3)
    bytes += command.words()->Get(i)->value();
  return bytes;
}

/// Whether two ranks of a group mean the same collective.
bool isSameCollective(const fb::Command& a, const fb::Command& b) {
  const bool hasRoot = a.kind() == fb::CommandKind::Broadcast;
  return a.kind() == b.kind() && spanOf(a.axes()) == spanOf(b.axes()) &&
         a.bytes() == b.bytes() && bucketBytes(a) == bucketBytes(b) &&
         lengthOf(a.words()) == lengthOf(b.words()) && a.dtype() == b.dtype() &&
         (!hasRoot || a.root() == b.root());
}

/// Runs the lists of one call.
class Exchange {
public:
  explicit Exchange(const Lists& lists)
      : lists_(lists), next_(lists.size(), 0) {}

  /// Returns an empty text, or who waits for what.
  std::string run() {
    bool hasMoved = true;
    while (hasMoved) {
      hasMoved = false;
      for (size_t stage = 0; stage < lists_.size(); ++stage)
        while (meet(stage))
          hasMoved = true;
    }
    std::string stuck;
    for (size_t stage = 0; stage < lists_.size(); ++stage)
      if (head(stage))
        absl::StrAppend(&stuck, stuck.empty() ? "" : "; ", textOf(stage));
    return stuck;
  }

private:
  /// The command that a stage is at; null behind the last one.
  const fb::Command* head(int stage) const {
    return next_[stage] < lists_[stage].size() ? lists_[stage][next_[stage]]
                                               : nullptr;
  }

  /// Runs the command that a stage is at, if all it needs are there too.
  bool meet(int stage) {
    const fb::Command* command = head(stage);
    if (!command)
      return false;
    switch (command->kind()) {
    case fb::CommandKind::Send:
      return transfer(stage, command->peer());
    case fb::CommandKind::Recv:
      return transfer(command->peer(), stage);
    case fb::CommandKind::Exchange:
      return exchange(stage);
    default:
      return gather(*command);
    }
  }

  bool transfer(int from, int to) {
    const fb::Command* send = head(from);
    const fb::Command* receive = head(to);
    if (!send || !receive || from == to ||
        send->kind() != fb::CommandKind::Send ||
        receive->kind() != fb::CommandKind::Recv || send->peer() != to ||
        receive->peer() != from || send->bytes() != receive->bytes())
      return false;
    ++next_[from];
    ++next_[to];
    return true;
  }

  /// Follows the stages that send to one another until the ring is closed.
  bool exchange(int first) {
    std::vector<int> ring;
    int stage = first;
    do {
      const fb::Command* command = head(stage);
      const fb::Command* other = head(command->peer());
      if (!other || other->kind() != fb::CommandKind::Exchange ||
          other->recv_peer() != stage || other->bytes() != command->bytes() ||
          ring.size() == lists_.size())
        return false;
      ring.push_back(stage);
      stage = command->peer();
    } while (stage != first);
    for (int member : ring)
      ++next_[member];
    return true;
  }

  bool gather(const fb::Command& command) {
    for (size_t stage = 0; stage < lists_.size(); ++stage) {
      const fb::Command* other = head(stage);
      if (!other || !isSameCollective(command, *other))
        return false;
    }
    for (size_t& next : next_)
      ++next;
    return true;
  }

  std::string textOf(int stage) const {
    const fb::Command& command = *head(stage);
    std::string text = absl::StrCat("stage ", stage, " waits in ",
                                    fb::EnumNameCommandKind(command.kind()),
                                    " number ", next_[stage]);
    if (isTransfer(command))
      absl::StrAppend(&text,
                      command.kind() == fb::CommandKind::Send ? " to" : " from",
                      " stage ", command.peer());
    return absl::StrCat(text, " (", bucketBytes(command), " bytes)");
  }

  const Lists& lists_;
  std::vector<size_t> next_; // by stage
};

const fb::Program* programOf(const fb::Stage& stage, int entry) {
  for (int64_t i = 0; i < lengthOf(stage.programs()); ++i)
    if (stage.programs()->Get(i)->entry() == entry)
      return stage.programs()->Get(i);
  return nullptr;
}

/// Runs a call: `append` adds what a stage does of it.
absl::Status
verifyCall(const fb::Plan& plan, const Place& place,
           const std::function<absl::Status(const fb::Stage&, const Place&,
                                            Commands&)>& append) {
  Lists lists(lengthOf(plan.stages()));
  for (size_t stage = 0; stage < lists.size(); ++stage) {
    Place at{nullptr, "stages", static_cast<int64_t>(stage)};
    LLMRT_RETURN_IF_ERROR(append(*plan.stages()->Get(stage), at, lists[stage]));
  }
  std::string stuck = Exchange(lists).run();
  LLMRT_PLAN_CHECK(stuck.empty(), place,
                   absl::StrCat("ranks wait for ever: ", stuck));
  return absl::OkStatus();
}

/// The steps of a training plan, or those of them that `isIn` takes.
absl::Status verifySteps(const fb::Plan& plan, int axis, const Place& place,
                         const std::function<bool(int)>& isIn) {
  return verifyCall(plan, place,
                    [&](const fb::Stage& stage, const Place& outer,
                        Commands& list) -> absl::Status {
                      std::map<int, Commands> byEntry;
                      for (int64_t i = 0; i < lengthOf(stage.programs()); ++i) {
                        const fb::Program* program = stage.programs()->Get(i);
                        Place at{&outer, "programs", i};
                        LLMRT_RETURN_IF_ERROR(appendCommands(
                            *program, axis, at, byEntry[program->entry()]));
                      }
                      for (int64_t i = 0; i < lengthOf(stage.schedule()); ++i) {
                        int entry = stage.schedule()->Get(i)->entry();
                        if (isIn(entry))
                          list.insert(list.end(), byEntry[entry].begin(),
                                      byEntry[entry].end());
                      }
                      return absl::OkStatus();
                    });
}

} // namespace

absl::Status verifyExchange(const fb::Plan& plan) {
  int axis = findAxis(plan, kStageAxis);
  Place initialise{nullptr, "initialise"};
  LLMRT_RETURN_IF_ERROR(verifyCall(
      plan, initialise,
      [&](const fb::Stage& stage, const Place& outer, Commands& list) {
        Place at{&outer, "initialise"};
        return stage.initialise()
                   ? appendCommands(*stage.initialise(), axis, at, list)
                   : absl::OkStatus();
      }));
  if (textOf(plan.mode()) == "train") {
    Place step{nullptr, "schedule"}, evaluation{nullptr, "evaluation"};
    LLMRT_RETURN_IF_ERROR(
        verifySteps(plan, axis, step, [](int) { return true; }));
    return verifySteps(plan, axis, evaluation, [&](int entry) {
      return isOfEvaluation(textOf(plan.entries()->Get(entry)->name()));
    });
  }
  for (int64_t entry = 0; entry < lengthOf(plan.entries()); ++entry) {
    Place place{nullptr, "entries", entry};
    LLMRT_RETURN_IF_ERROR(verifyCall(
        plan, place,
        [&](const fb::Stage& stage, const Place& outer, Commands& list) {
          Place at{&outer, "programs", entry};
          const fb::Program* program = programOf(stage, entry);
          return program ? appendCommands(*program, axis, at, list)
                         : absl::OkStatus();
        }));
  }
  return absl::OkStatus();
}

} // namespace llmrt
