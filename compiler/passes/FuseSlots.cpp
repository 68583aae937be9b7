// SPDX-License-Identifier: Apache-2.0
// Moves generated kernels into the matrix product they follow (epilogue) or
// precede (prologue). The slot runs the very same generated code on the same
// values, so that no bit changes; what is saved is a launch and a trip through
// memory.
#include "compiler/passes/Launches.h"
#include "compiler/passes/Passes.h"

using namespace mlir;

namespace llmc {
#define GEN_PASS_DEF_FUSESLOTS
#include "compiler/passes/Passes.h.inc"

namespace {

/// A prologue runs once per thread: worth it for the few rows of a decode step.
constexpr int64_t kMostPrologueRows = 16;

plan::KernelOp kernelOf(plan::LaunchOp op) {
  return SymbolTable::lookupNearestSymbolFrom<plan::KernelOp>(
      op, op.getKernelAttr());
}

int64_t scalar(plan::LaunchOp op, StringRef name) {
  auto attr = op.getScalars().getAs<IntegerAttr>(name);
  return attr ? attr.getInt() : 0;
}

/// Rebuilds `linear` at `position` with more inputs, other results and one slot
/// more.
struct Rebuild {
  plan::LaunchOp linear;
  SmallVector<Value> inputs;
  SmallVector<Attribute> inputWords, resultWords, slots;
  SmallVector<Type> results;

  explicit Rebuild(plan::LaunchOp op)
      : linear(op), inputs(op.getInputs()),
        inputWords(op.getInputWords().begin(), op.getInputWords().end()),
        resultWords(op.getResultWords().begin(), op.getResultWords().end()),
        results(op.getResultTypes()) {
    if (op.getSlots())
      slots.append(op.getSlots()->begin(), op.getSlots()->end());
  }

  /// Slots number results after inputs: shifts the former when inputs change.
  void shiftResults(int64_t firstResult, int64_t by) {
    for (Attribute& attr : slots) {
      auto slot = cast<plan::SlotAttr>(attr);
      auto shift = [&](ArrayRef<int64_t> list) {
        SmallVector<int64_t> out(list);
        for (int64_t& i : out)
          i += i >= firstResult ? by : 0;
        return out;
      };
      attr = plan::SlotAttr::get(slot.getContext(), slot.getKernel(),
                                 slot.getWord(), shift(slot.getOperands()),
                                 shift(slot.getResults()));
    }
  }

  plan::LaunchOp create(Operation* position, Location loc) {
    OpBuilder builder(position);
    return plan::LaunchOp::create(
        builder, loc, results, linear.getKernelAttr(), inputs,
        linear.getInouts(), builder.getArrayAttr(inputWords),
        linear.getInoutWordsAttr(), builder.getArrayAttr(resultWords),
        linear.getScalars(), linear.getRows(), linear.getColumnsAttr(),
        builder.getArrayAttr(slots));
  }
};

bool hasSlot(plan::LaunchOp op, StringRef word) {
  if (op.getSlots())
    for (auto slot : op.getSlots()->getAsRange<plan::SlotAttr>())
      if (slot.getWord() == word)
        return true;
  return false;
}

/// The products of one weight that `epilogue` reads, if it reads no other of
/// the linear: the number of the weight. A zipped pair counts as weight 0.
std::optional<int> weightOf(plan::LaunchOp linear, plan::LaunchOp epilogue) {
  std::optional<int> weight;
  for (Value input : epilogue.getInputs()) {
    if (input.getDefiningOp() != linear)
      continue;
    int number = cast<OpResult>(input).getResultNumber();
    StringRef word =
        cast<StringAttr>(linear.getResultWords()[number]).getValue();
    // What a slot makes has no word; a slot cannot follow another.
    if (!word.consume_front("y") || word.getAsInteger(10, number))
      return {};
    if (scalar(linear, "zip"))
      number = 0;
    if (weight && *weight != number)
      return {};
    weight = number;
  }
  return weight;
}

/// Moves `epilogue` into the linear whose products it reads. All its other
/// inputs must be there before the linear runs, and nobody else may read the
/// products in between.
bool fuseEpilogue(plan::LaunchOp epilogue) {
  plan::KernelOp kernel = kernelOf(epilogue);
  if (!kernel.isGenerated() || !kernel.getElementwise())
    return false;
  plan::LaunchOp linear;
  for (Value input : epilogue.getInputs())
    if (auto op = input.getDefiningOp<plan::LaunchOp>())
      if (op.getKernel() == "linear" &&
          (!linear || linear->isBeforeInBlock(op)))
        linear = op;
  if (!linear || linear.getRows() != epilogue.getRows())
    return false;
  std::optional<int> weight = weightOf(linear, epilogue);
  if (!weight)
    return false;
  std::string word = "epilogue" + std::to_string(*weight);
  if (hasSlot(linear, word))
    return false;
  for (Value input : epilogue.getInputs()) {
    Operation* def = input.getDefiningOp();
    if (def && def != linear && !def->isBeforeInBlock(linear))
      return false;
  }
  // The products die in the slot: other readers keep the kernel apart.
  for (Value input : epilogue.getInputs())
    if (input.getDefiningOp() == linear)
      for (Operation* user : input.getUsers())
        if (user != epilogue)
          return false;
  Rebuild rebuild(linear);
  SmallVector<int64_t> operands, results;
  int64_t oldInputs = rebuild.inputs.size();
  int64_t numExtra = 0;
  for (Value input : epilogue.getInputs())
    numExtra += input.getDefiningOp() != linear;
  int64_t extra = oldInputs, numInputs = oldInputs + numExtra;
  rebuild.shiftResults(oldInputs, numExtra);
  OpBuilder builder(linear);
  for (Value input : epilogue.getInputs()) {
    if (input.getDefiningOp() == linear) {
      operands.push_back(numInputs + cast<OpResult>(input).getResultNumber());
      continue;
    }
    operands.push_back(extra++);
    rebuild.inputs.push_back(input);
    rebuild.inputWords.push_back(builder.getStringAttr(""));
  }
  for (Type type : epilogue.getResultTypes()) {
    results.push_back(numInputs + rebuild.results.size());
    rebuild.results.push_back(type);
    rebuild.resultWords.push_back(builder.getStringAttr(""));
  }
  rebuild.slots.push_back(
      plan::SlotAttr::get(builder.getContext(), epilogue.getKernelAttr(),
                          builder.getStringAttr(word), operands, results));
  auto loc =
      FusedLoc::get(builder.getContext(), {linear.getLoc(), epilogue.getLoc()});
  plan::LaunchOp fused = rebuild.create(linear, loc);
  unsigned own = linear.getNumResults();
  for (unsigned i = 0; i < own; ++i)
    linear.getResult(i).replaceAllUsesWith(fused.getResult(i));
  for (auto [i, result] : llvm::enumerate(epilogue.getResults()))
    result.replaceAllUsesWith(fused.getResult(own + i));
  epilogue.erase();
  linear.erase();
  return true;
}

/// Moves the row kernel that makes `linear`'s input into it.
void fusePrologue(plan::LaunchOp linear) {
  auto source = linear.getInputs()[0].getDefiningOp<plan::LaunchOp>();
  if (!source || source.getNumResults() != 1 ||
      !source.getResult(0).hasOneUse() || hasSlot(linear, "prologue") ||
      source.getRows() != linear.getRows())
    return;
  plan::KernelOp kernel = kernelOf(source);
  auto type = cast<RankedTensorType>(source.getResult(0).getType());
  if (!kernel.isGenerated() || type.getDimSize(0) > kMostPrologueRows)
    return;
  Rebuild rebuild(linear);
  OpBuilder builder(linear);
  // The input x goes; the prologue's inputs take its place at the end.
  int64_t oldInputs = rebuild.inputs.size();
  rebuild.inputs.erase(rebuild.inputs.begin());
  rebuild.inputWords.erase(rebuild.inputWords.begin());
  SmallVector<int64_t> operands;
  for (Value input : source.getInputs()) {
    operands.push_back(rebuild.inputs.size());
    rebuild.inputs.push_back(input);
    rebuild.inputWords.push_back(builder.getStringAttr(""));
  }
  // Other slots: inputs after x move down by one, results by the change of
  // inputs.
  int64_t delta = static_cast<int64_t>(rebuild.inputs.size()) - oldInputs;
  for (Attribute& attr : rebuild.slots) {
    auto slot = cast<plan::SlotAttr>(attr);
    auto move = [&](ArrayRef<int64_t> list) {
      SmallVector<int64_t> out(list);
      for (int64_t& i : out)
        i = i >= oldInputs ? i + delta : i - 1;
      return out;
    };
    attr =
        plan::SlotAttr::get(slot.getContext(), slot.getKernel(), slot.getWord(),
                            move(slot.getOperands()), move(slot.getResults()));
  }
  rebuild.slots.push_back(
      plan::SlotAttr::get(builder.getContext(), source.getKernelAttr(),
                          builder.getStringAttr("prologue"), operands, {-1}));
  auto loc =
      FusedLoc::get(builder.getContext(), {source.getLoc(), linear.getLoc()});
  plan::LaunchOp fused = rebuild.create(linear, loc);
  linear.replaceAllUsesWith(fused.getResults());
  linear.erase();
  source.erase();
}

/// An epilogue may read x, which then must stay a tensor.
bool readsInput(plan::LaunchOp linear) {
  if (linear.getSlots())
    for (auto slot : linear.getSlots()->getAsRange<plan::SlotAttr>())
      if (llvm::is_contained(slot.getOperands(), 0))
        return true;
  return false;
}

struct FuseSlotsPass : impl::FuseSlotsBase<FuseSlotsPass> {
  void runOnOperation() override {
    for (auto func : getOperation().getOps<func::FuncOp>()) {
      SmallVector<plan::LaunchOp> launches(func.getOps<plan::LaunchOp>());
      for (plan::LaunchOp op : launches)
        if (op.getKernel() != "linear")
          fuseEpilogue(op);
      SmallVector<plan::LaunchOp> linears;
      for (auto op : func.getOps<plan::LaunchOp>())
        if (op.getKernel() == "linear" && !readsInput(op))
          linears.push_back(op);
      for (plan::LaunchOp op : linears)
        fusePrologue(op);
    }
  }
};

} // namespace
} // namespace llmc
