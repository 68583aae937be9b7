// SPDX-License-Identifier: Apache-2.0
// attention_rows: the bits of kv_append and attention over a cache, and a plain
// softmax in double. attention_gradient: the formulas in double from the same
// inputs; the same bits for every cut and thread count.
#include "tests/kernels/KernelRun.h"

namespace llmrt {
namespace {

using testing::Cut;
using testing::Guarded;

struct Shape {
  int64_t S, R, H, KV, D;
  int64_t window = 0;
  double softcap = 0.0;
  int64_t headOffset = 0;
  int64_t group = 0; // 0: so that KV heads are enough
  bool documents = false;
};

struct Problem {
  Shape shape;
  DType dtype;
  int64_t group, rows, ldq, ldk, ldv, ldo;
  std::vector<float> q, k, v, dout;
  std::vector<int32_t> starts;

  Problem(Shape s, DType dtype)
      : shape(s), dtype(dtype),
        group(s.group ? s.group : (s.H + s.headOffset + s.KV - 1) / s.KV),
        rows(s.S * s.R), ldq(s.H * s.D + 3), ldk(s.KV * s.D + 1),
        ldv(s.KV * s.D + 2), ldo(s.H * s.D + 4),
        q(testing::randomFloats(rows * ldq, 1)),
        k(testing::randomFloats(rows * ldk, 2)),
        v(testing::randomFloats(rows * ldv, 3)),
        dout(testing::randomFloats(rows * ldo, 4)) {
    // Documents of 37, 74, ... rows.
    for (int64_t r = 0; r < rows; ++r) {
      int64_t i = r % s.R, begin = 0;
      for (int64_t length = 37; begin + length <= i; length += 37)
        begin += length;
      starts.push_back(s.documents ? static_cast<int32_t>(begin) : 0);
    }
  }

  double scale() const { return 1.0 / std::sqrt(double(shape.D)); }

  float rounded(float x) const {
    return dtype == DType::F32 ? x : testing::fromBf16(testing::toBf16(x));
  }

  int64_t kvHead(int64_t h) const {
    return std::min((h + shape.headOffset) / group, shape.KV - 1);
  }

  int64_t firstSeen(int64_t row) const {
    int64_t i = row % shape.R, first = starts[row];
    if (shape.window)
      first = std::max(first, i - shape.window + 1);
    return row - i + first;
  }

  AttentionRowsArgs rowsArgs(float* out, float* logSum) const {
    AttentionRowsArgs a = {};
    a.rows = rows;
    a.q = q.data();
    a.k = k.data();
    a.v = v.data();
    a.starts = shape.documents ? starts.data() : nullptr;
    a.out = out;
    a.logSum = logSum;
    a.R = shape.R;
    a.H = shape.H;
    a.KV = shape.KV;
    a.D = shape.D;
    a.group = group;
    a.headOffset = shape.headOffset;
    a.dtype = static_cast<int64_t>(dtype);
    a.scale = scale();
    a.softcap = shape.softcap;
    a.window = shape.window;
    a.ldq = ldq;
    a.ldk = ldk;
    a.ldv = ldv;
    a.ldo = ldo;
    return a;
  }

  /// What row and head compute, in double. Scores are those of all rows up to
  /// this one; 0 weight where not seen.
  struct Reference {
    std::vector<double> score, weight; // by row from firstSeen(row)
    double logSum, worst;              // worst: largest sum of |q k| * scale
  };

  Reference reference(int64_t row, int64_t h) const {
    Reference ref = {{}, {}, 0.0, 0.0};
    double total = 0, largest = -1e300;
    for (int64_t t = firstSeen(row); t <= row; ++t) {
      double x = 0, magnitude = 0;
      for (int64_t d = 0; d < shape.D; ++d) {
        double term = double{q[row * ldq + h * shape.D + d]} *
                      rounded(k[t * ldk + kvHead(h) * shape.D + d]);
        x += term;
        magnitude += std::abs(term);
      }
      x *= scale();
      if (shape.softcap != 0)
        x = shape.softcap * std::tanh(x / shape.softcap);
      ref.worst = std::max(ref.worst, magnitude * scale());
      ref.score.push_back(x);
      largest = std::max(largest, x);
    }
    for (double x : ref.score)
      total += std::exp(x - largest);
    ref.logSum = largest + std::log(total);
    for (double x : ref.score)
      ref.weight.push_back(std::exp(x - ref.logSum));
    return ref;
  }
};

const std::vector<Shape> kShapes = {{1, 70, 4, 2, 64},
                                    {2, 65, 2, 1, 16},
                                    {1, 131, 3, 3, 33},
                                    {1, 200, 2, 2, 80, 70},
                                    {1, 90, 3, 1, 24, 1},
                                    {1, 150, 2, 1, 48, 0, 5.0},
                                    {1, 40, 5, 2, 256, 0, 0.0, 1},
                                    {1, 30, 7, 2, 24, 0, 3.0, 1, 2},
                                    {1, 66, 2, 1, 300, 65, 30.0},
                                    {2, 140, 2, 2, 32, 0, 0.0, 0, 0, true},
                                    {1, 200, 4, 2, 20, 50, 4.0, 0, 0, true},
                                    {1, 20, 3, 3, 16, 0, 0.0, 0, 2},
                                    {1, 1, 1, 1, 8}};

class AttentionShapes
    : public ::testing::TestWithParam<std::tuple<Shape, DType>> {};

/// kv_append and attention of the same rows, in a cache of their own.
std::vector<float> throughCache(const Problem& p, CpuLevel level) {
  const Shape& s = p.shape;
  const int64_t pages = (s.R + kPageTokens - 1) / kPageTokens;
  std::vector<int32_t> positions, table;
  for (int64_t r = 0; r < p.rows; ++r)
    positions.push_back(static_cast<int32_t>(r % s.R));
  for (int64_t i = 0; i < s.S * pages; ++i)
    table.push_back(static_cast<int32_t>(s.S * pages - 1 - i));
  const int64_t elements = s.S * pages * s.KV * s.D * kPageTokens;
  Guarded<float> keys(elements), values(elements);
  Guarded<float> out(p.rows * p.ldo);
  for (int64_t kind : {0, 1}) {
    KvAppendArgs a = {p.rows,
                      kind ? p.v.data() : p.k.data(),
                      positions.data(),
                      table.data(),
                      kind ? values.data() : keys.data(),
                      s.R,
                      s.KV,
                      s.D,
                      pages,
                      static_cast<int64_t>(p.dtype),
                      kind,
                      kind ? p.ldv : p.ldk};
    testing::runKernel("kv_append", level, a, p.rows, s.KV);
  }
  AttentionArgs a = {};
  a.rows = p.rows;
  a.q = p.q.data();
  a.keyCache = keys.data();
  a.valueCache = values.data();
  a.positions = positions.data();
  a.blockTable = table.data();
  a.out = out.data();
  a.R = s.R;
  a.H = s.H;
  a.KV = s.KV;
  a.D = s.D;
  a.group = p.group;
  a.headOffset = s.headOffset;
  a.pages = pages;
  a.dtype = static_cast<int64_t>(p.dtype);
  a.scale = p.scale();
  a.softcap = s.softcap;
  a.window = s.window;
  a.ldq = p.ldq;
  a.ldo = p.ldo;
  testing::runKernel("attention", level, a, p.rows, s.H);
  return out.values();
}

TEST_P(AttentionShapes, rowsGiveTheBitsOfTheCache) {
  auto [shape, dtype] = GetParam();
  if (shape.documents)
    GTEST_SKIP() << "a cache holds one document a sequence";
  Problem p(shape, dtype);
  for (CpuLevel level : testing::levels()) {
    std::vector<float> expected = throughCache(p, level);
    for (Cut cut : {Cut{1}, Cut{2}, Cut{1, 1, 1}, Cut{1, 37, 2}}) {
      Guarded<float> out(p.rows * p.ldo), logSum(p.rows * shape.H);
      testing::runKernel("attention_rows", level,
                         p.rowsArgs(out.data(), logSum.data()), p.rows, shape.H,
                         cut);
      EXPECT_TRUE(testing::sameBits(out.values(), expected))
          << cpuLevelName(level) << " " << cut.rows;
      EXPECT_TRUE(out.guardsHold() && logSum.guardsHold());
    }
  }
}

TEST_P(AttentionShapes, rowsAreCloseToTheSoftmaxInDouble) {
  auto [shape, dtype] = GetParam();
  Problem p(shape, dtype);
  for (CpuLevel level : testing::levels()) {
    Guarded<float> out(p.rows * p.ldo), logSum(p.rows * shape.H);
    testing::runKernel("attention_rows", level,
                       p.rowsArgs(out.data(), logSum.data()), p.rows, shape.H,
                       {2});
    for (int64_t r = 0; r < p.rows; ++r)
      for (int64_t h = 0; h < shape.H; ++h) {
        Problem::Reference ref = p.reference(r, h);
        // As AttentionTest; logSum is off by the score's error and the sum's
        // relative one, and is rounded once.
        double T = ref.weight.size();
        double scoreError = 0x1p-24 * (2 * shape.D + 16) * ref.worst;
        double relative = 2 * scoreError + 0x1p-24 * 2 * (2 * T + 16);
        ASSERT_NEAR(logSum[r * shape.H + h], ref.logSum,
                    relative + 0x1p-24 * std::abs(ref.logSum));
        for (int64_t d = 0; d < shape.D; ++d) {
          double sum = 0, magnitude = 0;
          for (int64_t t = 0; t < T; ++t) {
            double term =
                ref.weight[t] * p.rounded(p.v[(p.firstSeen(r) + t) * p.ldv +
                                              p.kvHead(h) * shape.D + d]);
            sum += term;
            magnitude += std::abs(term);
          }
          ASSERT_NEAR(out[r * p.ldo + h * shape.D + d], sum,
                      relative * magnitude)
              << r << " " << h << " " << d;
        }
      }
  }
}

/// The gradients, and for each the sum of the magnitudes of its terms.
struct Gradients {
  std::vector<double> dq, dk, dv, dqSize, dkSize, dvSize;
};

Gradients gradientsInDouble(const Problem& p) {
  const Shape& s = p.shape;
  Gradients g;
  for (auto* x : {&g.dq, &g.dqSize})
    x->assign(p.rows * s.H * s.D, 0.0);
  for (auto* x : {&g.dk, &g.dv, &g.dkSize, &g.dvSize})
    x->assign(p.rows * s.KV * s.D, 0.0);
  for (int64_t r = 0; r < p.rows; ++r)
    for (int64_t h = 0; h < s.H; ++h) {
      Problem::Reference ref = p.reference(r, h);
      const int64_t first = p.firstSeen(r), kv = p.kvHead(h);
      const float* dout = &p.dout[r * p.ldo + h * s.D];
      std::vector<double> dp;
      double delta = 0, deltaSize = 0;
      for (int64_t t = first; t <= r; ++t) {
        double sum = 0, size = 0;
        for (int64_t d = 0; d < s.D; ++d) {
          double term =
              double{dout[d]} * p.rounded(p.v[t * p.ldv + kv * s.D + d]);
          sum += term;
          size += std::abs(term);
        }
        dp.push_back(sum);
        delta += ref.weight[t - first] * sum;
        deltaSize += ref.weight[t - first] * size;
      }
      for (int64_t t = first; t <= r; ++t) {
        double w = ref.weight[t - first], score = ref.score[t - first];
        double slope = p.scale();
        if (s.softcap != 0)
          slope *= 1 - score / s.softcap * (score / s.softcap);
        double ds = w * (dp[t - first] - delta) * slope;
        double dsSize = w * (std::abs(dp[t - first]) + deltaSize) * p.scale();
        for (int64_t d = 0; d < s.D; ++d) {
          double k = p.rounded(p.k[t * p.ldk + kv * s.D + d]);
          double q = p.q[r * p.ldq + h * s.D + d];
          int64_t atQ = (r * s.H + h) * s.D + d;
          int64_t atK = (t * s.KV + kv) * s.D + d;
          g.dq[atQ] += ds * k;
          g.dk[atK] += ds * q;
          g.dv[atK] += w * dout[d];
          g.dqSize[atQ] += std::abs(dsSize * k);
          g.dkSize[atK] += std::abs(dsSize * q);
          g.dvSize[atK] += std::abs(w * dout[d]);
        }
      }
    }
  return g;
}

TEST_P(AttentionShapes, gradientsAreThoseOfTheFormulasInDouble) {
  auto [shape, dtype] = GetParam();
  const Shape s = shape;
  Problem p(s, dtype);
  Gradients expected = gradientsInDouble(p);
  // Of the sum of its terms' magnitudes: scores err by 2 D u of sizes that
  // reach 20 here, and up to 600 terms add 2 u each. Measured: under 3e-6.
  const double tolerance = 1e-5;
  for (CpuLevel level : testing::levels()) {
    SCOPED_TRACE(cpuLevelName(level));
    Guarded<float> out(p.rows * p.ldo), logSum(p.rows * s.H);
    testing::runKernel("attention_rows", level,
                       p.rowsArgs(out.data(), logSum.data()), p.rows, s.H);
    const int64_t lddq = s.H * s.D + 5, lddk = s.KV * s.D + 6,
                  lddv = s.KV * s.D + 7;
    std::vector<float> whole[3];
    for (Cut cut : {Cut{1}, Cut{2}, Cut{1, 1, 1}}) {
      Guarded<float> dq(p.rows * lddq), dk(p.rows * lddk), dv(p.rows * lddv);
      AttentionGradientArgs a = {s.S,
                                 p.q.data(),
                                 p.k.data(),
                                 p.v.data(),
                                 out.data(),
                                 p.dout.data(),
                                 s.documents ? p.starts.data() : nullptr,
                                 logSum.data(),
                                 dq.data(),
                                 dk.data(),
                                 dv.data(),
                                 s.R,
                                 s.H,
                                 s.KV,
                                 s.D,
                                 p.group,
                                 s.headOffset,
                                 static_cast<int64_t>(dtype),
                                 p.scale(),
                                 s.softcap,
                                 s.window,
                                 p.ldq,
                                 p.ldk,
                                 p.ldv,
                                 p.ldo,
                                 p.ldo,
                                 lddq,
                                 lddk,
                                 lddv};
      testing::runKernel("attention_gradient", level, a, s.S, s.KV, cut);
      for (int64_t r = 0; r < p.rows; ++r) {
        for (int64_t i = 0; i < s.H * s.D; ++i)
          ASSERT_NEAR(dq[r * lddq + i], expected.dq[r * s.H * s.D + i],
                      tolerance * expected.dqSize[r * s.H * s.D + i])
              << "dq row " << r << " " << i;
        for (int64_t i = 0; i < s.KV * s.D; ++i) {
          const int64_t at = r * s.KV * s.D + i;
          ASSERT_NEAR(dk[r * lddk + i], expected.dk[at],
                      tolerance * expected.dkSize[at])
              << "dk row " << r << " " << i;
          ASSERT_NEAR(dv[r * lddv + i], expected.dv[at],
                      tolerance * expected.dvSize[at])
              << "dv row " << r << " " << i;
        }
        for (int64_t i = s.H * s.D; i < lddq; ++i)
          ASSERT_TRUE(std::isnan(dq[r * lddq + i]));
      }
      EXPECT_TRUE(dq.guardsHold() && dk.guardsHold() && dv.guardsHold());
      std::vector<float> got[3] = {dq.values(), dk.values(), dv.values()};
      for (int i = 0; i < 3; ++i) {
        if (whole[i].empty())
          whole[i] = got[i];
        EXPECT_TRUE(testing::sameBits(whole[i], got[i])) << i;
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(All, AttentionShapes,
                         ::testing::Combine(::testing::ValuesIn(kShapes),
                                            ::testing::Values(DType::F32,
                                                              DType::BF16)));

} // namespace
} // namespace llmrt
