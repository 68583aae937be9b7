// SPDX-License-Identifier: Apache-2.0
// What ptxas reported when it compiled the hand-tuned kernels: the hot ones of
// decode, prefill and the training step use no local memory (spilled registers,
// arrays that are indexed at run time), on every architecture.
#include "runtime/base/MappedFile.h"

#include <gtest/gtest.h>
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
    auto text = MappedFile::open(std::string(LLMRT_CUDA_REPORT_DIR) + "/" +
                                 file + ".resources");
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
                             "fused_linear_quantized_rows_2",
                             "fused_linear_quantized_rows_4",
                             "fused_linear_quantized_rows_8",
                             "linear_quantized",
                             "linear_quantized_f32",
                             "linear_rope_append_quantized_rows_1",
                             "linear_rope_append_quantized_rows_2",
                             "linear_rope_append_quantized_rows_4",
                             "linear_rope_append_quantized_rows_8",
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
                             "embedding",
                             "rope",
                             "rope_append",
                             "kv_append",
                             "sample",
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
        "attention_wgmma_256", "attention_rows_wgmma_64",
        "attention_rows_wgmma_128", "attention_rows_wgmma_256",
        "attention_gradient_round", "attention_gradient_wgmma_64",
        "attention_gradient_wgmma_128", "attention_gradient_wgmma_256"})
    expectNoLocalMemory(report, kernel, {"sm_90a"});
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
