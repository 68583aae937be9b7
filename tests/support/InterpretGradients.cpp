// SPDX-License-Identifier: Apache-2.0
// One short function for each gradient op. Plain loops; checked by difference
// quotients in tests/values/GradientTest.cpp.
#include "tests/support/InterpretOps.h"
#include "tests/support/InterpretTraining.h"

#include "llvm/ADT/TypeSwitch.h"

#include <algorithm>
#include <cmath>
#include <numeric>

using namespace mlir;

namespace llmc {
namespace {

constexpr double kPi = 3.14159265358979323846;

Tensor zerosLike(Value v) {
  return Tensor(cast<RankedTensorType>(v.getType()).getShape().vec());
}

/// y += factor * x, n elements.
void addScaled(double factor, const double* x, double* y, int64_t n) {
  for (int64_t i = 0; i < n; ++i)
    y[i] += factor * x[i];
}

double dot(const double* a, const double* b, int64_t n) {
  return std::inner_product(a, a + n, b, 0.0);
}

double activationSlope(llm::ActivationKind kind, double x) {
  switch (kind) {
  case llm::ActivationKind::silu: {
    double gate = 1 / (1 + std::exp(-x));
    return gate * (1 + x * (1 - gate));
  }
  case llm::ActivationKind::gelu:
    return (1 + std::erf(x / std::sqrt(2.0))) / 2 +
           x * std::exp(-x * x / 2) / std::sqrt(2 * kPi);
  case llm::ActivationKind::gelu_tanh: {
    double c = std::sqrt(2 / kPi);
    double t = std::tanh(c * (x + 0.044715 * x * x * x));
    return (1 + t) / 2 + x / 2 * (1 - t * t) * c * (1 + 3 * 0.044715 * x * x);
  }
  case llm::ActivationKind::relu:
    return x > 0 ? 1 : 0;
  }
  return NAN;
}

double softCapSlope(double cap, double x) {
  double t = std::tanh(x / cap);
  return 1 - t * t;
}

void compute(llm::LinearInputGradientOp op, RankState& s) {
  const Tensor &dy = s.tensor(op.getDy()), &w = s.tensor(op.getWeight());
  Tensor dx({dy.rows(), w.width()});
  for (int64_t r = 0; r < dy.rows(); ++r)
    for (int64_t n = 0; n < w.rows(); ++n)
      addScaled(dy.row(r)[n], w.row(n), dx.row(r), w.width());
  s.set(op.getResult(), std::move(dx));
}

void compute(llm::LinearWeightGradientOp op, RankState& s) {
  const Tensor &dy = s.tensor(op.getDy()), &x = s.tensor(op.getX());
  Tensor dw({dy.width(), x.width()});
  for (int64_t r = 0; r < dy.rows(); ++r)
    for (int64_t n = 0; n < dy.width(); ++n)
      addScaled(dy.row(r)[n], x.row(r), dw.row(n), x.width());
  s.set(op.getResult(), std::move(dw));
}

void compute(llm::SumRowsOp op, RankState& s) {
  const Tensor& x = s.tensor(op.getX());
  Tensor sum = zerosLike(op.getResult());
  for (int64_t i = 0; i < x.numElements(); ++i)
    sum.values[i % sum.numElements()] += x.values[i];
  s.set(op.getResult(), std::move(sum));
}

void compute(llm::EmbeddingGradientOp op, RankState& s) {
  const Tensor &ids = s.tensor(op.getIds()), &dy = s.tensor(op.getDy());
  Tensor table = zerosLike(op.getResult());
  int64_t begin = s.valueHere(op.getVocabBeginAttr(), 0);
  int64_t count = s.valueHere(op.getVocabCountAttr(), table.rows());
  for (int64_t r = 0; r < dy.rows(); ++r) {
    int64_t id = static_cast<int64_t>(ids.values[r]) - begin;
    if (id >= 0 && id < count)
      addScaled(1, dy.row(r), table.row(id), dy.width());
  }
  s.set(op.getResult(), std::move(table));
}

void compute(llm::RmsNormGradientOp op, RankState& s) {
  const Tensor &dy = s.tensor(op.getDy()), &x = s.tensor(op.getX()),
               &weight = s.tensor(op.getWeight());
  Tensor dx(x.shape), scaled(x.shape);
  int64_t width = weight.numElements();
  double offset = op.getOffset().convertToDouble();
  for (int64_t at = 0; at < x.numElements(); at += width) {
    const double *xs = &x.values[at], *dys = &dy.values[at];
    double r = 1 / std::sqrt(dot(xs, xs, width) / width +
                             op.getEps().convertToDouble());
    std::vector<double> g(width);
    for (int64_t c = 0; c < width; ++c)
      g[c] = dys[c] * (weight.values[c] + offset);
    double mean = dot(g.data(), xs, width) / width;
    for (int64_t c = 0; c < width; ++c) {
      dx.values[at + c] = r * (g[c] - xs[c] * r * r * mean);
      scaled.values[at + c] = dys[c] * xs[c] * r;
    }
  }
  s.set(op.getDx(), std::move(dx));
  s.set(op.getScaled(), std::move(scaled));
}

void compute(llm::LayerNormGradientOp op, RankState& s) {
  const Tensor &dy = s.tensor(op.getDy()), &x = s.tensor(op.getX()),
               &weight = s.tensor(op.getWeight());
  Tensor dx(x.shape), scaled(x.shape);
  int64_t width = x.width();
  for (int64_t row = 0; row < x.rows(); ++row) {
    std::vector<double> h(x.row(row), x.row(row) + width), g(width);
    double mean = std::accumulate(h.begin(), h.end(), 0.0) / width;
    for (double& value : h)
      value -= mean;
    double r = 1 / std::sqrt(dot(h.data(), h.data(), width) / width +
                             op.getEps().convertToDouble());
    for (int64_t c = 0; c < width; ++c) {
      h[c] *= r;
      g[c] = dy.row(row)[c] * weight.values[c];
    }
    double meanG = std::accumulate(g.begin(), g.end(), 0.0) / width;
    double meanGh = dot(g.data(), h.data(), width) / width;
    for (int64_t c = 0; c < width; ++c) {
      dx.row(row)[c] = r * (g[c] - meanG - h[c] * meanGh);
      scaled.row(row)[c] = dy.row(row)[c] * h[c];
    }
  }
  s.set(op.getDx(), std::move(dx));
  s.set(op.getScaled(), std::move(scaled));
}

void compute(llm::ActivationGradientOp op, RankState& s) {
  Tensor dx = s.tensor(op.getDy());
  const Tensor& x = s.tensor(op.getX());
  for (int64_t i = 0; i < x.numElements(); ++i)
    dx.values[i] *= activationSlope(op.getKind(), x.values[i]);
  s.set(op.getResult(), std::move(dx));
}

void compute(llm::GatedActivationGradientOp op, RankState& s) {
  Tensor dgate = s.tensor(op.getDy()), dup = dgate;
  const Tensor &gate = s.tensor(op.getGate()), &up = s.tensor(op.getUp());
  for (int64_t i = 0; i < gate.numElements(); ++i) {
    dgate.values[i] *=
        up.values[i] * activationSlope(op.getKind(), gate.values[i]);
    dup.values[i] *= activate(op.getKind(), gate.values[i]);
  }
  s.set(op.getDgate(), std::move(dgate));
  s.set(op.getDup(), std::move(dup));
}

void compute(llm::SoftCapGradientOp op, RankState& s) {
  Tensor dx = s.tensor(op.getDy());
  const Tensor& x = s.tensor(op.getX());
  for (int64_t i = 0; i < x.numElements(); ++i)
    dx.values[i] *= softCapSlope(op.getCap().convertToDouble(), x.values[i]);
  s.set(op.getResult(), std::move(dx));
}

//===-- attention ---------------------------------------------------------===//

/// What `row_attention` and its gradient have in common: which key a query
/// sees, and its score.
template <typename Op>
class RowScores {
public:
  RowScores(Op op, const RankState& s)
      : headDim(op.getHeadDim()), scale(op.getScale().convertToDouble()),
        q_(s.tensor(op.getQ())), k_(s.tensor(op.getK())),
        starts_(s.tensor(op.getStarts())), group_(op.getGroup()),
        window_(op.getWindow()),
        headOffset_(s.valueHere(op.getHeadOffsetAttr(), 0)),
        softcap_(op.getSoftcap().convertToDouble()) {}

  int64_t numHeads() const { return q_.width() / headDim; }

  /// First row of the tensor that row r sees; the last one is r.
  int64_t firstRow(int64_t r) const {
    int64_t sequence = r / starts_.width() * starts_.width();
    int64_t first = sequence + static_cast<int64_t>(starts_.values[r]);
    return window_ == 0 ? first : std::max(first, r - window_ + 1);
  }

  /// First column of the key and value that a query head reads.
  int64_t keyColumn(int64_t head) const {
    return headDim *
           std::min((head + headOffset_) / group_, k_.width() / headDim - 1);
  }

  /// The score of row r for row `other`, and its slope over that of the scaled
  /// product.
  std::pair<double, double> score(int64_t r, int64_t other,
                                  int64_t head) const {
    double product = scale * dot(q_.row(r) + head * headDim,
                                 k_.row(other) + keyColumn(head), headDim);
    if (softcap_ == 0)
      return {product, 1};
    return {softcap_ * std::tanh(product / softcap_),
            softCapSlope(softcap_, product)};
  }

  const int64_t headDim;
  const double scale;

private:
  const Tensor &q_, &k_, &starts_;
  int64_t group_, window_, headOffset_;
  double softcap_;
};

void compute(llm::RowAttentionOp op, RankState& s) {
  RowScores scores(op, s);
  const Tensor& v = s.tensor(op.getV());
  Tensor y = zerosLike(op.getResult()), logSum = zerosLike(op.getLogSum());
  for (int64_t r = 0; r < y.rows(); ++r)
    for (int64_t head = 0; head < scores.numHeads(); ++head) {
      std::vector<double> seen;
      int64_t first = scores.firstRow(r);
      for (int64_t other = first; other <= r; ++other)
        seen.push_back(scores.score(r, other, head).first);
      double most = *std::max_element(seen.begin(), seen.end()), sum = 0;
      for (double score : seen)
        sum += std::exp(score - most);
      logSum.row(r)[head] = most + std::log(sum);
      for (int64_t other = first; other <= r; ++other)
        addScaled(std::exp(seen[other - first] - most) / sum,
                  v.row(other) + scores.keyColumn(head),
                  y.row(r) + head * scores.headDim, scores.headDim);
    }
  s.set(op.getResult(), std::move(y));
  s.set(op.getLogSum(), std::move(logSum));
}

void compute(llm::RowAttentionGradientOp op, RankState& s) {
  RowScores scores(op, s);
  const Tensor &dy = s.tensor(op.getDy()), &q = s.tensor(op.getQ()),
               &k = s.tensor(op.getK()), &v = s.tensor(op.getV()),
               &out = s.tensor(op.getOut()), &logSum = s.tensor(op.getLogSum());
  Tensor dq(q.shape), dk(k.shape), dv(v.shape);
  int64_t headDim = scores.headDim;
  for (int64_t r = 0; r < q.rows(); ++r)
    for (int64_t head = 0; head < scores.numHeads(); ++head) {
      int64_t at = head * headDim, keyAt = scores.keyColumn(head);
      double own = dot(dy.row(r) + at, out.row(r) + at, headDim);
      for (int64_t other = scores.firstRow(r); other <= r; ++other) {
        auto [score, slope] = scores.score(r, other, head);
        double p = std::exp(score - logSum.row(r)[head]);
        double dp = dot(dy.row(r) + at, v.row(other) + keyAt, headDim);
        double ds = p * (dp - own) * slope * scores.scale;
        addScaled(p, dy.row(r) + at, dv.row(other) + keyAt, headDim);
        addScaled(ds, k.row(other) + keyAt, dq.row(r) + at, headDim);
        addScaled(ds, q.row(r) + at, dk.row(other) + keyAt, headDim);
      }
    }
  s.set(op.getDq(), std::move(dq));
  s.set(op.getDk(), std::move(dk));
  s.set(op.getDv(), std::move(dv));
}

} // namespace

bool interpretGradientOp(Operation* op, RankState& state) {
  return TypeSwitch<Operation*, bool>(op)
      .Case<llm::LinearInputGradientOp, llm::LinearWeightGradientOp,
            llm::SumRowsOp, llm::EmbeddingGradientOp, llm::RmsNormGradientOp,
            llm::LayerNormGradientOp, llm::ActivationGradientOp,
            llm::GatedActivationGradientOp, llm::SoftCapGradientOp,
            llm::RowAttentionOp, llm::RowAttentionGradientOp>([&](auto known) {
        compute(known, state);
        return true;
      })
      .Default(false);
}

} // namespace llmc
