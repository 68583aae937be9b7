// SPDX-License-Identifier: Apache-2.0
// attention against a plain double-precision softmax over plainly indexed keys;
// the same bits for every company, cut and thread count; what a row does not
// see is NaN.
#include "tests/kernels/KernelRun.h"

namespace llmrt {
namespace {

using testing::Cut;
using testing::Guarded;

struct Shape {
  int64_t S, R, H, KV, D;
  int64_t window;
  double softcap;
  int64_t headOffset = 0;
  int64_t group = 0; // 0: so that KV heads are enough
};

/// A cache whose pages lie in disorder, filled with NaN but for the positions
/// in use.
struct Problem {
  Shape shape;
  DType dtype;
  int64_t group, pages;
  std::vector<int32_t> positions;
  std::vector<int32_t> blockTable;
  std::vector<float> q;
  std::vector<uint16_t> narrowKeys, narrowValues;
  std::vector<float> keys, values;

  Problem(Shape s, DType dtype, std::vector<int32_t> positions, int seed)
      : shape(s), dtype(dtype),
        group(s.group ? s.group : (s.H + s.headOffset + s.KV - 1) / s.KV),
        positions(positions),
        q(testing::randomFloats(s.S * s.R * s.H * s.D, seed)) {
    int32_t last = *std::max_element(positions.begin(), positions.end());
    pages = last / kPageTokens + 2;
    for (int64_t i = 0; i < s.S * pages; ++i)
      blockTable.push_back(static_cast<int32_t>((i * 7 + 3) % (s.S * pages)));
    // (i * 7 + 3) mod n is a permutation unless 7 divides n.
    if (s.S * pages % 7 == 0)
      for (size_t i = 0; i < blockTable.size(); ++i)
        blockTable[i] = static_cast<int32_t>(blockTable.size() - 1 - i);
    int64_t elements = s.S * pages * s.KV * s.D * kPageTokens;
    keys.assign(elements, Guarded<float>::poison());
    values = keys;
    std::mt19937 bits(seed + 1);
    std::normal_distribution<float> normal;
    for (int64_t seq = 0; seq < s.S; ++seq)
      for (int64_t p = firstUsed(seq); p <= lastUsed(seq); ++p)
        for (int64_t h = 0; h < s.KV; ++h)
          for (int64_t d = 0; d < s.D; ++d) {
            keys[keyAt(seq, h, p, d)] = rounded(normal(bits));
            values[valueAt(seq, h, p, d)] = rounded(normal(bits));
          }
    for (float v : keys)
      narrowKeys.push_back(std::isnan(v) ? 0xFFFF : testing::toBf16(v));
    for (float v : values)
      narrowValues.push_back(std::isnan(v) ? 0xFFFF : testing::toBf16(v));
  }

  float rounded(float v) const {
    return dtype == DType::F32 ? v : testing::fromBf16(testing::toBf16(v));
  }

  int64_t lastUsed(int64_t seq) const {
    return *std::max_element(positions.begin() + seq * shape.R,
                             positions.begin() + (seq + 1) * shape.R);
  }

  int64_t firstUsed(int64_t seq) const {
    int64_t first = lastUsed(seq);
    for (int64_t r = seq * shape.R; r < (seq + 1) * shape.R; ++r)
      if (positions[r] >= 0)
        first = std::min(first, firstSeen(positions[r]));
    return std::max<int64_t>(first, 0);
  }

  int64_t firstSeen(int64_t position) const {
    return shape.window ? std::max<int64_t>(0, position - shape.window + 1) : 0;
  }

  int64_t keyAt(int64_t seq, int64_t h, int64_t p, int64_t d) const {
    int64_t page = blockTable[seq * pages + p / kPageTokens];
    return ((page * shape.KV + h) * shape.D + d) * kPageTokens +
           p % kPageTokens;
  }

  int64_t valueAt(int64_t seq, int64_t h, int64_t p, int64_t d) const {
    int64_t page = blockTable[seq * pages + p / kPageTokens];
    return ((page * shape.KV + h) * kPageTokens + p % kPageTokens) * shape.D +
           d;
  }

  AttentionArgs args(float* out, int64_t ldo) const {
    AttentionArgs a = {};
    a.rows = shape.S * shape.R;
    a.q = q.data();
    a.keyCache = dtype == DType::F32 ? static_cast<const void*>(keys.data())
                                     : narrowKeys.data();
    a.valueCache = dtype == DType::F32 ? static_cast<const void*>(values.data())
                                       : narrowValues.data();
    a.positions = positions.data();
    a.blockTable = blockTable.data();
    a.out = out;
    a.R = shape.R;
    a.H = shape.H;
    a.KV = shape.KV;
    a.D = shape.D;
    a.group = group;
    a.headOffset = shape.headOffset;
    a.pages = pages;
    a.dtype = static_cast<int64_t>(dtype);
    a.scale = 1.0 / std::sqrt(static_cast<double>(shape.D));
    a.softcap = shape.softcap;
    a.window = shape.window;
    a.ldq = shape.H * shape.D;
    a.ldo = ldo;
    return a;
  }

  void expectRow(int64_t row, int64_t head, const float* out) const {
    const Shape& s = shape;
    int64_t position = positions[row];
    if (position < 0) {
      for (int64_t d = 0; d < s.D; ++d)
        ASSERT_EQ(out[d], 0.0f);
      return;
    }
    int64_t seq = row / s.R,
            h = std::min((head + s.headOffset) / group, s.KV - 1);
    std::vector<double> weight;
    double largest = -1e300, worst = 0;
    for (int64_t p = firstSeen(position); p <= position; ++p) {
      double score = 0, magnitude = 0;
      for (int64_t d = 0; d < s.D; ++d) {
        double term =
            double{q[(row * s.H + head) * s.D + d]} * keys[keyAt(seq, h, p, d)];
        score += term;
        magnitude += std::abs(term);
      }
      score /= std::sqrt(static_cast<double>(s.D));
      if (s.softcap != 0)
        score = s.softcap * std::tanh(score / s.softcap);
      worst = std::max(worst, magnitude / std::sqrt(double(s.D)));
      weight.push_back(score);
      largest = std::max(largest, score);
    }
    double total = 0;
    for (double& w : weight)
      total += w = std::exp(w - largest);
    // u = 2^-24. Scores err by 2 D u worst (D steps) and 16 u of their size
    // (scale, cap, difference), weights as much relatively, both in sum and
    // quotient; the sum over T values adds 2 T u, exp and the division 16 u.
    int64_t T = weight.size();
    double relative =
        0x1p-24 * (2 * (2 * s.D + 16) * worst + 2 * (2.0 * T + 16));
    for (int64_t d = 0; d < s.D; ++d) {
      double sum = 0, magnitude = 0;
      for (int64_t t = 0; t < T; ++t) {
        double v = values[valueAt(seq, h, firstSeen(position) + t, d)];
        sum += weight[t] * v;
        magnitude += weight[t] * std::abs(v);
      }
      ASSERT_NEAR(out[d], sum / total, relative * magnitude / total)
          << "row " << row << " head " << head << " d " << d;
    }
  }
};

std::vector<int32_t> consecutive(int32_t first, int64_t count) {
  std::vector<int32_t> positions(count);
  for (int64_t i = 0; i < count; ++i)
    positions[i] = static_cast<int32_t>(first + i);
  return positions;
}

std::vector<float> expectRight(const Problem& problem, CpuLevel level,
                               Cut cut) {
  const Shape& s = problem.shape;
  const int64_t ldo = s.H * s.D;
  Guarded<float> out(s.S * s.R * ldo);
  testing::runKernel("attention", level, problem.args(out.data(), ldo),
                     s.S * s.R, s.H, cut);
  for (int64_t r = 0; r < s.S * s.R; ++r)
    for (int64_t h = 0; h < s.H; ++h)
      problem.expectRow(r, h, out.data() + r * ldo + h * s.D);
  EXPECT_TRUE(out.guardsHold());
  return out.values();
}

void expectRightAndStable(const Problem& problem) {
  for (CpuLevel level : testing::levels()) {
    SCOPED_TRACE(cpuLevelName(level));
    std::vector<float> whole = expectRight(problem, level, {1});
    for (Cut cut : {Cut{2}, Cut{1, 16, 1}, Cut{1, 1, 1}, Cut{1, 5, 3}})
      EXPECT_TRUE(testing::sameBits(whole, expectRight(problem, level, cut)))
          << cut.threads << " " << cut.rows << " " << cut.cols;
  }
}

TEST(Attention, prefillFromTheStart) {
  for (DType dtype : {DType::F32, DType::BF16})
    for (int64_t D : {8, 33, 64, 80, 128})
      expectRightAndStable(
          Problem({1, 70, 4, 2, D, 0, 0.0}, dtype, consecutive(0, 70), 1));
}

TEST(Attention, laterChunk) {
  expectRightAndStable(
      Problem({1, 40, 3, 3, 64, 0, 0.0}, DType::BF16, consecutive(150, 40), 2));
}

TEST(Attention, decodeOfSeveralSequences) {
  for (DType dtype : {DType::F32, DType::BF16})
    expectRightAndStable(
        Problem({3, 1, 9, 3, 64, 0, 0.0}, dtype, {200, 0, 63}, 3));
}

TEST(Attention, windowAndSoftCap) {
  for (int64_t window : {1, 30, 64, 100})
    expectRightAndStable(Problem({1, 50, 2, 1, 48, window, 20.0}, DType::F32,
                                 consecutive(130, 50), 4));
}

TEST(Attention, rowsWithoutWorkAndGaps) {
  expectRightAndStable(Problem({2, 6, 2, 1, 16, 0, 0.0}, DType::F32,
                               {3, 4, 5, -1, -1, -1, 70, 140, 2, -1, 9, 64},
                               5));
}

TEST(Attention, headOffsetAndWideHeads) {
  expectRightAndStable(Problem({1, 3, 5, 2, 256, 0, 0.0, 1}, DType::BF16,
                               consecutive(62, 3), 6));
  expectRightAndStable(
      Problem({1, 3, 2, 1, 300, 0, 30.0}, DType::F32, consecutive(62, 3), 7));
}

TEST(Attention, paddedQueryHeadsReadTheLastKeyValueHead) {
  expectRightAndStable(Problem({1, 3, 7, 2, 24, 0, 0.0, 1, 2}, DType::F32,
                               consecutive(62, 3), 9));
}

TEST(Attention, bitsDoNotDependOnTheChunk) {
  // One prefill of 100 rows against chunks of 7 and rows one at a time.
  Shape s{1, 100, 4, 2, 40, 0, 0.0};
  Problem whole(s, DType::F32, consecutive(0, 100), 8);
  for (CpuLevel level : testing::levels()) {
    Guarded<float> all(100 * 160);
    testing::runKernel("attention", level, whole.args(all.data(), 160), 100, 4);
    for (int64_t chunk : {1, 7, 64}) {
      Guarded<float> out(100 * 160);
      for (int64_t r = 0; r < 100; r += chunk) {
        AttentionArgs a = whole.args(out.data() + r * 160, 160);
        a.rows = std::min<int64_t>(chunk, 100 - r);
        a.R = a.rows;
        a.q += r * 160;
        a.positions += r;
        testing::runKernel("attention", level, a, a.rows, 4);
      }
      EXPECT_TRUE(testing::sameBits(all.values(), out.values())) << chunk;
    }
  }
}

} // namespace
} // namespace llmrt
