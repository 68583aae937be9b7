// SPDX-License-Identifier: Apache-2.0
// Sharding rules and costs of the `llm` ops, one line each where possible.
// Factor numbers: see ShardingRule.h.
#include "dialects/llm/Llm.h"

using namespace mlir;

namespace llmc::llm {
namespace {

constexpr FactorKind kParallel = FactorKind::Parallel;
constexpr FactorKind kReduction = FactorKind::Reduction;
constexpr FactorKind kFull = FactorKind::Full;
constexpr int kNone = -1;

int64_t elements(Value v) {
  auto type = cast<ShapedType>(v.getType());
  return type.hasStaticShape() ? type.getNumElements() : 0;
}

/// All operands and results are [row, c], c computed alone.
ShardingRule elementwiseRule(Operation* op) {
  ShardingRule rule;
  rule.factors = {kParallel, kParallel};
  rule.operands.assign(op->getNumOperands(), {0, 1});
  rule.results.assign(op->getNumResults(), {0, 1});
  return rule;
}

} // namespace

int64_t operandAndResultBytes(Operation* op) {
  int64_t bytes = 0;
  auto add = [&](Type type) {
    auto tensor = dyn_cast<RankedTensorType>(type);
    if (tensor && tensor.hasStaticShape())
      bytes += tensor.getNumElements() * tensor.getElementTypeBitWidth() / 8;
  };
  for (Type type : op->getOperandTypes())
    add(type);
  for (Type type : op->getResultTypes())
    add(type);
  return bytes;
}

ShardingRule EmbeddingOp::getShardingRule() {
  return {{kParallel, kReduction, kParallel},
          {{kNone, kNone}, {1, 2}},
          {{0, 2}},
          {}};
}

int64_t EmbeddingOp::getFlops() { return 0; }

ShardingRule LinearOp::getShardingRule() {
  return {{kParallel, kReduction, kParallel}, {{0, 1}, {2, 1}}, {{0, 2}}, {}};
}

int64_t LinearOp::getFlops() {
  return 2 * elements(getResult()) *
         cast<ShapedType>(getWeight().getType()).getDimSize(1);
}

ShardingRule AddBiasOp::getShardingRule() {
  return {{kParallel, kParallel}, {{0, 1}, {1}}, {{0, 1}}, {}};
}

int64_t AddBiasOp::getFlops() { return elements(getResult()); }

ShardingRule RmsNormOp::getShardingRule() {
  // A row may be cut between runs of the weight's width, which are normed
  // alone; a weight as wide as the row keeps it whole.
  return {{kParallel, kParallel, kFull},
          {{0, 1}, {2}},
          {{0, 1}},
          {1, cast<ShapedType>(getWeight().getType()).getDimSize(0), 1}};
}

int64_t RmsNormOp::getFlops() { return 4 * elements(getResult()); }

ShardingRule LayerNormOp::getShardingRule() {
  return {{kParallel, kFull}, {{0, 1}, {1}, {1}}, {{0, 1}}, {}};
}

int64_t LayerNormOp::getFlops() { return 7 * elements(getResult()); }

ShardingRule RopeOp::getShardingRule() {
  return {{kParallel, kParallel},
          {{0, 1}, {kNone, kNone}},
          {{0, 1}},
          {1, static_cast<int64_t>(getHeadDim())}};
}

int64_t RopeOp::getFlops() { return 3 * elements(getResult()); }

ShardingRule ActivationOp::getShardingRule() { return elementwiseRule(*this); }

int64_t ActivationOp::getFlops() { return 8 * elements(getResult()); }

ShardingRule ScaleOp::getShardingRule() { return elementwiseRule(*this); }

int64_t ScaleOp::getFlops() { return elements(getResult()); }

ShardingRule SoftCapOp::getShardingRule() { return elementwiseRule(*this); }

ShardingRule RoundOp::getShardingRule() { return elementwiseRule(*this); }

int64_t RoundOp::getFlops() { return 0; }

int64_t SoftCapOp::getFlops() { return 10 * elements(getResult()); }

ShardingRule AddOp::getShardingRule() { return elementwiseRule(*this); }

int64_t AddOp::getFlops() { return elements(getResult()); }

ShardingRule MulOp::getShardingRule() { return elementwiseRule(*this); }

int64_t MulOp::getFlops() { return elements(getResult()); }

ShardingRule GatedActivationOp::getShardingRule() {
  return elementwiseRule(*this);
}

int64_t GatedActivationOp::getFlops() { return 9 * elements(getResult()); }

ShardingRule AttentionOp::getShardingRule() {
  // Heads (factor 1) compute alone; rows of a sequence need each other (factor
  // 0).
  return {{kFull, kParallel},
          {{0, 1}, {0, 1}, {0, 1}, {kNone, kNone}},
          {{0, 1}},
          {1, static_cast<int64_t>(getHeadDim())}};
}

int64_t AttentionOp::getFlops() {
  int64_t rows = cast<ShapedType>(getQ().getType()).getDimSize(0);
  return ShapedType::isDynamic(rows) ? 0 : 2 * rows * elements(getQ());
}

ShardingRule OutputRowsOp::getShardingRule() { return elementwiseRule(*this); }

int64_t OutputRowsOp::getFlops() { return 0; }

ShardingRule KvAppendOp::getShardingRule() {
  return {{kFull, kParallel},
          {{kNone, kNone, 1, kNone}, {0, 1}, {kNone, kNone}, {kNone, kNone}},
          {},
          {}};
}

ShardingRule CachedAttentionOp::getShardingRule() {
  return {{kFull, kParallel},
          {{0, 1},
           {kNone, kNone, 1, kNone},
           {kNone, kNone, 1, kNone},
           {kNone, kNone},
           {kNone, kNone}},
          {{0, 1}},
          {1, static_cast<int64_t>(getHeadDim())}};
}

int64_t CachedAttentionOp::getFlops() {
  // Over a full cache: the most that one execution can cost.
  auto table = cast<ShapedType>(getBlockTable().getType());
  auto keys = cast<ShapedType>(getKeys().getType());
  if (!table.hasStaticShape() || !keys.hasStaticShape())
    return 0;
  return 4 * elements(getQ()) * table.getDimSize(1) * keys.getDimSize(1);
}

ShardingRule SelectRowsOp::getShardingRule() {
  return {{kFull, kParallel, kFull}, {{0, 1}, {2}}, {{2, 1}}, {}};
}

int64_t SelectRowsOp::getFlops() { return 0; }

ShardingRule SampleOp::getShardingRule() {
  ShardingRule rule;
  rule.factors = {kFull, kFull};
  rule.operands.assign(getNumOperands(), {0});
  rule.operands[0] = {0, 1};
  rule.results = {{0}};
  return rule;
}

} // namespace llmc::llm
