// SPDX-License-Identifier: Apache-2.0
// Each virtual rank is a stack of frames. A rank runs until it waits for
// another, then the next one runs: no threads, the same order every time.
#include "tests/support/Interpreter.h"

#include "tests/support/InterpretCollectives.h"
#include "tests/support/InterpretOps.h"
#include "tests/support/InterpretTraining.h"

#include "llvm/ADT/TypeSwitch.h"

#include <cmath>

using namespace mlir;

namespace llmc {

class Interpreter::Fabric : public CollectiveBoard {};

/// The execution of an entry on one rank.
struct Interpreter::Thread {
  struct Frame {
    Operation* next;
    func::CallOp caller; // null in the entry
  };

  RankState& state;
  func::FuncOp entry;
  std::vector<Frame> frames;
  std::optional<Ticket> waiting; // for the collective that `next` is
  NamedTensors results;
};

Interpreter::Interpreter(ModuleOp module, ParameterSource parameters)
    : module_(module), symbols_(module), parameters_(std::move(parameters)),
      fabric_(std::make_unique<Fabric>()) {
  dist::MeshOp mesh;
  for (auto op : module.getOps<dist::MeshOp>())
    mesh = op;
  int64_t ranks = mesh ? mesh.getNumRanks() : 1;
  for (int64_t r = 0; r < ranks; ++r)
    states_.emplace_back(mesh, r);
  memories_.resize(ranks);
}

Interpreter::~Interpreter() = default;

const std::map<std::string, int64_t>& Interpreter::communications() const {
  return fabric_->counts;
}

func::FuncOp Interpreter::findEntry(Segment segment, const RankState& state) {
  for (auto func : module_.getOps<func::FuncOp>()) {
    auto entry = func->getAttrOfType<StringAttr>(llm::LlmDialect::kEntryAttr);
    auto stage = func->getAttrOfType<IntegerAttr>("dist.stage");
    auto chunk = func->getAttrOfType<IntegerAttr>("dist.chunk");
    if (entry && entry.getValue() == segment.entry &&
        (chunk ? chunk.getInt() : -1) == segment.chunk &&
        (!stage || stage.getInt() == state.coordinate("pp")))
      return func;
  }
  return {};
}

FailureOr<std::vector<NamedTensors>>
Interpreter::run(StringRef name, ArrayRef<NamedTensors> inputs) {
  return runSegments([&](const RankState&) { return Segment{name}; }, inputs);
}

FailureOr<std::vector<NamedTensors>> Interpreter::runSegments(
    llvm::function_ref<std::optional<Segment>(const RankState&)> segmentOf,
    ArrayRef<NamedTensors> inputs) {
  std::vector<Thread> threads;
  for (RankState& state : states_) {
    std::optional<Segment> segment = segmentOf(state);
    if (!segment)
      continue;
    func::FuncOp entry = findEntry(*segment, state);
    if (!entry)
      return module_.emitError("has no entry ") << segment->entry;
    threads.push_back({state, entry, {}, std::nullopt, {}});
    if (failed(start(threads.back(), inputs[state.rank()])))
      return failure();
  }
  for (bool isAnyAlive = true; isAnyAlive;) {
    isAnyAlive = false;
    bool isAnyMoving = false;
    for (Thread& thread : threads) {
      FailureOr<bool> moved = runUntilBlocked(thread);
      if (failed(moved))
        return failure();
      isAnyMoving |= *moved;
      isAnyAlive |= !thread.frames.empty();
    }
    if (isAnyAlive && !isAnyMoving) {
      InFlightDiagnostic error = module_.emitError("all ranks wait");
      for (Thread& thread : threads)
        if (!thread.frames.empty())
          error.attachNote(thread.frames.back().next->getLoc())
              << "rank " << thread.state.rank() << " in "
              << thread.frames.back().next->getName();
      return failure();
    }
  }
  if (fabric_->isAnyPending())
    return threads.front().entry.emitError(
        "leaves communication that no rank receives");
  std::vector<NamedTensors> results(states_.size());
  for (Thread& thread : threads)
    results[thread.state.rank()] = std::move(thread.results);
  return results;
}

LogicalResult Interpreter::start(Thread& thread, const NamedTensors& inputs) {
  thread.state.clear();
  for (BlockArgument arg : thread.entry.getArguments()) {
    std::string name;
    if (auto attr = thread.entry.getArgAttrOfType<StringAttr>(
            arg.getArgNumber(), "llm.name"))
      name = attr.getValue().str();
    else if (auto loc = dyn_cast<NameLoc>(arg.getLoc()))
      name = loc.getName().str();
    auto found = inputs.find(name);
    if (found == inputs.end())
      return thread.entry.emitOpError("has no input '") << name << "'";
    thread.state.set(arg, found->second);
  }
  thread.frames.push_back({&thread.entry.getBody().front().front(), {}});
  return success();
}

/// Returns true if at least one op was done.
FailureOr<bool> Interpreter::runUntilBlocked(Thread& thread) {
  bool hasMoved = false;
  while (!thread.frames.empty()) {
    Operation* op = thread.frames.back().next;
    if (auto call = dyn_cast<func::CallOp>(op)) {
      enter(thread, call);
    } else if (auto ret = dyn_cast<func::ReturnOp>(op)) {
      leave(thread, ret);
    } else {
      FailureOr<bool> done = step(thread, op);
      if (failed(done))
        return failure();
      if (!*done)
        return hasMoved;
      for (Value result : op->getResults())
        if (auto type = dyn_cast<RankedTensorType>(result.getType()))
          if (type.hasStaticShape() &&
              type.getShape() != ArrayRef(thread.state.tensor(result).shape))
            return op->emitOpError("computes another shape than its type");
      thread.frames.back().next = op->getNextNode();
    }
    hasMoved = true;
  }
  return hasMoved;
}

void Interpreter::enter(Thread& thread, func::CallOp call) {
  auto callee = symbols_.lookup<func::FuncOp>(call.getCallee());
  for (auto [operand, arg] :
       llvm::zip(call.getOperands(), callee.getArguments()))
    thread.state.copy(operand, arg);
  thread.frames.back().next = call->getNextNode();
  thread.frames.push_back({&callee.getBody().front().front(), call});
}

void Interpreter::leave(Thread& thread, func::ReturnOp ret) {
  func::CallOp caller = thread.frames.back().caller;
  thread.frames.pop_back();
  for (auto [i, value] : llvm::enumerate(ret.getOperands())) {
    if (caller) {
      thread.state.copy(value, caller.getResult(i));
      continue;
    }
    auto name = thread.entry.getResultAttrOfType<StringAttr>(i, "llm.name");
    thread.results[name ? name.getValue().str() : "result"] =
        thread.state.tensor(value);
  }
}

/// The parameter that a gather in place, or the state that an all-reduce of
/// nothing else's operand, changes.
static std::optional<StringRef> changedInPlace(Operation* op) {
  if (op->getNumOperands() == 0)
    return std::nullopt;
  Value x = op->getOperand(0);
  if (isa<dist::GatherInPlaceOp>(op))
    return x.getDefiningOp<llm::GetParamOp>().getParam();
  auto read = x.getDefiningOp<llm::ReadStateOp>();
  if (read && isa<dist::AllReduceOp>(op) && x.hasOneUse())
    return read.getState();
  return std::nullopt;
}

/// Does one op; false if it waits for another rank.
FailureOr<bool> Interpreter::step(Thread& thread, Operation* op) {
  RankState& s = thread.state;
  auto wait = dyn_cast<dist::WaitOp>(op);
  if (std::optional<Collective> what = Collective::of(op); what || wait) {
    if (wait)
      thread.waiting = s.ticket(wait.getPending());
    if (!thread.waiting) {
      const Tensor* operand =
          op->getNumOperands() ? &s.tensor(op->getOperand(0)) : nullptr;
      FailureOr<Ticket> ticket = fabric_->join(op, *what, operand, s);
      if (failed(ticket))
        return failure();
      thread.waiting = *ticket;
    }
    std::optional<Tensor> result = fabric_->finish(*thread.waiting, s);
    if (!result)
      return false;
    thread.waiting.reset();
    if (std::optional<StringRef> symbol = changedInPlace(op))
      memory(s.rank(), *symbol).values = result->values;
    if (op->getNumResults() > 0)
      s.set(op->getResult(0), std::move(*result));
    return true;
  }
  return TypeSwitch<Operation*, FailureOr<bool>>(op)
      .Case<dist::StartOp>([&](auto start) -> FailureOr<bool> {
        std::optional<Collective> what = Collective::of(start);
        if (!what)
          return start.emitOpError("has no axes");
        FailureOr<Ticket> ticket =
            fabric_->join(op, *what, &s.tensor(start.getX()), s);
        if (failed(ticket))
          return failure();
        s.set(start.getPending(), *ticket);
        return true;
      })
      .Case<dist::SendOp>([&](auto send) {
        fabric_->send(s.rank(), s.rankAt(send.getAxis(), send.getPeer()),
                      s.tensor(send.getX()));
        return true;
      })
      .Case<dist::RecvOp>([&](auto recv) {
        std::optional<Tensor> message = fabric_->receive(
            s.rankAt(recv.getAxis(), recv.getPeer()), s.rank());
        if (message)
          s.set(recv.getResult(), std::move(*message));
        return message.has_value();
      })
      .Case<dist::ReceiveInPlaceOp>([&](auto receive) {
        std::optional<Tensor> message = fabric_->receive(
            s.rankAt(receive.getAxis(), receive.getPeer()), s.rank());
        if (message)
          memory(s.rank(), receive.getX()
                               .template getDefiningOp<llm::GetParamOp>()
                               .getParam())
              .values = message->values;
        return message.has_value();
      })
      .Case<dist::SliceRowsOp, dist::ReshardOp>([&](auto slice) {
        // A reshard that got here is whole to split.
        const Tensor& x = s.tensor(slice.getX());
        auto type = cast<RankedTensorType>(slice.getResult().getType());
        Tensor y(type.getShape().vec());
        StringRef axis;
        if (auto rows = dyn_cast<dist::SliceRowsOp>(op))
          axis = rows.getAxis();
        else
          axis = cast<dist::ReshardOp>(op).getTo().getSplits()[0].getAxis();
        std::copy_n(x.row(s.coordinate(axis) * y.rows()), y.numElements(),
                    y.values.begin());
        s.set(slice.getResult(), std::move(y));
        return true;
      })
      .Case<dist::TakeRowsOp, dist::PlaceRowsOp>([&](auto move) {
        // Rows [offset, offset + count) of the whole are this rank's first
        // ones.
        const Tensor& x = s.tensor(move.getX());
        auto type = cast<RankedTensorType>(move.getResult().getType());
        Tensor y(type.getShape().vec());
        int64_t width = y.numElements() / type.getDimSize(0);
        int64_t at = s.coordinate(move.getOffsets().getAxis());
        int64_t offset = move.getOffsets().getValues()[at] * width;
        int64_t count = move.getCounts().getValues()[at] * width;
        bool isTake = isa<dist::TakeRowsOp>(op);
        std::copy_n(x.values.begin() + (isTake ? offset : 0), count,
                    y.values.begin() + (isTake ? 0 : offset));
        s.set(move.getResult(), std::move(y));
        return true;
      })
      .Case<dist::PipelineStageOp>([&](auto crossing) {
        s.copy(crossing.getX(), crossing.getResult());
        return true;
      })
      .Case<llm::GetParamOp>([&](auto get) {
        s.set(get.getResult(), memory(s.rank(), get.getParam()));
        return true;
      })
      .Case<llm::GetCacheOp>([&](auto get) {
        s.set(get.getResult(), &memory(s.rank(), get.getCache()));
        return true;
      })
      .Default([&](Operation* other) -> FailureOr<bool> {
        auto memoryHere = [&](StringRef symbol) -> Tensor& {
          return memory(s.rank(), symbol);
        };
        if (!interpretGradientOp(other, s) &&
            !interpretTrainingOp(other, s, memoryHere) &&
            failed(interpretOp(other, s)))
          return failure();
        return true;
      });
}

/// The box of the logical tensor that a rank computes with, zero-padded.
Tensor Interpreter::localParameter(llm::ParamOp param, const RankState& state) {
  auto [found, isNew] = logical_.try_emplace(param.getSymName().str());
  if (isNew)
    found->second = parameters_(param);
  Tensor logical(cast<RankedTensorType>(param.getType()).getShape().vec());
  logical.values = found->second;
  auto slice = dyn_cast_or_null<dist::SliceAttr>(param.getSliceAttr());
  if (!slice)
    return logical;
  Tensor local(param.getComputeType().getShape().vec());
  int64_t place = state.coordinate(slice.getAxis());
  bool isRows = slice.getDim() == 0;
  int64_t inner = isRows && local.shape.size() == 2 ? local.width() : 1;
  int64_t outer = isRows ? 1 : local.shape[0];
  int64_t from = logical.shape[slice.getDim()] * inner,
          to = local.shape[slice.getDim()] * inner;
  for (int64_t o = 0; o < outer; ++o)
    std::copy_n(
        logical.values.begin() + o * from + slice.getOffsets()[place] * inner,
        slice.getCounts()[place] * inner, local.values.begin() + o * to);
  return local;
}

/// A rank's run of a flattened tensor, zero-padded; the tensor itself without a
/// shard.
static Tensor runOf(Tensor whole, Attribute attr, const RankState& state) {
  auto shard = dyn_cast_or_null<dist::ShardAttr>(attr);
  if (!shard)
    return whole;
  int64_t begin = placeOfShard(shard, state) * shard.getElements();
  Tensor run({shard.getElements()});
  for (int64_t i = 0; i < run.numElements(); ++i)
    if (begin + i < whole.numElements())
      run.values[i] = whole.values[begin + i];
  return run;
}

Tensor Interpreter::newMemory(StringRef symbol, const RankState& state) {
  Operation* op = symbols_.lookup(symbol);
  if (auto cache = dyn_cast<llm::CacheOp>(op)) {
    Tensor tensor(cast<MemRefType>(cache.getType()).getShape().vec());
    std::fill(tensor.values.begin(), tensor.values.end(), NAN);
    return tensor;
  }
  if (auto param = dyn_cast<llm::ParamOp>(op))
    return runOf(localParameter(param, state), param.getShardAttr(), state);
  auto declared = cast<llm::StateOp>(op);
  Tensor tensor(cast<RankedTensorType>(declared.getType()).getShape().vec());
  if (declared.getRole() != llm::StateRole::master)
    return runOf(tensor, declared.getShardAttr(), state);
  auto param = symbols_.lookup<llm::ParamOp>(*declared.getParam());
  return runOf(localParameter(param, state), declared.getShardAttr(), state);
}

Tensor& Interpreter::memory(int64_t rank, StringRef symbol) {
  auto found = memories_[rank].find(symbol.str());
  if (found == memories_[rank].end())
    found = memories_[rank]
                .emplace(symbol.str(), newMemory(symbol, states_[rank]))
                .first;
  return found->second;
}

} // namespace llmc
