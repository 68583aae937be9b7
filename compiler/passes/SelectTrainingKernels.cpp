// SPDX-License-Identifier: Apache-2.0
// Launches of the kernels of the training step, one function per op. A gradient
// that is only added to a state is added by the kernel that makes it. Over 500
// lines because it is a table in the form of code: one short function for each
// of twenty ops.
#include "compiler/passes/SelectTrainingKernels.h"

#include "compiler/passes/Launches.h"
#include "compiler/passes/Options.h"
#include "runtime/kernels/KernelAbi.h"

#include "llvm/ADT/TypeSwitch.h"

using namespace mlir;

namespace llmc {
namespace {

constexpr int64_t kZeroBlockBytes = 4096, kAddBlockElements = 1024;

/// On an op: the parameter whose gradient it makes.
constexpr StringLiteral kGradientOfAttr = "llm.gradient_of";

int64_t dim(Value v, unsigned i) {
  return cast<ShapedType>(v.getType()).getDimSize(i);
}

int64_t ceilDiv(int64_t a, int64_t b) { return (a + b - 1) / b; }

ModuleOp moduleOf(Operation* op) { return op->getParentOfType<ModuleOp>(); }

llm::StateOp stateOf(Operation* op, StringRef name) {
  return cast<llm::StateOp>(SymbolTable::lookupSymbolIn(moduleOf(op), name));
}

llm::ParamOp paramOf(llm::StateOp state) {
  if (!state.getParamAttr())
    return {};
  return cast<llm::ParamOp>(
      SymbolTable::lookupSymbolIn(moduleOf(state), state.getParamAttr()));
}

bool isPanel(llm::ParamOp param) {
  auto layout =
      param ? param->getAttrOfType<StringAttr>(kLayoutAttr) : StringAttr();
  return layout && layout.getValue() == "panel";
}

/// Elements of an f32 tensor in the layout of `param`, padding included.
int64_t storedElements(RankedTensorType type, llm::ParamOp param) {
  if (type.getRank() != 2 || !isPanel(param))
    return type.getNumElements();
  int64_t panel = panelWidth(Float32Type::get(type.getContext()));
  return ceilDiv(type.getDimSize(0), panel) * panel * type.getDimSize(1);
}

/// The same, in memory that is exchanged over the data axis: whole runs.
int64_t exchangedElements(RankedTensorType type, llm::ParamOp param) {
  int64_t elements = storedElements(type, param);
  auto run = param ? param->getAttrOfType<IntegerAttr>(kRunElementsAttr)
                   : IntegerAttr();
  if (!run || type.getRank() != 2)
    return elements;
  int64_t ranks = meshAxisSize(param->getParentOfType<ModuleOp>(), "dp");
  return std::max(elements, ranks * run.getInt());
}

class TrainingSelector {
public:
  explicit TrainingSelector(OpBuilder& builder) : builder_(builder) {}

  LogicalResult select(Operation* op) {
    return llvm::TypeSwitch<Operation*, LogicalResult>(op)
        .Case<llm::LinearInputGradientOp, llm::LinearWeightGradientOp,
              llm::SumRowsOp, llm::EmbeddingGradientOp, llm::RowAttentionOp,
              llm::RowAttentionGradientOp, llm::CrossEntropyStatisticsOp,
              llm::CrossEntropyLossOp, llm::CrossEntropyGradientOp,
              llm::CountLabelsOp, llm::TokenWeightsOp, llm::PreferenceLossOp,
              llm::WeightedSumOp, llm::AccumulateOp, llm::ZeroStateOp,
              llm::SquareSumOp, llm::SumTermsOp, llm::GlobalNormOp,
              llm::AdamwOp, dist::TakeRowsOp, dist::PlaceRowsOp>(
            [&](auto known) { return lower(known); })
        .Default([](Operation*) { return success(); });
  }

private:
  Attribute i(int64_t value) { return intScalar(builder_.getContext(), value); }

  Attribute f(llvm::APFloat value) {
    return realScalar(builder_.getContext(), value.convertToDouble());
  }

  Attribute orInt(Attribute attr, int64_t value) {
    return attr ? attr : i(value);
  }

  plan::WordAttr integer(int64_t value) {
    return plan::WordAttr::get(builder_.getContext(), plan::WordKind::integer,
                               value, StringAttr(), dist::ByCoordinateAttr(),
                               StringAttr());
  }

  Attribute layout(bool panel) {
    return i(static_cast<int64_t>(panel ? llmrt::WeightLayout::Panel
                                        : llmrt::WeightLayout::RowMajor));
  }

  /// The value of a state, as operand of a launch.
  Value read(llm::StateOp state) {
    return llm::ReadStateOp::create(builder_, state.getLoc(), state.getType(),
                                    state.getSymName());
  }

  LogicalResult replace(Operation* op, LaunchSpec& spec, int64_t gridRows) {
    spec.rows = integer(gridRows);
    auto launch = createLaunch(builder_, op->getLoc(), spec);
    op->replaceAllUsesWith(launch.getResults());
    op->erase();
    return success();
  }

  /// Replaces a gradient by a launch that writes result word `out`, or adds to
  /// the state that is its only reader.
  LogicalResult replaceGradient(Operation* op, LaunchSpec& spec,
                                int64_t gridRows) {
    Value result = op->getResult(0);
    auto accumulate =
        result.hasOneUse()
            ? dyn_cast<llm::AccumulateOp>(*result.getUsers().begin())
            : llm::AccumulateOp();
    spec.scalars.push_back({"accumulate", i(accumulate ? 1 : 0)});
    if (!accumulate) {
      // In the layout of the parameter, in whole runs if it is exchanged.
      auto type = cast<RankedTensorType>(result.getType());
      int64_t bytes = 4 * exchangedElements(type, gradientParameter(result));
      spec.results = {{"out", type}};
      spec.rows = integer(gridRows);
      auto launch = createLaunch(builder_, op->getLoc(), spec);
      launch->setAttr(kResultBytesAttr, builder_.getI64IntegerAttr(bytes));
      if (Attribute of = op->getAttr(kGradientOfAttr))
        launch->setAttr(kGradientOfAttr, of);
      op->replaceAllUsesWith(launch.getResults());
      op->erase();
      return success();
    }
    spec.inouts = {{"out", read(stateOf(op, accumulate.getState()))}};
    spec.rows = integer(gridRows);
    createLaunch(builder_, op->getLoc(), spec);
    accumulate.erase();
    op->erase();
    return success();
  }

  LogicalResult lower(llm::LinearInputGradientOp op) {
    auto weight = cast<RankedTensorType>(op.getWeight().getType());
    llm::GetParamOp get = llmc::paramOf(op.getWeight());
    auto param = get ? cast<llm::ParamOp>(SymbolTable::lookupSymbolIn(
                           moduleOf(op), get.getParam()))
                     : llm::ParamOp();
    LaunchSpec spec;
    spec.kernel = "linear_input_gradient";
    spec.inputs = {{"dy", op.getDy()}, {"w", op.getWeight()}};
    spec.results = {{"dx", op.getType()}};
    spec.columns = weight.getDimSize(1);
    spec.scalars = {{"lddy", i(weight.getDimSize(0))},
                    {"N", i(weight.getDimSize(0))},
                    {"dtype", i(dtypeOf(weight.getElementType()))},
                    {"layout", layout(isPanel(param))},
                    {"lddx", i(spec.columns)},
                    {"K", i(spec.columns)}};
    addFactorDtype(op.getDy(), spec);
    return replace(op, spec, dim(op.getDy(), 0));
  }

  /// Elements of dimension `d` of a parameter's box that are no padding.
  Attribute validSize(llm::ParamOp param, int64_t d, int64_t size) {
    auto slice = param ? dyn_cast_or_null<dist::SliceAttr>(param.getSliceAttr())
                       : dist::SliceAttr();
    if (!slice || slice.getDim() != d)
      return i(size);
    return dist::ByCoordinateAttr::get(builder_.getContext(), slice.getAxis(),
                                       slice.getCounts());
  }

  /// Of the matrices that products read in this step.
  int64_t weightDtype(Operation* op) {
    return dtypeOf(Options::read(moduleOf(op)).dtype == "bf16"
                       ? Type(builder_.getBF16Type())
                       : Type(builder_.getF32Type()));
  }

  LogicalResult lower(llm::LinearWeightGradientOp op) {
    llm::ParamOp param = gradientParameter(op.getResult());
    int64_t n = dim(op.getDy(), 1), k = dim(op.getX(), 1);
    LaunchSpec spec;
    spec.kernel = "linear_weight_gradient";
    spec.inputs = {{"dy", op.getDy()}, {"x", op.getX()}};
    spec.columns = k;
    spec.scalars = {{"lddy", i(n)},
                    {"ldx", i(k)},
                    {"rows", i(dim(op.getDy(), 0))},
                    {"N", i(n)},
                    {"K", i(k)},
                    {"layout", layout(isPanel(param))},
                    {"validN", validSize(param, 0, n)},
                    {"validK", validSize(param, 1, k)},
                    {"dtype", i(weightDtype(op))}};
    addFactorDtype(op.getDy(), spec);
    int64_t panel = panelWidth(builder_.getF32Type());
    return replaceGradient(op, spec,
                           isPanel(param) ? ceilDiv(n, panel) * panel : n);
  }

  LogicalResult lower(llm::SumRowsOp op) {
    int64_t c = dim(op.getX(), 1), w = dim(op.getResult(), 0);
    LaunchSpec spec;
    spec.kernel = "sum_rows";
    spec.inputs = {{"x", op.getX()}};
    spec.columns = w;
    spec.scalars = {{"ldx", i(c)},
                    {"rows", i(dim(op.getX(), 0))},
                    {"C", i(c)},
                    {"W", i(w)}};
    return replaceGradient(op, spec, 1);
  }

  LogicalResult lower(llm::EmbeddingGradientOp op) {
    llm::ParamOp param = gradientParameter(op.getResult());
    int64_t v = dim(op.getResult(), 0), c = dim(op.getDy(), 1);
    LaunchSpec spec;
    spec.kernel = "embedding_gradient";
    spec.inputs = {{"ids", op.getIds()}, {"dy", op.getDy()}};
    spec.columns = c;
    spec.scalars = {{"rows", i(dim(op.getDy(), 0))},
                    {"C", i(c)},
                    {"vocabBegin", orInt(op.getVocabBeginAttr(), 0)},
                    {"vocabCount", orInt(op.getVocabCountAttr(), v)},
                    {"V", i(v)},
                    {"layout", layout(isPanel(param))}};
    return replaceGradient(op, spec, 1);
  }

  /// Scalars that both attention kernels share.
  template <typename Op>
  void attentionScalars(Op op, LaunchSpec& spec) {
    int64_t d = op.getHeadDim(), q = dim(op.getQ(), 1), k = dim(op.getK(), 1);
    spec.scalars = {{"R", i(dim(op.getStarts(), 1))},
                    {"H", i(q / d)},
                    {"KV", i(k / d)},
                    {"D", i(d)},
                    {"group", i(op.getGroup())},
                    {"headOffset", orInt(op.getHeadOffsetAttr(), 0)},
                    {"dtype", i(dtypeOf(op.getKeyDtype()))},
                    {"scale", f(op.getScale())},
                    {"softcap", f(op.getSoftcap())},
                    {"window", i(op.getWindow())},
                    {"ldq", i(q)},
                    {"ldk", i(k)},
                    {"ldv", i(k)},
                    {"ldo", i(q)}};
  }

  LogicalResult lower(llm::RowAttentionOp op) {
    LaunchSpec spec;
    spec.kernel = "attention_rows";
    spec.inputs = {{"q", op.getQ()},
                   {"k", op.getK()},
                   {"v", op.getV()},
                   {"starts", op.getStarts()}};
    spec.results = {{"out", op.getResult().getType()},
                    {"logSum", op.getLogSum().getType()}};
    attentionScalars(op, spec);
    spec.columns = dim(op.getLogSum(), 1);
    return replace(op, spec, dim(op.getQ(), 0));
  }

  LogicalResult lower(llm::RowAttentionGradientOp op) {
    LaunchSpec spec;
    spec.kernel = "attention_gradient";
    spec.inputs = {{"q", op.getQ()},          {"k", op.getK()},
                   {"v", op.getV()},          {"out", op.getOut()},
                   {"dout", op.getDy()},      {"starts", op.getStarts()},
                   {"logSum", op.getLogSum()}};
    spec.results = {{"dq", op.getDq().getType()},
                    {"dk", op.getDk().getType()},
                    {"dv", op.getDv().getType()}};
    attentionScalars(op, spec);
    int64_t q = dim(op.getQ(), 1), k = dim(op.getK(), 1);
    spec.scalars.push_back({"lddo", i(q)});
    spec.scalars.push_back({"lddq", i(q)});
    spec.scalars.push_back({"lddk", i(k)});
    spec.scalars.push_back({"lddv", i(k)});
    spec.columns = k / static_cast<int64_t>(op.getHeadDim());
    return replace(op, spec, dim(op.getStarts(), 0));
  }

  LogicalResult lower(llm::CrossEntropyStatisticsOp op) {
    if (dim(op.getResult(), 0) != 1)
      return op.emitOpError("LLMC-E1003: a vocabulary that tensor split does "
                            "not cut cannot be trained with tp > 1; give its "
                            "parameter a split");
    int64_t v = dim(op.getLogits(), 1);
    LaunchSpec spec;
    spec.kernel = "cross_entropy_statistics";
    spec.inputs = {{"logits", op.getLogits()}, {"labels", op.getLabels()}};
    spec.results = {{"stats", op.getType()}};
    spec.columns = 1;
    spec.scalars = {{"ldl", i(v)},
                    {"V", orInt(op.getVocabCountAttr(), v)},
                    {"vocabBegin", orInt(op.getVocabBeginAttr(), 0)}};
    return replace(op, spec, dim(op.getLogits(), 0));
  }

  LogicalResult lower(llm::CrossEntropyLossOp op) {
    int64_t rows = dim(op.getLoss(), 0);
    LaunchSpec spec;
    spec.kernel = "cross_entropy_loss";
    spec.inputs = {{"stats", op.getStatistics()}, {"labels", op.getLabels()}};
    spec.results = {{"loss", op.getLoss().getType()},
                    {"logSum", op.getLogSum().getType()}};
    spec.columns = 1;
    spec.scalars = {{"rankStride", i(3 * rows)},
                    {"ranks", i(dim(op.getStatistics(), 0))}};
    return replace(op, spec, rows);
  }

  LogicalResult lower(llm::CrossEntropyGradientOp op) {
    int64_t v = dim(op.getLogits(), 1);
    LaunchSpec spec;
    spec.kernel = "cross_entropy_gradient";
    spec.inputs = {{"logits", op.getLogits()},
                   {"labels", op.getLabels()},
                   {"logSum", op.getLogSum()},
                   {"weights", op.getWeights()}};
    spec.results = {{"out", op.getType()}};
    spec.columns = 1;
    spec.scalars = {{"ldl", i(v)},
                    {"ldo", i(v)},
                    {"V", orInt(op.getVocabCountAttr(), v)},
                    {"vocabBegin", orInt(op.getVocabBeginAttr(), 0)},
                    {"columns", i(v)}};
    return replace(op, spec, dim(op.getLogits(), 0));
  }

  LogicalResult lower(llm::CountLabelsOp op) {
    LaunchSpec spec;
    spec.kernel = "count_labels";
    spec.inputs = {{"labels", op.getLabels()}};
    spec.results = {{"out", op.getType()}};
    spec.columns = 1;
    spec.scalars = {
        {"rows",
         i(cast<ShapedType>(op.getLabels().getType()).getNumElements())},
        {"unit", i(op.getUnit())}};
    return replace(op, spec, 1);
  }

  LogicalResult lower(llm::PreferenceLossOp op) {
    auto labels = cast<ShapedType>(op.getLabels().getType());
    LaunchSpec spec;
    spec.kernel = "preference_loss";
    spec.inputs = {{"loss", op.getLoss()},
                   {"reference", op.getReference()},
                   {"labels", op.getLabels()},
                   {"scale", op.getCount()},
                   {"hyper", op.getHyper()}};
    spec.results = {{"weights", op.getWeights().getType()},
                    {"out", op.getTerms().getType()}};
    spec.columns = 1;
    spec.scalars = {{"kind", i(static_cast<int64_t>(op.getKind()))},
                    {"S", i(labels.getDimSize(0))},
                    {"R", i(labels.getDimSize(1))}};
    return replace(op, spec, 1);
  }

  LogicalResult lower(llm::TokenWeightsOp op) {
    LaunchSpec spec;
    spec.kernel = "token_weights";
    spec.inputs = {{"labels", op.getLabels()}, {"count", op.getCount()}};
    spec.results = {{"weights", op.getType()}};
    spec.columns = 1;
    return replace(op, spec, dim(op.getResult(), 0));
  }

  LogicalResult lower(llm::WeightedSumOp op) {
    LaunchSpec spec;
    spec.kernel = "weighted_sum";
    spec.inputs = {{"x", op.getX()}, {"weights", op.getWeights()}};
    spec.columns = 1;
    spec.scalars = {{"rows", i(dim(op.getX(), 0))}};
    return replaceGradient(op, spec, 1);
  }

  LogicalResult lower(llm::AccumulateOp op) {
    llm::StateOp state = stateOf(op, op.getState());
    int64_t elements = stateBytes(state) / 4;
    LaunchSpec spec;
    spec.kernel = "add_to";
    spec.inputs = {{"x", op.getX()}};
    spec.inouts = {{"out", read(state)}};
    spec.columns = 1;
    spec.scalars = {{"elements", i(elements)}};
    return replace(op, spec, ceilDiv(elements, kAddBlockElements));
  }

  LogicalResult lower(llm::ZeroStateOp op) {
    llm::StateOp state = stateOf(op, op.getState());
    int64_t bytes = stateBytes(state);
    LaunchSpec spec;
    spec.kernel = "zero";
    spec.inouts = {{"out", read(state)}};
    spec.columns = 1;
    spec.scalars = {{"sizeBytes", i(bytes)}};
    return replace(op, spec, ceilDiv(bytes, kZeroBlockBytes));
  }

  /// Elements of a block of the norm and of an update: one f32 panel of a
  /// matrix.
  static int64_t blockElements(llm::ParamOp param) {
    auto type = param.getComputeType();
    if (type.getRank() != 2)
      return type.getNumElements();
    return panelWidth(Float32Type::get(param.getContext())) *
           type.getDimSize(1);
  }

  LogicalResult lower(llm::SquareSumOp op) {
    auto gradient = cast<RankedTensorType>(op.getX().getType());
    llm::ParamOp param = gradientParameter(op.getX());
    int64_t elements = storedElements(gradient, param);
    int64_t block = blockElements(param), blocks = ceilDiv(elements, block);
    auto f64 = builder_.getF64Type();
    LaunchSpec squares;
    squares.kernel = "square_sums";
    squares.inputs = {{"x", op.getX()}};
    squares.results = {{"out", RankedTensorType::get({blocks}, f64)}};
    squares.columns = 1;
    // Two words can each take a table over one axis: no blocks, or none of
    // their elements.
    Attribute counts[] = {i(block), i(elements)};
    size_t free = 2;
    if (op->hasAttr(kIsRunAttr)) {
      counts[1] = runLengths(param);
      free = 1;
    }
    if (ArrayAttr counted = op.getCountedAttr()) {
      if (counted.size() > free)
        return op.emitOpError("is replicated along too many axes");
      for (auto [n, attr] : llvm::enumerate(counted))
        counts[n] = scaled(cast<dist::ByCoordinateAttr>(attr),
                           n == 0 ? block : elements);
    }
    squares.scalars = {{"blockElements", counts[0]}, {"elements", counts[1]}};
    if (Attribute offsets = op->getAttr(kRunOffsetsAttr)) {
      squares.scalars.push_back({"x.offset", offsets});
      blocks = ceilDiv(runElements(param), block);
      squares.results.front().second = RankedTensorType::get({blocks}, f64);
    }
    squares.rows = integer(blocks);
    auto launch = createLaunch(builder_, op.getLoc(), squares);
    LaunchSpec sum;
    sum.kernel = "sum_terms";
    sum.inputs = {{"terms", launch.getResult(0)}};
    sum.inouts = {{"out", read(stateOf(op, op.getState()))}};
    sum.columns = 1;
    sum.scalars = {{"count", i(blocks)}, {"index", i(op.getIndex())}};
    return replace(op, sum, 1);
  }

  /// Elements of each rank's run that are not beyond the stored matrix.
  Attribute runLengths(llm::ParamOp param) {
    int64_t stored = storedElements(param.getComputeType(), param);
    int64_t run = runElements(param);
    SmallVector<int64_t> values;
    for (int64_t i = 0; i < meshAxisSize(moduleOf(param), "dp"); ++i)
      values.push_back(std::clamp<int64_t>(stored - i * run, 0, run));
    return dist::ByCoordinateAttr::get(builder_.getContext(),
                                       builder_.getStringAttr("dp"), values);
  }

  static int64_t runElements(llm::ParamOp param) {
    return param->getAttrOfType<IntegerAttr>(kRunElementsAttr).getInt();
  }

  Attribute scaled(dist::ByCoordinateAttr table, int64_t factor) {
    SmallVector<int64_t> values;
    for (int64_t value : table.getValues())
      values.push_back(value * factor);
    return dist::ByCoordinateAttr::get(builder_.getContext(), table.getAxis(),
                                       values);
  }

  LogicalResult lower(llm::SumTermsOp op) {
    LaunchSpec spec;
    spec.kernel = "sum_terms";
    spec.inputs = {{"terms", op.getX()}};
    spec.results = {{"out", op.getType()}};
    spec.columns = 1;
    spec.scalars = {{"count", i(dim(op.getX(), 0))}, {"index", i(0)}};
    return replace(op, spec, 1);
  }

  LogicalResult lower(llm::GlobalNormOp op) {
    LaunchSpec spec;
    spec.kernel = "global_norm";
    spec.inputs = {{"blocks", op.getTerms()}, {"hyper", op.getHyper()}};
    spec.results = {{"out", op.getType()}};
    spec.columns = 1;
    spec.scalars = {{"count", i(dim(op.getTerms(), 0))}};
    return replace(op, spec, 1);
  }

  /// A rank's rows of a parameter, in the parameter's layout.
  LogicalResult lower(dist::TakeRowsOp op) {
    llm::GetParamOp get = llmc::paramOf(op.getX());
    auto param = cast<llm::ParamOp>(
        SymbolTable::lookupSymbolIn(moduleOf(op), get.getParam()));
    return moveRows(op, isPanel(param), isPanel(param), op.getOffsets(), i(0));
  }

  /// A rank's rows of a gradient, which keeps its layout.
  LogicalResult lower(dist::PlaceRowsOp op) {
    bool panel = isPanel(gradientParameter(op.getX()));
    return moveRows(op, panel, panel, i(0), op.getOffsets());
  }

  template <typename Op>
  LogicalResult moveRows(Op op, bool fromPanel, bool toPanel, Attribute from,
                         Attribute to) {
    auto type = cast<RankedTensorType>(op.getResult().getType());
    int64_t panel = panelWidth(type.getElementType());
    int64_t rows = type.getDimSize(0);
    int64_t k = type.getRank() == 2 ? type.getDimSize(1) : 1;
    if (toPanel)
      rows = ceilDiv(rows, panel) * panel;
    LaunchSpec spec;
    spec.kernel = "move_rows";
    spec.inputs = {{"from", op.getX()}};
    spec.results = {{"to", type}};
    spec.columns = 1;
    spec.scalars = {{"fromLayout", layout(fromPanel)},
                    {"fromBegin", from},
                    {"toLayout", layout(toPanel)},
                    {"toBegin", to},
                    {"count", op.getCounts()},
                    {"K", i(k)},
                    {"dtype", i(dtypeOf(type.getElementType()))}};
    spec.rows = integer(rows);
    auto launch = createLaunch(builder_, op->getLoc(), spec);
    int64_t bytes = rows * k * type.getElementTypeBitWidth() / 8;
    if (llm::ParamOp param = gradientParameter(op.getX()))
      bytes = std::max(bytes, 4 * exchangedElements(type, param));
    launch->setAttr(kResultBytesAttr, builder_.getI64IntegerAttr(bytes));
    op->replaceAllUsesWith(launch.getResults());
    op->erase();
    return success();
  }

  LogicalResult lower(llm::AdamwOp op) {
    auto param = cast<llm::ParamOp>(
        SymbolTable::lookupSymbolIn(moduleOf(op), op.getParam()));
    auto gradient = cast<RankedTensorType>(op.getGradient().getType());
    int64_t elements = storedElements(gradient, param);
    int64_t block = blockElements(param);
    Value weights;
    if (op.getMasterAttr())
      weights = read(stateOf(op, *op.getMaster()));
    else
      weights = llm::GetParamOp::create(builder_, op.getLoc(), heldType(param),
                                        op.getParam());
    LaunchSpec spec;
    spec.kernel = "adamw";
    spec.inputs = {{"gradient", op.getGradient()},
                   {"norm", op.getNorm()},
                   {"hyper", op.getHyper()}};
    spec.inouts = {{"param", weights},
                   {"moment1", read(stateOf(op, op.getMoment1()))},
                   {"moment2", read(stateOf(op, op.getMoment2()))}};
    spec.columns = 1;
    spec.scalars = {{"blockElements", i(block)},
                    {"elements", i(elements)},
                    {"decay", i(op.getDecay())}};
    if (op->hasAttr(kIsRunAttr))
      spec.scalars[1].second = runLengths(param);
    Attribute offsets = op->getAttr(kRunOffsetsAttr);
    if (offsets && !op.getMasterAttr())
      spec.scalars.push_back({"param.offset", offsets});
    spec.rows = integer(ceilDiv(elements, block));
    createLaunch(builder_, op.getLoc(), spec);
    if (op.getMasterAttr())
      roundToParameter(op.getLoc(), param, weights, offsets, elements);
    op.erase();
    return success();
  }

  /// Rounds updated f32 weights, all or a run of them, to the bf16 parameter.
  void roundToParameter(Location loc, llm::ParamOp param, Value master,
                        Attribute offsets, int64_t elements) {
    auto type = param.getComputeType();
    int64_t k = type.getDimSize(1), rows = elements / k;
    int64_t panel = panelWidth(type.getElementType());
    Value weights = llm::GetParamOp::create(builder_, loc, heldType(param),
                                            param.getSymName());
    LaunchSpec spec;
    spec.kernel = "cast_weight";
    spec.inputs = {{"from", master}};
    spec.inouts = {{"to", weights}};
    spec.columns = 1;
    spec.scalars = {
        {"N", i(rows)}, {"K", i(k)}, {"layout", layout(isPanel(param))}};
    if (auto table = dyn_cast_or_null<dist::ByCoordinateAttr>(offsets)) {
      SmallVector<int64_t> bytes; // of bf16 elements, half of f32
      for (int64_t offset : table.getValues())
        bytes.push_back(offset / 2);
      spec.scalars.push_back(
          {"to.offset", dist::ByCoordinateAttr::get(builder_.getContext(),
                                                    table.getAxis(), bytes)});
    }
    spec.rows = integer(isPanel(param) ? ceilDiv(rows, panel) : rows);
    createLaunch(builder_, loc, spec);
  }

  /// Type of what a rank holds of a parameter.
  RankedTensorType heldType(llm::ParamOp param) {
    auto type = param.getComputeType();
    if (auto shard = dyn_cast_or_null<dist::ShardAttr>(param.getShardAttr()))
      return RankedTensorType::get({shard.getElements()},
                                   type.getElementType());
    return type;
  }

  OpBuilder& builder_;
};

} // namespace

LogicalResult selectTrainingKernel(Operation* op, OpBuilder& builder) {
  return TrainingSelector(builder).select(op);
}

LogicalResult markGradients(func::FuncOp entry) {
  for (auto accumulate : entry.getOps<llm::AccumulateOp>()) {
    llm::ParamOp param = paramOf(stateOf(accumulate, accumulate.getState()));
    Operation* def = accumulate.getX().getDefiningOp();
    while (def && isa<dist::DistDialect>(def->getDialect()) &&
           def->getNumOperands() == 1)
      def = def->getOperand(0).getDefiningOp();
    if (!def || !param)
      continue;
    // Gradients of matrices lie as the matrix does: no op of rows may add two
    // of them.
    bool isSum = isa<plan::FusedOp, llm::AddOp>(def);
    if (isSum && param.getComputeType().getRank() == 2)
      return accumulate.emitOpError("LLMC-E1003: @")
             << param.getSymName()
             << " is used twice inside one block, which cannot be trained; "
                "pass "
                "it to the block as two arguments";
    def->setAttr(kGradientOfAttr, FlatSymbolRefAttr::get(param));
  }
  return success();
}

llm::ParamOp gradientParameter(Value value) {
  Operation* def = value.getDefiningOp();
  while (def && isa<dist::DistDialect>(def->getDialect()) &&
         def->getNumOperands() == 1)
    def = def->getOperand(0).getDefiningOp();
  if (!def)
    return {};
  if (auto read = dyn_cast<llm::ReadStateOp>(def))
    return paramOf(stateOf(read, read.getState()));
  auto symbol = def->getAttrOfType<FlatSymbolRefAttr>(kGradientOfAttr);
  if (!symbol)
    return {};
  return cast<llm::ParamOp>(SymbolTable::lookupSymbolIn(moduleOf(def), symbol));
}

int64_t stateBytes(llm::StateOp state) {
  auto type = cast<RankedTensorType>(state.getType());
  return exchangedElements(type, paramOf(state)) *
         type.getElementTypeBitWidth() / 8;
}

} // namespace llmc
