// SPDX-License-Identifier: Apache-2.0
// Turns what fusion left of `llm` into launches of the hand-tuned kernels, and
// single row ops into regions of their own. One function per op; words as
// Kernels.def names them.
#include "compiler/passes/Launches.h"
#include "compiler/passes/Options.h"
#include "compiler/passes/Passes.h"
#include "compiler/passes/RopeTables.h"
#include "compiler/passes/RowOps.h"
#include "compiler/passes/SelectTrainingKernels.h"
#include "compiler/passes/WeightStorage.h"
#include "runtime/kernels/KernelAbi.h"

using namespace mlir;

namespace llmc {
#define GEN_PASS_DEF_SELECTKERNELS
#include "compiler/passes/Passes.h.inc"

int64_t ropePages(func::FuncOp entry) {
  // Positions reach at most the end of a training sequence, or of the cache.
  Options options = Options::read(entry->getParentOfType<ModuleOp>());
  if (options.mode == "train")
    return (options.seq + llmrt::kPageTokens - 1) / llmrt::kPageTokens;
  return cast<RankedTensorType>(entry.getArgument(3).getType()).getDimSize(1);
}

Value createRopeTable(OpBuilder& builder, llm::RopeOp op, int64_t pages) {
  auto type = RankedTensorType::get(
      {pages * llmrt::kPageTokens, 2, op.getParams().getRotary() / 2},
      builder.getF32Type());
  return plan::RopeTableOp::create(
      builder, NameLoc::get(builder.getStringAttr("rope_table")), type,
      op.getParams());
}

namespace {

int64_t dim(Value v, unsigned i) {
  return cast<ShapedType>(v.getType()).getDimSize(i);
}

Type element(Value v) { return cast<ShapedType>(v.getType()).getElementType(); }

/// Marks each parameter with the layout its readers want: blocks if it is held
/// so, panels if a matrix product on the CPU reads it, rows otherwise.
void chooseLayouts(ModuleOp module) {
  Builder b(module.getContext());
  for (auto param : module.getOps<llm::ParamOp>())
    param->setAttr(kLayoutAttr, isInBlocks(param)
                                    ? param.getStorageAttr()
                                    : b.getStringAttr("row_major"));
  if (Options::read(module).isCuda())
    return;
  SymbolTable symbols(module);
  module.walk([&](llm::LinearOp op) {
    if (llm::GetParamOp get = paramOf(op.getWeight()))
      symbols.lookup(get.getParam())
          ->setAttr(kLayoutAttr, b.getStringAttr("panel"));
  });
}

class Selector {
public:
  explicit Selector(func::FuncOp entry)
      : entry_(entry), module_(entry->getParentOfType<ModuleOp>()),
        builder_(entry.getContext()) {}

  LogicalResult run() {
    if (failed(markGradients(entry_)))
      return failure();
    // Last: additions that no launch took over, and rows of parameters, whose
    // readers ask for the parameter's layout.
    SmallVector<Operation*> ops, last;
    for (Operation& op : entry_.getBody().front())
      if (!isa<llm::AccumulateOp>(op))
        (isa<dist::TakeRowsOp>(op) ? last : ops).push_back(&op);
    for (Operation* op : ops)
      if (failed(select(op)))
        return failure();
    for (auto accumulate : entry_.getOps<llm::AccumulateOp>())
      last.push_back(accumulate);
    for (Operation* op : last)
      if (failed(select(op)))
        return failure();
    return success();
  }

private:
  LogicalResult select(Operation* op) {
    builder_.setInsertionPoint(op);
    if (isRowOp(op)) {
      fuseOps({op});
      return success();
    }
    if (auto o = dyn_cast<llm::LinearOp>(op))
      paramInBlocks(o.getWeight()) ? linearOfBlocks(o) : linear(o);
    else if (auto o = dyn_cast<llm::EmbeddingOp>(op))
      embedding(o);
    else if (auto o = dyn_cast<llm::RopeOp>(op))
      rope(o);
    else if (auto o = dyn_cast<llm::KvAppendOp>(op))
      kvAppend(o);
    else if (auto o = dyn_cast<llm::CachedAttentionOp>(op))
      attention(o);
    else if (auto o = dyn_cast<llm::SelectRowsOp>(op))
      selectRows(o);
    else if (auto o = dyn_cast<llm::SampleOp>(op))
      sample(o);
    else if (auto o = dyn_cast<dist::AllGatherOp>(op))
      columnGather(o);
    else
      return selectTrainingKernel(op, builder_);
    return success();
  }

  Attribute i(int64_t value) { return intScalar(builder_.getContext(), value); }

  Attribute f(double value) { return realScalar(builder_.getContext(), value); }

  void replace(Operation* op, LaunchSpec& spec, int64_t numRows) {
    spec.rows = rowsWord(entry_, numRows);
    auto launch = createLaunch(builder_, op->getLoc(), spec);
    op->replaceAllUsesWith(launch.getResults());
    op->erase();
  }

  Attribute layoutOf(Value table) {
    llm::GetParamOp get = paramOf(table);
    auto layout = llmrt::WeightLayout::RowMajor;
    if (get) {
      Operation* param = SymbolTable::lookupSymbolIn(module_, get.getParam());
      if (param->getAttrOfType<StringAttr>(kLayoutAttr).getValue() == "panel")
        layout = llmrt::WeightLayout::Panel;
    }
    return i(static_cast<int64_t>(layout));
  }

  void linear(llm::LinearOp op) {
    int64_t n = dim(op.getWeight(), 0), k = dim(op.getWeight(), 1);
    int64_t panel = panelWidth(element(op.getWeight()));
    LaunchSpec spec;
    spec.kernel = "linear";
    spec.inputs = {{"x", op.getX()}, {"w0", op.getWeight()}};
    spec.results = {{"y0", op.getType()}};
    spec.scalars = {{"ldx", i(k)},
                    {"K", i(k)},
                    {"zip", i(0)},
                    {"count", i(1)},
                    {"N0", i(n)},
                    {"ldy0", i(n)},
                    {"dtype", i(dtypeOf(element(op.getWeight())))},
                    {"layout", layoutOf(op.getWeight())}};
    addFactorDtype(op.getX(), spec);
    spec.columns = (n + panel - 1) / panel * panel;
    replace(op, spec, dim(op.getResult(), 0));
  }

  void linearOfBlocks(llm::LinearOp op) {
    int64_t n = dim(op.getWeight(), 0), k = dim(op.getWeight(), 1);
    LaunchSpec spec;
    spec.kernel = "linear_quantized";
    spec.inputs = {{"x", op.getX()}, {"w", op.getWeight()}};
    spec.results = {{"y", op.getType()}};
    spec.scalars = {{"ldx", i(k)},
                    {"K", i(k)},
                    {"dtype", i(weightFormatOf(op.getWeight()))},
                    {"compute", i(dtypeOf(element(op.getWeight())))},
                    {"N", i(n)},
                    {"ldy", i(n)}};
    spec.columns = n;
    replace(op, spec, dim(op.getResult(), 0));
  }

  void embedding(llm::EmbeddingOp op) {
    LaunchSpec spec;
    spec.kernel = "embedding";
    spec.inputs = {{"ids", op.getIds()}, {"table", op.getTable()}};
    spec.results = {{"out", op.getType()}};
    spec.columns = dim(op.getTable(), 1);
    Attribute begin = op.getVocabBeginAttr();
    spec.scalars = {{"C", i(spec.columns)},
                    {"vocabBegin", begin ? begin : i(0)},
                    {"vocabCount", i(dim(op.getTable(), 0))},
                    {"dtype", i(weightFormatOf(op.getTable()))},
                    {"layout", layoutOf(op.getTable())}};
    replace(op, spec, dim(op.getResult(), 0));
  }

  void rope(llm::RopeOp op) {
    int64_t c = dim(op.getX(), 1), d = op.getHeadDim();
    LaunchSpec spec;
    spec.kernel = "rope";
    spec.inputs = {{"x", op.getX()},
                   {"positions", op.getPositions()},
                   {"table", createRopeTable(builder_, op, ropePages(entry_))}};
    spec.results = {{"out", op.getType()}};
    spec.scalars = {{"heads", i(c / d)},
                    {"D", i(d)},
                    {"rotary", i(op.getParams().getRotary())},
                    {"style", i(op.getParams().getInterleaved())},
                    {"ldx", i(c)},
                    {"ldo", i(c)},
                    {"inverse", i(op.getInverse())}};
    spec.columns = c / d;
    replace(op, spec, dim(op.getX(), 0));
  }

  void kvAppend(llm::KvAppendOp op) {
    auto get = op.getCache().getDefiningOp<llm::GetCacheOp>();
    auto cache = cast<llm::CacheOp>(
        SymbolTable::lookupSymbolIn(module_, get.getCache()));
    auto type = cast<MemRefType>(op.getCache().getType());
    LaunchSpec spec;
    spec.kernel = "kv_append";
    spec.inputs = {{"x", op.getX()},
                   {"positions", op.getPositions()},
                   {"blockTable", op.getBlockTable()}};
    spec.inouts = {{"cache", op.getCache()}};
    spec.scalars = {{"R", i(dim(op.getPositions(), 1))},
                    {"KV", i(type.getDimSize(2))},
                    {"D", i(type.getDimSize(3))},
                    {"pages", i(dim(op.getBlockTable(), 1))},
                    {"dtype", i(dtypeOf(type.getElementType()))},
                    {"kind", i(cache.getValues())},
                    {"ldx", i(dim(op.getX(), 1))}};
    spec.columns = type.getDimSize(2);
    replace(op, spec, dim(op.getX(), 0));
  }

  void attention(llm::CachedAttentionOp op) {
    auto cache = cast<MemRefType>(op.getKeys().getType());
    int64_t d = op.getHeadDim(), c = dim(op.getQ(), 1);
    Attribute offset = op.getHeadOffsetAttr();
    LaunchSpec spec;
    spec.kernel = "attention";
    spec.inputs = {{"q", op.getQ()},
                   {"positions", op.getPositions()},
                   {"blockTable", op.getBlockTable()}};
    spec.inouts = {{"keyCache", op.getKeys()}, {"valueCache", op.getValues()}};
    spec.results = {{"out", op.getType()}};
    spec.scalars = {{"R", i(dim(op.getPositions(), 1))},
                    {"H", i(c / d)},
                    {"KV", i(cache.getDimSize(2))},
                    {"D", i(d)},
                    {"group", i(op.getGroup())},
                    {"headOffset", offset ? offset : i(0)},
                    {"pages", i(dim(op.getBlockTable(), 1))},
                    {"dtype", i(dtypeOf(cache.getElementType()))},
                    {"scale", f(op.getScale().convertToDouble())},
                    {"softcap", f(op.getSoftcap().convertToDouble())},
                    {"window", i(op.getWindow())},
                    {"ldq", i(c)},
                    {"ldo", i(c)}};
    spec.columns = c / d;
    replace(op, spec, dim(op.getQ(), 0));
  }

  void selectRows(llm::SelectRowsOp op) {
    int64_t sequences = dim(op.getResult(), 0);
    LaunchSpec spec;
    spec.kernel = "select_rows";
    spec.inputs = {{"x", op.getX()}, {"validRows", op.getValidRows()}};
    spec.results = {{"out", op.getType()}};
    spec.columns = dim(op.getX(), 1);
    spec.scalars = {{"R", i(dim(op.getX(), 0) / sequences)},
                    {"C", i(spec.columns)}};
    replace(op, spec, sequences);
  }

  void sample(llm::SampleOp op) {
    LaunchSpec spec;
    spec.kernel = "sample";
    spec.inputs = {
        {"logits", op.getLogits()},      {"temperature", op.getTemperature()},
        {"topK", op.getTopK()},          {"topP", op.getTopP()},
        {"seed", op.getSeed()},          {"sequenceId", op.getSequence()},
        {"positions", op.getPositions()}};
    spec.results = {{"out", op.getType()}};
    spec.scalars = {{"V", i(dim(op.getLogits(), 1))}};
    spec.columns = 1;
    replace(op, spec, dim(op.getResult(), 0));
  }

  /// A gather along columns: gather whole blocks, then interleave them.
  void columnGather(dist::AllGatherOp op) {
    if (op.getDim() == 0)
      return;
    auto from = cast<RankedTensorType>(op.getX().getType());
    int64_t rows = from.getDimSize(0), columns = from.getDimSize(1);
    int64_t ranks = 1;
    for (auto mesh : module_.getOps<dist::MeshOp>())
      for (Attribute axis : op.getAxes())
        ranks *= mesh.getAxisSize(cast<StringAttr>(axis).getValue());
    auto stacked = dist::AllGatherOp::create(
        builder_, op.getLoc(), from.clone({ranks * rows, columns}), op.getX(),
        op.getAxesAttr(), builder_.getI64IntegerAttr(0), op.getSubjectAttr(),
        op.getPassAttr());
    LaunchSpec spec;
    spec.kernel = "unstack";
    spec.inputs = {{"in", stacked.getResult()}};
    spec.results = {{"out", op.getType()}};
    spec.columns = dim(op.getResult(), 1);
    spec.scalars = {{"T", i(ranks)},
                    {"Cl", i(columns)},
                    {"C", i(spec.columns)},
                    {"rowStride", i(rows)}};
    replace(op, spec, rows);
  }

  func::FuncOp entry_;
  ModuleOp module_;
  OpBuilder builder_;
};

struct SelectKernelsPass : impl::SelectKernelsBase<SelectKernelsPass> {
  void runOnOperation() override {
    chooseLayouts(getOperation());
    SmallVector<func::FuncOp> entries(getOperation().getOps<func::FuncOp>());
    for (func::FuncOp entry : entries)
      if (failed(Selector(entry).run()))
        return signalPassFailure();
  }
};

} // namespace
} // namespace llmc
