// SPDX-License-Identifier: Apache-2.0
// The builder's state is a scope: either the forward function, where a
// parameter is a get_param, or a block function under construction, where it is
// an operand.
#include "models/ModelBuilder.h"

#include "dialects/llm/Llm.h"

#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/IR/Builders.h"

#include <map>
#include <vector>

using namespace mlir;

namespace llmc {
namespace {

/// A parameter before its prefix is known.
struct Declaration {
  std::string name;
  RankedTensorType type;
  llm::SplitAttr split;
  llm::InitAttr init;
  bool isTransposed = false;
  std::optional<std::pair<std::string, int64_t>> fused =
      std::nullopt; // tensor, row
};

struct Block {
  func::FuncOp function;
  std::vector<Declaration> parameters;
};

} // namespace

struct ModelBuilder::State {
  State(MLIRContext& context, const ModelConfig& config, SourceNames names)
      : config(config), sourceNames(std::move(names)), builder(&context),
        declarations(&context) {}

  const ModelConfig& config;
  SourceNames sourceNames;
  OpBuilder builder;      // inside the function under construction
  OpBuilder declarations; // at the end of the module's parameters
  OwningOpRef<ModuleOp> module;
  func::FuncOp forward;
  Value ids, positions;
  std::map<std::string, Value> loaded; // parameters read by forward
  std::map<std::string, Block> blocks;
  Block* open = nullptr; // the block under construction
  std::string scope;     // of locations: "layer."

  Location loc(const std::string& name) {
    return NameLoc::get(builder.getStringAttr(name));
  }

  Location scoped(const std::string& name) { return loc(scope + name); }

  RankedTensorType tensor(ArrayRef<int64_t> shape) {
    return RankedTensorType::get(shape, builder.getF32Type());
  }

  RankedTensorType rows(int64_t width) {
    return tensor({ShapedType::kDynamic, width});
  }

  RankedTensorType idsType() {
    return RankedTensorType::get({ShapedType::kDynamic, ShapedType::kDynamic},
                                 builder.getI32Type());
  }

  llm::InitAttr init(llm::InitKind kind, double std = 0) {
    return llm::InitAttr::get(builder.getContext(), kind, llm::Real(std));
  }

  llm::SplitAttr split(Split kind, bool isBias);

  func::FuncOp function(const std::string& name);
  void declare(const Declaration& parameter, const std::string& prefix);
  Value load(const std::string& name, Type type);
  Value parameter(const Declaration& parameter);
  Value rmsNorm(const std::string& name, Value x, int64_t width, double offset);
};

/// Returns the attribute of a weight, or of its bias, which inputs do not cut.
llm::SplitAttr ModelBuilder::State::split(Split kind, bool isBias) {
  MLIRContext* context = builder.getContext();
  switch (kind) {
  case Split::None:
    return {};
  case Split::Columns:
    return llm::SplitAttr::get(context, 0, 1, 1);
  case Split::QueryHeads:
    return llm::SplitAttr::get(context, 0, config.headDim, 1);
  case Split::KeyValueHeads:
    return llm::SplitAttr::get(context, 0, config.headDim,
                               config.heads / config.kvHeads);
  case Split::Rows:
    return isBias ? llm::SplitAttr() : llm::SplitAttr::get(context, 1, 1, 1);
  case Split::HeadInputs:
    return isBias ? llm::SplitAttr()
                  : llm::SplitAttr::get(context, 1, config.headDim, 1);
  }
  return {};
}

/// Adds a function at the end of the module, with the operands all of them
/// have, and sets the builder to its body.
func::FuncOp ModelBuilder::State::function(const std::string& name) {
  builder.setInsertionPointToEnd(module->getBody());
  auto f = func::FuncOp::create(builder, loc(name), name,
                                builder.getFunctionType({}, {}));
  builder.setInsertionPointToStart(f.addEntryBlock());
  return f;
}

void ModelBuilder::State::declare(const Declaration& p,
                                  const std::string& prefix) {
  std::string logical = prefix + p.name;
  StringAttr source;
  UnitAttr transposed;
  ArrayAttr rows;
  if (sourceNames) {
    std::string wanted = p.fused ? prefix + p.fused->first : logical;
    std::string name = sourceNames(wanted);
    if (name != logical)
      source = builder.getStringAttr(name);
    if (p.isTransposed)
      transposed = builder.getUnitAttr();
    if (p.fused)
      rows = builder.getI64ArrayAttr(
          {p.fused->second, p.fused->second + p.type.getDimSize(0)});
  }
  auto op = llm::ParamOp::create(
      declarations, loc(logical), builder.getStringAttr(logical),
      TypeAttr::get(p.type), source, transposed, p.split, p.init,
      /*weight_set=*/StringAttr(), /*storage=*/StringAttr(),
      /*local_type=*/TypeAttr(), /*slice=*/Attribute(), /*shard=*/Attribute());
  if (rows)
    op->setDiscardableAttr("rows", rows);
}

Value ModelBuilder::State::load(const std::string& name, Type type) {
  return llm::GetParamOp::create(builder, loc(name), type, name);
}

Value ModelBuilder::State::parameter(const Declaration& p) {
  if (open) {
    open->parameters.push_back(p);
    return open->function.front().addArgument(p.type, loc(p.name));
  }
  Value& value = loaded[p.name];
  if (!value) {
    declare(p, "");
    value = load(p.name, p.type);
  }
  return value;
}

Value ModelBuilder::State::rmsNorm(const std::string& name, Value x,
                                   int64_t width, double offset) {
  // With an offset the weight is what is added to it, so it starts at 0.
  auto kind = offset == 0 ? llm::InitKind::ones : llm::InitKind::zeros;
  Value weight = parameter({name + ".weight", tensor({width}), {}, init(kind)});
  return llm::RmsNormOp::create(builder, scoped(name), x.getType(), x, weight,
                                builder.getF64FloatAttr(config.normEps),
                                builder.getF64FloatAttr(offset));
}

ModelBuilder::ModelBuilder(MLIRContext& context, const ModelConfig& config,
                           SourceNames sourceNames)
    : state_(std::make_unique<State>(context, config, std::move(sourceNames))) {
  context.loadDialect<llm::LlmDialect, func::FuncDialect>();
  State& s = *state_;
  s.module = ModuleOp::create(s.loc("model"));
  s.forward = s.function("forward");
  s.declarations.setInsertionPoint(s.forward);
  s.forward->setAttr(llm::LlmDialect::kEntryAttr,
                     s.builder.getStringAttr("forward"));
  s.ids = s.forward.front().addArgument(s.idsType(), s.loc("ids"));
  s.positions = s.forward.front().addArgument(s.idsType(), s.loc("positions"));
}

ModelBuilder::~ModelBuilder() = default;

Value ModelBuilder::embedding(const std::string& name) {
  State& s = *state_;
  Value table = s.parameter({name + ".weight",
                             s.tensor({s.config.vocab, s.config.hidden}),
                             s.split(Split::Columns, false),
                             s.init(llm::InitKind::normal, s.config.initStd)});
  return llm::EmbeddingOp::create(s.builder, s.scoped("embedding"),
                                  s.rows(s.config.hidden), s.ids, table,
                                  /*vocab_begin=*/Attribute());
}

Value ModelBuilder::positionEmbedding(const std::string& name) {
  State& s = *state_;
  Value table = s.parameter({name + ".weight",
                             s.tensor({s.config.context, s.config.hidden}),
                             {},
                             s.init(llm::InitKind::normal, s.config.initStd)});
  return llm::EmbeddingOp::create(s.builder, s.scoped("position_embedding"),
                                  s.rows(s.config.hidden), s.positions, table,
                                  /*vocab_begin=*/Attribute());
}

static int64_t widthOf(Value x) {
  return cast<RankedTensorType>(x.getType()).getDimSize(1);
}

Value ModelBuilder::rmsNorm(const std::string& name, Value x, double offset) {
  return state_->rmsNorm(name, x, widthOf(x), offset);
}

Value ModelBuilder::headNorm(const std::string& name, Value x, double offset) {
  return state_->rmsNorm(name, x, state_->config.headDim, offset);
}

Value ModelBuilder::layerNorm(const std::string& name, Value x) {
  State& s = *state_;
  RankedTensorType type = s.tensor({widthOf(x)});
  Value weight =
      s.parameter({name + ".weight", type, {}, s.init(llm::InitKind::ones)});
  Value bias =
      s.parameter({name + ".bias", type, {}, s.init(llm::InitKind::zeros)});
  return llm::LayerNormOp::create(s.builder, s.scoped(name), x.getType(), x,
                                  weight, bias,
                                  s.builder.getF64FloatAttr(s.config.normEps));
}

Value ModelBuilder::linear(const std::string& name, Value x,
                           const LinearOptions& options) {
  State& s = *state_;
  auto fused = [&](const char* suffix) {
    auto place = options.fused;
    if (place)
      place->first += suffix;
    return place;
  };
  double std = options.initStd ? options.initStd : s.config.initStd;
  Value weight = s.parameter(
      {name + ".weight", s.tensor({options.outputs, widthOf(x)}),
       s.split(options.split, false), s.init(llm::InitKind::normal, std),
       options.isTransposed, fused(".weight")});
  Value y = llm::LinearOp::create(s.builder, s.scoped(name),
                                  s.rows(options.outputs), x, weight);
  if (!options.hasBias)
    return y;
  Value bias =
      s.parameter({name + ".bias", s.tensor({options.outputs}),
                   s.split(options.split, true), s.init(llm::InitKind::zeros),
                   false, fused(".bias")});
  return llm::AddBiasOp::create(s.builder, s.scoped(name + ".bias"),
                                y.getType(), y, bias);
}

Value ModelBuilder::rope(Value x, const RopeConfig& rope) {
  State& s = *state_;
  auto scaling = llm::RopeScalingKind::none;
  if (rope.scaling == RopeScaling::Linear)
    scaling = llm::RopeScalingKind::linear;
  if (rope.scaling == RopeScaling::Llama3)
    scaling = llm::RopeScalingKind::llama3;
  auto params = llm::RopeAttr::get(s.builder.getContext(), s.config.headDim,
                                   rope.theta, rope.isInterleaved, scaling,
                                   rope.factor, rope.lowFreqFactor,
                                   rope.highFreqFactor, rope.originalContext);
  // Named after what it turns: "layer.self_attn.q_proj.rope".
  std::string name = "rope";
  if (auto turned = dyn_cast<NameLoc>(x.getLoc()))
    name = turned.getName().str() + ".rope";
  return llm::RopeOp::create(
      s.builder, s.loc(name), x.getType(), x, s.positions,
      s.builder.getI64IntegerAttr(s.config.headDim), params);
}

Value ModelBuilder::attention(Value q, Value k, Value v, int64_t window) {
  State& s = *state_;
  OpBuilder& b = s.builder;
  return llm::AttentionOp::create(
      b, s.scoped("attention"), q.getType(), q, k, v, s.positions,
      b.getI64IntegerAttr(s.config.headDim),
      b.getF64FloatAttr(s.config.attentionScale), b.getI64IntegerAttr(window),
      b.getF64FloatAttr(s.config.attentionSoftCap));
}

static llm::ActivationKindAttr kindOf(MLIRContext* context, Activation kind) {
  switch (kind) {
  case Activation::Silu:
    return llm::ActivationKindAttr::get(context, llm::ActivationKind::silu);
  case Activation::Gelu:
    return llm::ActivationKindAttr::get(context, llm::ActivationKind::gelu);
  case Activation::GeluTanh:
    return llm::ActivationKindAttr::get(context,
                                        llm::ActivationKind::gelu_tanh);
  case Activation::Relu:
    return llm::ActivationKindAttr::get(context, llm::ActivationKind::relu);
  }
  return {};
}

Value ModelBuilder::gatedActivation(Value gate, Value up) {
  State& s = *state_;
  return llm::GatedActivationOp::create(
      s.builder, s.scoped("gated_activation"), gate.getType(), gate, up,
      kindOf(s.builder.getContext(), s.config.activation));
}

Value ModelBuilder::activation(Value x) {
  State& s = *state_;
  return llm::ActivationOp::create(
      s.builder, s.scoped("activation"), x.getType(), x,
      kindOf(s.builder.getContext(), s.config.activation));
}

Value ModelBuilder::add(Value a, Value b) {
  State& s = *state_;
  return llm::AddOp::create(s.builder, s.scoped("add"), a.getType(), a, b);
}

Value ModelBuilder::scale(Value x, double factor) {
  State& s = *state_;
  return llm::ScaleOp::create(s.builder, s.scoped("scale"), x.getType(), x,
                              s.builder.getF64FloatAttr(factor));
}

Value ModelBuilder::block(const std::string& function, int64_t layer,
                          const std::string& prefix, Value x,
                          const std::function<Value(Value x)>& body) {
  State& s = *state_;
  Block& block = s.blocks[function];
  if (!block.function) {
    OpBuilder::InsertionGuard guard(s.builder);
    Value outer = s.positions;
    block.function = s.function(function);
    block.function.setPrivate();
    block.function->setAttr(llm::LlmDialect::kBlockAttr,
                            s.builder.getUnitAttr());
    mlir::Block& entry = block.function.front();
    Value input = entry.addArgument(x.getType(), s.loc("x"));
    s.positions = entry.addArgument(s.idsType(), s.loc("positions"));
    s.open = &block;
    s.scope = function + ".";
    Value result = body(input);
    func::ReturnOp::create(s.builder, s.scoped("return"), result);
    block.function.setType(
        s.builder.getFunctionType(entry.getArgumentTypes(), result.getType()));
    s.scope.clear();
    s.open = nullptr;
    s.positions = outer;
  }
  std::string layerPrefix = prefix + std::to_string(layer) + ".";
  SmallVector<Value> operands = {x, s.positions};
  for (const Declaration& p : block.parameters) {
    s.declare(p, layerPrefix);
    operands.push_back(s.load(layerPrefix + p.name, p.type));
  }
  return func::CallOp::create(s.builder,
                              s.loc("layers." + std::to_string(layer)),
                              block.function, operands)
      .getResult(0);
}

Value ModelBuilder::outputRows(Value x) {
  State& s = *state_;
  return llm::OutputRowsOp::create(s.builder, s.scoped("output_rows"),
                                   x.getType(), x);
}

void ModelBuilder::head(const std::string& name, const std::string& embedding,
                        Value x) {
  State& s = *state_;
  const ModelConfig& c = s.config;
  const std::string& weight = c.isHeadTied ? embedding : name;
  Value logits = linear(weight, x, {c.vocab, Split::Columns});
  logits.getDefiningOp()->setLoc(s.loc("logits"));
  if (c.finalSoftCap != 0)
    logits = llm::SoftCapOp::create(s.builder, s.loc("soft_cap"),
                                    logits.getType(), logits,
                                    s.builder.getF64FloatAttr(c.finalSoftCap));
  func::ReturnOp::create(s.builder, s.loc("return"), logits);
  s.forward.setType(
      s.builder.getFunctionType({s.idsType(), s.idsType()}, logits.getType()));
}

OwningOpRef<ModuleOp> ModelBuilder::take() {
  // Parameters, then the blocks, then what calls them.
  State& s = *state_;
  s.forward->moveBefore(s.module->getBody(), s.module->getBody()->end());
  return std::move(s.module);
}

} // namespace llmc
