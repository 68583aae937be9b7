// SPDX-License-Identifier: Apache-2.0
// Event-by-event execution: an action runs when it is at the head of its queue,
// what it depends on has run and, for a transfer, the same holds at the other
// end.
#include "compiler/schedule/Execution.h"

#include <algorithm>
#include <map>
#include <tuple>

namespace llmc::schedule {
namespace {

/// What happened to one slot so far.
struct SlotHistory {
  int writer = -1;
  std::vector<int> readers; // since the write
};

void add(std::vector<Dependency>& list, int index, bool isData) {
  for (Dependency& dependency : list)
    if (dependency.index == index) {
      dependency.isData |= isData;
      return;
    }
  list.push_back({index, isData});
}

class Executor {
public:
  Executor(const Schedule& schedule,
           const std::vector<std::vector<int>>& partners, TransferModel model,
           const std::function<double(int, const Action&)>& duration)
      : schedule_(schedule), partners_(partners), model_(model),
        duration_(duration), lanes_(schedule.stages) {
    for (int stage = 0; stage < schedule.stages; ++stage) {
      const std::vector<Action>& actions = schedule.actions[stage];
      spans_.emplace_back(actions.size());
      dependencies_.push_back(dependencies(actions));
      for (size_t i = 0; i < actions.size(); ++i)
        lanes_[stage].queue[queueOf(actions[i])].push_back(static_cast<int>(i));
    }
  }

  std::vector<std::vector<Span>> run() {
    for (bool moves = true; moves;) {
      moves = false;
      for (int stage = 0; stage < schedule_.stages; ++stage)
        for (int queue = 0; queue < 2; ++queue)
          while (step(stage, queue))
            moves = true;
    }
    return std::move(spans_);
  }

private:
  struct Lanes {
    std::vector<int>
        queue[2]; // compute (and transfers without a thread); transfers
    size_t next[2] = {0, 0};
    double free[2] = {0, 0};
  };

  int queueOf(const Action& action) const {
    return model_ == TransferModel::TransferThread && isTransfer(action.kind)
               ? 1
               : 0;
  }

  int head(int stage, int queue) const {
    const Lanes& lanes = lanes_[stage];
    return lanes.next[queue] < lanes.queue[queue].size()
               ? lanes.queue[queue][lanes.next[queue]]
               : -1;
  }

  /// Time from which the action may run as far as its own stage goes; -1: not
  /// yet.
  double readyTime(int stage, int index) const {
    const Action& action = schedule_.actions[stage][index];
    bool isOverlapped =
        model_ == TransferModel::Overlapped && isTransfer(action.kind);
    double time = isOverlapped ? 0 : lanes_[stage].free[queueOf(action)];
    for (const Dependency& dependency : dependencies_[stage][index]) {
      double end = spans_[stage][dependency.index].end;
      if (end < 0)
        return -1;
      if (dependency.isData || model_ != TransferModel::Overlapped)
        time = std::max(time, end);
    }
    return time;
  }

  void finish(int stage, int index, double start, double end) {
    const Action& action = schedule_.actions[stage][index];
    int queue = queueOf(action);
    spans_[stage][index] = {start, end};
    ++lanes_[stage].next[queue];
    if (model_ != TransferModel::Overlapped || !isTransfer(action.kind))
      lanes_[stage].free[queue] = end;
  }

  bool step(int stage, int queue) {
    int index = head(stage, queue);
    if (index < 0)
      return false;
    const Action& action = schedule_.actions[stage][index];
    double ready = readyTime(stage, index);
    if (ready < 0)
      return false;
    if (!isTransfer(action.kind)) {
      finish(stage, index, ready, ready + duration_(stage, action));
      return true;
    }
    int partner = partners_[stage][index];
    if (partner < 0 || action.peer == stage ||
        head(action.peer, queue) != partner)
      return false;
    double peerReady = readyTime(action.peer, partner);
    if (peerReady < 0)
      return false;
    bool isSend = action.kind == ActionKind::Send;
    double start = std::max(ready, peerReady);
    double end =
        start + (isSend ? duration_(stage, action)
                        : duration_(action.peer,
                                    schedule_.actions[action.peer][partner]));
    finish(stage, index, start, end);
    finish(action.peer, partner, start, end);
    return true;
  }

  const Schedule& schedule_;
  const std::vector<std::vector<int>>& partners_;
  TransferModel model_;
  const std::function<double(int, const Action&)>& duration_;
  std::vector<Lanes> lanes_;
  std::vector<std::vector<std::vector<Dependency>>> dependencies_;
  std::vector<std::vector<Span>> spans_;
};

} // namespace

std::vector<std::vector<Dependency>>
dependencies(const std::vector<Action>& actions) {
  std::map<std::tuple<SlotClass, int, int>, SlotHistory> histories;
  std::vector<std::vector<Dependency>> result(actions.size());
  for (int i = 0; i < static_cast<int>(actions.size()); ++i)
    for (const SlotUse& use : slotUses(actions[i])) {
      SlotHistory& history = histories[{use.slotClass, use.chunk, use.slot}];
      if (history.writer >= 0)
        add(result[i], history.writer, !use.isWrite);
      if (!use.isWrite) {
        history.readers.push_back(i);
        continue;
      }
      for (int reader : history.readers)
        add(result[i], reader, false);
      history = {i, {}};
    }
  return result;
}

std::vector<std::vector<int>> matchTransfers(const Schedule& schedule) {
  std::map<std::pair<int, int>, std::vector<int>> sends, recvs; // by (from, to)
  std::vector<std::vector<int>> partners(schedule.stages);
  for (int stage = 0; stage < schedule.stages; ++stage) {
    const std::vector<Action>& actions = schedule.actions[stage];
    partners[stage].assign(actions.size(), -1);
    for (int i = 0; i < static_cast<int>(actions.size()); ++i) {
      if (actions[i].kind == ActionKind::Send)
        sends[{stage, actions[i].peer}].push_back(i);
      else if (actions[i].kind == ActionKind::Recv)
        recvs[{actions[i].peer, stage}].push_back(i);
    }
  }
  for (const auto& [ends, list] : sends) {
    const std::vector<int>& others = recvs[ends];
    for (size_t k = 0; k < std::min(list.size(), others.size()); ++k) {
      partners[ends.first][list[k]] = others[k];
      partners[ends.second][others[k]] = list[k];
    }
  }
  return partners;
}

std::vector<std::vector<Span>>
execute(const Schedule& schedule, const std::vector<std::vector<int>>& partners,
        TransferModel model,
        const std::function<double(int, const Action&)>& duration) {
  return Executor(schedule, partners, model, duration).run();
}

} // namespace llmc::schedule
