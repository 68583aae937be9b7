// SPDX-License-Identifier: Apache-2.0
// Rounds what matrix products of the training step read, once, where it is
// made. Products with bf16 weights on cuda round their f32 factors anyway, each
// for itself: a value that three weights read is rounded three times on the way
// forward and back, and a gradient twice. An op of its own becomes part of the
// kernel that makes the value; and a saved value that only products read is
// saved in bf16.
#include "compiler/passes/Options.h"
#include "compiler/passes/Passes.h"
#include "compiler/passes/ProductChains.h"
#include "compiler/passes/SelectTrainingKernels.h"
#include "compiler/passes/WeightStorage.h"

#include "mlir/Dialect/Func/IR/FuncOps.h"

using namespace mlir;

namespace llmc {
#define GEN_PASS_DEF_ROUNDFACTORS
#include "compiler/passes/Passes.h.inc"

namespace {

/// More rows than those of the kernels for few rows, which do not round.
constexpr int64_t kFewestRows = 17;
/// Rows of a factor begin at multiples of 16 bytes.
constexpr int64_t kColumnsOf16Bytes = 8;

bool isBf16(Value v) { return tensorType(v).getElementType().isBF16(); }

/// True for a value that can be a rounded factor.
bool isSuited(Value v) {
  RankedTensorType type = tensorType(v);
  return type.getRank() == 2 && type.getElementType().isF32() &&
         type.getDimSize(0) >= kFewestRows &&
         type.getDimSize(1) % kColumnsOf16Bytes == 0;
}

/// True if ranks have different shares of a parameter.
bool isUneven(llm::ParamOp param) {
  auto slice = dyn_cast_or_null<dist::SliceAttr>(param.getSliceAttr());
  return slice && !llvm::all_equal(slice.getCounts());
}

/// The rounded values of an entry.
class Rounder {
public:
  explicit Rounder(func::FuncOp entry)
      : entry_(entry), builder_(entry.getContext()) {}

  func::FuncOp entry() const { return entry_; }

  void roundFactors() {
    for (Operation& op : llvm::make_early_inc_range(entry_.getBody().front())) {
      if (auto linear = dyn_cast<llm::LinearOp>(op))
        roundInput(linear);
      else if (auto gradient = dyn_cast<llm::LinearInputGradientOp>(op))
        roundInput(gradient);
      else if (auto gradient = dyn_cast<llm::LinearWeightGradientOp>(op))
        roundInputs(gradient);
    }
  }

  /// Returns `v` in bf16. `user` comes behind it.
  Value rounded(Value v, Operation* user) {
    Value& known = rounded_[v];
    if (known)
      return known;
    // Next to what makes it, so that it becomes part of that.
    if (v.getDefiningOp())
      builder_.setInsertionPointAfterValue(v);
    else
      builder_.setInsertionPoint(user);
    auto type = tensorType(v).clone(builder_.getBF16Type());
    return known = llm::RoundOp::create(builder_, v.getLoc(), type, v);
  }

private:
  void roundInput(llm::LinearOp op) {
    if (isSuited(op.getX()) && isBf16(op.getWeight()) &&
        !paramInBlocks(op.getWeight()))
      op.getXMutable().assign(rounded(op.getX(), op));
  }

  void roundInput(llm::LinearInputGradientOp op) {
    if (isSuited(op.getDy()) && isBf16(op.getWeight()))
      op.getDyMutable().assign(rounded(op.getDy(), op));
  }

  /// Where a rank's share has padding, the gradient has zeros, and factors may
  /// be anything: those of an uneven share stay as they are.
  void roundInputs(llm::LinearWeightGradientOp op) {
    llm::ParamOp param = gradientParameter(op.getResult());
    if (!param || isUneven(param) || !isSuited(op.getDy()) ||
        !isSuited(op.getX()))
      return;
    op.getDyMutable().assign(rounded(op.getDy(), op));
    op.getXMutable().assign(rounded(op.getX(), op));
  }

  func::FuncOp entry_;
  OpBuilder builder_;
  DenseMap<Value, Value> rounded_;
};

/// A value that entries make and others read, by its name.
struct SavedValue {
  SmallVector<std::pair<Rounder*, unsigned>> results;
  SmallVector<BlockArgument> arguments;

  /// True if all readers round it.
  bool isReadRounded() const {
    auto rounds = [](Operation* user) { return isa<llm::RoundOp>(user); };
    return !results.empty() && llvm::any_of(arguments, [](BlockArgument arg) {
      return !arg.use_empty();
    }) && llvm::all_of(arguments, [&](BlockArgument arg) {
      return llvm::all_of(arg.getUsers(), rounds);
    });
  }

  void saveRounded() {
    for (auto [rounder, index] : results) {
      func::FuncOp entry = rounder->entry();
      Operation* end = entry.getBody().front().getTerminator();
      Value value = rounder->rounded(end->getOperand(index), end);
      end->setOperand(index, value);
      SmallVector<Type> types(entry.getResultTypes());
      types[index] = value.getType();
      entry.setType(FunctionType::get(entry.getContext(),
                                      entry.getArgumentTypes(), types));
    }
    for (BlockArgument arg : arguments) {
      auto entry = cast<func::FuncOp>(arg.getOwner()->getParentOp());
      arg.setType(tensorType(arg).clone(BFloat16Type::get(arg.getContext())));
      for (Operation* round : llvm::make_early_inc_range(arg.getUsers())) {
        round->getResult(0).replaceAllUsesWith(arg);
        round->erase();
      }
      SmallVector<Type> types(entry.getArgumentTypes());
      types[arg.getArgNumber()] = arg.getType();
      entry.setType(
          FunctionType::get(entry.getContext(), types, entry.getResultTypes()));
    }
  }
};

/// Saved values, and those that wait for a deferred weight gradient.
bool isSavedName(StringAttr name) {
  return name && (name.getValue().starts_with("saved.") ||
                  name.getValue().starts_with("deferred."));
}

void saveInBf16(MutableArrayRef<Rounder> rounders) {
  constexpr StringLiteral kName = "llm.name";
  llvm::MapVector<StringAttr, SavedValue> saved;
  for (Rounder& rounder : rounders) {
    func::FuncOp entry = rounder.entry();
    for (unsigned i = 0; i < entry.getNumResults(); ++i) {
      auto name = entry.getResultAttrOfType<StringAttr>(i, kName);
      if (isSavedName(name))
        saved[name].results.push_back({&rounder, i});
    }
    for (BlockArgument arg : entry.getArguments()) {
      auto name = entry.getArgAttrOfType<StringAttr>(arg.getArgNumber(), kName);
      if (isSavedName(name))
        saved[name].arguments.push_back(arg);
    }
  }
  for (auto& [name, value] : saved)
    if (value.isReadRounded())
      value.saveRounded();
}

struct RoundFactorsPass : impl::RoundFactorsBase<RoundFactorsPass> {
  void runOnOperation() override {
    if (Options::read(getOperation()).dtype != "bf16")
      return;
    SmallVector<Rounder> rounders;
    for (auto entry : getOperation().getOps<func::FuncOp>()) {
      if (failed(markGradients(entry)))
        return signalPassFailure();
      rounders.emplace_back(entry);
    }
    for (Rounder& rounder : rounders)
      rounder.roundFactors();
    saveInBf16(rounders);
  }
};

} // namespace
} // namespace llmc
