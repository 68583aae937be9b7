// SPDX-License-Identifier: Apache-2.0
// A small trained model, gpt-nano-sort, against what its own code computed:
// every intermediate value.
//
// A plan returns logits only. An intermediate value is read by cutting the
// model behind it: the test edits the text of model.mlir so that the head is
// the value times an identity matrix, which is exact, and compiles and runs
// that. Attention's probabilities never exist outside its kernel; there the
// value rows become unit vectors, one for each position, so that the mixed row
// is the row of probabilities. The scores follow from them up to a constant of
// the row, which softmax removes anyway.
#include "tests/e2e/PlanRunner.h"

#include "runtime/base/Error.h"
#include "runtime/io/Dequantize.h"
#include "runtime/io/Safetensors.h"
#include "runtime/io/WeightSource.h"

#include "absl/strings/match.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/str_split.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <regex>

namespace llmrt {
namespace {

constexpr int64_t kRows = 11;  // tokens of a sequence
constexpr int64_t kHeads = 3;  // of the model, and sequences of the golden file
constexpr int64_t kWidth = 16; // of a head
constexpr int64_t kHidden = 48;

/// A golden tensor as float rows.
std::vector<float> readGolden(const WeightSource& source, const char* name) {
  const SourceTensor* tensor = source.find(name);
  if (!tensor)
    return {};
  std::vector<float> values(tensor->bytes.size() / sizeof(float));
  std::memcpy(values.data(), tensor->bytes.data(), tensor->bytes.size());
  return values;
}

/// The model's text without locations, as lines.
std::vector<std::string> readModelLines(const std::string& path) {
  std::ifstream file(path);
  std::vector<std::string> lines;
  for (std::string line; std::getline(file, line);)
    if (!absl::StartsWith(line, "#loc"))
      lines.push_back(
          std::regex_replace(line, std::regex(R"( loc\(#?[a-z0-9]*\))"), ""));
  return lines;
}

/// The module up to @layer, the body of @layer with the names of its first call
/// in
/// @forward, and the body of @forward.
struct ModelText {
  std::vector<std::string> head, layer, forward;
  std::string signature; // of @forward, up to its result
};

ModelText splitModel(const std::vector<std::string>& lines) {
  ModelText text;
  std::vector<std::string>* part = &text.head;
  for (const std::string& line : lines) {
    if (absl::StrContains(line, "func.func private @layer"))
      part = &text.layer;
    else if (absl::StrContains(line, "func.func @forward")) {
      part = &text.forward;
      text.signature = line.substr(0, line.find("->"));
    } else if (absl::StrContains(line, " = ") || part == &text.head)
      part->push_back(line);
  }
  // %arg2 of the block is what the first call passes; its own values get a
  // prefix.
  for (const std::string& line : text.forward) {
    if (!absl::StrContains(line, "call @layer"))
      continue;
    size_t open = line.find('(') + 1;
    std::vector<std::string> operands =
        absl::StrSplit(line.substr(open, line.find(')') - open), ", ");
    for (std::string& inner : text.layer) {
      inner = std::regex_replace(inner, std::regex(R"(%(\d+))"), "%block$1");
      for (size_t i = operands.size(); i-- > 0;)
        inner = std::regex_replace(
            inner, std::regex("%arg" + std::to_string(i) + "\\b"),
            "%OPERAND" + operands[i].substr(1));
      inner = absl::StrReplaceAll(inner, {{"%OPERAND", "%"}});
    }
    break;
  }
  return text;
}

/// One value of the model: the `index`-th line with `op` in the layer or in
/// @forward.
struct Probe {
  const char* name; // in the golden file
  bool isInLayer;
  const char* op;
  int index;
  int64_t width;
};

constexpr Probe kProbes[] = {
    {"tok_emb", false, "llm.embedding", 0, kHidden},
    {"pos_emb", false, "llm.embedding", 1, kHidden},
    {"x", false, "llm.add ", 0, kHidden},
    {"ln1", true, "llm.layer_norm", 0, kHidden},
    {"q", true, "llm.add_bias", 0, kHidden},
    {"k", true, "llm.add_bias", 1, kHidden},
    {"v", true, "llm.add_bias", 2, kHidden},
    {"attSm", true, "llm.attention", 0, kHidden},
    {"y", true, "llm.attention", 0, kHidden},
    {"yProj", true, "llm.add_bias", 3, kHidden},
    {"attnResid", true, "llm.add ", 0, kHidden},
    {"ln2", true, "llm.layer_norm", 1, kHidden},
    {"fc", true, "llm.add_bias", 4, 4 * kHidden},
    {"gelu", true, "llm.activation", 0, 4 * kHidden},
    {"mlp", true, "llm.add_bias", 5, kHidden},
    {"mlpResid", true, "llm.add ", 1, kHidden},
    {"block0", false, "call @layer", 0, kHidden},
};

constexpr Probe kLaterProbes[] = {
    {"block1", false, "call @layer", 1, kHidden},
    {"block2", false, "call @layer", 2, kHidden},
    {"ln_f", false, "llm.layer_norm", 0, kHidden},
};

/// Names the result of a line.
std::string resultOf(const std::string& line) {
  return line.substr(line.find('%'), line.find(" =") - line.find('%'));
}

class NanoSort : public testing::Test {
protected:
  void SetUp() override {
    std::string data = environment("LLMC_TEST_DATA") + "/gpt-nano-sort";
    if (!std::filesystem::exists(data))
      GTEST_SKIP() << "no " << data;
    auto golden = WeightSource::open(data + "/golden_partials.safetensors");
    ASSERT_TRUE(golden.ok()) << golden.status();
    golden_ = std::move(*golden);
    folder_ = temporaryPath("nano-sort");
    std::filesystem::create_directory(folder_);
    writeWeights(data + "/model.safetensors");
    // minGPT: weights [out, in].
    std::ofstream(folder_ + "/config.json")
        << R"({"model_type": "gpt2", "vocab_size": 3, "n_embd": 48, "n_layer": 3,
      "n_head": 3, "n_positions": 11, "layer_norm_epsilon": 1e-5,
      "tie_word_embeddings": false, "transposed_weights": false})";
    std::string command = environment("LLMC_BIN_DIR") + "/llmc import '" +
                          folder_ + "' -o '" + folder_ + "/model.mlir'";
    ASSERT_EQ(std::system(command.c_str()), 0);
    text_ = splitModel(readModelLines(folder_ + "/model.mlir"));
    std::vector<float> ids = readGolden(*golden_, "idx");
    ids_.assign(ids.begin(), ids.end());
    ASSERT_EQ(ids_.size(), kHeads * kRows);
  }

  void TearDown() override {
    if (!folder_.empty())
      std::filesystem::remove_all(folder_);
  }

  struct NamedTensor {
    TensorDeclaration declaration;
    std::vector<uint8_t> bytes;
  };

  static NamedTensor makeTensor(const std::string& name,
                                std::vector<int64_t> shape,
                                const std::vector<float>& values) {
    auto* begin = reinterpret_cast<const uint8_t*>(values.data());
    return {{name, SourceType::F32, std::move(shape)},
            {begin, begin + values.size() * sizeof(float)}};
  }

  void writeTensors(const std::string& path,
                    const std::vector<NamedTensor>& tensors) {
    std::vector<TensorDeclaration> declarations;
    for (const NamedTensor& tensor : tensors)
      declarations.push_back(tensor.declaration);
    auto writer = SafetensorsWriter::create(path, declarations, {});
    ASSERT_TRUE(writer.ok()) << writer.status();
    for (const NamedTensor& tensor : tensors)
      ASSERT_TRUE(writer->append(tensor.bytes).ok());
    ASSERT_TRUE(writer->finish().ok());
  }

  /// The file among the test data may lack the three `attn.c_attn.bias`
  /// tensors. That of block 0 follows from the golden values of one token, qkv
  /// - W * ln1, and the other tokens check it; those of blocks 1 and 2 are not
  /// to be had then, so that what comes after block 0 cannot be compared.
  void addAttentionBiases(const WeightSource& source,
                          std::vector<NamedTensor>& tensors) {
    isComplete_ = source.find("transformer.h.0.attn.c_attn.bias") != nullptr;
    if (isComplete_)
      return;
    const int64_t width = 3 * kHidden;
    const SourceTensor* weight =
        source.find("transformer.h.0.attn.c_attn.weight");
    ASSERT_NE(weight, nullptr);
    std::vector<float> w(width * kHidden), bias(width), none(width);
    ASSERT_TRUE(readElements(*weight, 0, w.size(), w.data()).ok());
    std::vector<float> norm = readGolden(*golden_, "ln1");
    std::vector<float> product = readGolden(*golden_, "qkv");
    for (int64_t n = 0; n < width; ++n) {
      double sum = 0;
      for (int64_t k = 0; k < kHidden; ++k)
        sum += double(w[n * kHidden + k]) * norm[k];
      bias[n] = static_cast<float>(product[n] - sum);
    }
    for (int64_t layer = 0; layer < 3; ++layer)
      tensors.push_back(
          makeTensor(absl::StrCat("transformer.h.", layer, ".attn.c_attn.bias"),
                     {width}, layer == 0 ? bias : none));
  }

  /// Writes the whole model; and the same with two identity matrices and a
  /// table whose row p is the p-th unit vector in every head.
  void writeWeights(const std::string& from) {
    std::vector<NamedTensor> tensors;
    auto source = WeightSource::open(from);
    ASSERT_TRUE(source.ok()) << source.status();
    for (const SourceTensor& t : (*source)->tensors())
      tensors.push_back(
          {{std::string(t.name), t.type, {t.shape.begin(), t.shape.end()}},
           {t.bytes.begin(), t.bytes.end()}});
    addAttentionBiases(**source, tensors);
    writeTensors(folder_ + "/model.safetensors", tensors);
    for (int64_t width : {kHidden, 4 * kHidden}) {
      std::vector<float> identity(width * width);
      for (int64_t i = 0; i < width; ++i)
        identity[i * width + i] = 1;
      tensors.push_back(makeTensor(absl::StrCat("probe.identity", width),
                                   {width, width}, identity));
    }
    std::vector<float> units(kRows * kHidden);
    for (int64_t p = 0; p < kRows; ++p)
      for (int64_t h = 0; h < kHeads; ++h)
        units[p * kHidden + h * kWidth + p] = 1;
    tensors.push_back(makeTensor("probe.positions", {kRows, kHidden}, units));
    writeTensors(folder_ + "/probed.safetensors", tensors);
  }

  /// The model cut behind a value, which becomes the logits.
  std::string cutModel(const Probe& probe) const {
    std::vector<std::string> lines = text_.head;
    lines.front() =
        std::regex_replace(lines.front(), std::regex("vocab_size = 3"),
                           absl::StrCat("vocab_size = ", probe.width));
    std::string identity = absl::StrCat("@probe.identity", probe.width);
    std::string square =
        absl::StrCat("tensor<", probe.width, "x", probe.width, "xf32>");
    lines.push_back(absl::StrCat("llm.param ", identity, " : ", square,
                                 " split <dim = 0> init <zeros>"));
    lines.push_back("llm.param @probe.positions : tensor<11x48xf32> "
                    "init <zeros>");
    std::string block;
    for (const std::string& line : text_.layer)
      block += line + "\n";
    if (!probe.isInLayer)
      lines.push_back(layerFunction());
    std::string row = absl::StrCat("tensor<?x", probe.width, "xf32>");
    lines.push_back(absl::StrCat(text_.signature, "-> ", row,
                                 " attributes {llm.entry = \"forward\"} {"));
    int left = probe.index;
    std::string value;
    for (const std::string& line : text_.forward) {
      if (probe.isInLayer && absl::StrContains(line, "call @layer"))
        break;
      lines.push_back(line);
      if (!probe.isInLayer && absl::StrContains(line, probe.op) &&
          left-- == 0) {
        value = resultOf(line);
        break;
      }
    }
    bool hasOutputRows =
        absl::StrContains(absl::StrJoin(lines, "\n"), "llm.output_rows");
    int bias = 0;
    for (const std::string& line : text_.layer) {
      if (!probe.isInLayer)
        break;
      lines.push_back(line);
      // The biased value projection, which attention reads.
      bool isValue = absl::StrContains(line, "llm.add_bias") && bias++ == 2;
      if (isValue && probe.name == std::string("attSm"))
        lines.back() = absl::StrCat(
            "%table = llm.get_param @probe.positions : tensor<11x48xf32>\n",
            resultOf(line),
            " = llm.embedding %arg1, %table : "
            "(tensor<?x?xi32>, tensor<11x48xf32>) -> tensor<?x48xf32>");
      if (absl::StrContains(line, probe.op) && left-- == 0) {
        value = resultOf(line);
        break;
      }
    }
    if (!hasOutputRows) {
      lines.push_back(
          absl::StrCat("%rows = llm.output_rows ", value, " : ", row));
      value = "%rows";
    }
    lines.push_back(absl::StrCat(
        "%identity = ", "llm.get_param ", identity, " : ", square,
        "\n%logits = llm.linear ", value, ", %identity : (", row, ", ", square,
        ") -> ", row, "\nreturn %logits : ", row, "\n}\n}"));
    return absl::StrJoin(lines, "\n");
  }

  /// The untouched @layer of the import.
  std::string layerFunction() const {
    std::string all;
    bool isInside = false;
    for (const std::string& line : readModelLines(folder_ + "/model.mlir")) {
      isInside = isInside || absl::StrContains(line, "private @layer");
      if (isInside)
        all += line + "\n";
      if (isInside && line == "  }")
        break;
    }
    return all;
  }

  /// The value for every token of every sequence, [3][11][width].
  absl::StatusOr<std::vector<float>> evaluate(const std::string& model) {
    std::string path = folder_ + "/cut.mlir", plan = folder_ + "/cut.fb";
    std::ofstream(path) << model;
    LLMRT_RETURN_IF_ERROR(compilePlan(path, plan, {"--seq=11", "--chunk=4"}));
    std::vector<float> values;
    for (int64_t b = 0; b < kHeads; ++b) {
      RunRequest r;
      r.plan = plan;
      r.weights = folder_ + "/probed.safetensors";
      r.tokens.assign(ids_.begin() + b * kRows, ids_.begin() + (b + 1) * kRows);
      r.score = true;
      r.checkMemory = true;
      LLMRT_ASSIGN_OR_RETURN(RunResult result, runPlan(r));
      for (const std::vector<float>& row : result.logits)
        values.insert(values.end(), row.begin(), row.end());
    }
    return values;
  }

  void expectNear(const std::string& name, const std::vector<float>& values,
                  const std::vector<float>& golden) {
    // Torch's float32 values: the same bound as for logits, of the tensor's
    // largest.
    constexpr double kPartialBound = 1e-5;
    ASSERT_EQ(values.size(), golden.size()) << name;
    double worst = 0, scale = 0;
    for (size_t i = 0; i < golden.size(); ++i) {
      worst = std::max(worst, std::abs(double(values[i]) - golden[i]));
      scale = std::max(scale, std::abs(double(golden[i])));
    }
    EXPECT_LT(worst, kPartialBound * scale) << name;
    RecordProperty(name, std::to_string(worst / scale));
  }

  /// From [3][11][heads * 16] to [3][heads][11][columns], as the golden file
  /// has them.
  static std::vector<float> byHead(const std::vector<float>& rows,
                                   int64_t columns) {
    std::vector<float> result;
    for (int64_t b = 0; b < kHeads; ++b)
      for (int64_t h = 0; h < kHeads; ++h)
        for (int64_t t = 0; t < kRows; ++t)
          for (int64_t c = 0; c < columns; ++c)
            result.push_back(rows[(b * kRows + t) * kHidden + h * kWidth + c]);
    return result;
  }

  std::string folder_;
  bool isComplete_ = false; // has the biases of all blocks
  std::unique_ptr<WeightSource> golden_;
  ModelText text_;
  std::vector<int32_t> ids_;
};

TEST_F(NanoSort, EveryIntermediateValueOfBlock0) {
  std::map<std::string, std::vector<float>> found;
  for (const Probe& probe : kProbes) {
    auto values = evaluate(cutModel(probe));
    ASSERT_TRUE(values.ok()) << probe.name << ": " << values.status();
    found[probe.name] = *values;
  }
  for (const char* name : {"q", "k", "v"})
    expectNear(name, byHead(found[name], kWidth), readGolden(*golden_, name));
  std::vector<float> fused;
  for (int64_t row = 0; row < kHeads * kRows; ++row)
    for (const char* name : {"q", "k", "v"})
      fused.insert(fused.end(), found[name].begin() + row * kHidden,
                   found[name].begin() + (row + 1) * kHidden);
  expectNear("qkv", fused, readGolden(*golden_, "qkv"));
  for (const Probe& probe : kProbes) {
    std::string name = probe.name;
    std::vector<float> golden = readGolden(*golden_, probe.name);
    if (name == "q" || name == "k" || name == "v" || name == "attSm")
      continue;
    if (name == "pos_emb") // the same for each sequence
      found[name].resize(golden.size());
    expectNear(name, found[name], golden);
  }
  // Probabilities, then scores as differences along a row.
  std::vector<float> chances = byHead(found["attSm"], kRows);
  expectNear("attSm", chances, readGolden(*golden_, "attSm"));
  std::vector<float> scores = readGolden(*golden_, "att"), differences, known;
  ASSERT_EQ(scores.size(), chances.size());
  for (size_t row = 0; row < scores.size(); row += kRows)
    for (int64_t c = 0; c < kRows; ++c) {
      if (!std::isfinite(scores[row + c])) { // masked
        EXPECT_EQ(chances[row + c], 0);
        continue;
      }
      known.push_back(scores[row + c] - scores[row]);
      differences.push_back(std::log(chances[row + c]) -
                            std::log(chances[row]));
    }
  expectNear("att", differences, known);
}

TEST_F(NanoSort, EveryValueAfterBlock0) {
  if (!isComplete_)
    GTEST_SKIP() << "the model lacks the tensors attn.c_attn.bias";
  for (const Probe& probe : kLaterProbes) {
    auto values = evaluate(cutModel(probe));
    ASSERT_TRUE(values.ok()) << probe.name << ": " << values.status();
    expectNear(probe.name, *values, readGolden(*golden_, probe.name));
  }
  auto logits =
      evaluate(absl::StrJoin(readModelLines(folder_ + "/model.mlir"), "\n"));
  ASSERT_TRUE(logits.ok()) << logits.status();
  expectNear("lm_head", *logits, readGolden(*golden_, "lm_head"));
  std::vector<float> chances;
  for (size_t row = 0; row < logits->size(); row += 3) {
    double sum = 0;
    for (size_t c = 0; c < 3; ++c)
      sum += std::exp((*logits)[row + c]);
    for (size_t c = 0; c < 3; ++c)
      chances.push_back(std::exp((*logits)[row + c]) / sum);
  }
  expectNear("probs", chances, readGolden(*golden_, "probs"));
}

TEST_F(NanoSort, EveryTensorOfTheGoldenFileIsCompared) {
  std::vector<std::string> known = {"idx", "att", "qkv", "lm_head", "probs"};
  for (const Probe& probe : kProbes)
    known.push_back(probe.name);
  for (const Probe& probe : kLaterProbes)
    known.push_back(probe.name);
  for (const SourceTensor& tensor : golden_->tensors())
    EXPECT_EQ(std::count(known.begin(), known.end(), tensor.name), 1)
        << tensor.name;
}

} // namespace
} // namespace llmrt
