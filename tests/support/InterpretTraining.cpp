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
  Beta,
  Smoothing,
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
  int64_t count = 0, unit = op.getUnit();
  for (int64_t begin = 0; begin < labels.numElements(); begin += unit)
    count += llvm::any_of(llvm::ArrayRef(labels.values).slice(begin, unit),
                          [](double x) { return x >= 0; });
  s.set(op.getResult(), scalar(count));
}

/// Loss of a pair and its derivative by x; names as in the papers.
std::pair<double, double> pairLoss(llm::PreferenceLossKind kind, double x,
                                   double beta, double smoothing) {
  double z = beta * x, p = 1 / (1 + std::exp(-z));
  switch (kind) {
  case llm::PreferenceLossKind::sigmoid:
    return {-(1 - smoothing) * std::log(p) - smoothing * std::log(1 - p),
            beta * (p - (1 - smoothing))};
  case llm::PreferenceLossKind::hinge:
    return {std::max(0.0, 1 - z), z < 1 ? -beta : 0};
  case llm::PreferenceLossKind::ipo:
    return {std::pow(x - 1 / (2 * beta), 2), 2 * (x - 1 / (2 * beta))};
  }
  llvm_unreachable("every kind is handled");
}

void compute(llm::PreferenceLossOp op, RankState& s, Memory) {
  const Tensor &loss = s.tensor(op.getLoss()),
               &reference = s.tensor(op.getReference()),
               &labels = s.tensor(op.getLabels()),
               &hyper = s.tensor(op.getHyper());
  double count = s.tensor(op.getCount()).values[0];
  Tensor weights = zerosLike(op.getWeights()), terms = zerosLike(op.getTerms());
  int64_t rows = labels.shape[1];
  for (int64_t pair = 0; pair < labels.shape[0]; pair += 2) {
    double gained[2] = {}, parts[2] = {};
    for (int64_t i : {0, 1})
      for (int64_t r = (pair + i) * rows; r < (pair + i + 1) * rows; ++r)
        if (labels.values[r] >= 0) {
          gained[i] += reference.values[r] - loss.values[r];
          ++parts[i];
        }
    if (parts[0] + parts[1] == 0)
      continue;
    for (int64_t i : {0, 1}) {
      parts[i] = op.getKind() == llm::PreferenceLossKind::ipo
                     ? std::max(parts[i], 1.0)
                     : 1;
    }
    auto [value, slope] =
        pairLoss(op.getKind(), gained[0] / parts[0] - gained[1] / parts[1],
                 hyper.values[Beta], hyper.values[Smoothing]);
    for (int64_t i : {0, 1})
      for (int64_t r = (pair + i) * rows; r < (pair + i + 1) * rows; ++r)
        if (labels.values[r] >= 0)
          weights.values[r] = (i == 0 ? -slope : slope) / parts[i] / count;
    double beta = hyper.values[Beta];
    double added[] = {value / count,
                      beta * gained[0],
                      beta * gained[1],
                      beta * (gained[0] - gained[1]),
                      gained[0] > gained[1] ? 1.0 : 0.0,
                      1};
    for (int64_t i = 0; i < 6; ++i)
      terms.values[i] += added[i];
  }
  s.set(op.getWeights(), std::move(weights));
  s.set(op.getTerms(), std::move(terms));
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

/// Whether an element of a state lies in the box that the rank has of the
/// logical parameter; `index` is in the flattened local parameter.
bool isInBox(llm::ParamOp param, const RankState& s, int64_t index) {
  llvm::ArrayRef<int64_t> shape = param.getComputeType().getShape();
  if (index >= param.getComputeType().getNumElements())
    return false;
  auto slice = dyn_cast_or_null<dist::SliceAttr>(param.getSliceAttr());
  if (!slice)
    return true;
  bool isInner = shape.size() == 2 && slice.getDim() == 1;
  int64_t width = shape.size() == 2 ? shape[1] : 1;
  int64_t place = isInner ? index % width : index / width;
  return place < slice.getCounts()[s.coordinate(slice.getAxis())];
}

void compute(llm::AccumulateOp op, RankState& s, Memory memory) {
  const Tensor& x = s.tensor(op.getX());
  auto declared =
      SymbolTable::lookupNearestSymbolFrom<llm::StateOp>(op, op.getStateAttr());
  llm::ParamOp param;
  if (declared.getParamAttr())
    param = SymbolTable::lookupNearestSymbolFrom<llm::ParamOp>(
        op, declared.getParamAttr());
  auto shard = dyn_cast_or_null<dist::ShardAttr>(declared.getShardAttr());
  int64_t begin = shard ? placeOfShard(shard, s) * shard.getElements() : 0;
  Tensor& state = memory(op.getState());
  for (int64_t i = 0; i < x.numElements(); ++i)
    if (!param || isInBox(param, s, begin + i))
      state.values[i] += x.values[i];
}

void compute(llm::ZeroStateOp op, RankState&, Memory memory) {
  Tensor& state = memory(op.getState());
  std::fill(state.values.begin(), state.values.end(), 0.0);
}

//===-- optimizer ---------------------------------------------------------===//

/// The part of a whole gradient that this rank counts: its ZeRO run, whose
/// first bytes on each rank the table says.
std::pair<int64_t, int64_t> countedRun(llm::SquareSumOp op, const Tensor& x,
                                       const RankState& s) {
  auto offsets = op->getAttrOfType<dist::ByCoordinateAttr>("llm.run_offsets");
  if (!offsets)
    return {0, x.numElements()};
  constexpr int64_t kBytes = sizeof(float);
  int64_t begin = s.valueHere(offsets, 0) / kBytes;
  int64_t run = (offsets.getValues()[1] - offsets.getValues()[0]) / kBytes;
  return {std::min(begin, x.numElements()),
          std::min(begin + run, x.numElements())};
}

void compute(llm::SquareSumOp op, RankState& s, Memory memory) {
  const Tensor& x = s.tensor(op.getX());
  bool isCounted = true;
  if (ArrayAttr tables = op.getCountedAttr())
    for (Attribute table : tables)
      isCounted &= s.valueHere(table, 1) != 0;
  auto [begin, end] = countedRun(op, x, s);
  double sum = 0;
  for (int64_t i = begin; i < end && isCounted; ++i)
    sum += x.values[i] * x.values[i];
  memory(op.getState()).values[op.getIndex()] = sum;
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
            llm::PreferenceLossOp, llm::TokenWeightsOp, llm::WeightedSumOp,
            llm::ReadStateOp, llm::AccumulateOp, llm::ZeroStateOp,
            llm::SquareSumOp, llm::SumTermsOp, llm::GlobalNormOp, llm::AdamwOp>(
          [&](auto known) {
            compute(known, state, memory);
            return true;
          })
      .Default(false);
}

} // namespace llmc
