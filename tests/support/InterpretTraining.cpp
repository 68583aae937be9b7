// SPDX-License-Identifier: Apache-2.0
// One short function for each op of the loss, of states and of the optimizer.
#include "tests/support/InterpretTraining.h"

#include "llvm/ADT/TypeSwitch.h"

#include <algorithm>
#include <cmath>
#include <numeric>

using namespace mlir;

namespace llmc {
namespace {

/// Places of `hyper`; docs/design/training.md.
enum Hyper {
  LearningRate,
  Beta1,
  Beta2,
  Epsilon,
  WeightDecay,
  Correction1,
  Correction2,
  Clip,
  OneMinusBeta1 = 10,
  OneMinusBeta2 = 11
};

Tensor scalar(double value) {
  Tensor x({1});
  x.values[0] = value;
  return x;
}

Tensor zerosLike(Value v) {
  return Tensor(cast<RankedTensorType>(v.getType()).getShape().vec());
}

//===-- loss --------------------------------------------------------------===//

void compute(llm::CrossEntropyStatisticsOp op, RankState& s, Memory) {
  const Tensor &logits = s.tensor(op.getLogits()),
               &labels = s.tensor(op.getLabels());
  Tensor y = zerosLike(op.getResult());
  int64_t begin = s.valueHere(op.getVocabBeginAttr(), 0);
  int64_t count = s.valueHere(op.getVocabCountAttr(), logits.width());
  int64_t parts = y.shape[0], run = (logits.width() + parts - 1) / parts;
  for (int64_t part = 0; part < parts; ++part)
    for (int64_t r = 0; r < logits.rows(); ++r) {
      double* triple = &y.values[(part * logits.rows() + r) * 3];
      triple[0] = -INFINITY; // if all of the part's columns are padding
      int64_t label = static_cast<int64_t>(labels.values[r]) - begin;
      int64_t end = std::min((part + 1) * run, count);
      for (int64_t c = part * run; c < end; ++c)
        triple[0] = std::max(triple[0], logits.row(r)[c]);
      for (int64_t c = part * run; c < end; ++c) {
        triple[1] += std::exp(logits.row(r)[c] - triple[0]);
        if (c == label)
          triple[2] = logits.row(r)[c];
      }
    }
  s.set(op.getResult(), std::move(y));
}

void compute(llm::CrossEntropyLossOp op, RankState& s, Memory) {
  const Tensor &statistics = s.tensor(op.getStatistics()),
               &labels = s.tensor(op.getLabels());
  Tensor loss = zerosLike(op.getLoss()), logSum = zerosLike(op.getLogSum());
  int64_t parts = statistics.shape[0], rows = statistics.shape[1];
  for (int64_t r = 0; r < rows; ++r) {
    auto triple = [&](int64_t part) { return statistics.row(part * rows + r); };
    double most = -INFINITY, sum = 0, ofLabel = 0;
    for (int64_t part = 0; part < parts; ++part)
      most = std::max(most, triple(part)[0]);
    for (int64_t part = 0; part < parts; ++part) {
      sum += triple(part)[1] * std::exp(triple(part)[0] - most);
      ofLabel += triple(part)[2];
    }
    logSum.values[r] = most + std::log(sum);
    loss.values[r] = labels.values[r] < 0 ? 0 : logSum.values[r] - ofLabel;
  }
  s.set(op.getLoss(), std::move(loss));
  s.set(op.getLogSum(), std::move(logSum));
}

void compute(llm::CrossEntropyGradientOp op, RankState& s, Memory) {
  const Tensor &logits = s.tensor(op.getLogits()),
               &labels = s.tensor(op.getLabels()),
               &logSum = s.tensor(op.getLogSum()),
               &weights = s.tensor(op.getWeights());
  Tensor y(logits.shape);
  int64_t begin = s.valueHere(op.getVocabBeginAttr(), 0);
  int64_t count = s.valueHere(op.getVocabCountAttr(), logits.width());
  for (int64_t r = 0; r < logits.rows(); ++r)
    for (int64_t c = 0; c < count; ++c) {
      double p = std::exp(logits.row(r)[c] - logSum.values[r]);
      bool isLabel = labels.values[r] == c + begin;
      y.row(r)[c] = weights.values[r] * (p - isLabel);
    }
  s.set(op.getResult(), std::move(y));
}

void compute(llm::CountLabelsOp op, RankState& s, Memory) {
  const Tensor& labels = s.tensor(op.getLabels());
  s.set(op.getResult(),
        scalar(llvm::count_if(labels.values, [](double x) { return x >= 0; })));
}

void compute(llm::TokenWeightsOp op, RankState& s, Memory) {
  const Tensor &labels = s.tensor(op.getLabels()),
               &count = s.tensor(op.getCount());
  Tensor y = zerosLike(op.getResult());
  for (int64_t r = 0; r < y.numElements(); ++r)
    y.values[r] = labels.values[r] < 0 ? 0 : 1 / count.values[0];
  s.set(op.getResult(), std::move(y));
}

void compute(llm::WeightedSumOp op, RankState& s, Memory) {
  const Tensor &x = s.tensor(op.getX()), &weights = s.tensor(op.getWeights());
  s.set(op.getResult(),
        scalar(std::inner_product(x.values.begin(), x.values.end(),
                                  weights.values.begin(), 0.0)));
}

//===-- states ------------------------------------------------------------===//

void compute(llm::ReadStateOp op, RankState& s, Memory memory) {
  s.set(op.getResult(), memory(op.getState()));
}

void compute(llm::AccumulateOp op, RankState& s, Memory memory) {
  const Tensor& x = s.tensor(op.getX());
  Tensor& state = memory(op.getState());
  for (int64_t i = 0; i < x.numElements(); ++i)
    state.values[i] += x.values[i];
}

void compute(llm::ZeroStateOp op, RankState&, Memory memory) {
  Tensor& state = memory(op.getState());
  std::fill(state.values.begin(), state.values.end(), 0.0);
}

//===-- optimizer ---------------------------------------------------------===//

void compute(llm::SquareSumOp op, RankState& s, Memory memory) {
  const Tensor& x = s.tensor(op.getX());
  bool isCounted = true;
  if (ArrayAttr tables = op.getCountedAttr())
    for (Attribute table : tables)
      isCounted &= s.valueHere(table, 1) != 0;
  memory(op.getState()).values[op.getIndex()] =
      isCounted ? std::inner_product(x.values.begin(), x.values.end(),
                                     x.values.begin(), 0.0)
                : 0;
}

void compute(llm::SumTermsOp op, RankState& s, Memory) {
  const Tensor& x = s.tensor(op.getX());
  s.set(op.getResult(),
        scalar(std::accumulate(x.values.begin(), x.values.end(), 0.0)));
}

void compute(llm::GlobalNormOp op, RankState& s, Memory) {
  const Tensor &terms = s.tensor(op.getTerms()),
               &hyper = s.tensor(op.getHyper());
  Tensor y = zerosLike(op.getResult());
  double norm =
      std::sqrt(std::accumulate(terms.values.begin(), terms.values.end(), 0.0));
  double clip = hyper.values[Clip];
  y.values[0] = norm;
  y.values[1] = clip == 0 ? 1 : std::min(1.0, clip / (norm + 1e-6));
  y.values[2] = std::isfinite(norm);
  s.set(op.getResult(), std::move(y));
}

/// Index of the first element of the whole parameter that a gradient shard
/// belongs to.
int64_t firstElement(llm::AdamwOp op, int64_t numParameters,
                     int64_t numGradients, const RankState& s) {
  if (numParameters == numGradients)
    return 0;
  auto moment = SymbolTable::lookupNearestSymbolFrom<llm::StateOp>(
      op, op.getMoment1Attr());
  auto shard = cast<dist::ShardAttr>(moment.getShardAttr());
  return placeOfShard(shard, s) * shard.getElements();
}

void compute(llm::AdamwOp op, RankState& s, Memory memory) {
  const Tensor &g = s.tensor(op.getGradient()), &norm = s.tensor(op.getNorm());
  const std::vector<double>& hyper = s.tensor(op.getHyper()).values;
  Tensor &p = memory(op.getParam()), &m = memory(op.getMoment1()),
         &v = memory(op.getMoment2());
  Tensor* master = op.getMaster() ? &memory(*op.getMaster()) : nullptr;
  if (norm.values[2] == 0)
    return;
  int64_t first = firstElement(op, p.numElements(), g.numElements(), s);
  int64_t count = std::min(g.numElements(), p.numElements() - first);
  auto oneMinus = [&](Hyper given, Hyper beta) {
    return hyper[given] != 0 ? hyper[given] : 1 - hyper[beta];
  };
  double fresh1 = oneMinus(OneMinusBeta1, Beta1),
         fresh2 = oneMinus(OneMinusBeta2, Beta2);
  double decay = op.getDecay() ? hyper[LearningRate] * hyper[WeightDecay] : 0;
  for (int64_t i = 0; i < count; ++i) {
    double& x = master ? master->values[i] : p.values[first + i];
    double gradient = g.values[i] * norm.values[1];
    double &m1 = m.values[i], &m2 = v.values[i];
    m1 = hyper[Beta1] * m1 + fresh1 * gradient;
    m2 = hyper[Beta2] * m2 + fresh2 * gradient * gradient;
    x *= 1 - decay;
    x -= hyper[LearningRate] / hyper[Correction1] * m1 /
         (std::sqrt(m2 / hyper[Correction2]) + hyper[Epsilon]);
    p.values[first + i] = x;
  }
}

} // namespace

bool interpretTrainingOp(Operation* op, RankState& state, Memory memory) {
  return TypeSwitch<Operation*, bool>(op)
      .Case<llm::CrossEntropyStatisticsOp, llm::CrossEntropyLossOp,
            llm::CrossEntropyGradientOp, llm::CountLabelsOp,
            llm::TokenWeightsOp, llm::WeightedSumOp, llm::ReadStateOp,
            llm::AccumulateOp, llm::ZeroStateOp, llm::SquareSumOp,
            llm::SumTermsOp, llm::GlobalNormOp, llm::AdamwOp>([&](auto known) {
        compute(known, state, memory);
        return true;
      })
      .Default(false);
}

} // namespace llmc
