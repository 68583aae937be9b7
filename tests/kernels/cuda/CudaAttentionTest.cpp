// SPDX-License-Identifier: Apache-2.0
// attention on CUDA against the cpu kernel: decode and many rows, several
// sequences, groups of heads, windows, soft-cap, padded heads; caches whose
// pages lie in disorder and hold NaN where nothing was written.
#include "tests/kernels/cuda/CudaKernelCase.h"
#include "tests/kernels/cuda/CudaPages.h"

#include <numeric>

namespace llmrt {
namespace {

using testing::Guarded;

struct Shape {
  int64_t S, R, H, KV, D;
  int64_t window = 0;
  double softcap = 0;
  int64_t headOffset = 0;
  int64_t group = 0; // 0: so that KV heads are enough
};

/// Both caches of the same keys and values.
struct Problem {
  Shape shape;
  DType dtype;
  int64_t group, pages;
  std::vector<int32_t> positions, blockTable;
  std::vector<float> q;
  std::vector<float> cpuKeys, cpuValues, cudaKeys, cudaValues;
  std::vector<uint16_t> narrowCpuKeys, narrowCpuValues, narrowCudaKeys,
      narrowCudaValues;

  Problem(const Shape& s, DType dtype, const std::vector<int32_t>& positions)
      : shape(s), dtype(dtype),
        group(s.group ? s.group : (s.H + s.headOffset + s.KV - 1) / s.KV),
        positions(positions),
        q(testing::randomFloats(s.S * s.R * queryStride(), 1)) {
    pages =
        *std::max_element(positions.begin(), positions.end()) / kPageTokens + 2;
    blockTable.resize(s.S * pages);
    std::iota(blockTable.begin(), blockTable.end(), 0);
    std::shuffle(blockTable.begin(), blockTable.end(),
                 std::mt19937(2 + testing::runSeed()));
    cpuKeys.assign(s.S * pages * s.KV * s.D * kPageTokens,
                   Guarded<float>::poison());
    cpuValues = cpuKeys;
    std::mt19937 bits(3 + testing::runSeed());
    std::normal_distribution<float> normal;
    for (int64_t seq = 0; seq < s.S; ++seq)
      for (int64_t p = firstUsed(seq); p <= lastUsed(seq); ++p)
        for (int64_t h = 0; h < s.KV; ++h)
          for (int64_t d = 0; d < s.D; ++d)
            set(seq, p, h, d, rounded(normal(bits)), rounded(normal(bits)));
    narrowCpuKeys = testing::narrowed(cpuKeys);
    narrowCpuValues = testing::narrowed(cpuValues);
    cudaKeys = testing::pagesOnCuda(cpuKeys, s.D, true);
    cudaValues = testing::pagesOnCuda(cpuValues, s.D, false);
    narrowCudaKeys = testing::pagesOnCuda(narrowCpuKeys, s.D, true);
    narrowCudaValues = testing::pagesOnCuda(narrowCpuValues, s.D, false);
  }

  // Decode has a form for queries and caches of whole 16-byte accesses.
  int64_t queryStride() const {
    return shape.H * shape.D + (shape.H % 2 == 0 ? 4 : 3);
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
        first = std::min<int64_t>(
            first, shape.window ? positions[r] - shape.window + 1 : 0);
    return std::max<int64_t>(first, 0);
  }

  void set(int64_t seq, int64_t p, int64_t h, int64_t d, float key,
           float value) {
    const int64_t page = blockTable[seq * pages + p / kPageTokens];
    const int64_t head = (page * shape.KV + h) * kPageTokens * shape.D;
    const int64_t slot = p % kPageTokens;
    cpuKeys[head + d * kPageTokens + slot] = key;
    cpuValues[head + slot * shape.D + d] = value;
  }

  AttentionArgs args(float* out, bool isCuda) const {
    const Shape& s = shape;
    AttentionArgs a = {};
    a.rows = s.S * s.R;
    a.q = q.data();
    const bool isFloat = dtype == DType::F32;
    const auto& keys = isCuda ? cudaKeys : cpuKeys;
    const auto& values = isCuda ? cudaValues : cpuValues;
    const auto& narrowKeys = isCuda ? narrowCudaKeys : narrowCpuKeys;
    const auto& narrowValues = isCuda ? narrowCudaValues : narrowCpuValues;
    a.keyCache =
        isFloat ? static_cast<const void*>(keys.data()) : narrowKeys.data();
    a.valueCache =
        isFloat ? static_cast<const void*>(values.data()) : narrowValues.data();
    a.positions = positions.data();
    a.blockTable = blockTable.data();
    a.out = out;
    a.R = s.R;
    a.H = s.H;
    a.KV = s.KV;
    a.D = s.D;
    a.group = group;
    a.headOffset = s.headOffset;
    a.pages = pages;
    a.dtype = static_cast<int64_t>(dtype);
    a.scale = 1.0 / std::sqrt(static_cast<double>(s.D));
    a.softcap = s.softcap;
    a.window = s.window;
    a.ldq = queryStride();
    a.ldo = s.H * s.D + 1;
    return a;
  }
};

void expectAgreement(const Shape& s, DType dtype,
                     const std::vector<int32_t>& positions,
                     int64_t validRows = -1) {
  SCOPED_TRACE(::testing::Message()
               << s.S << " x " << s.R << " rows, " << s.H << " of " << s.KV
               << " heads of " << s.D << " window " << s.window << " dtype "
               << static_cast<int>(dtype));
  Problem problem(s, dtype, positions);
  const int64_t rows = s.S * s.R;
  Guarded<float> cpu(rows * (s.H * s.D + 1));
  AttentionArgs a = problem.args(cpu.data(), false);
  a.rows = validRows < 0 ? rows : validRows;
  testing::runCpu("attention", a, a.rows, s.H);
  const bool isRounded = dtype == DType::BF16 && s.R > 4;
  for (CudaFeatures features : testing::featuresToTry()) {
    if (features.hasWgmma && !isRounded)
      continue; // the same form
    testing::useFeatures(features);
    Guarded<float> cuda(rows * (s.H * s.D + 1));
    AttentionArgs b = problem.args(cuda.data(), true);
    b.rows = a.rows;
    testing::runCuda("attention", b, rows, s.H);
    EXPECT_LT(testing::relativeError(cuda.values(), cpu.values()),
              isRounded ? testing::kBf16Error : testing::kF32Error)
        << "wgmma " << features.hasWgmma;
    EXPECT_TRUE(cuda.guardsHold());
  }
  testing::useFeatures({});
}

std::vector<int32_t> consecutive(int32_t first, int64_t count) {
  std::vector<int32_t> positions(count);
  std::iota(positions.begin(), positions.end(), first);
  return positions;
}

TEST(CudaAttention, decodeOfOneSequence) {
  for (DType dtype : {DType::F32, DType::BF16})
    for (int32_t position : {0, 1, 63, 64, 700}) {
      expectAgreement({1, 1, 4, 4, 64}, dtype, {position});
      expectAgreement({1, 1, 8, 2, 128}, dtype, {position});
    }
}

// Each form, with caches that take one step of a block, some, and more blocks
// than are added up at a time.
TEST(CudaAttention, decodeOfEachGroupAndWidth) {
  for (int64_t group : {1, 2, 4, 8})
    for (int64_t D : {64, 96, 128, 192, 256})
      for (int32_t position : {0, 33, 310, 1500})
        expectAgreement({1, 1, 2 * group, 2, D}, DType::BF16, {position});
  expectAgreement({1, 1, 8, 2, 64}, DType::BF16, {4200});
  expectAgreement({1, 1, 8, 2, 64, 700, 20.0}, DType::BF16, {1333});
  expectAgreement({1, 1, 7, 1, 64}, DType::BF16, {500}); // of other accesses
}

TEST(CudaAttention, decodeOfOddHeadsAndGroups) {
  for (DType dtype : {DType::F32, DType::BF16}) {
    expectAgreement({1, 1, 6, 2, 80}, dtype, {130});
    expectAgreement({1, 1, 9, 3, 37}, dtype, {200});
    expectAgreement({1, 1, 8, 1, 256}, dtype, {150});
    expectAgreement({1, 1, 21, 1, 24}, dtype, {90}); // three columns of heads
    expectAgreement({1, 1, 5, 2, 16, 0, 0, 2, 3}, dtype, {90});
    expectAgreement({1, 1, 6, 2, 16, 0, 0, 0, 2}, dtype, {90}); // padded heads
  }
}

TEST(CudaAttention, decodeOfSeveralSequences) {
  for (DType dtype : {DType::F32, DType::BF16}) {
    expectAgreement({3, 1, 4, 2, 64}, dtype, {70, -1, 300});
    expectAgreement({2, 3, 4, 2, 32}, dtype, {5, 6, 7, 190, 191, -1});
    expectAgreement({70, 1, 4, 4, 16}, dtype, consecutive(3, 70));
  }
}

TEST(CudaAttention, windowsAndSoftCap) {
  for (DType dtype : {DType::F32, DType::BF16}) {
    expectAgreement({1, 1, 4, 2, 64, 50, 0}, dtype, {333});
    expectAgreement({1, 1, 4, 2, 64, 0, 30.0}, dtype, {333});
    expectAgreement({1, 20, 4, 2, 64, 50, 20.0}, dtype, consecutive(300, 20));
    expectAgreement({1, 70, 2, 2, 64, 1, 0}, dtype, consecutive(0, 70));
  }
}

TEST(CudaAttention, manyRows) {
  for (DType dtype : {DType::F32, DType::BF16}) {
    expectAgreement({1, 70, 2, 1, 64}, dtype, consecutive(0, 70));
    expectAgreement({1, 33, 4, 2, 128}, dtype, consecutive(100, 33));
    expectAgreement({1, 17, 2, 2, 256}, dtype, consecutive(64, 17));
    expectAgreement({1, 9, 3, 3, 80}, dtype, consecutive(60, 9));
    expectAgreement({1, 9, 3, 3, 37}, dtype, consecutive(60, 9));
    expectAgreement({1, 150, 2, 1, 192}, dtype, consecutive(30, 150));
  }
}

TEST(CudaAttention, manyRowsOfSeveralSequences) {
  std::vector<int32_t> positions = consecutive(40, 30);
  for (int32_t p : consecutive(0, 30))
    positions.push_back(p < 21 ? p : -1);
  for (DType dtype : {DType::F32, DType::BF16})
    expectAgreement({2, 30, 2, 1, 64}, dtype, positions);
}

// More than one tile of queries, more than two blocks of keys, both before and
// behind the first of them.
TEST(CudaAttention, manyTiles) {
  const DType dtype = DType::BF16;
  expectAgreement({1, 300, 2, 1, 64}, dtype, consecutive(0, 300));
  expectAgreement({1, 140, 1, 1, 128}, dtype, consecutive(190, 140));
  expectAgreement({1, 130, 1, 1, 96}, dtype, consecutive(0, 130));
  expectAgreement({1, 129, 1, 1, 256}, dtype, consecutive(70, 129));
  expectAgreement({1, 200, 2, 1, 64, 70, 0}, dtype, consecutive(150, 200));
  expectAgreement({1, 200, 1, 1, 128, 70, 25.0}, dtype, consecutive(40, 200));
  expectAgreement({2, 150, 2, 2, 80}, dtype, [] {
    std::vector<int32_t> positions = consecutive(5, 150);
    for (int32_t p : consecutive(60, 150))
      positions.push_back(p < 190 ? p : -1);
    return positions;
  }());
}

// Tiles of which few rows see anything, or none.
TEST(CudaAttention, rowsWithoutTokens) {
  std::vector<int32_t> none(70, -1), few(70, -1);
  few[3] = 0;
  few[66] = 65;
  expectAgreement({1, 70, 2, 1, 64}, DType::BF16, few);
  none.push_back(0); // of another sequence: something to compare
  none.resize(140, -1);
  expectAgreement({2, 70, 2, 1, 64}, DType::BF16, none);
}

TEST(CudaAttention, leavesInvalidRowsAlone) {
  for (DType dtype : {DType::F32, DType::BF16})
    for (int64_t valid : {1, 40})
      expectAgreement({1, 70, 2, 1, 64}, dtype, consecutive(0, 70), valid);
}

TEST(CudaAttention, refusesWiderHeads) {
  Problem problem({1, 1, 1, 1, 264}, DType::F32, {3});
  Guarded<float> out(300);
  AttentionArgs a = problem.args(out.data(), true);
  EXPECT_THAT(testing::runCudaKernel(
                  "attention", reinterpret_cast<const uint64_t*>(&a), 1, 1),
              ::testing::HasSubstr("LLMC-E0802"));
}

} // namespace
} // namespace llmrt
