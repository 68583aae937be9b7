// SPDX-License-Identifier: Apache-2.0
// Sharding rules and costs of the ops of TrainingOps.td. Factor numbers: see
// ShardingRule.h.
#include "dialects/llm/Llm.h"

using namespace mlir;

namespace llmc::llm {
namespace {

constexpr FactorKind kParallel = FactorKind::Parallel;
constexpr FactorKind kReduction = FactorKind::Reduction;
constexpr FactorKind kFull = FactorKind::Full;
constexpr int kNone = -1;

int64_t elements(Value v) {
  return cast<ShapedType>(v.getType()).getNumElements();
}

int64_t width(Value v) {
  return cast<ShapedType>(v.getType()).getShape().back();
}

ShardingRule elementwiseRule(Operation* op) {
  ShardingRule rule;
  rule.factors = {kParallel, kParallel};
  rule.operands.assign(op->getNumOperands(), {0, 1});
  rule.results.assign(op->getNumResults(), {0, 1});
  return rule;
}

/// Nothing may be cut.
ShardingRule wholeRule(Operation* op) {
  ShardingRule rule;
  auto dims = [](Value v) {
    auto type = dyn_cast<ShapedType>(v.getType());
    return llvm::SmallVector<int>(type ? type.getRank() : 0, kNone);
  };
  for (Value v : op->getOperands())
    rule.operands.push_back(dims(v));
  for (Value v : op->getResults())
    rule.results.push_back(dims(v));
  return rule;
}

} // namespace

ShardingRule LinearInputGradientOp::getShardingRule() {
  return {
      {kParallel, kReduction, kParallel}, {{0, 1}, {1, 2}}, {{0, 2}}, {}, {}};
}

int64_t LinearInputGradientOp::getFlops() {
  return 2 * elements(getDy()) * width(getWeight());
}

ShardingRule LinearWeightGradientOp::getShardingRule() {
  return {
      {kReduction, kParallel, kParallel}, {{0, 1}, {0, 2}}, {{1, 2}}, {}, {}};
}

int64_t LinearWeightGradientOp::getFlops() {
  return 2 * elements(getDy()) * width(getX());
}

ShardingRule SumRowsOp::getShardingRule() {
  if (width(getX()) == width(getResult()))
    return {{kReduction, kParallel}, {{0, 1}}, {{1}}, {}, {}};
  return {{kReduction, kReduction},
          {{0, 1}},
          {{kNone}},
          {1, width(getResult())},
          {}};
}

int64_t SumRowsOp::getFlops() { return elements(getX()); }

ShardingRule EmbeddingGradientOp::getShardingRule() {
  // The cut of the vocabulary is the table's: propagation takes it from
  // `param`. Rows stay whole, as ids are.
  return {
      {kFull, kFull, kParallel}, {{kNone, kNone}, {0, 2}}, {{1, 2}}, {}, {}};
}

int64_t EmbeddingGradientOp::getFlops() { return elements(getDy()); }

ShardingRule RmsNormGradientOp::getShardingRule() {
  return {{kParallel, kParallel, kFull},
          {{0, 1}, {0, 1}, {2}},
          {{0, 1}, {0, 1}},
          {1, width(getWeight()), 1},
          {}};
}

int64_t RmsNormGradientOp::getFlops() { return 12 * elements(getX()); }

ShardingRule LayerNormGradientOp::getShardingRule() {
  return {{kParallel, kFull}, {{0, 1}, {0, 1}, {1}}, {{0, 1}, {0, 1}}, {}, {}};
}

int64_t LayerNormGradientOp::getFlops() { return 16 * elements(getX()); }

ShardingRule ActivationGradientOp::getShardingRule() {
  return elementwiseRule(*this);
}

int64_t ActivationGradientOp::getFlops() { return 12 * elements(getX()); }

ShardingRule GatedActivationGradientOp::getShardingRule() {
  return elementwiseRule(*this);
}

int64_t GatedActivationGradientOp::getFlops() { return 16 * elements(getUp()); }

ShardingRule SoftCapGradientOp::getShardingRule() {
  return elementwiseRule(*this);
}

int64_t SoftCapGradientOp::getFlops() { return 12 * elements(getX()); }

ShardingRule RowAttentionOp::getShardingRule() {
  // Heads (factor 1) compute alone; rows of a sequence need each other (factor
  // 0).
  return {{kFull, kParallel},
          {{0, 1}, {0, 1}, {0, 1}, {kNone, kNone}},
          {{0, 1}, {0, 1}},
          {1, static_cast<int64_t>(getHeadDim())},
          {0, 0}};
}

int64_t RowAttentionOp::getFlops() {
  // Half of the square of a sequence: no document may be assumed shorter.
  int64_t rows = cast<ShapedType>(getStarts().getType()).getDimSize(1);
  return 2 * rows * elements(getQ());
}

ShardingRule RowAttentionGradientOp::getShardingRule() {
  return {{kFull, kParallel},
          {{0, 1}, {0, 1}, {0, 1}, {0, 1}, {kNone, kNone}, {0, 1}, {0, 1}},
          {{0, 1}, {0, 1}, {0, 1}},
          {},
          {1, 2, 3}};
}

int64_t RowAttentionGradientOp::getFlops() {
  int64_t rows = cast<ShapedType>(getStarts().getType()).getDimSize(1);
  return 5 * rows * elements(getQ());
}

ShardingRule CrossEntropyStatisticsOp::getShardingRule() {
  return {{kParallel, kParallel},
          {{0, 1}, {kNone, kNone}},
          {{1, 0, kNone}},
          {},
          {}};
}

int64_t CrossEntropyStatisticsOp::getFlops() {
  return 10 * elements(getLogits());
}

ShardingRule CrossEntropyLossOp::getShardingRule() { return wholeRule(*this); }

int64_t CrossEntropyLossOp::getFlops() {
  return 10 * elements(getStatistics());
}

ShardingRule CrossEntropyGradientOp::getShardingRule() {
  return {
      {kFull, kParallel}, {{0, 1}, {kNone, kNone}, {0}, {0}}, {{0, 1}}, {}, {}};
}

int64_t CrossEntropyGradientOp::getFlops() {
  return 10 * elements(getLogits());
}

ShardingRule CountLabelsOp::getShardingRule() { return wholeRule(*this); }

int64_t CountLabelsOp::getFlops() { return elements(getLabels()); }

ShardingRule TokenWeightsOp::getShardingRule() { return wholeRule(*this); }

int64_t TokenWeightsOp::getFlops() { return elements(getResult()); }

ShardingRule PreferenceLossOp::getShardingRule() { return wholeRule(*this); }

int64_t PreferenceLossOp::getFlops() { return 10 * elements(getLoss()); }

ShardingRule WeightedSumOp::getShardingRule() { return wholeRule(*this); }

int64_t WeightedSumOp::getFlops() { return 2 * elements(getX()); }

} // namespace llmc::llm
