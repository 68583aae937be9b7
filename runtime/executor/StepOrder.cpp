// SPDX-License-Identifier: Apache-2.0
#include "runtime/executor/StepOrder.h"

#include <algorithm>
#include <map>
#include <set>

namespace llmrt {
namespace {

constexpr int kFirstKind = static_cast<int>(fb::SlotKind::Saved);

} // namespace

Slots slotsOf(const fb::Action& action) {
  Slots slots;
  slots.byKind[static_cast<int>(fb::SlotKind::MicroBatch)] =
      action.micro_batch();
  for (unsigned i = 0; action.slots() && i < action.slots()->size(); ++i)
    slots.byKind[kFirstKind + i] = action.slots()->Get(i);
  return slots;
}

std::vector<ActionOrder>
orderActions(const fb::Stage& stage,
             const std::vector<const fb::Action*>& actions) {
  std::set<int> transfers; // entries
  for (const fb::Program* program : *stage.programs())
    if (isTransfer(*program))
      transfers.insert(program->entry());
  // The last action of each stream that has a slot, by kind and number. A
  // stream is in order, so that the latest of them is all there is to wait for.
  std::map<std::pair<int, int>, int> last[kNumStreams];
  std::vector<ActionOrder> order(actions.size());
  for (size_t i = 0; i < order.size(); ++i) {
    const fb::Action& action = *actions[i];
    int stream = transfers.count(action.entry()) ? 1 : 0;
    order[i].stream = static_cast<Stream>(stream);
    Slots slots = slotsOf(action);
    for (size_t kind = kFirstKind; kind < slots.byKind.size(); ++kind) {
      std::pair<int, int> slot = {kind, slots.byKind[kind]};
      if (slot.second < 0)
        continue;
      auto other = last[1 - stream].find(slot);
      if (other != last[1 - stream].end())
        order[i].waitsFor = std::max(order[i].waitsFor, other->second);
      last[stream][slot] = i;
    }
    if (order[i].waitsFor >= 0)
      order[order[i].waitsFor].isAwaited = true;
  }
  return order;
}

} // namespace llmrt
