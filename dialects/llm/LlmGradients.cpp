// SPDX-License-Identifier: Apache-2.0
// Gradients of the ops of a model: one function per op, in the order of
// LlmOps.td. Each is checked by finite differences in the interpreter
// (tests/values/GradientTest.cpp).
#include "dialects/llm/Llm.h"

using namespace mlir;

namespace llmc::llm {
namespace {

/// Sets the gradient of operand `i` to what `make` builds, if it is needed.
template <typename Make>
void give(GradientRequest& request, unsigned i, Make make) {
  if (request.isNeeded[i])
    request.operandGradients[i] = make();
}

RankedTensorType typeOf(Value v) { return cast<RankedTensorType>(v.getType()); }

/// Gradients are f32, whatever the weight's type.
RankedTensorType gradientType(Value v) {
  return typeOf(v).clone(Float32Type::get(v.getContext()));
}

} // namespace

void EmbeddingOp::buildGradients(GradientRequest& request) {
  give(request, 1, [&]() -> Value {
    auto get = getTable().getDefiningOp<GetParamOp>();
    return EmbeddingGradientOp::create(
        request.builder, getLoc(), gradientType(getTable()), getIds(),
        request.resultGradients[0],
        get ? get.getParamAttr() : FlatSymbolRefAttr(), getVocabBeginAttr(),
        Attribute());
  });
}

void LinearOp::buildGradients(GradientRequest& request) {
  Value dy = request.resultGradients[0];
  give(request, 0, [&]() -> Value {
    return LinearInputGradientOp::create(request.builder, getLoc(),
                                         getX().getType(), dy, getWeight());
  });
  give(request, 1, [&]() -> Value {
    return LinearWeightGradientOp::create(
        request.builder, getLoc(), gradientType(getWeight()), dy, getX());
  });
}

void AddBiasOp::buildGradients(GradientRequest& request) {
  Value dy = request.resultGradients[0];
  give(request, 0, [&] { return dy; });
  give(request, 1, [&]() -> Value {
    return SumRowsOp::create(request.builder, getLoc(), getBias().getType(),
                             dy);
  });
}

void RmsNormOp::buildGradients(GradientRequest& request) {
  auto gradient = RmsNormGradientOp::create(
      request.builder, getLoc(), request.resultGradients[0], getX(),
      getWeight(), getEpsAttr(), getOffsetAttr());
  give(request, 0, [&]() -> Value { return gradient.getDx(); });
  give(request, 1, [&]() -> Value {
    return SumRowsOp::create(request.builder, getLoc(), getWeight().getType(),
                             gradient.getScaled());
  });
}

void LayerNormOp::buildGradients(GradientRequest& request) {
  Value dy = request.resultGradients[0];
  auto gradient = LayerNormGradientOp::create(
      request.builder, getLoc(), dy, getX(), getWeight(), getEpsAttr());
  give(request, 0, [&]() -> Value { return gradient.getDx(); });
  give(request, 1, [&]() -> Value {
    return SumRowsOp::create(request.builder, getLoc(), getWeight().getType(),
                             gradient.getScaled());
  });
  give(request, 2, [&]() -> Value {
    return SumRowsOp::create(request.builder, getLoc(), getBias().getType(),
                             dy);
  });
}

void RopeOp::buildGradients(GradientRequest& request) {
  give(request, 0, [&]() -> Value {
    return RopeOp::create(
        request.builder, getLoc(), getX().getType(), request.resultGradients[0],
        getPositions(), getHeadDimAttr(), getParams(),
        getInverse() ? UnitAttr() : request.builder.getUnitAttr());
  });
}

void ActivationOp::buildGradients(GradientRequest& request) {
  give(request, 0, [&]() -> Value {
    return ActivationGradientOp::create(request.builder, getLoc(),
                                        request.resultGradients[0], getX(),
                                        getKindAttr());
  });
}

void ScaleOp::buildGradients(GradientRequest& request) {
  give(request, 0, [&]() -> Value {
    return ScaleOp::create(request.builder, getLoc(),
                           request.resultGradients[0], getFactorAttr());
  });
}

void SoftCapOp::buildGradients(GradientRequest& request) {
  give(request, 0, [&]() -> Value {
    return SoftCapGradientOp::create(request.builder, getLoc(),
                                     request.resultGradients[0], getX(),
                                     getCapAttr());
  });
}

void AddOp::buildGradients(GradientRequest& request) {
  for (unsigned i : {0, 1})
    give(request, i, [&] { return request.resultGradients[0]; });
}

void MulOp::buildGradients(GradientRequest& request) {
  Value dy = request.resultGradients[0];
  give(request, 0, [&]() -> Value {
    return MulOp::create(request.builder, getLoc(), dy, getB());
  });
  give(request, 1, [&]() -> Value {
    return MulOp::create(request.builder, getLoc(), dy, getA());
  });
}

void GatedActivationOp::buildGradients(GradientRequest& request) {
  auto gradient = GatedActivationGradientOp::create(
      request.builder, getLoc(), request.resultGradients[0], getGate(), getUp(),
      getKindAttr());
  give(request, 0, [&]() -> Value { return gradient.getDgate(); });
  give(request, 1, [&]() -> Value { return gradient.getDup(); });
}

void OutputRowsOp::buildGradients(GradientRequest& request) {
  give(request, 0, [&] { return request.resultGradients[0]; });
}

void RowAttentionOp::buildGradients(GradientRequest& request) {
  auto gradient = RowAttentionGradientOp::create(
      request.builder, getLoc(),
      TypeRange{getQ().getType(), getK().getType(), getV().getType()},
      request.resultGradients[0], getQ(), getK(), getV(), getStarts(),
      getResult(), getLogSum(), getHeadDimAttr(), getGroupAttr(),
      getScaleAttr(), getWindowAttr(), getSoftcapAttr(), getKeyDtypeAttr(),
      getHeadOffsetAttr());
  give(request, 0, [&]() -> Value { return gradient.getDq(); });
  give(request, 1, [&]() -> Value { return gradient.getDk(); });
  give(request, 2, [&]() -> Value { return gradient.getDv(); });
}

} // namespace llmc::llm
