// SPDX-License-Identifier: Apache-2.0
#include "compiler/passes/StageBuffers.h"

#include "compiler/passes/Launches.h"
#include "compiler/passes/Options.h"
#include "compiler/passes/SelectTrainingKernels.h"
#include "compiler/passes/WeightStorage.h"

#include "llvm/ADT/StringSwitch.h"

using namespace mlir;

namespace llmc {
namespace {

int64_t panelBytes(RankedTensorType type) {
  int64_t panel = panelWidth(type.getElementType());
  int64_t outputs = (type.getDimSize(0) + panel - 1) / panel * panel;
  return outputs * type.getDimSize(1) * type.getElementTypeBitWidth() / 8;
}

/// Bytes of logical elements that a rank holds: the most over ranks.
int64_t usedBytes(llm::ParamOp param) {
  auto local = param.getComputeType();
  int64_t bytes = storedBytes(param, local);
  auto slice = dyn_cast_or_null<dist::SliceAttr>(param.getSliceAttr());
  if (!slice)
    return bytes;
  int64_t most = *llvm::max_element(slice.getCounts());
  return bytes * most / local.getDimSize(slice.getDim());
}

std::string ownName(Operation* op) {
  std::string name = locationName(op->getLoc());
  return name.empty() ? op->getName().stripDialect().str() : name;
}

} // namespace

int64_t bytesOf(ShapedType type) {
  return type.getNumElements() * type.getElementTypeBitWidth() / 8;
}

StageBuffers::StageBuffers(ModuleOp module, SymbolTable& symbols,
                           const schedule::StageSlots& slots)
    : module_(module), symbols_(symbols), builder_(module.getContext()),
      slots_(slots), isTraining_(Options::read(module).mode == "train") {}

void StageBuffers::startEntry(StringRef entry, int64_t chunk) {
  values_.clear();
  entry_ = entry.str();
  chunk_ = chunk;
}

StringAttr StageBuffers::argumentBuffer(StringRef name, ShapedType type) {
  if (isBetweenSegments(name))
    return segmentBuffer(name, type);
  if (isTraining_)
    return microBatchBuffer(name, type);
  return newBuffer(entry_ + "." + name.str(), "inputs", type, true);
}

StringAttr StageBuffers::outputBuffer(StringRef name, ShapedType type) {
  if (isBetweenSegments(name))
    return segmentBuffer(name, type);
  if (StringRef(entry_).split('.').first == "forward" &&
      Options::read(module_).mode == "train")
    return newSlots(name.str(), "outputs", type, "micro_batch",
                    Options::read(module_).microbatches);
  return newBuffer(entry_ + "." + name.str(), "outputs", type, true);
}

bool StageBuffers::isBetweenSegments(StringRef name) {
  return name.starts_with("saved.") || name.starts_with("deferred.") ||
         name.starts_with("received_") || name.starts_with("sent_");
}

bool StageBuffers::assign(Value value, StringAttr buffer) {
  return values_.try_emplace(value, buffer).second;
}

StringAttr StageBuffers::lookup(Value value) const {
  return values_.lookup(value);
}

/// What goes between segments has its slot kind for a prefix.
StringAttr StageBuffers::segmentBuffer(StringRef name, ShapedType type) {
  StringAttr& buffer = segmentBuffers_[{name.str(), type.getAsOpaquePointer()}];
  if (buffer)
    return buffer;
  StringRef kind = name.split('.').first;
  using schedule::SlotClass;
  auto slotClass =
      llvm::StringSwitch<SlotClass>(kind)
          .Case("deferred", SlotClass::Deferred)
          .Case("received_activation", SlotClass::ReceivedActivation)
          .Case("received_gradient", SlotClass::ReceivedGradient)
          .Case("sent_activation", SlotClass::SentActivation)
          .Case("sent_gradient", SlotClass::SentGradient)
          .Default(SlotClass::Saved);
  int64_t slots = std::max(1, slots_.count(slotClass, chunk_));
  return buffer = newSlots(name.str(), "activations", type, kind, slots);
}

/// Inputs of micro-batches are given whole, before the step.
StringAttr StageBuffers::microBatchBuffer(StringRef name, ShapedType type) {
  StringAttr& buffer = inputs_[name.str()];
  if (buffer)
    return buffer;
  if (name == "hyper")
    return buffer = newBuffer(name.str(), "inputs", type, true);
  int64_t slots = Options::read(module_).microbatches;
  SmallVector<int64_t> shape(type.getShape());
  if (entry_ == "prologue") // all micro-batches at once
    shape[0] /= slots;
  return buffer = newSlots(name.str(), "inputs", type.clone(shape),
                           "micro_batch", slots);
}

StringAttr StageBuffers::newSlots(std::string name, StringRef memoryClass,
                                  ShapedType type, StringRef kind,
                                  int64_t slots) {
  // Each slot begins at an aligned address.
  constexpr int64_t kAlignment = 64;
  int64_t used = bytesOf(type);
  int64_t bytes = (used + kAlignment - 1) / kAlignment * kAlignment;
  if (memoryClass != "activations")
    bytes = used; // the host sees them as one array
  StringAttr buffer = newBuffer(name, memoryClass, type, true,
                                slots * (bytes - used), slots * bytes);
  auto op = cast<plan::BufferOp>(buffers_.back());
  op.setSlotKind(kind);
  op.setSlots(slots);
  return buffer;
}

StringAttr StageBuffers::newBuffer(std::string name, StringRef memoryClass,
                                   ShapedType type, bool isPersistent,
                                   int64_t padding, int64_t bytes) {
  std::string unique = name;
  for (int i = 1; !names_.insert(unique).second; ++i)
    unique = name + "." + std::to_string(i);
  builder_.setInsertionPointToEnd(&buffers_);
  plan::BufferOp::create(builder_, module_.getLoc(), unique, memoryClass,
                         bytes < 0 ? bytesOf(type) : bytes, type, isPersistent,
                         padding, StringAttr(), 1, IntegerAttr());
  return builder_.getStringAttr(unique);
}

StringAttr StageBuffers::resultBuffer(Value value, StringRef memoryClass) {
  auto found = values_.find(value);
  if (found != values_.end())
    return found->second;
  Operation* op = value.getDefiningOp();
  auto type = cast<ShapedType>(value.getType());
  int64_t bytes = -1;
  if (auto padded = op->getAttrOfType<IntegerAttr>(kResultBytesAttr))
    bytes = padded.getInt();
  if (auto state = op->getAttrOfType<FlatSymbolRefAttr>(kStateAttr))
    bytes = stateBytes(symbols_.lookup<llm::StateOp>(state.getValue()));
  StringAttr buffer =
      newBuffer(entry_ + "." + ownName(op), memoryClass, type, false,
                bytes < 0 ? 0 : bytes - bytesOf(type), bytes);
  if (bytes >= 0)
    paddedBytes_[buffer.getValue()] = bytes;
  values_[value] = buffer;
  return buffer;
}

StringAttr StageBuffers::gatheredBuffer(Value value, llm::GetParamOp shard,
                                        ShapedType run, int64_t ranks) {
  auto found = values_.find(value);
  if (found != values_.end())
    return found->second;
  auto type = cast<ShapedType>(value.getType());
  int64_t bytes = ranks * bytesOf(run);
  StringAttr buffer = newBuffer(entry_ + ".gathered." + shard.getParam().str(),
                                "gathered_parameters", type, false,
                                bytes - bytesOf(type), bytes);
  values_[value] = buffer;
  return buffer;
}

StringAttr StageBuffers::assignKept(Value value, llm::GetParamOp get) {
  StringAttr& buffer = kept_[get.getParam().str()];
  if (!buffer) {
    auto param = symbols_.lookup<llm::ParamOp>(get.getParam());
    auto shard = cast<dist::ShardAttr>(param.getShardAttr());
    auto type = param.getComputeType();
    int64_t bytes = shard.getElements() * type.getElementTypeBitWidth() / 8;
    for (StringAttr axis : shard.getAxes())
      bytes *= meshAxisSize(module_, axis.getValue());
    buffer = newBuffer("kept." + get.getParam().str(), "gathered_parameters",
                       type, true, bytes - bytesOf(type), bytes);
  }
  return values_[value] = buffer;
}

void StageBuffers::declareParameter(llm::GetParamOp get) {
  if (get->hasAttr(kKeptAttr)) {
    assignKept(get.getResult(), get);
    return;
  }
  StringRef name = get.getParam();
  StringAttr& buffer = params_[name.str()];
  if (!buffer) {
    auto param = symbols_.lookup<llm::ParamOp>(name);
    auto layout = param->getAttrOfType<StringAttr>(kLayoutAttr);
    auto local = param.getComputeType();
    int64_t used = usedBytes(param), bytes = storedBytes(param, local);
    if (layout.getValue() == "panel")
      bytes = panelBytes(local);
    if (auto run = param->getAttrOfType<IntegerAttr>(kRunElementsAttr))
      bytes = std::max(bytes, run.getInt() * meshAxisSize(module_, "dp") *
                                  local.getElementTypeBitWidth() / 8);
    auto shard = dyn_cast_or_null<dist::ShardAttr>(param.getShardAttr());
    int64_t shardBytes = 0;
    if (shard) {
      shardBytes = shard.getElements() * local.getElementTypeBitWidth() / 8;
      used = used * shardBytes / std::max<int64_t>(bytes, 1);
      bytes = shardBytes;
    }
    buffer = newBuffer(name.str(), "parameters", local, true,
                       std::max<int64_t>(0, bytes - used), bytes);
    paddedBytes_[buffer.getValue()] = bytes;
    builder_.setInsertionPointToEnd(&parameters_);
    plan::ParameterOp::create(builder_, get.getLoc(), get.getParam(), buffer,
                              layout, shardBytes);
  }
  values_[get.getResult()] = buffer;
}

void StageBuffers::declareCache(llm::GetCacheOp get) {
  StringRef name = get.getCache();
  StringAttr& buffer = caches_[name.str()];
  if (!buffer) {
    auto type = cast<MemRefType>(get.getResult().getType());
    buffer = newBuffer(name.str(), "caches", type, true);
    builder_.setInsertionPointToEnd(&parameters_);
    plan::CacheOp::create(builder_, get.getLoc(), name, buffer,
                          type.getDimSize(0));
  }
  values_[get.getResult()] = buffer;
}

void StageBuffers::declareState(llm::ReadStateOp read) {
  StringRef name = read.getState();
  StringAttr& buffer = states_[name.str()];
  if (!buffer) {
    auto state = symbols_.lookup<llm::StateOp>(name);
    auto type = cast<ShapedType>(state.getType());
    StringRef memoryClass =
        state.getRole() == llm::StateRole::gradient ? "gradients" : "optimizer";
    int64_t bytes = stateBytes(state);
    buffer = newBuffer(name.str(), memoryClass, type, true,
                       bytes - bytesOf(type), bytes);
    paddedBytes_[buffer.getValue()] = bytes;
    builder_.setInsertionPointToEnd(&parameters_);
    plan::StateOp::create(builder_, read.getLoc(), name, buffer,
                          state.getShardAttr() ? bytes : 0);
  }
  values_[read.getResult()] = buffer;
}

void StageBuffers::declareTable(plan::RopeTableOp op) {
  std::string key;
  llvm::raw_string_ostream stream(key);
  stream << op.getParams() << op.getType();
  StringAttr& buffer = tableBuffers_[key];
  if (!buffer) {
    buffer = newBuffer("rope_table", "constants",
                       cast<ShapedType>(op.getType()), true);
    tables_.push_back({op, buffer});
  }
  values_[op.getResult()] = buffer;
}

void StageBuffers::moveTo(Block& body) {
  for (Block* part : {&parameters_, &buffers_})
    body.getOperations().splice(body.end(), part->getOperations());
}

} // namespace llmc
