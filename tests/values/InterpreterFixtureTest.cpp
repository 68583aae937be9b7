// SPDX-License-Identifier: Apache-2.0
// The oracle itself: the interpreter on imported checkpoints against logits of
// PyTorch's float64 run, which nobody here wrote (tests/fixtures/README.md).
#include "models/Import.h"
#include "runtime/base/MappedFile.h"
#include "runtime/io/Dequantize.h"
#include "runtime/io/Npy.h"
#include "runtime/io/WeightSource.h"
#include "tests/support/Interpreter.h"
#include "tests/values/CheckpointParameters.h"
#include "tests/values/StepSession.h"

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include <filesystem>
#include <fstream>
#include <sstream>

namespace llmc {
namespace {

using namespace mlir;

// The stored logits are rounded to float32 (2^-24, 6e-8), and so is
// Gemma's embedding scale; the rest is double on both sides.
constexpr double kStoredFloat32Bound = 1.2e-7;

Rows readReference(const std::string& path) {
  Rows rows;
  auto file = llmrt::MappedFile::open(path);
  if (!file.ok())
    return rows;
  auto array = llmrt::parseNpy(file->bytes(), path);
  if (!array.ok() || array->shape.size() != 2)
    return rows;
  std::vector<float> values(array->numElements());
  if (!llmrt::readElements(*array, 0, values.size(), values.data()).ok())
    return rows;
  for (auto row = values.begin(); row != values.end(); row += array->shape[1])
    rows.emplace_back(row, row + array->shape[1]);
  return rows;
}

class InterpreterFixture : public testing::TestWithParam<const char*> {};

TEST_P(InterpreterFixture, EqualsFloat64Reference) {
  std::string folder = std::string(std::getenv("LLMC_SOURCE_DIR")) +
                       "/tests/fixtures/" + GetParam();
  std::string checkpoint = folder;
  if (std::filesystem::exists(folder + "/model.gguf"))
    checkpoint += "/model.gguf";
  MLIRContext context;
  auto module = importCheckpoint(context, checkpoint, "");
  ASSERT_TRUE(module.ok()) << module.status();
  auto source = llmrt::WeightSource::open(checkpoint);
  ASSERT_TRUE(source.ok()) << source.status();
  std::ifstream file(folder + "/tokens.json");
  auto tokens =
      nlohmann::json::parse(file)["tokens"].get<std::vector<double>>();
  Interpreter interpreter(**module, checkpointParameters(**source));
  NamedTensors inputs;
  inputs["ids"] = Tensor({1, int64_t(tokens.size())});
  inputs["positions"] = inputs["ids"];
  inputs["ids"].values = tokens;
  for (size_t i = 0; i < tokens.size(); ++i)
    inputs["positions"].values[i] = i;
  auto results = interpreter.run("forward", {inputs});
  ASSERT_TRUE(succeeded(results));
  const Tensor& logits = results->front().at("result");
  Rows rows;
  for (int64_t r = 0; r < logits.rows(); ++r)
    rows.emplace_back(logits.row(r), logits.row(r) + logits.width());
  Rows reference = readReference(folder + "/logits.npy");
  ASSERT_EQ(reference.size(), tokens.size());
  double error = relativeDifference(rows, reference);
  std::ostringstream text;
  text << error;
  RecordProperty("relative_error", text.str());
  EXPECT_LT(error, kStoredFloat32Bound);
}

INSTANTIATE_TEST_SUITE_P(Checkpoints, InterpreterFixture,
                         testing::Values("llama2", "llama3", "llama-9q3kv",
                                         "mistral", "qwen2", "qwen3", "gemma2",
                                         "gemma3", "gpt2", "llama-f32-gguf",
                                         "qwen2-f16-gguf", "qwen3-bf16-gguf",
                                         "gpt2-f32-gguf",
                                         "llama-quantized-gguf"),
                         [](const testing::TestParamInfo<const char*>& info) {
                           std::string name = info.param;
                           std::replace(name.begin(), name.end(), '-', '_');
                           return name;
                         });

} // namespace
} // namespace llmc
