// SPDX-License-Identifier: Apache-2.0
// One short function for each op. Plain loops: this is what everything else is
// compared with.
#include "tests/support/InterpretOps.h"

#include "runtime/base/Philox.h"

#include "llvm/ADT/TypeSwitch.h"

#include <algorithm>
#include <cmath>
#include <numeric>

using namespace mlir;

namespace llmc {
namespace {

constexpr double kPi = 3.14159265358979323846;

Tensor mapEach(const Tensor& x, llvm::function_ref<double(double)> f) {
  Tensor y(x.shape);
  std::transform(x.values.begin(), x.values.end(), y.values.begin(), f);
  return y;
}

Tensor compute(llm::EmbeddingOp op, RankState& s) {
  const Tensor &ids = s.tensor(op.getIds()), &table = s.tensor(op.getTable());
  int64_t begin = s.valueHere(op.getVocabBeginAttr(), 0);
  Tensor y({ids.numElements(), table.width()});
  for (int64_t r = 0; r < y.rows(); ++r) {
    int64_t id = static_cast<int64_t>(ids.values[r]) - begin;
    if (id >= 0 && id < table.rows())
      std::copy_n(table.row(id), table.width(), y.row(r));
  }
  return y;
}

Tensor compute(llm::LinearOp op, RankState& s) {
  const Tensor &x = s.tensor(op.getX()), &w = s.tensor(op.getWeight());
  Tensor y({x.rows(), w.rows()});
  for (int64_t r = 0; r < x.rows(); ++r)
    for (int64_t n = 0; n < w.rows(); ++n)
      y.row(r)[n] =
          std::inner_product(x.row(r), x.row(r) + x.width(), w.row(n), 0.0);
  return y;
}

Tensor compute(llm::AddBiasOp op, RankState& s) {
  Tensor y = s.tensor(op.getX());
  const Tensor& bias = s.tensor(op.getBias());
  for (int64_t i = 0; i < y.numElements(); ++i)
    y.values[i] += bias.values[i % y.width()];
  return y;
}

Tensor compute(llm::RmsNormOp op, RankState& s) {
  Tensor y = s.tensor(op.getX());
  const Tensor& weight = s.tensor(op.getWeight());
  int64_t width = weight.numElements();
  double offset = op.getOffset().convertToDouble();
  for (auto run = y.values.begin(); run != y.values.end(); run += width) {
    double squares = std::inner_product(run, run + width, run, 0.0);
    double norm = std::sqrt(squares / width + op.getEps().convertToDouble());
    for (int64_t c = 0; c < width; ++c)
      run[c] = run[c] / norm * (weight.values[c] + offset);
  }
  return y;
}

Tensor compute(llm::LayerNormOp op, RankState& s) {
  Tensor y = s.tensor(op.getX());
  const Tensor &weight = s.tensor(op.getWeight()),
               &bias = s.tensor(op.getBias());
  int64_t width = y.width();
  for (int64_t r = 0; r < y.rows(); ++r) {
    double* row = y.row(r);
    double mean = std::accumulate(row, row + width, 0.0) / width;
    double variance = 0;
    for (int64_t c = 0; c < width; ++c)
      variance += (row[c] - mean) * (row[c] - mean) / width;
    double norm = std::sqrt(variance + op.getEps().convertToDouble());
    for (int64_t c = 0; c < width; ++c)
      row[c] = (row[c] - mean) / norm * weight.values[c] + bias.values[c];
  }
  return y;
}

/// Angle between neighbouring positions of pair i.
double rotaryFrequency(llm::RopeAttr rope, int64_t i) {
  double plain = std::pow(rope.getTheta(), -2.0 * i / rope.getRotary());
  switch (rope.getScaling()) {
  case llm::RopeScalingKind::none:
    return plain;
  case llm::RopeScalingKind::linear:
    return plain / rope.getFactor();
  case llm::RopeScalingKind::llama3:
    break;
  }
  // Llama 3.1: long wavelengths are stretched, short ones kept, between them a
  // blend.
  double wavelength = 2 * kPi / plain;
  double longest = rope.getOriginalContext() / rope.getLowFreqFactor();
  double shortest = rope.getOriginalContext() / rope.getHighFreqFactor();
  if (wavelength > longest)
    return plain / rope.getFactor();
  if (wavelength < shortest)
    return plain;
  double keep =
      (rope.getOriginalContext() / wavelength - rope.getLowFreqFactor()) /
      (rope.getHighFreqFactor() - rope.getLowFreqFactor());
  return (1 - keep) * plain / rope.getFactor() + keep * plain;
}

Tensor compute(llm::RopeOp op, RankState& s) {
  Tensor y = s.tensor(op.getX());
  const Tensor& positions = s.tensor(op.getPositions());
  llm::RopeAttr rope = op.getParams();
  int64_t headDim = op.getHeadDim(), half = rope.getRotary() / 2;
  for (int64_t at = 0; at < y.numElements(); at += headDim)
    for (int64_t i = 0; i < half; ++i) {
      double angle =
          positions.values[at / y.width()] * rotaryFrequency(rope, i);
      angle = op.getInverse() ? -angle : angle;
      double& a = y.values[at + (rope.getInterleaved() ? 2 * i : i)];
      double& b = y.values[at + (rope.getInterleaved() ? 2 * i + 1 : i + half)];
      double oldA = a;
      a = oldA * std::cos(angle) - b * std::sin(angle);
      b = oldA * std::sin(angle) + b * std::cos(angle);
    }
  return y;
}

Tensor compute(llm::ActivationOp op, RankState& s) {
  return mapEach(s.tensor(op.getX()),
                 [&](double x) { return activate(op.getKind(), x); });
}

Tensor compute(llm::ScaleOp op, RankState& s) {
  double factor = static_cast<float>(op.getFactor().convertToDouble());
  return mapEach(s.tensor(op.getX()), [&](double x) { return x * factor; });
}

Tensor compute(llm::SoftCapOp op, RankState& s) {
  double cap = op.getCap().convertToDouble();
  return mapEach(s.tensor(op.getX()),
                 [&](double x) { return cap * std::tanh(x / cap); });
}

Tensor compute(llm::AddOp op, RankState& s) {
  Tensor y = s.tensor(op.getA());
  const Tensor& b = s.tensor(op.getB());
  for (int64_t i = 0; i < y.numElements(); ++i)
    y.values[i] += b.values[i];
  return y;
}

Tensor compute(llm::MulOp op, RankState& s) {
  Tensor y = s.tensor(op.getA());
  const Tensor& b = s.tensor(op.getB());
  for (int64_t i = 0; i < y.numElements(); ++i)
    y.values[i] *= b.values[i];
  return y;
}

Tensor compute(llm::GatedActivationOp op, RankState& s) {
  Tensor y = s.tensor(op.getGate());
  const Tensor& up = s.tensor(op.getUp());
  for (int64_t i = 0; i < y.numElements(); ++i)
    y.values[i] = activate(op.getKind(), y.values[i]) * up.values[i];
  return y;
}

Tensor compute(llm::OutputRowsOp op, RankState& s) {
  return s.tensor(op.getX());
}

/// A key and value that one query head sees.
struct Seen {
  const double *key, *value;
};

/// Softmax of the scores times the values; zeros if nothing is seen.
void attend(const double* q, int64_t headDim, llvm::ArrayRef<Seen> seen,
            double scale, double softcap, double* out) {
  std::vector<double> scores;
  for (const Seen& at : seen) {
    double score = scale * std::inner_product(q, q + headDim, at.key, 0.0);
    scores.push_back(softcap == 0 ? score
                                  : softcap * std::tanh(score / softcap));
  }
  std::fill_n(out, headDim, 0.0);
  if (seen.empty())
    return;
  double most = *std::max_element(scores.begin(), scores.end()), sum = 0;
  for (double& score : scores)
    sum += score = std::exp(score - most);
  for (auto [at, weight] : llvm::zip(seen, scores))
    for (int64_t d = 0; d < headDim; ++d)
      out[d] += weight / sum * at.value[d];
}

Tensor compute(llm::AttentionOp op, RankState& s) {
  const Tensor &q = s.tensor(op.getQ()), &k = s.tensor(op.getK()),
               &v = s.tensor(op.getV()),
               &positions = s.tensor(op.getPositions());
  int64_t headDim = op.getHeadDim(), window = op.getWindow();
  int64_t group = q.width() / k.width(), perSequence = positions.width();
  Tensor y(q.shape);
  for (int64_t r = 0; r < q.rows(); ++r)
    for (int64_t head = 0; head < q.width() / headDim; ++head) {
      int64_t first = r / perSequence * perSequence,
              at = head / group * headDim;
      double p = positions.values[r];
      std::vector<Seen> seen;
      for (int64_t other = first; other < first + perSequence; ++other) {
        double p2 = positions.values[other];
        if (p2 <= p && (window == 0 || p2 > p - window))
          seen.push_back({k.row(other) + at, v.row(other) + at});
      }
      attend(q.row(r) + head * headDim, headDim, seen,
             op.getScale().convertToDouble(), op.getSoftcap().convertToDouble(),
             y.row(r) + head * headDim);
    }
  return y;
}

/// The heads of one position of a sequence in a cache; null if its page is
/// none.
double* cacheRow(Tensor& cache, const Tensor& blockTable, int64_t sequence,
                 int64_t position) {
  int64_t pageTokens = cache.shape[1];
  if (position / pageTokens >= blockTable.width())
    return nullptr;
  int64_t page = blockTable.row(sequence)[position / pageTokens];
  if (page < 0 || page >= cache.shape[0])
    return nullptr;
  return cache.values.data() + (page * pageTokens + position % pageTokens) *
                                   cache.shape[2] * cache.shape[3];
}

LogicalResult append(llm::KvAppendOp op, RankState& s) {
  const Tensor &x = s.tensor(op.getX()), &table = s.tensor(op.getBlockTable()),
               &positions = s.tensor(op.getPositions());
  for (int64_t r = 0; r < x.rows(); ++r) {
    if (positions.values[r] < 0)
      continue;
    double* out = cacheRow(s.cache(op.getCache()), table, r / positions.width(),
                           positions.values[r]);
    if (!out)
      return op.emitOpError("position ")
             << positions.values[r] << " has no page";
    std::copy_n(x.row(r), x.width(), out);
  }
  return success();
}

LogicalResult attendCached(llm::CachedAttentionOp op, RankState& s) {
  const Tensor &q = s.tensor(op.getQ()), &table = s.tensor(op.getBlockTable()),
               &positions = s.tensor(op.getPositions());
  Tensor &keys = s.cache(op.getKeys()), &values = s.cache(op.getValues());
  int64_t headDim = op.getHeadDim(), group = op.getGroup();
  int64_t offset = s.valueHere(op.getHeadOffsetAttr(), 0);
  Tensor y(q.shape);
  for (int64_t r = 0; r < q.rows(); ++r)
    for (int64_t head = 0; head < q.width() / headDim; ++head) {
      // Padded heads may lie beyond the last.
      int64_t at = std::min((head + offset) / group, keys.shape[2] - 1);
      int64_t sequence = r / positions.width(), p = positions.values[r];
      int64_t first = op.getWindow() == 0
                          ? 0
                          : std::max<int64_t>(0, p - op.getWindow() + 1);
      std::vector<Seen> seen;
      for (int64_t other = first; other <= p; ++other) {
        double* key = cacheRow(keys, table, sequence, other);
        double* value = cacheRow(values, table, sequence, other);
        if (!key || !value)
          return op.emitOpError("position ") << other << " has no page";
        seen.push_back({key + at * headDim, value + at * headDim});
      }
      attend(q.row(r) + head * headDim, headDim, seen,
             op.getScale().convertToDouble(), op.getSoftcap().convertToDouble(),
             y.row(r) + head * headDim);
    }
  s.set(op.getResult(), std::move(y));
  return success();
}

Tensor compute(llm::SelectRowsOp op, RankState& s) {
  const Tensor &x = s.tensor(op.getX()), &valid = s.tensor(op.getValidRows());
  Tensor y({valid.numElements(), x.width()});
  int64_t perSequence = x.rows() / y.rows();
  for (int64_t i = 0; i < y.rows(); ++i) {
    int64_t last = std::max<int64_t>(1, valid.values[i]) - 1;
    std::copy_n(x.row(i * perSequence + last), x.width(), y.row(i));
  }
  return y;
}

/// Draws from one row: candidates by logit, then by lower index; the draw by
/// index.
int64_t draw(const double* logits, int64_t vocab, double temperature,
             int64_t topK, double topP, double uniform) {
  std::vector<int64_t> order(vocab);
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(),
                   [&](int64_t a, int64_t b) { return logits[a] > logits[b]; });
  if (temperature <= 0)
    return order.front();
  if (topK > 0 && topK < vocab)
    order.resize(topK);
  auto weight = [&](int64_t i) {
    return std::exp((logits[i] - logits[order.front()]) / temperature);
  };
  double total = 0, kept = 0;
  for (int64_t i : order)
    total += weight(i);
  size_t count = 0;
  while (count < order.size() &&
         (topP >= 1 || count == 0 || kept < topP * total))
    kept += weight(order[count++]);
  order.resize(count);
  std::vector<int64_t> byIndex = order;
  std::sort(byIndex.begin(), byIndex.end());
  double goal = uniform * kept, sum = 0;
  for (int64_t i : byIndex)
    if ((sum += weight(i)) > goal)
      return i;
  return byIndex.back();
}

Tensor compute(llm::SampleOp op, RankState& s) {
  const Tensor& logits = s.tensor(op.getLogits());
  Tensor y({logits.rows()});
  for (int64_t i = 0; i < logits.rows(); ++i) {
    auto of = [&](Value v) { return s.tensor(v).values[i]; };
    auto words = llmrt::philox4x32(
        {static_cast<uint32_t>(int64_t(of(op.getSequence()))),
         static_cast<uint32_t>(int64_t(of(op.getPositions()))), 0, 0},
        llmrt::philoxKey(int64_t(of(op.getSeed()))));
    y.values[i] = draw(logits.row(i), logits.width(), of(op.getTemperature()),
                       of(op.getTopK()), of(op.getTopP()),
                       llmrt::uniformFromWords(words[0], words[1]));
  }
  return y;
}

} // namespace

double activate(llm::ActivationKind kind, double x) {
  switch (kind) {
  case llm::ActivationKind::silu:
    return x / (1 + std::exp(-x));
  case llm::ActivationKind::gelu:
    return x / 2 * (1 + std::erf(x / std::sqrt(2.0)));
  case llm::ActivationKind::gelu_tanh:
    return x / 2 *
           (1 + std::tanh(std::sqrt(2 / kPi) * (x + 0.044715 * x * x * x)));
  case llm::ActivationKind::relu:
    return std::max(x, 0.0);
  }
  return NAN;
}

LogicalResult interpretOp(Operation* op, RankState& state) {
  return TypeSwitch<Operation*, LogicalResult>(op)
      .Case<llm::KvAppendOp>(
          [&](auto kvAppend) { return append(kvAppend, state); })
      .Case<llm::CachedAttentionOp>(
          [&](auto attention) { return attendCached(attention, state); })
      .Case<llm::EmbeddingOp, llm::LinearOp, llm::AddBiasOp, llm::RmsNormOp,
            llm::LayerNormOp, llm::RopeOp, llm::ActivationOp, llm::ScaleOp,
            llm::SoftCapOp, llm::AddOp, llm::MulOp, llm::GatedActivationOp,
            llm::OutputRowsOp, llm::AttentionOp, llm::SelectRowsOp,
            llm::SampleOp>([&](auto known) {
        state.set(known->getResult(0), compute(known, state));
        return success();
      })
      .Default([](Operation* other) {
        return other->emitOpError("is not an op that the interpreter knows");
      });
}

} // namespace llmc
