// SPDX-License-Identifier: Apache-2.0
// Emits the walks over a row (RowSchedule.h) for the threads of a block.
// Nothing depends on which thread runs first: sums have a fixed order, and a
// thread reads and writes its own elements only.
#include "compiler/codegen/LowerLinalgToGpu.h"

#include "compiler/codegen/MathExpansion.h"
#include "compiler/codegen/RowSchedule.h"

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/LLVMIR/LLVMDialect.h"
#include "mlir/Dialect/MemRef/IR/MemRef.h"
#include "mlir/Dialect/SCF/IR/SCF.h"
#include "mlir/Dialect/Vector/IR/VectorOps.h"

using namespace mlir;

namespace llmc {
namespace {

constexpr int64_t kWarpThreads = 32;
constexpr int64_t kWarps = kGeneratedThreads / kWarpThreads;
constexpr int64_t kAccessBytes = 16;
constexpr int64_t kHeldElements = 32; // of a row, by one thread
constexpr unsigned kGlobalMemory = 1; // NVPTX's number of the address space

/// Bytes of the widest element of the rows that a kernel takes or makes: the
/// order of a row's sum does not depend on what is rounded behind it.
int64_t widestBytes(func::FuncOp form) {
  int64_t bytes = 2;
  auto look = [&](Type type) {
    auto tensor = cast<RankedTensorType>(type);
    if (tensor.getRank() == 2)
      bytes = std::max<int64_t>(bytes, tensor.getElementTypeBitWidth() / 8);
  };
  llvm::for_each(form.getArgumentTypes(), look);
  llvm::for_each(form.getResultTypes(), look);
  return bytes;
}

/// Emits one kernel. "Unit" is what one walk covers and one team of threads
/// shares: a row and the whole block, a head and a warp, or the columns of a
/// tile and the block.
class Emitter {
public:
  Emitter(func::FuncOp form, const RowSchedule& schedule, bool isElementwise,
          OpBuilder& builder)
      : form_(form), schedule_(schedule), isElementwise_(isElementwise),
        b_(form.getLoc(), builder), pointerType_(LLVM::LLVMPointerType::get(
                                        b_.getContext(), kGlobalMemory)) {
    hasHeads_ = schedule.unitWidth != schedule.width;
    teamThreads_ = hasHeads_ ? kWarpThreads : kGeneratedThreads;
    numLanes_ = kAccessBytes / widestBytes(form);
    while (schedule.unitWidth % numLanes_ != 0)
      numLanes_ /= 2;
    laneType_ = VectorType::get({numLanes_}, b_.getF32Type());
    int64_t stepColumns = teamThreads_ * numLanes_;
    int64_t unitColumns =
        isElementwise ? kElementwiseColumns : schedule.unitWidth;
    numChunks_ = (unitColumns + stepColumns - 1) / stepColumns;
    isHeld_ = isElementwise || numChunks_ * numLanes_ <= kHeldElements;
  }

  gpu::GPUFuncOp emit();

private:
  Value constant(int64_t value) {
    return arith::ConstantOp::create(b_, b_.getI64IntegerAttr(value));
  }

  Value add(Value l, Value r) { return arith::AddIOp::create(b_, l, r); }

  Value less(Value l, Value r) {
    return arith::CmpIOp::create(b_, arith::CmpIPredicate::slt, l, r);
  }

  Value index(int64_t value) {
    return arith::ConstantIndexOp::create(b_, value);
  }

  Value integer(Value indexValue) {
    return arith::IndexCastOp::create(b_, b_.getI64Type(), indexValue);
  }

  Value zeroLanes() {
    return arith::ConstantOp::create(b_, b_.getZeroAttr(laneType_));
  }

  Type storageType(Value tensor) {
    bool isReal =
        cast<RankedTensorType>(tensor.getType()).getElementType().isF32();
    return isReal ? Type(b_.getF32Type()) : Type(b_.getI16Type());
  }

  Value elementPointer(Value base, Type element, Value at) {
    return LLVM::GEPOp::create(b_, pointerType_, element, base,
                               ArrayRef<LLVM::GEPArg>{at});
  }

  unsigned accessBytes(Type element) {
    return numLanes_ * element.getIntOrFloatBitWidth() / 8;
  }

  Value loadWord(Value words, int64_t number);
  Value loadLanes(Value tensor, Value at);
  void storeLanes(Value lanes, Value base, Type element, Value at);
  Value lanesOf(Value tensor);
  SmallVector<Value> inputLanes(linalg::GenericOp op);
  SmallVector<Value> addChunk(ArrayRef<linalg::GenericOp> sums,
                              ValueRange soFar);
  SmallVector<Value> walkForSums(ArrayRef<linalg::GenericOp> sums);
  Value addOverWarp(Value sum);
  void addOverTeam(ArrayRef<linalg::GenericOp> sums, ValueRange totals);
  void sumWalk(int walk);
  void storeChunk();
  void resultWalk();
  void startHeldChunk(int64_t chunk);
  void forEachChunkOfLongUnit(
      ValueRange initial,
      llvm::function_ref<SmallVector<Value>(ValueRange)> body,
      SmallVector<Value>& results);
  void unit();
  void block(Value words, Value tile);

  func::FuncOp form_;
  const RowSchedule& schedule_;
  bool isElementwise_;
  ImplicitLocOpBuilder b_;
  Type pointerType_;
  VectorType laneType_;
  bool hasHeads_;
  int64_t teamThreads_;
  int64_t numLanes_;
  int64_t numChunks_; // of a unit, for each thread
  bool isHeld_;       // chunks are unrolled and their values kept
  llvm::DenseMap<Value, Value> pointers_; // of the form's arguments
  SmallVector<Value> resultPointers_;
  Value thread_;          // in the team
  Value warp_;            // in the block
  Value sharedSums_;      // [sums, warps]
  int64_t numShared_ = 0; // sums that have their place there
  Value unitOffset_;      // elements before the unit in a tensor of rows
  Value headOffset_;  // elements before the unit in its row; null at its start
  Value unitBegin_;   // first column in the unit: of an elementwise tile
  Value unitEnd_;     // where its columns end
  Value column_;      // of the chunk, in the unit
  Value isInside_;    // whether the chunk is; null if it always is
  int64_t chunk_ = 0; // number of the chunk, if held
  llvm::DenseMap<Value, Value> scalars_; // sums and row scalars of the unit
  SmallVector<llvm::DenseMap<Value, Value>> lanes_; // of chunks, by number
};

/// Loads a word of the argument block, which no kernel changes.
Value Emitter::loadWord(Value words, int64_t number) {
  Value address =
      LLVM::GEPOp::create(b_, pointerType_, b_.getI64Type(), words,
                          ArrayRef<LLVM::GEPArg>{static_cast<int32_t>(number)});
  auto load = LLVM::LoadOp::create(b_, b_.getI64Type(), address, 8);
  load.setInvariant(true);
  return load;
}

Value Emitter::loadLanes(Value tensor, Value at) {
  Type element = storageType(tensor);
  Value address = elementPointer(pointers_.lookup(tensor), element, at);
  auto load = LLVM::LoadOp::create(b_, VectorType::get({numLanes_}, element),
                                   address, accessBytes(element));
  // No result lies on a vector; one may lie on a tensor of rows.
  load.setInvariant(cast<RankedTensorType>(tensor.getType()).getRank() == 1);
  return element.isF32() ? load.getResult() : fromUpperHalf(b_, load);
}

void Emitter::storeLanes(Value lanes, Value base, Type element, Value at) {
  Value stored = element.isF32() ? lanes : upperHalf(b_, lanes);
  LLVM::StoreOp::create(b_, stored, elementPointer(base, element, at),
                        accessBytes(element));
}

/// Returns the chunk's elements of a tensor of rows, or of a vector.
Value Emitter::lanesOf(Value tensor) {
  Value source = sourceOf(tensor);
  if (Value known = lanes_[chunk_].lookup(source))
    return known;
  Value lanes;
  if (auto op = source.getDefiningOp<linalg::GenericOp>()) {
    lanes = evaluateBody(b_, op, inputLanes(op));
  } else {
    bool isRows = cast<RankedTensorType>(source.getType()).getRank() == 2;
    Value at = column_;
    if (isRows)
      at = add(unitOffset_, column_);
    else if (headOffset_ && lastDim(source) != schedule_.unitWidth)
      at = add(headOffset_, column_);
    lanes = loadLanes(source, at);
  }
  lanes_[chunk_][source] = lanes;
  return lanes;
}

SmallVector<Value> Emitter::inputLanes(linalg::GenericOp op) {
  SmallVector<Value> inputs;
  for (Value input : op.getInputs())
    inputs.push_back(schedule_.isScalar(input)
                         ? vector::BroadcastOp::create(
                               b_, laneType_, scalars_.lookup(sourceOf(input)))
                               .getResult()
                         : lanesOf(input));
  // The initial value of the result, which only sums read.
  inputs.push_back(Value());
  return inputs;
}

/// Makes `chunk` the current one. A thread whose chunk would lie behind the end
/// works on the last one and throws the result away, which costs less than a
/// branch for each access.
void Emitter::startHeldChunk(int64_t chunk) {
  chunk_ = chunk;
  int64_t first = chunk * teamThreads_ * numLanes_;
  Value own = arith::MulIOp::create(b_, thread_, constant(numLanes_));
  column_ = add(add(unitBegin_, constant(first)), own);
  isInside_ = Value();
  bool isAlwaysInside = !isElementwise_ &&
                        first + teamThreads_ * numLanes_ <= schedule_.unitWidth;
  if (isAlwaysInside)
    return;
  isInside_ = less(column_, unitEnd_);
  Value last = arith::SubIOp::create(b_, unitEnd_, constant(numLanes_));
  column_ = arith::MinSIOp::create(b_, column_, last);
}

/// Calls `body` inside a loop over the chunks of a thread, with values that it
/// carries from one to the next.
void Emitter::forEachChunkOfLongUnit(
    ValueRange initial, llvm::function_ref<SmallVector<Value>(ValueRange)> body,
    SmallVector<Value>& results) {
  Value begin = arith::MulIOp::create(b_, thread_, constant(numLanes_));
  auto loop = scf::ForOp::create(b_, begin, unitEnd_,
                                 constant(teamThreads_ * numLanes_), initial);
  results.assign(loop.getResults().begin(), loop.getResults().end());
  OpBuilder::InsertionGuard guard(b_);
  b_.setInsertionPointToStart(loop.getBody());
  chunk_ = 0;
  lanes_[0].clear();
  column_ = loop.getInductionVar();
  isInside_ = Value();
  SmallVector<Value> carried = body(loop.getRegionIterArgs());
  if (!initial.empty())
    scf::YieldOp::create(b_, carried);
}

/// Adds the chunk's elements to lanes of sums.
SmallVector<Value> Emitter::addChunk(ArrayRef<linalg::GenericOp> sums,
                                     ValueRange soFar) {
  SmallVector<Value> totals;
  for (auto [op, before] : llvm::zip(sums, soFar)) {
    SmallVector<Value> inputs = inputLanes(op);
    inputs.back() = before;
    Value total = evaluateBody(b_, op, inputs);
    if (isInside_)
      total = arith::SelectOp::create(b_, isInside_, total, before);
    totals.push_back(total);
  }
  return totals;
}

/// Returns the lanes of sums over the chunks of a thread.
SmallVector<Value> Emitter::walkForSums(ArrayRef<linalg::GenericOp> sums) {
  SmallVector<Value> totals(sums.size(), zeroLanes());
  if (!isHeld_) {
    forEachChunkOfLongUnit(
        SmallVector<Value>(totals),
        [&](ValueRange soFar) { return addChunk(sums, soFar); }, totals);
    return totals;
  }
  for (int64_t chunk = 0; chunk < numChunks_; ++chunk) {
    startHeldChunk(chunk);
    totals = addChunk(sums, totals);
  }
  return totals;
}

/// Every thread of a warp gets the sum of all, with the same bits: a + b is
/// b + a.
Value Emitter::addOverWarp(Value sum) {
  for (int32_t distance = kWarpThreads / 2; distance > 0; distance /= 2) {
    auto other = gpu::ShuffleOp::create(b_, sum, distance, kWarpThreads,
                                        gpu::ShuffleMode::XOR);
    sum = arith::AddFOp::create(b_, sum, other.getShuffleResult());
  }
  return sum;
}

/// Makes the sums of a walk known to every thread of the team.
void Emitter::addOverTeam(ArrayRef<linalg::GenericOp> sums, ValueRange totals) {
  SmallVector<Value> ofWarp;
  for (Value total : totals)
    ofWarp.push_back(addOverWarp(addLanes(b_, total)));
  if (hasHeads_) {
    for (auto [op, sum] : llvm::zip(sums, ofWarp))
      scalars_[op->getResult(0)] = sum;
    return;
  }
  int64_t first = numShared_;
  numShared_ += sums.size();
  Value lane = arith::RemUIOp::create(b_, thread_, constant(kWarpThreads));
  Value isFirst =
      arith::CmpIOp::create(b_, arith::CmpIPredicate::eq, lane, constant(0));
  auto choice = scf::IfOp::create(b_, isFirst, /*withElseRegion=*/false);
  {
    OpBuilder::InsertionGuard guard(b_);
    b_.setInsertionPointToStart(choice.thenBlock());
    Value warp = arith::IndexCastOp::create(b_, b_.getIndexType(), warp_);
    for (auto [i, sum] : llvm::enumerate(ofWarp))
      memref::StoreOp::create(b_, sum, sharedSums_,
                              ValueRange{index(first + i), warp});
  }
  // Each sum has its own place, so that one barrier for a walk is enough.
  gpu::BarrierOp::create(b_);
  for (auto [i, op] : llvm::enumerate(sums)) {
    Value sum;
    for (int64_t warp = 0; warp < kWarps; ++warp) {
      Value part = memref::LoadOp::create(
          b_, sharedSums_, ValueRange{index(first + i), index(warp)});
      sum = sum ? arith::AddFOp::create(b_, sum, part).getResult() : part;
    }
    scalars_[op->getResult(0)] = sum;
  }
}

/// One walk over the unit for all sums that need `walk` earlier walks.
void Emitter::sumWalk(int walk) {
  SmallVector<linalg::GenericOp> sums = schedule_.sumsOfWalk(walk);
  addOverTeam(sums, walkForSums(sums));
  for (linalg::GenericOp op : schedule_.scalarsAfterWalk(walk)) {
    SmallVector<Value> inputs;
    for (Value input : op.getInputs())
      inputs.push_back(scalars_.lookup(sourceOf(input)));
    inputs.push_back(Value());
    scalars_[op.getResult(0)] = evaluateBody(b_, op, inputs);
  }
}

/// Computes every result of the chunk, then stores them.
void Emitter::storeChunk() {
  auto results = form_.front().getTerminator()->getOperands();
  SmallVector<Value> lanes;
  for (Value result : results)
    lanes.push_back(lanesOf(result));
  OpBuilder::InsertionGuard guard(b_);
  if (isInside_) {
    auto choice = scf::IfOp::create(b_, isInside_, /*withElseRegion=*/false);
    b_.setInsertionPointToStart(choice.thenBlock());
  }
  Value at = add(unitOffset_, column_);
  for (auto [result, value, pointer] :
       llvm::zip(results, lanes, resultPointers_))
    storeLanes(value, pointer, storageType(result), at);
}

void Emitter::resultWalk() {
  if (!isHeld_) {
    SmallVector<Value> none;
    forEachChunkOfLongUnit(
        {},
        [&](ValueRange) {
          storeChunk();
          return SmallVector<Value>();
        },
        none);
    return;
  }
  for (int64_t chunk = 0; chunk < numChunks_; ++chunk) {
    startHeldChunk(chunk);
    storeChunk();
  }
}

void Emitter::unit() {
  scalars_.clear();
  lanes_.clear();
  lanes_.resize(isHeld_ ? numChunks_ : 1);
  for (int walk = 0; walk < schedule_.numWalks; ++walk)
    sumWalk(walk);
  resultWalk();
}

/// What a block does with its tile, once that is known to be one with work.
void Emitter::block(Value words, Value tile) {
  int64_t word = 1;
  auto pointer = [&]() -> Value {
    return LLVM::IntToPtrOp::create(b_, pointerType_, loadWord(words, word++));
  };
  for (BlockArgument arg : form_.getArguments())
    pointers_[arg] = pointer();
  for (unsigned i = 0; i < form_.getNumResults(); ++i)
    resultPointers_.push_back(pointer());
  Value thread = integer(gpu::ThreadIdOp::create(b_, gpu::Dimension::x));
  warp_ = arith::DivUIOp::create(b_, thread, constant(kWarpThreads));
  thread_ = hasHeads_
                ? arith::RemUIOp::create(b_, thread, constant(kWarpThreads))
                      .getResult()
                : thread;
  unitBegin_ = constant(0);
  unitEnd_ = constant(schedule_.unitWidth);
  Value row = tile;
  if (isElementwise_) {
    int64_t tiles =
        (schedule_.width + kElementwiseColumns - 1) / kElementwiseColumns;
    row = arith::DivUIOp::create(b_, tile, constant(tiles));
    Value tileOfRow = arith::RemUIOp::create(b_, tile, constant(tiles));
    unitBegin_ =
        arith::MulIOp::create(b_, tileOfRow, constant(kElementwiseColumns));
    unitEnd_ = arith::MinSIOp::create(
        b_, unitEnd_, add(unitBegin_, constant(kElementwiseColumns)));
  }
  unitOffset_ = arith::MulIOp::create(b_, row, constant(schedule_.width));
  if (!hasHeads_)
    return unit();
  // Warps take heads in turn.
  auto heads = scf::ForOp::create(
      b_, warp_, constant(schedule_.width / schedule_.unitWidth),
      constant(kWarps));
  OpBuilder::InsertionGuard guard(b_);
  b_.setInsertionPointToStart(heads.getBody());
  headOffset_ = arith::MulIOp::create(b_, heads.getInductionVar(),
                                      constant(schedule_.unitWidth));
  unitOffset_ = add(unitOffset_, headOffset_);
  unit();
}

gpu::GPUFuncOp Emitter::emit() {
  int64_t numSums = 0;
  for (int walk = 0; walk < schedule_.numWalks; ++walk)
    numSums += schedule_.sumsOfWalk(walk).size();
  SmallVector<Type> shared;
  if (numSums > 0 && !hasHeads_)
    shared.push_back(MemRefType::get(
        {numSums, kWarps}, b_.getF32Type(), MemRefLayoutAttrInterface(),
        gpu::AddressSpaceAttr::get(b_.getContext(),
                                   gpu::AddressSpace::Workgroup)));
  Type word = b_.getI64Type();
  auto type = b_.getFunctionType(
      {pointerType_, word, word, word, word, pointerType_}, {});
  auto function = gpu::GPUFuncOp::create(b_, form_.getName(), type, shared);
  function->setAttr(gpu::GPUDialect::getKernelFuncAttrName(), b_.getUnitAttr());
  function.setKnownBlockSizeAttr(
      b_.getDenseI32ArrayAttr({int32_t(kGeneratedThreads), 1, 1}));
  b_.setInsertionPointToStart(&function.getBody().front());
  if (!shared.empty())
    sharedSums_ = function.getWorkgroupAttributions().front();
  Value words = function.getArgument(0);
  Value tile = integer(gpu::BlockIdOp::create(b_, gpu::Dimension::x));
  Value row = tile;
  if (isElementwise_)
    row = arith::DivUIOp::create(
        b_, tile,
        constant((schedule_.width + kElementwiseColumns - 1) /
                 kElementwiseColumns));
  auto choice = scf::IfOp::create(b_, less(row, loadWord(words, 0)),
                                  /*withElseRegion=*/false);
  gpu::ReturnOp::create(b_);
  b_.setInsertionPointToStart(choice.thenBlock());
  block(words, tile);
  return function;
}

} // namespace

FailureOr<gpu::GPUFuncOp>
lowerLinalgToGpu(func::FuncOp form, bool isElementwise, OpBuilder& builder) {
  FailureOr<RowSchedule> schedule = makeRowSchedule(form, isElementwise);
  if (failed(schedule))
    return failure();
  OpBuilder::InsertionGuard guard(builder);
  return Emitter(form, *schedule, isElementwise, builder).emit();
}

} // namespace llmc
