// SPDX-License-Identifier: Apache-2.0
// Emits the walks over a row (RowSchedule.h) as loops over vectors of 16
// floats. Order of operations is decided here and nowhere later: no flag lets
// LLVM change it.
#include "compiler/codegen/LowerLinalgToVector.h"

#include "compiler/codegen/MathExpansion.h"
#include "compiler/codegen/RowSchedule.h"

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/SCF/IR/SCF.h"
#include "mlir/Dialect/Vector/IR/VectorOps.h"

using namespace mlir;

namespace llmc {
namespace {

/// Emits the code of one kernel. "Unit" is what one walk covers: a row, a head
/// of it, or the columns of a tile.
class Emitter {
public:
  Emitter(func::FuncOp form, const RowSchedule& schedule, OpBuilder& builder)
      : form_(form), schedule_(schedule), b_(form.getLoc(), builder),
        laneType_(VectorType::get({kLanes}, b_.getF32Type())),
        pointerType_(LLVM::LLVMPointerType::get(b_.getContext())),
        isRagged_(schedule.unitWidth % kLanes != 0) {}

  LLVM::LLVMFuncOp emit(bool isElementwise);

private:
  Value constant(int64_t value) {
    return arith::ConstantOp::create(b_, b_.getI64IntegerAttr(value));
  }

  Value add(Value l, Value r) { return arith::AddIOp::create(b_, l, r); }

  Value zeroLanes() {
    return arith::ConstantOp::create(b_, b_.getZeroAttr(laneType_));
  }

  Value broadcast(Value scalar) {
    return vector::BroadcastOp::create(b_, laneType_, scalar);
  }

  Type storageType(Value tensor) {
    bool isReal =
        cast<RankedTensorType>(tensor.getType()).getElementType().isF32();
    return isReal ? Type(b_.getF32Type()) : Type(b_.getI16Type());
  }

  Value elementPointer(Value base, Type element, Value index) {
    return LLVM::GEPOp::create(b_, pointerType_, element, base,
                               ArrayRef<LLVM::GEPArg>{index});
  }

  Value loadWord(Value block, int64_t index, Type type) {
    Value address = LLVM::GEPOp::create(
        b_, pointerType_, b_.getI64Type(), block,
        ArrayRef<LLVM::GEPArg>{static_cast<int32_t>(index)});
    return LLVM::LoadOp::create(b_, type, address, 8);
  }

  void copyElements(Value from, Value to, Type element);
  Value loadLanes(Value base, Type element, Value index);
  void storeLanes(Value lanes, Value base, Type element, Value index);
  Value lanesOf(Value tensor);
  Value scalarOf(Value tensor);
  SmallVector<Value> inputLanes(linalg::GenericOp op);
  void startChunk(Value column, Value end);
  void sumWalk(int walk, Value begin, Value end);
  void resultWalk(Value begin, Value end);
  void unit(Value begin, Value end);

  func::FuncOp form_;
  const RowSchedule& schedule_;
  ImplicitLocOpBuilder b_;
  VectorType laneType_;
  Type pointerType_;
  bool isRagged_;      // a unit may end in a chunk of fewer lanes
  Value raggedBuffer_; // room for one chunk
  llvm::DenseMap<Value, Value> pointers_; // of the form's arguments
  SmallVector<Value> resultPointers_;
  Value unitOffset_; // elements before the unit in a tensor of rows
  Value headOffset_; // elements before the unit in its row; null at the row's
                     // start
  Value column_;     // first column of the chunk in the unit
  Value remaining_;  // columns from there to the end
  llvm::DenseMap<Value, Value> lanes_;   // values of the chunk
  llvm::DenseMap<Value, Value> scalars_; // sums and row scalars of the unit
};

/// Copies the `remaining_` elements of the last chunk.
void Emitter::copyElements(Value from, Value to, Type element) {
  scf::ForOp::create(
      b_, constant(0), remaining_, constant(1), ValueRange(),
      [&](OpBuilder& inner, Location loc, Value i, ValueRange) {
        OpBuilder::InsertionGuard guard(b_);
        b_.setInsertionPoint(inner.getInsertionBlock(),
                             inner.getInsertionPoint());
        unsigned align = element.getIntOrFloatBitWidth() / 8;
        Value value = LLVM::LoadOp::create(
            b_, element, elementPointer(from, element, i), align);
        LLVM::StoreOp::create(b_, value, elementPointer(to, element, i), align);
        scf::YieldOp::create(b_);
      });
}

/// Loads a chunk as f32; lanes beyond the end hold anything.
Value Emitter::loadLanes(Value base, Type element, Value index) {
  auto type = VectorType::get({kLanes}, element);
  unsigned align = element.getIntOrFloatBitWidth() / 8;
  Value address = elementPointer(base, element, index);
  Value stored;
  if (!isRagged_) {
    stored = LLVM::LoadOp::create(b_, type, address, align);
  } else {
    Value isWhole = arith::CmpIOp::create(b_, arith::CmpIPredicate::sge,
                                          remaining_, constant(kLanes));
    auto choice = scf::IfOp::create(b_, TypeRange(type), isWhole, true, true);
    OpBuilder::InsertionGuard guard(b_);
    b_.setInsertionPointToStart(choice.thenBlock());
    Value whole = LLVM::LoadOp::create(b_, type, address, align);
    scf::YieldOp::create(b_, whole);
    b_.setInsertionPointToStart(choice.elseBlock());
    copyElements(address, raggedBuffer_, element);
    Value part = LLVM::LoadOp::create(b_, type, raggedBuffer_, align);
    scf::YieldOp::create(b_, part);
    stored = choice.getResult(0);
  }
  return element.isF32() ? stored : fromUpperHalf(b_, stored);
}

void Emitter::storeLanes(Value lanes, Value base, Type element, Value index) {
  unsigned align = element.getIntOrFloatBitWidth() / 8;
  Value address = elementPointer(base, element, index);
  Value stored = element.isF32() ? lanes : upperHalf(b_, lanes);
  if (!isRagged_) {
    LLVM::StoreOp::create(b_, stored, address, align);
    return;
  }
  Value isWhole = arith::CmpIOp::create(b_, arith::CmpIPredicate::sge,
                                        remaining_, constant(kLanes));
  auto choice = scf::IfOp::create(b_, TypeRange(), isWhole, true, true);
  OpBuilder::InsertionGuard guard(b_);
  b_.setInsertionPointToStart(choice.thenBlock());
  LLVM::StoreOp::create(b_, stored, address, align);
  scf::YieldOp::create(b_);
  b_.setInsertionPointToStart(choice.elseBlock());
  LLVM::StoreOp::create(b_, stored, raggedBuffer_, align);
  copyElements(raggedBuffer_, address, element);
  scf::YieldOp::create(b_);
}

/// Returns the chunk's elements of a tensor of rows, or of a vector.
Value Emitter::lanesOf(Value tensor) {
  Value source = sourceOf(tensor);
  if (Value known = lanes_.lookup(source))
    return known;
  Value lanes;
  if (auto op = source.getDefiningOp<linalg::GenericOp>()) {
    lanes = evaluateBody(b_, op, inputLanes(op));
  } else {
    bool isRows = cast<RankedTensorType>(source.getType()).getRank() == 2;
    Value index = column_;
    if (isRows)
      index = add(unitOffset_, column_);
    else if (headOffset_ && lastDim(source) != schedule_.unitWidth)
      index = add(headOffset_, column_);
    lanes = loadLanes(pointers_.lookup(source), storageType(source), index);
  }
  lanes_[source] = lanes;
  return lanes;
}

Value Emitter::scalarOf(Value tensor) {
  return scalars_.lookup(sourceOf(tensor));
}

SmallVector<Value> Emitter::inputLanes(linalg::GenericOp op) {
  SmallVector<Value> inputs;
  for (Value input : op.getInputs())
    inputs.push_back(schedule_.isScalar(input) ? broadcast(scalarOf(input))
                                               : lanesOf(input));
  // The initial value of the result, which only sums read.
  inputs.push_back(Value());
  return inputs;
}

void Emitter::startChunk(Value column, Value end) {
  lanes_.clear();
  column_ = column;
  if (isRagged_)
    remaining_ = arith::SubIOp::create(b_, end, column);
}

/// One walk over the unit for all sums that need `walk` earlier walks.
void Emitter::sumWalk(int walk, Value begin, Value end) {
  SmallVector<linalg::GenericOp> sums = schedule_.sumsOfWalk(walk);
  SmallVector<Value> zeros(sums.size(), zeroLanes());
  auto loop = scf::ForOp::create(b_, begin, end, constant(kLanes), zeros);
  {
    OpBuilder::InsertionGuard guard(b_);
    b_.setInsertionPointToStart(loop.getBody());
    startChunk(loop.getInductionVar(), end);
    SmallVector<Value> totals;
    for (auto [op, soFar] : llvm::zip(sums, loop.getRegionIterArgs())) {
      SmallVector<Value> inputs = inputLanes(op);
      inputs.back() = soFar;
      Value total = evaluateBody(b_, op, inputs);
      if (isRagged_) {
        // Lanes beyond the end add nothing.
        auto indexType = VectorType::get({kLanes}, b_.getI32Type());
        SmallVector<int32_t> ids =
            llvm::to_vector(llvm::seq<int32_t>(0, kLanes));
        Value lane = arith::ConstantOp::create(
            b_, DenseElementsAttr::get(indexType, ArrayRef<int32_t>(ids)));
        Value count = vector::BroadcastOp::create(
            b_, indexType,
            arith::TruncIOp::create(b_, b_.getI32Type(), remaining_));
        Value isInside =
            arith::CmpIOp::create(b_, arith::CmpIPredicate::slt, lane, count);
        total = arith::SelectOp::create(b_, isInside, total, soFar);
      }
      totals.push_back(total);
    }
    scf::YieldOp::create(b_, totals);
  }
  for (auto [op, total] : llvm::zip(sums, loop.getResults()))
    scalars_[op.getResult(0)] = addLanes(b_, total);
  for (linalg::GenericOp op : schedule_.scalarsAfterWalk(walk)) {
    SmallVector<Value> inputs;
    for (Value input : op.getInputs())
      inputs.push_back(scalarOf(input));
    inputs.push_back(Value());
    scalars_[op.getResult(0)] = evaluateBody(b_, op, inputs);
  }
}

/// The last walk: computes every result of a chunk, then stores them.
void Emitter::resultWalk(Value begin, Value end) {
  auto loop = scf::ForOp::create(b_, begin, end, constant(kLanes));
  OpBuilder::InsertionGuard guard(b_);
  b_.setInsertionPointToStart(loop.getBody());
  startChunk(loop.getInductionVar(), end);
  auto results = form_.front().getTerminator()->getOperands();
  SmallVector<Value> lanes;
  for (Value result : results)
    lanes.push_back(lanesOf(result));
  Value index = add(unitOffset_, column_);
  for (auto [result, value, pointer] :
       llvm::zip(results, lanes, resultPointers_))
    storeLanes(value, pointer, storageType(result), index);
}

void Emitter::unit(Value begin, Value end) {
  scalars_.clear();
  for (int walk = 0; walk < schedule_.numWalks; ++walk)
    sumWalk(walk, begin, end);
  resultWalk(begin, end);
}

LLVM::LLVMFuncOp Emitter::emit(bool isElementwise) {
  auto type =
      LLVM::LLVMFunctionType::get(LLVM::LLVMVoidType::get(b_.getContext()),
                                  {pointerType_, pointerType_, pointerType_});
  auto function = LLVM::LLVMFuncOp::create(b_, form_.getName(), type);
  // Keeps LLVM from turning a loop into a call of memcpy.
  function.setPassthroughAttr(b_.getArrayAttr(
      {b_.getStringAttr("no-builtins"), b_.getStringAttr("nounwind")}));
  Block* entry = function.addEntryBlock(b_);
  b_.setInsertionPointToStart(entry);
  Value words = entry->getArgument(0), tile = entry->getArgument(1);
  if (isRagged_) {
    raggedBuffer_ = LLVM::AllocaOp::create(b_, pointerType_, laneType_,
                                           constant(1), /*alignment=*/16);
    LLVM::StoreOp::create(b_, zeroLanes(), raggedBuffer_, 16);
  }
  int64_t word = 1;
  for (BlockArgument arg : form_.getArguments())
    pointers_[arg] = loadWord(words, word++, pointerType_);
  for (unsigned i = 0; i < form_.getNumResults(); ++i)
    resultPointers_.push_back(loadWord(words, word++, pointerType_));
  Value rowBegin = loadWord(tile, 0, b_.getI64Type());
  Value rowEnd = loadWord(tile, 1, b_.getI64Type());
  Value colBegin = constant(0), colEnd = constant(schedule_.unitWidth);
  if (isElementwise) {
    colBegin = loadWord(tile, 2, b_.getI64Type());
    colEnd = loadWord(tile, 3, b_.getI64Type());
  }
  Value one = constant(1);
  auto rows = scf::ForOp::create(b_, rowBegin, rowEnd, one);
  LLVM::ReturnOp::create(b_, ValueRange());
  b_.setInsertionPointToStart(rows.getBody());
  unitOffset_ = arith::MulIOp::create(b_, rows.getInductionVar(),
                                      constant(schedule_.width));
  if (schedule_.unitWidth == schedule_.width) {
    unit(colBegin, colEnd);
    return function;
  }
  auto heads = scf::ForOp::create(b_, constant(0), constant(schedule_.width),
                                  constant(schedule_.unitWidth));
  b_.setInsertionPointToStart(heads.getBody());
  headOffset_ = heads.getInductionVar();
  unitOffset_ = add(unitOffset_, headOffset_);
  unit(colBegin, colEnd);
  return function;
}

} // namespace

FailureOr<LLVM::LLVMFuncOp>
lowerLinalgToVector(func::FuncOp form, bool isElementwise, OpBuilder& builder) {
  FailureOr<RowSchedule> schedule = makeRowSchedule(form, isElementwise);
  if (failed(schedule))
    return failure();
  OpBuilder::InsertionGuard guard(builder);
  return Emitter(form, *schedule, builder).emit(isElementwise);
}

} // namespace llmc
