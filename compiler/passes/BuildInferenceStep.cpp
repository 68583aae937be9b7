// SPDX-License-Identifier: Apache-2.0
// Makes the entry points of inference (prefill, decode, score) from `@forward`.
// A model has dynamic rows and attends inside the rows given; a step has static
// rows and attends over a key/value cache behind a block table. Functions are
// cloned once for each entry and block of rows; nothing here knows a model
// family.
#include "compiler/passes/ModelForm.h"
#include "compiler/passes/Options.h"
#include "compiler/passes/Passes.h"
#include "compiler/passes/WeightStorage.h"
#include "dialects/plan/Plan.h"
#include "runtime/kernels/KernelAbi.h"

#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/IR/IRMapping.h"

using namespace mlir;

namespace llmc {
#define GEN_PASS_DEF_BUILDINFERENCESTEP
#include "compiler/passes/Passes.h.inc"

namespace {

/// A static block of rows that one entry runs over.
struct EntryShape {
  StringRef name;
  int64_t sequences;
  int64_t rows; // of each sequence
  bool allRows; // logits of every row
};

class StepBuilder {
public:
  StepBuilder(ModuleOp module, const Options& options)
      : module_(module), options_(options), symbols_(module),
        builder_(module.getContext()) {
    pages_ = (options.seq + llmrt::kPageTokens - 1) / llmrt::kPageTokens;
    dtype_ = computeDtype(options, builder_.getContext());
  }

  LogicalResult run() {
    auto forward = symbols_.lookup<func::FuncOp>("forward");
    if (!forward)
      return module_.emitError("expects a function @forward");
    if (failed(checkModel(forward)))
      return failure();
    convertParameters(module_, dtype_);
    if (options_.weightsFormat != "dense" &&
        failed(storeInBlocks(forward, options_.weightsFormat)))
      return failure();
    EntryShape shapes[] = {{"prefill", 1, options_.chunk, false},
                           {"decode", options_.batch, 1, false},
                           {"score", 1, options_.chunk, true}};
    SmallVector<func::FuncOp> old(module_.getOps<func::FuncOp>());
    for (const EntryShape& shape : shapes)
      if (failed(buildEntry(forward, shape)))
        return failure();
    for (func::FuncOp func : old)
      symbols_.erase(func);
    return success();
  }

private:
  RankedTensorType paramType(llm::GetParamOp op) {
    auto param = symbols_.lookup<llm::ParamOp>(op.getParam());
    return cast<RankedTensorType>(param.getType());
  }

  RankedTensorType ids(int64_t a, int64_t b) {
    return RankedTensorType::get({a, b}, builder_.getI32Type());
  }

  LogicalResult buildEntry(func::FuncOp forward, const EntryShape& shape) {
    shape_ = shape;
    clones_.clear();
    int64_t s = shape.sequences;
    auto vector = [&](Type t) { return RankedTensorType::get({s}, t); };
    Type i32 = builder_.getI32Type(), f32 = builder_.getF32Type();
    SmallVector<Type> inputs = {ids(s, shape.rows), ids(s, shape.rows),
                                vector(i32), ids(s, pages_)};
    SmallVector<StringRef> names = {"ids", "positions", "valid_rows",
                                    "block_table"};
    if (!shape.allRows) {
      inputs.append({vector(f32), vector(i32), vector(f32),
                     vector(builder_.getI64Type()), vector(i32), vector(i32)});
      names.append({"temperature", "top_k", "top_p", "seed", "sequence",
                    "sample_positions"});
    }
    builder_.setInsertionPoint(forward);
    auto entry = func::FuncOp::create(builder_, forward.getLoc(), shape.name,
                                      builder_.getFunctionType(inputs, {}));
    entry->setAttr(llm::LlmDialect::kEntryAttr,
                   builder_.getStringAttr(shape.name));
    Block* block = entry.addEntryBlock();
    for (auto [i, name] : llvm::enumerate(names)) {
      entry.setArgAttr(i, "llm.name", builder_.getStringAttr(name));
      block->getArgument(i).setLoc(NameLoc::get(builder_.getStringAttr(name)));
    }
    validRows_ = block->getArgument(2);
    blockTable_ = block->getArgument(3);
    IRMapping mapping;
    mapping.map(forward.getArgument(0), block->getArgument(0));
    mapping.map(forward.getArgument(1), block->getArgument(1));
    builder_.setInsertionPointToStart(block);
    cacheIndex_ = 0;
    SmallVector<Value> results;
    if (failed(cloneBody(forward, mapping, results, nullptr)))
      return failure();
    Value logits = results.front();
    SmallVector<Value> outputs = {logits};
    SmallVector<StringRef> outputNames = {"logits"};
    if (!shape.allRows) {
      auto args = block->getArguments();
      Location loc = NameLoc::get(builder_.getStringAttr("sample"));
      outputs.push_back(llm::SampleOp::create(builder_, loc, vector(i32),
                                              logits, args[4], args[5], args[6],
                                              args[7], args[8], args[9]));
      outputNames.push_back("next_ids");
    }
    func::ReturnOp::create(builder_, forward.getLoc(), outputs);
    entry.setFunctionType(builder_.getFunctionType(
        inputs, SmallVector<Type>(ValueRange(outputs).getTypes())));
    for (auto [i, name] : llvm::enumerate(outputNames))
      entry.setResultAttr(i, "llm.name", builder_.getStringAttr(name));
    return success();
  }

  /// Static form of a type: ids and positions [S, R], activations [rows, C].
  Type staticType(Type type, int64_t rows) {
    auto tensor = dyn_cast<RankedTensorType>(type);
    if (!tensor || tensor.hasStaticShape())
      return type;
    SmallVector<int64_t> shape(tensor.getShape());
    if (tensor.getElementType().isInteger(32) && shape.size() == 2)
      shape = {shape_.sequences, shape_.rows};
    else
      shape[0] = rows;
    return tensor.clone(shape);
  }

  /// Rows of the result of `op`: those of its first activation operand, else S
  /// * R.
  int64_t rowsOf(Operation& op, IRMapping& mapping) {
    for (Value operand : op.getOperands()) {
      auto type = dyn_cast<RankedTensorType>(operand.getType());
      if (type && type.getRank() == 2 && type.isDynamicDim(0) &&
          isa<FloatType>(type.getElementType()))
        return cast<RankedTensorType>(mapping.lookup(operand).getType())
            .getDimSize(0);
    }
    return shape_.sequences * shape_.rows;
  }

  /// Clones the ops of `func` at the insertion point. In a block function
  /// `frame` holds its cache arguments; in the entry it is null.
  struct Frame {
    func::FuncOp func;
    Value blockTable;
    unsigned numCaches = 0;
  };

  LogicalResult cloneBody(func::FuncOp func, IRMapping& mapping,
                          SmallVector<Value>& results, Frame* frame) {
    for (Operation& op : func.getBody().front()) {
      if (auto ret = dyn_cast<func::ReturnOp>(op)) {
        for (Value v : ret.getOperands())
          results.push_back(mapping.lookup(v));
        continue;
      }
      if (auto attention = dyn_cast<llm::AttentionOp>(op)) {
        lowerAttention(attention, mapping, frame);
        continue;
      }
      if (auto output = dyn_cast<llm::OutputRowsOp>(op)) {
        lowerOutputRows(output, mapping);
        continue;
      }
      if (auto call = dyn_cast<func::CallOp>(op)) {
        if (frame)
          return call.emitOpError("expects no call inside a block function");
        if (failed(lowerCall(call, mapping)))
          return failure();
        continue;
      }
      Operation* copy = builder_.clone(op, mapping);
      int64_t rows = rowsOf(op, mapping);
      for (OpResult result : copy->getResults())
        result.setType(staticType(result.getType(), rows));
      if (auto get = dyn_cast<llm::GetParamOp>(copy))
        get.getResult().setType(paramType(get));
    }
    return success();
  }

  void lowerOutputRows(llm::OutputRowsOp op, IRMapping& mapping) {
    Value x = mapping.lookup(op.getX());
    if (shape_.allRows || shape_.rows == 1) {
      mapping.map(op.getResult(), x);
      return;
    }
    auto type = cast<RankedTensorType>(x.getType());
    auto selected = llm::SelectRowsOp::create(
        builder_, op.getLoc(),
        type.clone({shape_.sequences, type.getDimSize(1)}), x, validRows_);
    mapping.map(op.getResult(), selected.getResult());
  }

  MemRefType cacheType(llm::AttentionOp op) {
    return MemRefType::get({pages_ * options_.batch, llmrt::kPageTokens,
                            op.getNumKvHeads(),
                            static_cast<int64_t>(op.getHeadDim())},
                           dtype_);
  }

  void lowerAttention(llm::AttentionOp op, IRMapping& mapping, Frame* frame) {
    Location loc = op.getLoc();
    Value keys, values, table;
    if (frame) {
      // Caches are operands of block functions.
      MemRefType type = cacheType(op);
      Block& block = frame->func.getBody().front();
      auto named = [&](StringRef n) -> Location {
        return NameLoc::get(builder_.getStringAttr(n));
      };
      keys = block.addArgument(type, named("keys"));
      values = block.addArgument(type, named("values"));
      frame->numCaches += 1;
      frameGroups_.push_back(op.getNumHeads() / op.getNumKvHeads());
      table = frame->blockTable;
    } else {
      std::tie(keys, values) = makeCaches(op, loc);
      table = blockTable_;
    }
    Value positions = mapping.lookup(op.getPositions());
    llm::KvAppendOp::create(builder_, loc, keys, mapping.lookup(op.getK()),
                            positions, table);
    llm::KvAppendOp::create(builder_, loc, values, mapping.lookup(op.getV()),
                            positions, table);
    Value q = mapping.lookup(op.getQ());
    auto attention = llm::CachedAttentionOp::create(
        builder_, loc, q.getType(), q, keys, values, positions, table,
        op.getHeadDimAttr(),
        builder_.getI64IntegerAttr(op.getNumHeads() / op.getNumKvHeads()),
        op.getScaleAttr(), op.getWindowAttr(), op.getSoftcapAttr(),
        Attribute());
    mapping.map(op.getResult(), attention.getResult());
  }

  std::pair<Value, Value> makeCaches(llm::AttentionOp op, Location loc) {
    return makeCaches(cacheType(op), op.getNumHeads() / op.getNumKvHeads(),
                      locationName(loc), loc);
  }

  /// Finds or declares the two caches of the next attention in call order.
  std::pair<Value, Value> makeCaches(MemRefType type, int64_t group,
                                     std::string owner, Location loc) {
    if (owner.empty())
      owner = "attention" + std::to_string(cacheIndex_);
    ++cacheIndex_;
    Value result[2];
    for (bool isValues : {false, true}) {
      std::string name = owner + (isValues ? ".values" : ".keys");
      if (!symbols_.lookup(name)) {
        OpBuilder::InsertionGuard guard(builder_);
        builder_.setInsertionPointToStart(module_.getBody());
        auto split = llm::SplitAttr::get(builder_.getContext(), 2, 1, group);
        auto cache =
            llm::CacheOp::create(builder_, loc, name, type, split, isValues);
        // Kept in call order, after the parameters.
        cache->moveBefore(firstFunction());
        symbols_.insert(cache);
      }
      result[isValues] = llm::GetCacheOp::create(builder_, loc, type, name);
    }
    return {result[0], result[1]};
  }

  Operation* firstFunction() { return *module_.getOps<func::FuncOp>().begin(); }

  /// A block function specialised to this entry's rows.
  struct Clone {
    func::FuncOp func;
    SmallVector<MemRefType> caches; // key caches, in order
    SmallVector<int64_t> groups;
  };

  FailureOr<Clone*> specialise(func::FuncOp callee, ArrayRef<Value> operands) {
    auto found = clones_.find(callee);
    if (found != clones_.end())
      return &found->second;
    OpBuilder::InsertionGuard guard(builder_);
    builder_.setInsertionPoint(callee);
    std::string name = (callee.getName() + "." + shape_.name).str();
    auto copy = func::FuncOp::create(builder_, callee.getLoc(), name,
                                     builder_.getFunctionType({}, {}));
    copy.setPrivate();
    copy->setAttr(llm::LlmDialect::kBlockAttr, builder_.getUnitAttr());
    Block* block = new Block();
    copy.getBody().push_back(block);
    IRMapping mapping;
    for (auto [arg, value] : llvm::zip(callee.getArguments(), operands))
      mapping.map(arg, block->addArgument(value.getType(), arg.getLoc()));
    Frame frame{copy, block->addArgument(
                          blockTable_.getType(),
                          NameLoc::get(builder_.getStringAttr("block_table")))};
    frameGroups_.clear();
    builder_.setInsertionPointToStart(block);
    SmallVector<Value> results;
    if (failed(cloneBody(callee, mapping, results, &frame)))
      return failure();
    func::ReturnOp::create(builder_, callee.getLoc(), results);
    copy.setFunctionType(builder_.getFunctionType(
        block->getArgumentTypes(),
        SmallVector<Type>(ValueRange(results).getTypes())));
    Clone clone{copy, {}, {frameGroups_.begin(), frameGroups_.end()}};
    unsigned first = block->getNumArguments() - 2 * frame.numCaches;
    for (unsigned i = 0; i < frame.numCaches; ++i)
      clone.caches.push_back(
          cast<MemRefType>(block->getArgument(first + 2 * i).getType()));
    return &clones_.try_emplace(callee, std::move(clone)).first->second;
  }

  LogicalResult lowerCall(func::CallOp call, IRMapping& mapping) {
    auto callee = symbols_.lookup<func::FuncOp>(call.getCallee());
    if (!callee || callee.isDeclaration())
      return call.emitOpError("expects a block function with a body, got @")
             << call.getCallee();
    SmallVector<Value> operands;
    for (Value v : call.getOperands())
      operands.push_back(mapping.lookup(v));
    FailureOr<Clone*> clone = specialise(callee, operands);
    if (failed(clone))
      return failure();
    operands.push_back(blockTable_);
    std::string owner = locationName(call.getLoc());
    for (auto [i, type] : llvm::enumerate((*clone)->caches)) {
      std::string name = owner;
      if (i > 0 && !owner.empty())
        (name += ".") += std::to_string(i);
      auto [keys, values] =
          makeCaches(type, (*clone)->groups[i], name, call.getLoc());
      operands.append({keys, values});
    }
    auto copy =
        func::CallOp::create(builder_, call.getLoc(), (*clone)->func, operands);
    for (auto [a, b] : llvm::zip(call.getResults(), copy.getResults()))
      mapping.map(a, b);
    return success();
  }

  ModuleOp module_;
  const Options& options_;
  SymbolTable symbols_;
  OpBuilder builder_;
  int64_t pages_ = 0;
  Type dtype_;
  EntryShape shape_ = {};
  Value validRows_, blockTable_;
  int64_t cacheIndex_ = 0;
  SmallVector<int64_t> frameGroups_;
  DenseMap<func::FuncOp, Clone> clones_;
};

struct BuildInferenceStepPass
    : impl::BuildInferenceStepBase<BuildInferenceStepPass> {
  using BuildInferenceStepBase::BuildInferenceStepBase;

  void runOnOperation() override {
    Options options = Options::read(getOperation());
    if (failed(StepBuilder(getOperation(), options).run()))
      signalPassFailure();
  }
};

} // namespace
} // namespace llmc
