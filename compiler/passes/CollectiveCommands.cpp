// SPDX-License-Identifier: Apache-2.0
#include "compiler/passes/CollectiveCommands.h"

#include "compiler/passes/Buckets.h"
#include "compiler/passes/Launches.h"
#include "compiler/passes/Options.h"

using namespace mlir;

namespace llmc {
namespace {

/// Bytes of one rank's part, as plan.fbs counts them.
int64_t collectiveBytes(StringRef kind, ShapedType operand, ShapedType result) {
  if (kind == "all_gather" || kind == "send")
    return bytesOf(operand);
  return bytesOf(result);
}

} // namespace

void CollectiveCommands::startEntry(int64_t transferStream) {
  transferStream_ = transferStream;
  numEvents_ = 0;
  doneEvents_.clear();
}

void CollectiveCommands::finishEntry(Location loc) { waitForGathers(loc); }

/// What follows may read the parameters that are being gathered.
void CollectiveCommands::waitForGathers(Location loc) {
  for (int64_t done : gathersInPlace_)
    plan::WaitEventOp::create(builder_, loc, done, 0);
  gathersInPlace_.clear();
}

LogicalResult CollectiveCommands::lower(Operation* op) {
  if (auto start = dyn_cast<dist::StartOp>(op))
    return lowerStart(start), success();
  if (auto wait = dyn_cast<dist::WaitOp>(op))
    return lowerWait(wait), success();
  if (auto slice = dyn_cast<dist::SliceRowsOp>(op))
    return lowerSlice(slice), success();
  if (auto gather = dyn_cast<dist::GatherInPlaceOp>(op))
    return lowerGatherInPlace(gather), success();
  if (auto copy = dyn_cast<dist::CopyOp>(op)) {
    createCopy(op, buffers_.lookup(copy.getX()),
               buffers_.resultBuffer(copy.getResult(), "activations"),
               bytesOf(cast<ShapedType>(copy.getX().getType())), Attribute());
    return success();
  }
  if (isa<dist::SendOp, dist::ReceiveInPlaceOp>(op))
    return lowerTransfer(op, isa<dist::SendOp>(op)), success();
  return lowerCollective(op);
}

/// A transfer from or into the buffer of its operand.
void CollectiveCommands::lowerTransfer(Operation* op, bool isSend) {
  waitForGathers(op->getLoc());
  StringAttr none = builder_.getStringAttr("");
  StringAttr buffer = buffers_.lookup(op->getOperand(0));
  auto type = cast<ShapedType>(op->getOperand(0).getType());
  int64_t bytes = std::max(bytesOf(type), buffers_.paddedBytes(buffer));
  createCollective(op, isSend ? "send" : "recv", op->getAttrDictionary(),
                   isSend ? buffer : none, isSend ? none : buffer, bytes,
                   type.getElementType(), transferStream_);
}

LogicalResult CollectiveCommands::lowerCollective(Operation* op) {
  StringRef kind = op->getName().stripDialect();
  auto known = {"all_gather", "reduce_scatter", "all_reduce", "broadcast",
                "recv"};
  if (!llvm::is_contained(known, kind))
    return op->emitOpError("must be lowered before lower-to-plan");
  StringAttr send = op->getNumOperands() ? buffers_.lookup(op->getOperand(0))
                                         : builder_.getStringAttr("");
  Value result = op->getResult(0);
  bool isInPlace = kind == "all_reduce" || kind == "broadcast";
  if (isInPlace && op->getNumOperands())
    shareOrCopy(op, send, result);
  auto type = cast<ShapedType>(result.getType());
  auto operandType = op->getNumOperands()
                         ? cast<ShapedType>(op->getOperand(0).getType())
                         : type;
  StringAttr recv = gatherBuffer(op, op->getAttrDictionary(), result);
  int64_t bytes = collectiveBytes(kind, operandType, type);
  // Elements of a panel layout are spread over its padding.
  if (kind == "all_reduce" || kind == "recv")
    bytes = std::max(bytes, buffers_.paddedBytes(recv));
  createCollective(op, kind, op->getAttrDictionary(),
                   isInPlace && op->getNumOperands() ? recv : send, recv, bytes,
                   type.getElementType(), kind == "recv" ? transferStream_ : 0);
  return success();
}

/// An in-place collective works on its operand's buffer if nobody else reads
/// it.
void CollectiveCommands::shareOrCopy(Operation* op, StringAttr operand,
                                     Value result) {
  Value x = op->getOperand(0);
  if (x.hasOneUse() && !buffers_.isAssigned(result) && x.getDefiningOp()) {
    buffers_.assign(result, operand);
    return;
  }
  StringAttr recv = buffers_.resultBuffer(result, "activations");
  createCopy(op, operand, recv, bytesOf(cast<ShapedType>(x.getType())),
             Attribute());
}

plan::CollectiveOp CollectiveCommands::createCollective(
    Operation* op, StringRef kind, DictionaryAttr args, StringAttr send,
    StringAttr recv, int64_t bytes, Type element, int64_t stream) {
  auto axes = args.getAs<ArrayAttr>("axes");
  if (!axes)
    axes = builder_.getArrayAttr({args.getAs<StringAttr>("axis")});
  auto integer = [&](StringRef name) {
    auto attr = args.getAs<IntegerAttr>(name);
    return attr ? attr.getInt() : -1;
  };
  return plan::CollectiveOp::create(
      builder_, op->getLoc(), kind, axes, send.getValue(), recv.getValue(),
      bytes, element, integer("root"), integer("peer"), stream,
      op->getAttrOfType<StringAttr>("subject"),
      op->getAttrOfType<StringAttr>("pass"), Attribute());
}

void CollectiveCommands::createCopy(Operation* op, StringAttr from,
                                    StringAttr to, int64_t bytes,
                                    Attribute sendOffset) {
  plan::CollectiveOp::create(builder_, op->getLoc(), "copy",
                             builder_.getArrayAttr({}), from.getValue(),
                             to.getValue(), bytes, builder_.getI8Type(), -1, -1,
                             0, StringAttr(), StringAttr(), sendOffset);
}

/// Buffer of a collective's result.
StringAttr CollectiveCommands::gatherBuffer(Operation* op, DictionaryAttr args,
                                            Value result) {
  llm::GetParamOp shard =
      op->getNumOperands() ? paramOf(op->getOperand(0)) : llm::GetParamOp();
  if (!shard)
    return buffers_.resultBuffer(result, "communication");
  if (op->hasAttr(kKeptAttr))
    return buffers_.assignKept(result, shard);
  int64_t ranks = 1;
  for (Attribute axis : args.getAs<ArrayAttr>("axes"))
    ranks *= meshAxisSize(module_, cast<StringAttr>(axis).getValue());
  return buffers_.gatheredBuffer(
      result, shard, cast<ShapedType>(op->getOperand(0).getType()), ranks);
}

void CollectiveCommands::lowerSlice(dist::SliceRowsOp op) {
  auto type = cast<ShapedType>(op.getResult().getType());
  StringAttr to = buffers_.resultBuffer(op.getResult(), "activations");
  SmallVector<int64_t> offsets;
  for (int64_t i = 0; i < meshAxisSize(module_, op.getAxis()); ++i)
    offsets.push_back(i * bytesOf(type));
  createCopy(op, buffers_.lookup(op.getX()), to, bytesOf(type),
             dist::ByCoordinateAttr::get(builder_.getContext(),
                                         op.getAxisAttr(), offsets));
}

void CollectiveCommands::lowerGatherInPlace(dist::GatherInPlaceOp op) {
  auto type = cast<ShapedType>(op.getX().getType());
  StringAttr buffer = buffers_.lookup(op.getX());
  int64_t bytes = op.getRun() * type.getElementTypeBitWidth() / 8;
  SmallVector<int64_t> offsets;
  for (int64_t i = 0; i < meshAxisSize(module_, "dp"); ++i)
    offsets.push_back(i * bytes);
  auto send = dist::ByCoordinateAttr::get(
      builder_.getContext(), builder_.getStringAttr("dp"), offsets);
  bool isAsynchronous = op->hasAttr(kAsynchronousAttr);
  if (isAsynchronous)
    beginAsynchronous(op.getLoc());
  plan::CollectiveOp::create(builder_, op.getLoc(), "all_gather", op.getAxes(),
                             buffer.getValue(), buffer.getValue(), bytes,
                             type.getElementType(), -1, -1, isAsynchronous,
                             op.getSubjectAttr(), op.getPassAttr(), send);
  if (isAsynchronous)
    gathersInPlace_.push_back(endAsynchronous(op.getLoc()));
}

/// What follows on the communication stream comes after all that was computed.
void CollectiveCommands::beginAsynchronous(Location loc) {
  int64_t ready = numEvents_++;
  plan::RecordEventOp::create(builder_, loc, ready, 0);
  plan::WaitEventOp::create(builder_, loc, ready, 1);
}

/// Returns the event of the end of what was just put on the communication
/// stream.
int64_t CollectiveCommands::endAsynchronous(Location loc) {
  int64_t done = numEvents_++;
  plan::RecordEventOp::create(builder_, loc, done, 1);
  return done;
}

void CollectiveCommands::lowerStart(dist::StartOp op) {
  auto type = op.getPending().getType().getType();
  auto wait = cast<dist::WaitOp>(*op.getPending().getUsers().begin());
  StringAttr send = buffers_.lookup(op.getX());
  bool isInPlace = op.getCollective() == "all_reduce";
  if (isInPlace)
    shareOrCopy(op, send, wait.getResult());
  StringAttr recv = gatherBuffer(op, op.getArgs(), wait.getResult());
  int64_t bytes = collectiveBytes(op.getCollective(),
                                  cast<ShapedType>(op.getX().getType()), type);
  if (isInPlace) // elements of a panel layout are spread over its padding
    bytes = std::max(bytes, buffers_.paddedBytes(recv));
  auto before = dyn_cast_or_null<dist::StartOp>(op->getPrevNode());
  if (before && shareBucket(before, op)) {
    addPart(bucket_, {send, recv, bytes});
    doneEvents_[op] = doneEvents_.lookup(before);
    return;
  }
  beginAsynchronous(op.getLoc());
  bucket_ = createCollective(op, op.getCollective(), op.getArgs(),
                             isInPlace ? recv : send, recv, bytes,
                             type.getElementType(), 1);
  doneEvents_[op] = endAsynchronous(op.getLoc());
}

void CollectiveCommands::lowerWait(dist::WaitOp op) {
  Operation* start = op.getPending().getDefiningOp();
  plan::WaitEventOp::create(builder_, op.getLoc(), doneEvents_.lookup(start),
                            0);
}

} // namespace llmc
