// SPDX-License-Identifier: Apache-2.0
// The interpreter: memory cells hold 64-bit hashes of the expressions that made
// them.
#include "tests/plan/schedule/ScheduleInterpreter.h"

#include <algorithm>
#include <array>
#include <initializer_list>
#include <map>
#include <random>

namespace llmc::schedule::test {
namespace {

uint64_t mix(std::initializer_list<uint64_t> words) {
  uint64_t hash = 0x243F6A8885A308D3;
  for (uint64_t word : words) {
    hash = (hash ^ word) * 0x9E3779B97F4A7C15;
    hash ^= hash >> 29;
    hash *= 0xBF58476D1CE4E5B9;
    hash ^= hash >> 32;
  }
  return hash;
}

enum Tag : uint64_t {
  kEmpty = 1,
  kData,
  kForwardTag,
  kSave,
  kLossGradient,
  kInputGradient
};

enum Buffer {
  kSaved,
  kDeferred,
  kInput,
  kGradient,
  kOutput,
  kInputGradientOut
};

/// A memory cell of a stage: buffer, chunk (if the chunks do not share), slot.
using Cell = std::array<int, 3>;

struct Touch {
  Cell cell;
  bool isWrite;
};

/// The cells that an action touches; a field of -1 touches none.
std::vector<Touch> touches(const Action& a) {
  std::vector<Touch> list;
  auto touch = [&](int buffer, int chunk, int slot, bool isWrite) {
    if (slot != -1)
      list.push_back({{buffer, chunk, slot}, isWrite});
  };
  switch (a.kind) {
  case ActionKind::Send:
    touch(a.isGradient ? kInputGradientOut : kOutput, 0, a.sendSlot, false);
    break;
  case ActionKind::Recv:
    if (a.isGradient)
      touch(kGradient, 0, a.gradientSlot, true);
    else
      touch(kInput, 0, a.activationSlot, true);
    break;
  case ActionKind::Forward:
    touch(kInput, 0, a.activationSlot, false);
    touch(kSaved, a.chunk, a.savedSlot, true);
    touch(kOutput, 0, a.sendSlot, true);
    break;
  case ActionKind::Backward:
  case ActionKind::BackwardInput:
    touch(kInput, 0, a.activationSlot, false);
    touch(kSaved, a.chunk, a.savedSlot, false);
    touch(kGradient, 0, a.gradientSlot, false);
    touch(kInputGradientOut, 0, a.sendSlot, true);
    touch(kDeferred, a.chunk, a.deferredSlot, true);
    break;
  case ActionKind::BackwardWeight:
    touch(kInput, 0, a.activationSlot, false);
    touch(kSaved, a.chunk, a.savedSlot, false);
    touch(kDeferred, a.chunk, a.deferredSlot, false);
    break;
  }
  return list;
}

struct Stage {
  const std::vector<Action>* list = nullptr;
  std::vector<std::vector<int>> waitsFor; // earlier actions with a conflict
  std::vector<bool> isDone;
  std::vector<int> queues[2];
  size_t next[2] = {0, 0};
  std::map<Cell, uint64_t> memory;
};

class Interpreter {
public:
  Interpreter(const Schedule& schedule, Threads threads, uint64_t seed)
      : schedule_(schedule), random_(seed), stages_(schedule.stages) {
    for (int s = 0; s < schedule.stages; ++s)
      load(stages_[s], schedule.actions[s], threads);
    outcome_.results.assign(
        1 + static_cast<size_t>(schedule.stages) * schedule.virtualStages, 0);
  }

  Outcome run() {
    std::vector<std::pair<int, int>> order; // (stage, queue)
    for (int s = 0; s < schedule_.stages; ++s)
      order.insert(order.end(), {{s, 0}, {s, 1}});
    for (bool moves = true; moves;) {
      std::shuffle(order.begin(), order.end(), random_);
      moves = false;
      for (auto [stage, queue] : order)
        moves |= step(stage, queue);
    }
    for (const Stage& stage : stages_)
      for (bool isDone : stage.isDone)
        outcome_.hangs |= !isDone;
    return outcome_;
  }

private:
  static void load(Stage& stage, const std::vector<Action>& list,
                   Threads threads) {
    stage.list = &list;
    stage.isDone.assign(list.size(), false);
    std::map<Cell, std::vector<std::pair<int, bool>>> seen;
    for (int i = 0; i < static_cast<int>(list.size()); ++i) {
      bool isTransferThread = threads == Threads::ComputeAndTransfer &&
                              (list[i].kind == ActionKind::Send ||
                               list[i].kind == ActionKind::Recv);
      stage.queues[isTransferThread].push_back(i);
      std::vector<int> conflicts;
      for (const Touch& touch : touches(list[i])) {
        for (auto [earlier, isWrite] : seen[touch.cell])
          if (touch.isWrite || isWrite)
            conflicts.push_back(earlier);
        seen[touch.cell].push_back({i, touch.isWrite});
      }
      stage.waitsFor.push_back(std::move(conflicts));
    }
  }

  int head(int stage, int queue) const {
    const Stage& s = stages_[stage];
    return s.next[queue] < s.queues[queue].size()
               ? s.queues[queue][s.next[queue]]
               : -1;
  }

  bool isReady(int stage, int index) const {
    for (int earlier : stages_[stage].waitsFor[index])
      if (!stages_[stage].isDone[earlier])
        return false;
    return true;
  }

  void done(int stage, int queue, int index) {
    stages_[stage].isDone[index] = true;
    ++stages_[stage].next[queue];
  }

  bool step(int stage, int queue) {
    int index = head(stage, queue);
    if (index < 0 || !isReady(stage, index))
      return false;
    const Action& a = (*stages_[stage].list)[index];
    if (a.kind == ActionKind::Recv)
      return false; // its sender moves both
    if (a.kind != ActionKind::Send) {
      compute(stage, a);
      done(stage, queue, index);
      return true;
    }
    if (a.peer < 0 || a.peer >= schedule_.stages || a.peer == stage)
      return false;
    int other = head(a.peer, queue);
    if (other < 0)
      return false;
    const Action& b = (*stages_[a.peer].list)[other];
    if (b.kind != ActionKind::Recv || b.peer != stage ||
        !isReady(a.peer, other))
      return false;
    uint64_t value = read(
        stage, {a.isGradient ? kInputGradientOut : kOutput, 0, a.sendSlot});
    int slot = b.isGradient ? b.gradientSlot : b.activationSlot;
    stages_[a.peer].memory[{b.isGradient ? kGradient : kInput, 0, slot}] =
        value;
    done(stage, queue, index);
    done(a.peer, queue, other);
    return true;
  }

  uint64_t read(int stage, Cell cell) const {
    auto found = stages_[stage].memory.find(cell);
    if (found != stages_[stage].memory.end())
      return found->second;
    return mix({kEmpty, static_cast<uint64_t>(stage),
                static_cast<uint64_t>(cell[0]), static_cast<uint64_t>(cell[1]),
                static_cast<uint64_t>(cell[2])});
  }

  void accumulate(size_t result, uint64_t value) {
    outcome_.results[result] = mix({outcome_.results[result], value});
  }

  void compute(int stage, const Action& a) {
    std::map<Cell, uint64_t>& memory = stages_[stage].memory;
    uint64_t microBatch = a.microBatch;
    uint64_t global = static_cast<uint64_t>(a.chunk) * schedule_.stages +
                      static_cast<uint64_t>(stage);
    uint64_t input = a.activationSlot == -1
                         ? mix({kData, microBatch})
                         : read(stage, {kInput, 0, a.activationSlot});
    if (a.kind == ActionKind::Forward) {
      uint64_t output = mix({kForwardTag, global, input});
      memory[{kSaved, a.chunk, a.savedSlot}] = mix({kSave, global, input});
      if (a.sendSlot == -1)
        accumulate(0, mix({output, microBatch}));
      else
        memory[{kOutput, 0, a.sendSlot}] = output;
      return;
    }
    uint64_t saved = read(stage, {kSaved, a.chunk, a.savedSlot});
    uint64_t gradient;
    if (a.kind == ActionKind::BackwardWeight) {
      gradient = read(stage, {kDeferred, a.chunk, a.deferredSlot});
    } else {
      gradient = a.gradientSlot == -1
                     ? mix({kLossGradient, saved, microBatch})
                     : read(stage, {kGradient, 0, a.gradientSlot});
      if (a.sendSlot != -1)
        memory[{kInputGradientOut, 0, a.sendSlot}] =
            mix({kInputGradient, global, saved, input, gradient});
    }
    if (a.kind == ActionKind::BackwardInput)
      memory[{kDeferred, a.chunk, a.deferredSlot}] = gradient;
    else if (global + 1 < outcome_.results.size())
      accumulate(global + 1, mix({saved, input, gradient}));
  }

  const Schedule& schedule_;
  std::mt19937_64 random_;
  std::vector<Stage> stages_;
  Outcome outcome_;
};

} // namespace

Outcome interpret(const Schedule& schedule, Threads threads, uint64_t seed) {
  return Interpreter(schedule, threads, seed).run();
}

} // namespace llmc::schedule::test
