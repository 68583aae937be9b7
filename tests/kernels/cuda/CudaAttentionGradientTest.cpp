// SPDX-License-Identifier: Apache-2.0
// attention_rows and attention_gradient on CUDA against the cpu kernels: groups
// of heads, packed documents, windows, soft-cap, padded heads; and against
// attention on CUDA over a cache of the same rows, to the bit.
#include "tests/kernels/cuda/CudaKernelCase.h"

namespace llmrt {
namespace {

using testing::Guarded;
using testing::sameBits;

struct Shape {
  int64_t S, R, H, KV, D;
  bool isPacked = false; // several documents in a sequence
  int64_t window = 0;
  double softcap = 0;
  int64_t headOffset = 0;
  int64_t group = 0; // 0: so that KV heads are enough
};

struct Problem {
  Shape shape;
  DType dtype;
  int64_t group, ldq, ldk;
  std::vector<float> q, k, v, dout;
  std::vector<int32_t> starts;

  Problem(const Shape& s, DType dtype)
      : shape(s), dtype(dtype),
        group(s.group ? s.group : (s.H + s.headOffset + s.KV - 1) / s.KV),
        ldq(s.H * s.D + 3), ldk(s.KV * s.D + 5),
        q(testing::randomFloats(rows() * ldq, 1)),
        k(testing::randomFloats(rows() * ldk, 2)),
        v(testing::randomFloats(rows() * ldk, 3)),
        dout(testing::randomFloats(rows() * ldq, 4)) {
    for (int64_t seq = 0; seq < s.S; ++seq)
      for (int64_t i = 0; i < s.R; ++i) {
        const int64_t length = 21 + 9 * seq;
        starts.push_back(
            static_cast<int32_t>(s.isPacked ? i / length * length : 0));
      }
  }

  int64_t rows() const { return shape.S * shape.R; }

  AttentionRowsArgs forward(float* out, float* logSum) const {
    const Shape& s = shape;
    AttentionRowsArgs a = {};
    a.rows = rows();
    a.q = q.data();
    a.k = k.data();
    a.v = v.data();
    a.starts = s.isPacked ? starts.data() : nullptr;
    a.out = out;
    a.logSum = logSum;
    a.R = s.R;
    a.H = s.H;
    a.KV = s.KV;
    a.D = s.D;
    a.group = group;
    a.headOffset = s.headOffset;
    a.dtype = static_cast<int64_t>(dtype);
    a.scale = 1.0 / std::sqrt(static_cast<double>(s.D));
    a.softcap = s.softcap;
    a.window = s.window;
    a.ldq = a.ldo = ldq;
    a.ldk = a.ldv = ldk;
    return a;
  }

  double bound() const {
    return dtype == DType::BF16 ? testing::kBf16Error : testing::kF32Error;
  }
};

/// What one device makes of a problem, the gradient from the cpu's forward
/// results.
struct Results {
  Guarded<float> dq, dk, dv;
};

Results gradientOf(const Problem& p, bool isCuda, const float* out,
                   const float* logSum) {
  Results r = {Guarded<float>(p.rows() * p.ldq),
               Guarded<float>(p.rows() * p.ldk),
               Guarded<float>(p.rows() * p.ldk)};
  const AttentionRowsArgs f = p.forward(nullptr, nullptr);
  AttentionGradientArgs a = {};
  a.sequences = p.shape.S;
  a.q = f.q;
  a.k = f.k;
  a.v = f.v;
  a.out = out;
  a.dout = p.dout.data();
  a.starts = f.starts;
  a.logSum = logSum;
  a.dq = r.dq.data();
  a.dk = r.dk.data();
  a.dv = r.dv.data();
  a.R = f.R;
  a.H = f.H;
  a.KV = f.KV;
  a.D = f.D;
  a.group = f.group;
  a.headOffset = f.headOffset;
  a.dtype = f.dtype;
  a.scale = f.scale;
  a.softcap = f.softcap;
  a.window = f.window;
  a.ldq = a.ldo = a.lddo = a.lddq = p.ldq;
  a.ldk = a.ldv = a.lddk = a.lddv = p.ldk;
  if (isCuda)
    testing::runCuda("attention_gradient", a, p.shape.S, p.shape.KV);
  else
    testing::runCpu("attention_gradient", a, p.shape.S, p.shape.KV);
  EXPECT_TRUE(r.dq.guardsHold() && r.dk.guardsHold() && r.dv.guardsHold());
  return r;
}

double largestOf(const std::vector<float>& values) {
  double largest = 0;
  for (float value : values)
    if (!std::isnan(value))
      largest = std::max(largest, std::abs(double{value}));
  return largest;
}

/// Where queries see one key each, dq and dk are the rounding of dout . v -
/// delta, 0 in exact numbers, and every level of cpu code has its own. dv says
/// how large the terms are.
double errorOf(const std::vector<float>& cuda, const std::vector<float>& cpu,
               const std::vector<float>& dv) {
  const double rounding = testing::kF32Error * largestOf(dv);
  if (largestOf(cpu) > rounding)
    return testing::relativeError(cuda, cpu);
  return largestOf(cuda) > rounding ? HUGE_VAL : 0.0;
}

void expectAgreement(const Shape& s, DType dtype) {
  SCOPED_TRACE(::testing::Message()
               << s.S << " x " << s.R << " rows, " << s.H << " of " << s.KV
               << " heads of " << s.D << " window " << s.window << " packed "
               << s.isPacked << " dtype " << static_cast<int>(dtype));
  const Problem p(s, dtype);
  Guarded<float> out(p.rows() * p.ldq), logSum(p.rows() * s.H);
  testing::runCpu("attention_rows", p.forward(out.data(), logSum.data()),
                  p.rows(), s.H);
  for (CudaFeatures features : testing::featuresToTry()) {
    testing::useFeatures(features);
    Guarded<float> cudaOut(p.rows() * p.ldq), cudaLogSum(p.rows() * s.H);
    testing::runCuda("attention_rows",
                     p.forward(cudaOut.data(), cudaLogSum.data()), p.rows(),
                     s.H);
    EXPECT_LT(testing::relativeError(cudaOut.values(), out.values()), p.bound())
        << "wgmma " << features.hasWgmma;
    EXPECT_LT(testing::relativeError(cudaLogSum.values(), logSum.values()),
              p.bound())
        << "wgmma " << features.hasWgmma;
    EXPECT_TRUE(cudaOut.guardsHold() && cudaLogSum.guardsHold());
  }
  Results cpu = gradientOf(p, false, out.data(), logSum.data());
  for (CudaFeatures features : testing::featuresToTry()) {
    testing::useFeatures(features);
    SCOPED_TRACE(features.hasWgmma ? "with wgmma" : "without wgmma");
    Results cuda = gradientOf(p, true, out.data(), logSum.data());
    EXPECT_LT(errorOf(cuda.dq.values(), cpu.dq.values(), cpu.dv.values()),
              p.bound());
    EXPECT_LT(errorOf(cuda.dk.values(), cpu.dk.values(), cpu.dv.values()),
              p.bound());
    EXPECT_LT(testing::relativeError(cuda.dv.values(), cpu.dv.values()),
              p.bound());
    EXPECT_TRUE(cuda.dq.guardsHold() && cuda.dk.guardsHold() &&
                cuda.dv.guardsHold());
  }
  testing::useFeatures({});
}

TEST(CudaAttentionGradient, oneAndSeveralSequences) {
  // In few rows little is left of dout . v - delta but its rounding.
  expectAgreement({1, 1, 1, 1, 16}, DType::F32);
  expectAgreement({1, 2, 1, 1, 16}, DType::F32);
  for (DType dtype : {DType::F32, DType::BF16}) {
    expectAgreement({1, 70, 2, 2, 64}, dtype);
    expectAgreement({2, 37, 4, 2, 32}, dtype);
  }
}

TEST(CudaAttentionGradient, oddAndWideHeads) {
  for (DType dtype : {DType::F32, DType::BF16}) {
    expectAgreement({1, 19, 3, 3, 37}, dtype);
    expectAgreement({1, 66, 2, 1, 128}, dtype);
    expectAgreement({1, 21, 1, 1, 256}, dtype);
  }
}

// More than one tile of own rows, more than two blocks of others.
TEST(CudaAttentionGradient, manyTiles) {
  expectAgreement({1, 200, 2, 1, 64}, DType::BF16);
  expectAgreement({1, 140, 1, 1, 128}, DType::BF16);
  expectAgreement({1, 130, 1, 1, 256}, DType::BF16);
  expectAgreement({1, 330, 2, 1, 32, true, 50, 20.0}, DType::BF16);
}

TEST(CudaAttentionGradient, groupsOfHeads) {
  for (DType dtype : {DType::F32, DType::BF16}) {
    expectAgreement({1, 40, 9, 3, 16}, dtype);
    expectAgreement({1, 40, 5, 2, 16, false, 0, 0, 2, 3}, dtype);
    expectAgreement({1, 40, 6, 2, 16, false, 0, 0, 0, 2}, dtype); // padded
    expectAgreement({1, 40, 2, 3, 16, false, 0, 0, 0, 1}, dtype); // unread
  }
}

TEST(CudaAttentionGradient, documentsWindowsAndSoftCap) {
  for (DType dtype : {DType::F32, DType::BF16}) {
    expectAgreement({2, 90, 2, 1, 32, true}, dtype);
    expectAgreement({1, 150, 2, 1, 32, false, 40}, dtype);
    expectAgreement({1, 90, 2, 1, 32, true, 13}, dtype);
    expectAgreement({1, 70, 2, 1, 32, false, 0, 5.0}, dtype);
  }
}

/// Attention on CUDA over a cache that holds the keys and values of a problem.
std::vector<float> throughCache(const Problem& p) {
  const Shape& s = p.shape;
  const int64_t pages = (s.R + kPageTokens - 1) / kPageTokens;
  std::vector<int32_t> positions, blockTable(s.S * pages);
  for (int64_t i = 0; i < s.S * pages; ++i)
    blockTable[i] = static_cast<int32_t>(s.S * pages - 1 - i);
  for (int64_t r = 0; r < p.rows(); ++r)
    positions.push_back(static_cast<int32_t>(r % s.R));
  Guarded<float> keys(s.S * pages * s.KV * kPageTokens * s.D);
  Guarded<float> values(keys.count());
  Guarded<uint16_t> narrowKeys(keys.count()), narrowValues(keys.count());
  const bool isFloat = p.dtype == DType::F32;
  void* caches[] = {
      isFloat ? static_cast<void*>(keys.data()) : narrowKeys.data(),
      isFloat ? static_cast<void*>(values.data()) : narrowValues.data()};
  for (int64_t kind : {0, 1})
    testing::runCuda("kv_append",
                     KvAppendArgs{p.rows(), kind == 0 ? p.k.data() : p.v.data(),
                                  positions.data(), blockTable.data(),
                                  caches[kind], s.R, s.KV, s.D, pages,
                                  static_cast<int64_t>(p.dtype), kind, p.ldk},
                     p.rows(), s.KV);
  Guarded<float> out(p.rows() * p.ldq);
  const AttentionRowsArgs f = p.forward(nullptr, nullptr);
  testing::runCuda("attention",
                   AttentionArgs{p.rows(),
                                 p.q.data(),
                                 caches[0],
                                 caches[1],
                                 positions.data(),
                                 blockTable.data(),
                                 out.data(),
                                 s.R,
                                 s.H,
                                 s.KV,
                                 s.D,
                                 p.group,
                                 s.headOffset,
                                 pages,
                                 f.dtype,
                                 f.scale,
                                 f.softcap,
                                 f.window,
                                 p.ldq,
                                 p.ldq},
                   p.rows(), s.H);
  return out.values();
}

// So a row's log-probability is the same in training and in inference.
TEST(CudaAttentionRows, hasTheBitsOfAttentionOverACache) {
  for (DType dtype : {DType::F32, DType::BF16})
    for (const Shape& s :
         {Shape{2, 70, 4, 2, 64}, Shape{1, 150, 2, 1, 32, false, 40},
          Shape{1, 33, 2, 1, 128, false, 0, 5.0}, Shape{1, 21, 1, 1, 37},
          Shape{1, 140, 1, 1, 128}, Shape{1, 70, 1, 1, 256}})
      for (CudaFeatures features : testing::featuresToTry()) {
        testing::useFeatures(features);
        const Problem p(s, dtype);
        Guarded<float> out(p.rows() * p.ldq), logSum(p.rows() * s.H);
        testing::runCuda("attention_rows", p.forward(out.data(), logSum.data()),
                         p.rows(), s.H);
        EXPECT_TRUE(sameBits(out.values(), throughCache(p)))
            << s.R << " rows of " << s.D << " dtype " << static_cast<int>(dtype)
            << " wgmma " << features.hasWgmma;
      }
  testing::useFeatures({});
}

TEST(CudaAttentionRows, refusesWiderHeads) {
  const Problem p({1, 1, 1, 1, 264}, DType::BF16);
  std::vector<float> out(p.ldq), logSum(1);
  const AttentionRowsArgs a = p.forward(out.data(), logSum.data());
  EXPECT_THAT(testing::runCudaKernel("attention_rows",
                                     reinterpret_cast<const uint64_t*>(&a), 1,
                                     1),
              ::testing::HasSubstr("LLMC-E0802"));
}

} // namespace
} // namespace llmrt
