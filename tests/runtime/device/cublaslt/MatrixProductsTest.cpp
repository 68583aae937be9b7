// SPDX-License-Identifier: Apache-2.0
// Products of matrices through a library that computes what its descriptors
// say: every form against plain loops, which algorithm is taken, and how often
// the library is asked.
#include "runtime/device/cublaslt/MatrixProducts.h"
#include "tests/support/cuda/FakeCublasLt.h"

#include <bit>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <numeric>
#include <random>
#include <unistd.h>

namespace llmrt {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

constexpr int64_t kWorkspaceBytes = int64_t{32} << 20;

/// A small integer as bf16, so that sums are exact in any order.
uint16_t bf16Of(int value) {
  return std::bit_cast<uint32_t>(static_cast<float>(value)) >> 16;
}

/// A stored bf16 matrix with rubbish (NaN) between its rows.
struct Stored {
  Stored(int64_t rows, int64_t cols, int64_t ld, std::mt19937& random)
      : ld(ld), values(rows * ld, 0xFFFF) {
    for (int64_t r = 0; r < rows; ++r)
      for (int64_t c = 0; c < cols; ++c)
        values[r * ld + c] = bf16Of(static_cast<int>(random() % 9) - 4);
  }

  float at(int64_t row, int64_t col) const {
    return std::bit_cast<float>(uint32_t{values[row * ld + col]} << 16);
  }

  int64_t ld;
  std::vector<uint16_t> values;
};

/// What is behind a product.
struct Behind {
  bool hasAddend = false; // that is not the result
  bool hasBias = false;
  bool hasGelu = false;
};

class MatrixProductsTest : public testing::Test {
protected:
  void SetUp() override {
    path_ = (std::filesystem::temp_directory_path() /
             ("llmrt-tuning-" + std::to_string(getpid()) + "-" +
              testing::UnitTest::GetInstance()->current_test_info()->name()) /
             "cache.json")
                .string();
    std::filesystem::remove_all(std::filesystem::path(path_).parent_path());
  }

  void TearDown() override {
    products_.reset();
    std::filesystem::remove_all(std::filesystem::path(path_).parent_path());
    EXPECT_EQ(test::fakeLtCounts().objects, 0);
  }

  /// As a process that starts.
  void start(const std::string& gpu = "GPU A") {
    products_.reset();
    test::fakeLtCounts() = {};
    timer_ = {};
    auto cache = TuningCache::open(path_);
    ASSERT_TRUE(cache.ok()) << cache.status();
    auto made = MatrixProducts::create(test::fakeLtTable(), *std::move(cache),
                                       gpu, timer_);
    ASSERT_TRUE(made.ok()) << made.status();
    products_ = *std::move(made);
  }

  MatrixProducts::Place place() {
    return {workspace_.data(), kWorkspaceBytes, &stream_};
  }

  /// Multiplies and compares with plain loops.
  void expectProduct(int64_t m, int64_t n, int64_t k, bool transposeA,
                     bool transposeB, bool accumulates,
                     const Behind& behind = {}) {
    SCOPED_TRACE(testing::Message() << m << " x " << n << " x " << k << " "
                                    << transposeA << transposeB << accumulates);
    std::mt19937 random(m * 100 + n * 10 + k);
    auto distance = [](int64_t cols) { return (cols + 7) / 8 * 8 + 8; };
    Stored a(transposeA ? k : m, transposeA ? m : k,
             distance(transposeA ? m : k), random);
    Stored b(transposeB ? n : k, transposeB ? k : n,
             distance(transposeB ? k : n), random);
    const int64_t ldc = distance(n);
    std::vector<float> c(m * ldc, accumulates ? 3.0f : NAN);
    MatrixProduct product{m,
                          n,
                          k,
                          a.values.data(),
                          a.ld,
                          transposeA,
                          b.values.data(),
                          b.ld,
                          transposeB,
                          c.data(),
                          ldc};
    if (accumulates) {
      product.addend = c.data();
      product.ldAddend = ldc;
    }
    std::vector<float> addend(m * (ldc + 4), 5.0f), bias(n);
    std::iota(bias.begin(), bias.end(), -3.0f);
    if (behind.hasAddend) {
      product.addend = addend.data();
      product.ldAddend = ldc + 4;
    }
    product.bias = behind.hasBias ? bias.data() : nullptr;
    product.hasGelu = behind.hasGelu;
    const std::vector<uint16_t> values = a.values;
    if (accumulates) // what is tried must add nothing
      std::fill(a.values.begin(), a.values.end(), 0);
    auto isThere = products_->prepare(product, place());
    ASSERT_TRUE(isThere.ok()) << isThere.status();
    ASSERT_TRUE(*isThere);
    EXPECT_TRUE(products_->knows(product));
    std::copy(values.begin(), values.end(), a.values.begin());
    absl::Status status = products_->multiply(product, place());
    ASSERT_TRUE(status.ok()) << status;
    for (int64_t i = 0; i < m; ++i) {
      for (int64_t j = 0; j < n; ++j) {
        float sum = accumulates ? 3.0f : 0.0f;
        for (int64_t x = 0; x < k; ++x)
          sum += (transposeA ? a.at(x, i) : a.at(i, x)) *
                 (transposeB ? b.at(j, x) : b.at(x, j));
        sum += behind.hasAddend ? 5.0f : 0.0f;
        sum += behind.hasBias ? bias[j] : 0.0f;
        if (behind.hasGelu)
          sum = 0.5 * sum *
                (1 + std::tanh(std::sqrt(2 / M_PI) *
                               (sum + 0.044715 * std::pow(sum, 3))));
        ASSERT_NEAR(c[i * ldc + j], sum, behind.hasGelu ? 1e-4 : 0)
            << i << ", " << j;
      }
      for (int64_t j = n; j < ldc; ++j) {
        if (accumulates)
          ASSERT_EQ(c[i * ldc + j], 3.0f);
        else
          ASSERT_TRUE(std::isnan(c[i * ldc + j])) << "between rows";
      }
    }
  }

  std::string path_;
  test::FakeLtStream stream_{[](std::function<void()> work) { work(); }};
  test::FakeLtTimer timer_;
  std::vector<uint8_t> workspace_ = std::vector<uint8_t>(64);
  std::unique_ptr<MatrixProducts> products_;
};

TEST_F(MatrixProductsTest, computesEveryForm) {
  start();
  for (bool transposeA : {false, true})
    for (bool transposeB : {false, true})
      for (bool accumulates : {false, true}) {
        expectProduct(17, 24, 40, transposeA, transposeB, accumulates);
        expectProduct(5, 3, 8, transposeA, transposeB, accumulates);
        expectProduct(64, 1, 16, transposeA, transposeB, accumulates);
      }
}

TEST_F(MatrixProductsTest, putsEachPartBehindTheProduct) {
  start();
  for (bool hasAddend : {false, true})
    for (bool hasBias : {false, true})
      for (bool hasGelu : {false, true}) {
        const int known = test::fakeLtCounts().heuristics;
        expectProduct(17, 24, 40, false, true, false,
                      {hasAddend, hasBias, hasGelu});
        // Each is a product of its own kind, and all are timed.
        EXPECT_EQ(test::fakeLtCounts().heuristics, known + 1);
        EXPECT_EQ(test::fakeLtCounts().lastChoice, test::kFakeBest);
      }
  // Each product has its own bias, whatever the one before had.
  const int known = test::fakeLtCounts().heuristics;
  expectProduct(17, 24, 40, false, true, false, {.hasBias = true});
  EXPECT_EQ(test::fakeLtCounts().heuristics, known);
}

// No factors of zeros keep it from changing the result.
TEST_F(MatrixProductsTest, whatAddsABiasToItsResultIsNotMeasured) {
  start();
  expectProduct(17, 24, 40, true, false, true, {.hasBias = true});
  EXPECT_EQ(timer_.numMeasured, 0);
  EXPECT_EQ(test::fakeLtCounts().lastChoice, 0); // the library's first
}

TEST_F(MatrixProductsTest, takesTheFastestOfThoseWithOneOrder) {
  start();
  expectProduct(17, 24, 40, false, true, false);
  EXPECT_EQ(test::fakeLtCounts().lastChoice, test::kFakeBest);
  EXPECT_EQ(test::fakeLtCounts().heuristics, 1);
  // Nothing is asked or measured again.
  const int numMeasured = timer_.numMeasured;
  EXPECT_GT(numMeasured, 0);
  expectProduct(17, 24, 40, false, true, false);
  expectProduct(30, 24, 40, false, true, false); // the same kind
  EXPECT_EQ(test::fakeLtCounts().heuristics, 1);
  EXPECT_EQ(timer_.numMeasured, numMeasured);
  expectProduct(33, 24, 40, false, true, false); // another one
  EXPECT_EQ(test::fakeLtCounts().heuristics, 2);
}

TEST_F(MatrixProductsTest, whatAddsToItsResultIsMeasuredToo) {
  start();
  expectProduct(17, 24, 40, true, false, true);
  EXPECT_GT(timer_.numMeasured, 0);
  EXPECT_EQ(test::fakeLtCounts().lastChoice, test::kFakeBest);
}

TEST_F(MatrixProductsTest, nothingIsMeasuredInACapture) {
  start();
  timer_.isOpen = false;
  expectProduct(17, 24, 40, false, true, false);
  EXPECT_EQ(timer_.numMeasured, 0);
  EXPECT_FALSE(std::filesystem::exists(path_));
}

TEST_F(MatrixProductsTest, choicesAreKeptForTheGpuAndTheLibrary) {
  start();
  expectProduct(17, 24, 40, false, true, false);
  expectProduct(100, 24, 40, false, true, false);
  EXPECT_EQ(test::fakeLtCounts().heuristics, 2);
  start();
  expectProduct(17, 24, 40, false, true, false);
  expectProduct(100, 24, 40, false, true, false);
  EXPECT_EQ(test::fakeLtCounts().heuristics, 0);
  EXPECT_EQ(timer_.numMeasured, 0);
  EXPECT_EQ(test::fakeLtCounts().lastChoice, test::kFakeBest);
  start("GPU B");
  expectProduct(17, 24, 40, false, true, false);
  EXPECT_EQ(test::fakeLtCounts().heuristics, 1);
  start(); // B's did not replace A's
  expectProduct(17, 24, 40, false, true, false);
  EXPECT_EQ(test::fakeLtCounts().heuristics, 0);
}

// As if two processes had read an empty file.
TEST_F(MatrixProductsTest, writersAddToWhatIsThere) {
  auto first = TuningCache::open(path_);
  auto second = TuningCache::open(path_);
  ASSERT_TRUE(first.ok() && second.ok());
  ASSERT_TRUE(first->add({"g", "1", "p"}, {{1, 2}}, 1e-6).ok());
  ASSERT_TRUE(second->add({"g", "1", "q"}, {{3, 4}}, 1e-6).ok());
  auto both = TuningCache::open(path_);
  ASSERT_TRUE(both.ok());
  ASSERT_TRUE(both->find({"g", "1", "p"}) && both->find({"g", "1", "q"}));
  EXPECT_EQ(both->find({"g", "1", "q"})->data[1], 4u);
  EXPECT_FALSE(both->find({"g", "2", "q"}));
}

TEST_F(MatrixProductsTest, aChoiceOfNoUseIsReplacedForThisRunOnly) {
  start();
  expectProduct(17, 24, 40, false, true, false);
  // The right key with rubbish for an algorithm: the library refuses it.
  std::ifstream in(path_);
  std::string text((std::istreambuf_iterator<char>(in)), {});
  const size_t at = text.find("\"algorithm\": \"") + 14;
  ASSERT_NE(at, std::string::npos + 14);
  text[at + 15] = text[at + 15] == '0' ? '1' : '0';
  std::ofstream(path_) << text;
  start();
  expectProduct(17, 24, 40, false, true, false);
  EXPECT_EQ(test::fakeLtCounts().heuristics, 1);
  EXPECT_EQ(test::fakeLtCounts().lastChoice, 0);
}

TEST_F(MatrixProductsTest, filesThatAreNoCacheAreRefusedAndKept) {
  start();
  expectProduct(17, 24, 40, false, true, false);
  std::ifstream in(path_);
  const std::string whole((std::istreambuf_iterator<char>(in)), {});
  auto expectRefused = [&](const std::string& text) {
    std::ofstream(path_, std::ios::trunc) << text;
    auto opened = TuningCache::open(path_);
    ASSERT_FALSE(opened.ok()) << text;
    EXPECT_THAT(opened.status().message(),
                AllOf(HasSubstr("LLMC-E0102"), HasSubstr(path_)));
    EXPECT_EQ(std::filesystem::file_size(path_), text.size());
  };
  // Every cut of it; the last character is a line end.
  for (size_t size = 0; size + 1 < whole.size(); ++size)
    expectRefused(whole.substr(0, size));
  expectRefused("[]");
  expectRefused("{\"format\": \"llmrt tuning cache 2\", \"choices\": []}");
  expectRefused("{\"format\": \"llmrt tuning cache 1\", \"choices\": {}}");
  expectRefused("{\"format\": \"llmrt tuning cache 1\", \"choices\": [7]}");
  std::string bad = whole;
  bad.replace(bad.find("\"algorithm\": \"") + 14, 1, "g");
  expectRefused(bad);
  // Each byte wrong in turn ends in an answer.
  for (size_t i = 0; i < whole.size(); ++i) {
    std::string one = whole;
    one[i] ^= 0x55;
    std::ofstream(path_, std::ios::trunc) << one;
    (void)TuningCache::open(path_);
  }
  std::filesystem::remove(path_);
  std::filesystem::create_directory(path_);
  EXPECT_THAT(TuningCache::open(path_).status().message(),
              HasSubstr("LLMC-E0103"));
}

TEST_F(MatrixProductsTest, aFolderThatCannotBeWrittenCostsNothing) {
  path_ = "/proc/llmrt/cache.json";
  start();
  expectProduct(17, 24, 40, false, true, false);
  expectProduct(17, 24, 40, false, true, false);
  EXPECT_EQ(test::fakeLtCounts().heuristics, 1);
  path_ = "/tmp/llmrt-none/none";
}

TEST_F(MatrixProductsTest, whatTheLibraryLacksIsSaid) {
  start();
  std::vector<uint16_t> factors(104 * 8);
  std::vector<float> c(104 * 104);
  MatrixProduct product{
      32,   104,      8,  factors.data(), 8, false, factors.data(), 8,
      true, c.data(), 104};
  for (int i = 0; i < 2; ++i) {
    auto isThere = products_->prepare(product, place());
    ASSERT_TRUE(isThere.ok());
    EXPECT_FALSE(*isThere);
  }
  EXPECT_EQ(test::fakeLtCounts().heuristics, 1);
  EXPECT_THAT(products_->multiply(product, place()).message(),
              HasSubstr("LLMC-E0805"));
}

TEST_F(MatrixProductsTest, failuresHaveTheLibrarysWords) {
  start();
  expectProduct(17, 24, 40, false, true, false);
  test::failFakeMatmul(0);
  std::vector<uint16_t> factors(64 * 64);
  std::vector<float> c(64 * 64);
  MatrixProduct product{
      17,   24,       40, factors.data(), 48, false, factors.data(), 48,
      true, c.data(), 32};
  EXPECT_THAT(products_->multiply(product, place()).message(),
              AllOf(HasSubstr("LLMC-E0808"), HasSubstr("13.1.2"),
                    HasSubstr("multiplying"), HasSubstr("fake text"),
                    HasSubstr("LLMRT_CUBLASLT_LIBRARY=off")));
  const LtTable table = test::fakeLtTable();
  EXPECT_TRUE(table.toStatus(lt::kSuccess, "x").ok());
  EXPECT_THAT(table.toStatus(lt::kAllocFailed, "x").message(),
              HasSubstr("LLMC-E0803"));
}

} // namespace
} // namespace llmrt
