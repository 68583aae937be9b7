// SPDX-License-Identifier: Apache-2.0
// Generated CUDA kernels without a GPU. Values: the LLVM IR that the NVPTX
// back-end takes, run on the host with fibers for threads, against plain loops
// in double. Code: PTX with 16-byte accesses and nothing undefined, cubins
// without spills, the same bytes twice.
#include "tests/codegen/CudaKernels.h"
#include "tests/codegen/RowKernelCases.h"

#include <filesystem>
#include <fstream>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <map>
#include <regex>

namespace llmc {
namespace {

using testing::Contains;
using testing::HasSubstr;
using testing::Not;

constexpr int64_t kElementwiseColumns = 1024; // of a tile

std::string textOf(const CudaKernels::Image& image) {
  return std::string(image.bytes.begin(), image.bytes.end());
}

/// PTX for the lowest architecture that `target` names.
std::string ptxOf(const std::string& kernels, const std::string& target) {
  CudaKernels made(kernels, target);
  for (const CudaKernels::Image& image : made.images())
    if (image.target == "cuda-ptx")
      return textOf(image);
  ADD_FAILURE() << made.diagnostics();
  return "";
}

/// A copy of a tensor as device memory is: aligned to 256 bytes, between
/// guards.
class DeviceCopy {
public:
  explicit DeviceCopy(const Tensor& tensor)
      : sizeBytes_(tensor.numElements() * tensor.elementBytes()),
        bytes_(sizeBytes_ + 3 * kAlign, 0x5A) {
    auto address = reinterpret_cast<uintptr_t>(bytes_.data()) + kAlign;
    begin_ =
        reinterpret_cast<uint8_t*>((address + kAlign - 1) / kAlign * kAlign);
    std::memcpy(begin_, tensor.data(), sizeBytes_);
  }

  uint64_t address() const { return reinterpret_cast<uint64_t>(begin_); }

  void copyTo(Tensor& tensor) const {
    std::memcpy(tensor.data(), begin_, sizeBytes_);
    for (const uint8_t& byte : bytes_) {
      bool isGuard = &byte < begin_ || &byte >= begin_ + sizeBytes_;
      ASSERT_TRUE(!isGuard || byte == 0x5A) << "a guard byte has changed";
    }
  }

private:
  static constexpr int64_t kAlign = 256;
  int64_t sizeBytes_;
  std::vector<uint8_t> bytes_;
  uint8_t* begin_;
};

/// Runs a kernel on a grid over all rows of the results, of which `validRows`
/// are valid. A tensor that is argument and result is one place in memory.
void run(EmulatedKernels& kernels, const std::string& name, bool isElementwise,
         const std::vector<const Tensor*>& arguments,
         const std::vector<Tensor*>& results, int64_t validRows) {
  std::map<const Tensor*, DeviceCopy> memory;
  std::vector<uint64_t> words = {static_cast<uint64_t>(validRows)};
  for (const Tensor* t : arguments)
    words.push_back(memory.try_emplace(t, *t).first->second.address());
  for (const Tensor* t : results)
    words.push_back(memory.try_emplace(t, *t).first->second.address());
  int64_t columns = results[0]->columns;
  int64_t tiles =
      isElementwise ? (columns + kElementwiseColumns - 1) / kElementwiseColumns
                    : 1;
  kernels.launch(name, words, results[0]->rows * tiles);
  for (Tensor* t : results)
    memory.at(t).copyTo(*t);
}

std::vector<Tensor> run(EmulatedKernels& kernels, const Case& c,
                        const std::vector<Tensor>& arguments,
                        int64_t validRows) {
  std::vector<Tensor> results(
      numResults(c),
      Tensor(arguments[0].rows, arguments[0].columns, arguments[0].isBf16));
  std::vector<const Tensor*> in;
  std::vector<Tensor*> out;
  for (const Tensor& t : arguments)
    in.push_back(&t);
  for (Tensor& t : results)
    out.push_back(&t);
  run(kernels, c.name, c.isElementwise, in, out, validRows);
  return results;
}

// As the bound of the CPU kernels (CpuCodegenTest.cpp): a thread adds fewer
// terms one after another than a lane does there.
double tolerance(int64_t columns, bool isBf16) {
  return isBf16 ? 0x1p-6 : (columns / 16 + 24) * 0x1p-24;
}

struct Shape {
  int64_t columns;
  bool isBf16;
};

std::string nameOf(const testing::TestParamInfo<Shape>& info) {
  return std::to_string(info.param.columns) +
         (info.param.isBf16 ? "bf16" : "f32");
}

class CudaValues : public testing::TestWithParam<Shape> {
protected:
  CudaValues()
      : columns(GetParam().columns), isBf16(GetParam().isBf16),
        kernels(kernelsOf(columns, isBf16)) {}

  static EmulatedKernels& kernelsOf(int64_t columns, bool isBf16) {
    static std::map<std::pair<int64_t, bool>, EmulatedKernels> all;
    return all.try_emplace({columns, isBf16}, rowKernelModule(columns, isBf16))
        .first->second;
  }

  int64_t columns;
  bool isBf16;
  EmulatedKernels& kernels;
};

TEST_P(CudaValues, AgreesWithPlainLoops) {
  for (const Case& c : rowKernelCases()) {
    SCOPED_TRACE(c.name);
    auto arguments = randomArguments(c, 3, columns, isBf16);
    Inputs inputs = {columns, isBf16, {}};
    for (const Tensor& t : arguments)
      inputs.tensors.push_back(t.doubles());
    auto expected = c.expected(inputs);
    auto results = run(kernels, c, arguments, 3);
    for (size_t r = 0; r < results.size(); ++r)
      for (int64_t i = 0; i < results[r].numElements(); ++i)
        ASSERT_NEAR(results[r].at(i), expected[r][i],
                    tolerance(columns, isBf16) *
                        (1 + std::fabs(expected[r][i])))
            << "result " << r << " element " << i;
  }
}

TEST_P(CudaValues, RowsThatAreNotValidStayAndChangeNothing) {
  for (const Case& c : rowKernelCases()) {
    SCOPED_TRACE(c.name);
    auto arguments = randomArguments(c, 3, columns, isBf16);
    auto all = run(kernels, c, arguments, 3);
    auto some = run(kernels, c, arguments, 2);
    Tensor untouched(3, columns, isBf16);
    for (size_t r = 0; r < all.size(); ++r)
      for (int64_t i = 0; i < 3 * columns; ++i) {
        const Tensor& expected = i < 2 * columns ? all[r] : untouched;
        ASSERT_EQ(std::memcmp(some[r].data() + i * expected.elementBytes(),
                              expected.data() + i * expected.elementBytes(),
                              expected.elementBytes()),
                  0)
            << "result " << r << " element " << i;
      }
  }
}

TEST_P(CudaValues, ResultsMayLieOnArguments) {
  for (const Case& c : rowKernelCases()) {
    SCOPED_TRACE(c.name);
    auto arguments = randomArguments(c, 2, columns, isBf16);
    auto expected = run(kernels, c, arguments, 2);
    // Results lie on the first row arguments, and on them in reverse.
    std::vector<size_t> places;
    for (size_t a = 0; a < arguments.size(); ++a)
      if (c.arguments[a] == 'T')
        places.push_back(a);
    if (places.size() < expected.size())
      continue;
    for (bool isReverse : {false, true}) {
      if (isReverse)
        std::reverse(places.begin(), places.end());
      auto copy = arguments;
      std::vector<const Tensor*> in;
      std::vector<Tensor*> out;
      for (const Tensor& t : copy)
        in.push_back(&t);
      for (size_t r = 0; r < expected.size(); ++r)
        out.push_back(&copy[places[r]]);
      run(kernels, c.name, c.isElementwise, in, out, 2);
      for (size_t r = 0; r < expected.size(); ++r)
        EXPECT_EQ(*out[r], expected[r]) << "result " << r;
    }
  }
}

// Vectors of 1, 2, 4 and 8; one access for each thread, several, a last one
// that not all have; rows too long for registers.
INSTANTIATE_TEST_SUITE_P(Widths, CudaValues,
                         testing::Values(Shape{1, false}, Shape{7, false},
                                         Shape{18, false}, Shape{576, false},
                                         Shape{1000, false}, Shape{1026, false},
                                         Shape{2052, false}, Shape{8452, false},
                                         Shape{17, true}, Shape{36, true},
                                         Shape{576, true}, Shape{2312, true}),
                         nameOf);

/// A norm of heads with what may stand around it.
std::string headNormModule(int64_t heads, int64_t width) {
  std::string rows = "tensor<?x" + std::to_string(heads * width) + "xf32>";
  std::string bias = "tensor<" + std::to_string(heads * width) + "xf32>";
  std::string weight = "tensor<" + std::to_string(width) + "xf32>";
  return "module {\nplan.kernel @norm {\n^bb0(%x: " + rows + ", %b: " + bias +
         ", %w: " + weight + "):\n%0 = llm.add_bias %x, %b : " + rows + ", " +
         bias + "\n%1 = llm.rms_norm %0, %w {eps = 1.0e-6 : f64} : " + rows +
         ", " + weight + "\nplan.yield %1 : " + rows + "\n}\n}\n";
}

struct Heads {
  int64_t heads, width;
};

class CudaHeadNorm : public testing::TestWithParam<Heads> {};

TEST_P(CudaHeadNorm, AgreesWithPlainLoops) {
  auto [heads, width] = GetParam();
  EmulatedKernels kernels(headNormModule(heads, width));
  int64_t columns = heads * width;
  auto x = Tensor::random(2, columns, false, 1);
  auto bias = Tensor::random(1, columns, false, 2);
  auto weight = Tensor::random(1, width, false, 3);
  Tensor result(2, columns, false);
  run(kernels, "norm", false, {&x, &bias, &weight}, {&result}, 2);
  for (int64_t begin = 0; begin < 2 * columns; begin += width) {
    auto at = [&](int64_t i) {
      return double(x.at(begin + i)) + bias.at((begin + i) % columns);
    };
    double sum = 0;
    for (int64_t i = 0; i < width; ++i)
      sum += at(i) * at(i);
    for (int64_t i = 0; i < width; ++i) {
      double expected = at(i) / std::sqrt(sum / width + 1e-6) * weight.at(i);
      ASSERT_NEAR(result.at(begin + i), expected,
                  tolerance(width, false) * (1 + std::fabs(expected)))
          << "element " << begin + i;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Heads, CudaHeadNorm,
                         testing::Values(Heads{4, 9}, Heads{9, 64},
                                         Heads{16, 128}, Heads{3, 256},
                                         Heads{2, 1030}),
                         [](const auto& info) {
                           return std::to_string(info.param.heads) + "x" +
                                  std::to_string(info.param.width);
                         });

std::string allKernels(int64_t columns, bool isBf16) {
  return rowKernelModule(columns, isBf16);
}

TEST(CudaPtx, ReadsAndWrites16BytesAtATime) {
  for (bool isBf16 : {false, true}) {
    std::string ptx = ptxOf(allKernels(2048, isBf16), "cuda:ptx");
    EXPECT_NE(ptx.find("ld.global.v4.b32"), ptx.npos);
    EXPECT_NE(ptx.find("ld.global.nc.v4.b32"), ptx.npos);
    EXPECT_NE(ptx.find("st.global.v4.b32"), ptx.npos);
    // Words of the argument block are the only other accesses.
    std::regex access("(ld|st)\\.global[.a-zA-Z0-9_:]*");
    for (std::sregex_iterator at(ptx.begin(), ptx.end(), access), end;
         at != end; ++at) {
      std::string text = at->str();
      EXPECT_TRUE(text.ends_with(".v4.b32") || text == "ld.global.nc.b64")
          << text;
    }
    // Every address is known to lie in global memory, or in shared.
    EXPECT_FALSE(std::regex_search(ptx, std::regex("(ld|st)\\.[bfsuv][0-9]")));
  }
}

TEST(CudaPtx, NeedsNothingFromElsewhere) {
  for (int64_t columns : {7, 576}) {
    std::string ptx = ptxOf(allKernels(columns, false), "cuda:ptx");
    // Contraction only where it is written: no fma.
    for (const char* word : {".extern", "call", ".local", "fma"})
      EXPECT_EQ(ptx.find(word), ptx.npos) << word;
    EXPECT_NE(ptx.find(".entry add_rms_norm("), ptx.npos);
    EXPECT_NE(ptx.find(".maxntid 256, 1, 1"), ptx.npos);
  }
}

TEST(CudaPtx, IsForTheLowestArchitectureNamed) {
  EXPECT_THAT(ptxOf(allKernels(8, false), "cuda:ptx"),
              HasSubstr(".target sm_80"));
  if (!whyNoCubin().empty())
    GTEST_SKIP() << whyNoCubin();
  EXPECT_THAT(ptxOf(allKernels(8, false), "cuda:sm_100,sm_90,ptx"),
              HasSubstr(".target sm_90"));
}

TEST(CudaPtx, HasTheSameBytesTwice) {
  EXPECT_EQ(ptxOf(allKernels(36, false), "cuda:ptx"),
            ptxOf(allKernels(36, false), "cuda:ptx"));
}

class CudaCubin : public testing::TestWithParam<Shape> {
protected:
  void SetUp() override {
    if (!whyNoCubin().empty())
      GTEST_SKIP() << whyNoCubin();
  }
};

TEST_P(CudaCubin, SpillsNothingAndUsesNoLocalMemory) {
  std::string kernels = allKernels(GetParam().columns, GetParam().isBf16);
  for (int architecture : {80, 90, 100}) {
    std::string name = "sm_" + std::to_string(architecture);
    std::string report =
        resourceReport(ptxOf(kernels, "cuda:" + name + ",ptx"), architecture);
    std::regex line("([0-9]+) bytes stack frame, ([0-9]+) bytes spill stores, "
                    "([0-9]+) bytes spill loads");
    size_t numKernels = 0;
    for (std::sregex_iterator at(report.begin(), report.end(), line), end;
         at != end; ++at, ++numKernels)
      EXPECT_EQ(at->str(), "0 bytes stack frame, 0 bytes spill stores, 0 bytes "
                           "spill loads")
          << name << "\n"
          << report;
    EXPECT_EQ(numKernels, rowKernelCases().size()) << report;
  }
}

INSTANTIATE_TEST_SUITE_P(Widths, CudaCubin,
                         testing::Values(Shape{7, false}, Shape{2048, false},
                                         Shape{8192, false},
                                         Shape{16384, false}, Shape{36, true},
                                         Shape{4096, true}, Shape{8192, true}),
                         nameOf);

TEST(CudaCubinBytes, HoldEveryKernelForEveryArchitecture) {
  if (!whyNoCubin().empty())
    GTEST_SKIP() << whyNoCubin();
  const std::string target =
      "cuda:sm_80,sm_86,sm_89,sm_90,sm_100,sm_103,sm_120";
  CudaKernels first(allKernels(576, false), target);
  CudaKernels second(allKernels(576, false), target);
  std::vector<int> levels;
  for (const CudaKernels::Image& image : first.images()) {
    levels.push_back(image.level);
    EXPECT_EQ(image.target, "cuda");
    std::vector<std::string> names = cubinKernels(image.bytes);
    for (const Case& c : rowKernelCases())
      EXPECT_THAT(names, Contains(c.name)) << "sm_" << image.level;
  }
  EXPECT_EQ(levels, (std::vector<int>{80, 86, 89, 90, 100, 103, 120}))
      << first.diagnostics();
  ASSERT_EQ(second.images().size(), first.images().size());
  for (size_t i = 0; i < levels.size(); ++i)
    EXPECT_TRUE(first.images()[i].bytes == second.images()[i].bytes)
        << "sm_" << levels[i] << " has other bytes the second time";
}

/// Runs with other values of PATH and CUDA_HOME.
class OtherToolkit {
public:
  explicit OtherToolkit(const std::string& path)
      : path_(std::getenv("PATH") ? std::getenv("PATH") : "") {
    if (const char* home = std::getenv("CUDA_HOME"))
      home_ = home;
    setenv("PATH", path.c_str(), 1);
    setenv("CUDA_HOME", "/nonexistent", 1);
  }

  ~OtherToolkit() {
    setenv("PATH", path_.c_str(), 1);
    if (home_.empty())
      unsetenv("CUDA_HOME");
    else
      setenv("CUDA_HOME", home_.c_str(), 1);
  }

private:
  std::string path_, home_;
};

TEST(CudaErrors, WithoutPtxasOnlyPtxIsMade) {
  OtherToolkit none("/nonexistent");
  CudaKernels cubin(allKernels(8, false), "cuda");
  EXPECT_TRUE(cubin.images().empty());
  EXPECT_THAT(cubin.diagnostics(), HasSubstr("LLMC-E1009"));
  EXPECT_THAT(cubin.diagnostics(), HasSubstr("--target=cuda:ptx"));
  CudaKernels ptx(allKernels(8, false), "cuda:ptx");
  EXPECT_EQ(ptx.images().size(), 1u) << ptx.diagnostics();
}

TEST(CudaErrors, SaysWhatPtxasSaid) {
  auto folder = std::filesystem::path(testing::TempDir()) / "llmc-old-ptxas";
  std::filesystem::create_directories(folder);
  std::ofstream(folder / "ptxas")
      << "#!/bin/sh\necho \"ptxas fatal: Value 'sm_100' is not defined\"\n"
         "exit 255\n";
  std::filesystem::permissions(folder / "ptxas",
                               std::filesystem::perms::owner_all);
  OtherToolkit old(folder.string());
  CudaKernels cubin(allKernels(8, false), "cuda:sm_100");
  EXPECT_TRUE(cubin.images().empty());
  EXPECT_THAT(cubin.diagnostics(), HasSubstr("LLMC-E1009"));
  EXPECT_THAT(cubin.diagnostics(),
              HasSubstr("sm_100: ptxas fatal: Value 'sm_100' is not defined"));
  std::filesystem::remove_all(folder);
}

} // namespace
} // namespace llmc
