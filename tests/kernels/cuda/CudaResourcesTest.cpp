// SPDX-License-Identifier: Apache-2.0
// What ptxas made of the hand-tuned kernels. Its reports: the hot ones of
// decode, prefill and the training step use no local memory (spilled registers,
// arrays that are indexed at run time), on every architecture. Its code, where
// there is a cuobjdump: products of few rows ask for weights before they wait
// for the launch before.
#include "runtime/base/MappedFile.h"

#include "absl/strings/str_cat.h"
#include <gtest/gtest.h>

#include <cstdio>
#include <map>
#include <regex>
#include <set>
#include <sstream>
#include <string>

namespace llmrt {
namespace {

/// By kernel, then by architecture.
struct Usage {
  int64_t localBytes = -1;
  int registers = -1;
};

using Report = std::map<std::string, std::map<std::string, Usage>>;

// "Compiling entry function 'linear' for 'sm_80'", then "N bytes stack frame, N
// bytes spill stores, N bytes spill loads", then "Used N registers". Functions
// that are called have lines of the stack frame too, behind those of the entry,
// which includes them.
void readReport(const std::string& text, Report& report) {
  static const std::regex kEntry("entry function '(\\w+)' for '(\\w+)'");
  static const std::regex kLocal(
      "(\\d+) bytes stack frame, (\\d+) bytes spill stores, (\\d+) bytes spill "
      "loads");
  static const std::regex kRegisters("Used (\\d+) registers");
  Usage* usage = nullptr;
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);) {
    std::smatch found;
    if (std::regex_search(line, found, kEntry))
      usage = &report[found[1]][found[2]];
    if (!usage)
      continue;
    if (std::regex_search(line, found, kLocal) && usage->localBytes < 0)
      usage->localBytes =
          std::stoll(found[1]) + std::stoll(found[2]) + std::stoll(found[3]);
    if (std::regex_search(line, found, kRegisters) && usage->registers < 0)
      usage->registers = std::stoi(found[1]);
  }
}

Report readReports() {
  Report report;
  std::istringstream files(LLMRT_CUDA_KERNEL_FILES);
  for (std::string file; std::getline(files, file, ' ');) {
    auto text = MappedFile::open(
        absl::StrCat(LLMRT_CUDA_REPORT_DIR, "/", file, ".resources"));
    EXPECT_TRUE(text.ok()) << text.status();
    if (text.ok())
      readReport(std::string(text->bytes().begin(), text->bytes().end()),
                 report);
  }
  return report;
}

void expectNoLocalMemory(const Report& report, const char* kernel,
                         std::vector<const char*> architectures) {
  auto found = report.find(kernel);
  ASSERT_NE(found, report.end()) << kernel;
  for (const char* architecture : architectures) {
    auto usage = found->second.find(architecture);
    ASSERT_NE(usage, found->second.end()) << kernel << " " << architecture;
    EXPECT_EQ(usage->second.localBytes, 0) << kernel << " " << architecture;
    EXPECT_GT(usage->second.registers, 0) << kernel << " " << architecture;
  }
}

TEST(CudaResources, hotKernelsUseNoLocalMemory) {
  if (std::string(LLMRT_CUDA_REPORT_DIR).empty())
    GTEST_SKIP() << "built without the CUDA toolkit";
  const Report report = readReports();
  for (const char* kernel : {"linear",
                             "linear_f32",
                             "linear_rows_1",
                             "linear_rows_2",
                             "linear_rows_4",
                             "linear_rows_8",
                             "linear_mma_8",
                             "linear_mma_16",
                             "fused_linear_rows_1",
                             "fused_linear_rows_2",
                             "fused_linear_rows_4",
                             "fused_linear_rows_8",
                             "fused_linear_mma_8",
                             "fused_linear_mma_16",
                             "fused_linear_many",
                             "fused_linear_many_f32",
                             "fused_linear_quantized_rows_1",
                             "fused_linear_quantized_mma_8",
                             "fused_linear_quantized_mma_16",
                             "linear_quantized",
                             "linear_quantized_f32",
                             "linear_rope_append_quantized_rows_1",
                             "linear_rope_append_quantized_mma_8",
                             "linear_rope_append_quantized_mma_16",
                             "linear_rope_append_rows_1",
                             "linear_rope_append_rows_2",
                             "linear_rope_append_rows_4",
                             "linear_rope_append_rows_8",
                             "linear_rope_append_mma_8",
                             "linear_rope_append_mma_16",
                             "attention",
                             "attention_bf16_64",
                             "attention_bf16_128",
                             "attention_bf16_256",
                             "attention_rows_1",
                             "attention_rows_2",
                             "attention_rows_4",
                             "attention_rows_8",
                             "attention_rows_1_64",
                             "attention_rows_1_128",
                             "attention_rows_1_256",
                             "attention_rows_2_64",
                             "attention_rows_2_128",
                             "attention_rows_2_256",
                             "attention_rows_4_64",
                             "attention_rows_4_128",
                             "attention_rows_4_256",
                             "attention_rows_8_64",
                             "attention_rows_8_128",
                             "attention_rows_8_256",
                             "embedding",
                             "rope",
                             "rope_append",
                             "kv_append",
                             "sample",
                             "linear_of_bf16",
                             "fused_linear_many_of_bf16",
                             "linear_input_gradient_of_bf16",
                             "linear_weight_gradient_of_bf16",
                             "linear_input_gradient",
                             "linear_input_gradient_f32",
                             "linear_weight_gradient",
                             "linear_weight_gradient_f32",
                             "attention_rows",
                             "attention_rows_bf16_64",
                             "attention_rows_bf16_128",
                             "attention_rows_bf16_256",
                             "attention_gradient",
                             "attention_gradient_bf16_64",
                             "attention_gradient_bf16_128",
                             "attention_gradient_bf16_256",
                             "sum_rows",
                             "embedding_gradient",
                             "cross_entropy_statistics",
                             "cross_entropy_loss",
                             "cross_entropy_gradient",
                             "square_sums",
                             "zero",
                             "add_to",
                             "adamw",
                             "cast_weight",
                             "move_rows"}) {
    expectNoLocalMemory(report, kernel, {"sm_80", "sm_90a", "sm_100"});
  }
  // What only one architecture has.
  for (const char* kernel :
       {"attention_rows_round", "attention_wgmma_64", "attention_wgmma_128",
        "attention_wgmma_256", "attention_wgmma_bulk_64",
        "attention_wgmma_bulk_128", "attention_wgmma_bulk_256",
        "attention_rows_wgmma_64", "attention_rows_wgmma_128",
        "attention_rows_wgmma_256", "attention_gradient_round",
        "attention_gradient_wgmma_64", "attention_gradient_wgmma_128",
        "attention_gradient_wgmma_256"})
    expectNoLocalMemory(report, kernel, {"sm_90a"});
}

// ---- machine code ----

/// Returns the instructions of a kernel for sm_90a.
std::vector<std::string> readCode(const std::string& file,
                                  const std::string& kernel) {
  const std::string command =
      absl::StrCat(LLMRT_CUOBJDUMP, " -sass -arch sm_90a -fun ", kernel, " '",
                   LLMRT_CUDA_REPORT_DIR, "/", file, ".fatbin'");
  std::string text;
  FILE* pipe = popen(command.c_str(), "r");
  if (!pipe)
    return {};
  char piece[4096];
  while (size_t size = std::fread(piece, 1, sizeof(piece), pipe))
    text.append(piece, size);
  EXPECT_EQ(pclose(pipe), 0) << command;
  std::vector<std::string> code;
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);)
    if (line.find("/*") < line.find(';') && line.find(';') != line.npos)
      code.push_back(line);
  return code;
}

/// Returns how many 16-byte loads past the first-level cache stand right before
/// each wait for the launch before.
std::vector<int> loadsBeforeWaits(const std::vector<std::string>& code) {
  constexpr size_t kNear = 64; // instructions
  std::vector<int> counts;
  size_t last = 0; // wait
  for (size_t i = 0; i < code.size(); ++i) {
    if (code[i].find("ACQBULK") == std::string::npos)
      continue;
    int count = 0;
    for (size_t j = std::max(last, i < kNear ? 0 : i - kNear); j < i; ++j)
      count += code[j].find(".NA.128") != std::string::npos;
    counts.push_back(count);
    last = i;
  }
  return counts;
}

TEST(CudaResources, weightsAreAskedForBeforeTheWait) {
  if (std::string(LLMRT_CUDA_REPORT_DIR).empty())
    GTEST_SKIP() << "built without the CUDA toolkit";
  if (std::string(LLMRT_CUOBJDUMP).empty())
    GTEST_SKIP() << "no cuobjdump beside nvcc; name one with -DLLMC_CUOBJDUMP";

  struct Form {
    const char* suffix;
    int loads;
  };

  for (auto [file, kernel] :
       {std::pair("FusedLinear", "fused_linear"),
        std::pair("LinearRopeAppend", "linear_rope_append")})
    for (Form form : {Form{"_rows_1", 8}, Form{"_rows_2", 8}, Form{"_mma_8", 6},
                      Form{"_mma_16", 4}}) {
      const std::string name = std::string(kernel) + form.suffix;
      std::vector<int> counts = loadsBeforeWaits(readCode(file, name));
      // Blocks without rows wait and leave.
      ASSERT_GE(counts.size(), 4u) << name;
      for (size_t i = 1; i < counts.size(); ++i)
        EXPECT_GE(counts[i], form.loads) << name << ", wait " << i;
    }
}

TEST(CudaResources, countsLoadsBeforeWaits) {
  std::vector<std::string> code(200, "NOP ;");
  code[0] = code[150] = code[160] = "LDG.E.NA.128 R4, [R2] ;";
  code[100] = code[170] = "ACQBULK ;";
  EXPECT_EQ(loadsBeforeWaits(code), (std::vector<int>{0, 2}));
}

// The reader sees what it should fail on.
TEST(CudaResources, readsSpills) {
  Report report;
  readReport("ptxas info    : Compiling entry function 'k' for 'sm_80'\n"
             "ptxas info    : Function properties for k\n"
             "    8 bytes stack frame, 4 bytes spill stores, 12 bytes spill "
             "loads\n"
             "ptxas info    : Used 64 registers, used 0 barriers\n",
             report);
  EXPECT_EQ(report["k"]["sm_80"].localBytes, 24);
  EXPECT_EQ(report["k"]["sm_80"].registers, 64);
}

} // namespace
} // namespace llmrt
