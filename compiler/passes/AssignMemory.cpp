// SPDX-License-Identifier: Apache-2.0
// Gives every buffer its offset in the stage's arena. Persistent buffers come
// first; the programs of a stage share what follows, since one runs at a time.
// A buffer lives from the first to the last command that names it, in program
// order, which is also the order of the communication stream's commands; an
// asynchronous collective holds its buffers until the compute stream waits for
// it.
#include "compiler/passes/Buckets.h"
#include "compiler/passes/Passes.h"
#include "dialects/plan/Plan.h"
#include "runtime/kernels/KernelAbi.h"

#include "llvm/ADT/StringMap.h"

using namespace mlir;

namespace llmc {
#define GEN_PASS_DEF_ASSIGNMEMORY
#include "compiler/passes/Passes.h.inc"

namespace {

/// As llmrt::kBufferAlignment, which includes the generated schema.
constexpr int64_t kAlignment = 64;

int64_t alignUp(int64_t bytes) {
  return (bytes + kAlignment - 1) / kAlignment * kAlignment;
}

struct Interval {
  plan::BufferOp buffer;
  int64_t first;
  int64_t last;
};

using IntervalMap = llvm::StringMap<Interval>;

/// Extends the interval of `name` to command `at`.
void touch(IntervalMap& intervals, const llvm::StringMap<plan::BufferOp>& all,
           StringRef name, int64_t at) {
  if (name.empty())
    return;
  auto [it, isNew] =
      intervals.try_emplace(name, Interval{all.lookup(name), at, at});
  it->second.first = std::min(it->second.first, at);
  it->second.last = std::max(it->second.last, at);
}

/// Command at which the compute stream waits for what command `op` (on stream
/// 1) does.
int64_t completionOf(Operation* op,
                     const DenseMap<Operation*, int64_t>& order) {
  auto record = dyn_cast_or_null<plan::RecordEventOp>(op->getNextNode());
  if (!record)
    return order.lookup(op);
  for (Operation* next = record->getNextNode(); next;
       next = next->getNextNode())
    if (auto wait = dyn_cast<plan::WaitEventOp>(next))
      if (wait.getEvent() == record.getEvent())
        return order.lookup(next);
  return order.size(); // never waited for: alive to the end
}

SmallVector<Interval>
livenessOf(plan::ProgramOp program,
           const llvm::StringMap<plan::BufferOp>& buffers) {
  IntervalMap intervals;
  DenseMap<Operation*, int64_t> order;
  Block& block = program.getBody().front();
  for (Operation& op : block)
    order[&op] = order.size();
  for (Operation& op : block) {
    int64_t at = order[&op];
    if (auto run = dyn_cast<plan::RunOp>(op)) {
      for (ArrayAttr names : {run.getReads(), run.getWrites()})
        for (Attribute name : names)
          touch(intervals, buffers, cast<StringAttr>(name).getValue(), at);
    } else if (auto collective = dyn_cast<plan::CollectiveOp>(op)) {
      int64_t end = collective.getStream() == 1 ? completionOf(&op, order) : at;
      SmallVector<CollectivePart> parts = furtherParts(collective);
      parts.push_back({collective.getSend(), collective.getRecv(), 0});
      for (const CollectivePart& part : parts)
        for (StringRef name : {part.send, part.recv}) {
          touch(intervals, buffers, name, at);
          touch(intervals, buffers, name, end);
        }
    }
  }
  SmallVector<Interval> result;
  for (auto& entry : intervals)
    if (!entry.second.buffer.getPersistent())
      result.push_back(entry.second);
  return result;
}

/// Places intervals above `base`, largest first, each at the lowest offset that
/// no placed interval alive at the same time covers. Returns the end.
int64_t place(SmallVector<Interval> intervals, int64_t base, Builder& builder) {
  llvm::sort(intervals, [](const Interval& a, const Interval& b) {
    plan::BufferOp x = a.buffer, y = b.buffer;
    return std::make_tuple(-x.getBytes(), a.first, x.getSymName()) <
           std::make_tuple(-y.getBytes(), b.first, y.getSymName());
  });
  int64_t end = base;
  SmallVector<Interval*> placed;
  for (Interval& interval : intervals) {
    SmallVector<std::pair<int64_t, int64_t>> taken;
    for (Interval* other : placed)
      if (other->first <= interval.last && interval.first <= other->last) {
        int64_t offset = *other->buffer.getOffset();
        taken.push_back({offset, offset + alignUp(other->buffer.getBytes())});
      }
    llvm::sort(taken);
    int64_t offset = base, bytes = alignUp(interval.buffer.getBytes());
    for (auto [from, to] : taken) {
      if (offset + bytes <= from)
        break;
      offset = std::max(offset, to);
    }
    interval.buffer.setOffsetAttr(builder.getI64IntegerAttr(offset));
    end = std::max(end, offset + bytes);
    placed.push_back(&interval);
  }
  return end;
}

struct AssignMemoryPass : impl::AssignMemoryBase<AssignMemoryPass> {
  void runOnOperation() override {
    for (auto stage : getOperation().getOps<plan::StageOp>())
      assign(stage);
  }

  void assign(plan::StageOp stage) {
    Builder builder(stage.getContext());
    llvm::StringMap<plan::BufferOp> buffers;
    int64_t base = 0;
    for (auto buffer : stage.getOps<plan::BufferOp>()) {
      buffers[buffer.getSymName()] = buffer;
      if (!buffer.getPersistent())
        continue;
      buffer.setOffsetAttr(builder.getI64IntegerAttr(base));
      base += alignUp(buffer.getBytes());
    }
    int64_t end = base;
    for (auto program : stage.getOps<plan::ProgramOp>())
      end = std::max(end, place(livenessOf(program, buffers), base, builder));
    stage.setArenaBytesAttr(builder.getI64IntegerAttr(end));
  }
};

} // namespace
} // namespace llmc
