// SPDX-License-Identifier: Apache-2.0
// Schedules the linalg form of a kernel into walks over a row and emits them.
// Order of operations is decided here and nowhere later: no flag lets LLVM
// change it.
#include "compiler/codegen/LowerLinalgToVector.h"

#include "compiler/codegen/MathExpansion.h"

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Linalg/IR/Linalg.h"
#include "mlir/Dialect/Math/IR/Math.h"
#include "mlir/Dialect/SCF/IR/SCF.h"
#include "mlir/Dialect/Tensor/IR/Tensor.h"
#include "mlir/Dialect/Vector/IR/VectorOps.h"
#include "mlir/IR/IRMapping.h"
#include "mlir/IR/ImplicitLocOpBuilder.h"
#include "llvm/ADT/TypeSwitch.h"

using namespace mlir;

namespace llmc {
namespace {

/// What a generic of the form computes for a row.
enum class Kind { Elements, Sum, Scalar };

/// The generics of a form, with the walk after which each is known.
struct Schedule {
  SmallVector<linalg::GenericOp> generics;
  llvm::DenseMap<Operation*, Kind> kinds;
  llvm::DenseMap<Operation*, int> walks; // walks that end before it is known
  int numWalks = 0;      // walks for sums; the results' comes after
  int64_t width = 0;     // of a row
  int64_t unitWidth = 0; // of what is summed: the row, or one head of it
};

/// Looks through views: heads do not matter to an element.
Value sourceOf(Value v) {
  while (Operation* op = v.getDefiningOp()) {
    if (!isa<tensor::ExpandShapeOp, tensor::CollapseShapeOp>(op))
      break;
    v = op->getOperand(0);
  }
  return v;
}

linalg::GenericOp genericOf(Value v) {
  return sourceOf(v).getDefiningOp<linalg::GenericOp>();
}

int64_t lastDim(Value v) {
  return cast<RankedTensorType>(v.getType()).getShape().back();
}

FailureOr<Schedule> makeSchedule(func::FuncOp form) {
  Schedule s;
  s.width = cast<RankedTensorType>(form.getResultTypes()[0]).getDimSize(1);
  for (auto op : form.getOps<linalg::GenericOp>()) {
    int walk = 0;
    bool isOfScalars = true;
    for (Value input : op.getInputs()) {
      linalg::GenericOp producer = genericOf(input);
      if (producer)
        walk = std::max(walk, s.walks.lookup(producer));
      isOfScalars &= producer && s.kinds.lookup(producer) != Kind::Elements;
    }
    Kind kind = isOfScalars ? Kind::Scalar : Kind::Elements;
    if (op.getNumReductionLoops() > 0) {
      kind = Kind::Sum;
      ++walk;
      int64_t summed = lastDim(op.getInputs()[0]);
      if (s.unitWidth != 0 && s.unitWidth != summed)
        return form.emitError("LLMC-E1003: one kernel cannot hold norms of "
                              "different widths, got ")
               << s.unitWidth << " and " << summed;
      s.unitWidth = summed;
    }
    s.generics.push_back(op);
    s.kinds[op] = kind;
    s.walks[op] = walk;
    s.numWalks = std::max(s.numWalks, walk);
  }
  if (s.unitWidth == 0)
    s.unitWidth = s.width;
  return s;
}

/// Emits the code of one kernel. "Unit" is what one walk covers: a row, a head
/// of it, or the columns of a tile.
class Emitter {
public:
  Emitter(func::FuncOp form, const Schedule& schedule, OpBuilder& builder)
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
  Value evaluate(linalg::GenericOp op, ArrayRef<Value> inputs);
  Value lanesOf(Value tensor);
  Value scalarOf(Value tensor);
  SmallVector<Value> inputLanes(linalg::GenericOp op);
  Value addLanes(Value lanes);
  void startChunk(Value column, Value end);
  void sumWalk(int walk, Value begin, Value end);
  void resultWalk(Value begin, Value end);
  void unit(Value begin, Value end);

  func::FuncOp form_;
  const Schedule& schedule_;
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

/// Emits a generic's scalar body on scalars or vectors. A bf16 value is held as
/// the f32 value that it is.
Value Emitter::evaluate(linalg::GenericOp op, ArrayRef<Value> inputs) {
  Block& body = op.getRegion().front();
  auto resultType = [&](Type scalar) -> Type {
    if (auto vector = dyn_cast<VectorType>(inputs[0].getType()))
      return vector.clone(scalar);
    return scalar;
  };
  IRMapping map;
  map.map(body.getArguments(), inputs);
  for (Operation& scalar : body.without_terminator()) {
    auto operand = [&] { return map.lookup(scalar.getOperand(0)); };
    Value result =
        llvm::TypeSwitch<Operation*, Value>(&scalar)
            .Case([&](arith::ExtFOp) { return operand(); })
            .Case([&](arith::TruncFOp) {
              return expandRoundToBf16(b_, operand());
            })
            .Case([&](math::ExpOp) { return expandExp(b_, operand()); })
            .Case([&](math::TanhOp) { return expandTanh(b_, operand()); })
            .Case([&](math::ErfOp) { return expandErf(b_, operand()); })
            .Case([&](arith::ConstantOp constant) -> Value {
              Type type = resultType(constant.getType());
              auto vector = dyn_cast<VectorType>(type);
              return arith::ConstantOp::create(
                  b_, vector ? TypedAttr(DenseElementsAttr::get(
                                   vector, Attribute(constant.getValue())))
                             : constant.getValue());
            })
            .Default([&](Operation* other) {
              Operation* copy = b_.clone(*other, map);
              copy->getResult(0).setType(
                  resultType(copy->getResult(0).getType()));
              return copy->getResult(0);
            });
    map.map(scalar.getResult(0), result);
  }
  return map.lookup(body.getTerminator()->getOperand(0));
}

/// Returns the chunk's elements of a tensor of rows, or of a vector.
Value Emitter::lanesOf(Value tensor) {
  Value source = sourceOf(tensor);
  if (Value known = lanes_.lookup(source))
    return known;
  Value lanes;
  if (auto op = source.getDefiningOp<linalg::GenericOp>()) {
    lanes = evaluate(op, inputLanes(op));
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
  for (Value input : op.getInputs()) {
    linalg::GenericOp producer = genericOf(input);
    bool isScalar =
        producer && schedule_.kinds.lookup(producer) != Kind::Elements;
    inputs.push_back(isScalar ? broadcast(scalarOf(input)) : lanesOf(input));
  }
  // The initial value of the result, which only sums read.
  inputs.push_back(Value());
  return inputs;
}

/// Adds the lanes of a vector: halves, until one is left.
Value Emitter::addLanes(Value lanes) {
  for (int64_t half = kLanes / 2; half > 0; half /= 2) {
    auto low = llvm::to_vector(llvm::seq<int64_t>(0, half));
    auto high = llvm::to_vector(llvm::seq<int64_t>(half, 2 * half));
    lanes = arith::AddFOp::create(
        b_, vector::ShuffleOp::create(b_, lanes, lanes, low),
        vector::ShuffleOp::create(b_, lanes, lanes, high));
  }
  return vector::ExtractOp::create(b_, lanes, 0);
}

void Emitter::startChunk(Value column, Value end) {
  lanes_.clear();
  column_ = column;
  if (isRagged_)
    remaining_ = arith::SubIOp::create(b_, end, column);
}

/// One walk over the unit for all sums that need `walk` earlier walks.
void Emitter::sumWalk(int walk, Value begin, Value end) {
  SmallVector<linalg::GenericOp> sums;
  for (linalg::GenericOp op : schedule_.generics)
    if (schedule_.kinds.lookup(op) == Kind::Sum &&
        schedule_.walks.lookup(op) == walk + 1)
      sums.push_back(op);
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
      Value total = evaluate(op, inputs);
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
    scalars_[op.getResult(0)] = addLanes(total);
  for (linalg::GenericOp op : schedule_.generics) {
    if (schedule_.kinds.lookup(op) != Kind::Scalar ||
        schedule_.walks.lookup(op) != walk + 1)
      continue;
    SmallVector<Value> inputs;
    for (Value input : op.getInputs())
      inputs.push_back(scalarOf(input));
    inputs.push_back(Value());
    scalars_[op.getResult(0)] = evaluate(op, inputs);
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
  FailureOr<Schedule> schedule = makeSchedule(form);
  if (failed(schedule))
    return failure();
  if (isElementwise && schedule->numWalks > 0)
    return form.emitError(
        "LLMC-E1003: an elementwise kernel cannot hold a norm");
  OpBuilder::InsertionGuard guard(builder);
  return Emitter(form, *schedule, builder).emit(isElementwise);
}

} // namespace llmc
