// SPDX-License-Identifier: Apache-2.0
// What tests of `llmrt run` with a training plan share: a small model, its
// data, its command line, the metrics that it wrote.
#pragma once

#include "tests/e2e/Workspace.h"

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include <map>
#include <sstream>
#include <string>
#include <vector>

namespace llmrt {

inline constexpr const char* kRun =
    "--weights=random:1 --tokenizer=tokenizer.json --data=train.jsonl "
    "--threads=1 --learning-rate=1e-3 --lr-schedule=constant --clip=0.5 "
    "--quiet ";

/// A loss on another mesh sums in another order: ten steps of updates apart.
inline constexpr double kMeshTolerance = 1e-5;

struct StepLine {
  int64_t step = 0;
  double loss = 0, norm = 0;
};

inline bool operator==(const StepLine& a, const StepLine& b) {
  return a.step == b.step && a.loss == b.loss && a.norm == b.norm;
}

inline void PrintTo(const StepLine& line, std::ostream* os) {
  *os << line.step << ": " << line.loss << ", " << line.norm;
}

inline std::string trainingLines() {
  std::string lines;
  for (int i = 0; i < 60; ++i) {
    std::string text;
    for (int j = 0; j < 10 + i % 7; ++j)
      text += "word" + std::to_string((i * 7 + j * 3) % 11) + " ";
    lines += nlohmann::json({{"text", text}}).dump() + "\n";
  }
  return lines;
}

/// Bytes below `size` - 1, then the end of a text.
inline std::string smallTokenizer(int size) {
  nlohmann::json tokenizer = nlohmann::json::parse(byteTokenizerJson());
  nlohmann::json& vocabulary = tokenizer["model"]["vocab"];
  for (auto it = vocabulary.begin(); it != vocabulary.end();)
    it = *it >= size - 1 ? vocabulary.erase(it) : std::next(it);
  for (nlohmann::json& added : tokenizer["added_tokens"])
    added["id"] = size - 1;
  return tokenizer.dump();
}

class TrainCommand : public testing::Test {
protected:
  void SetUp() override {
    ASSERT_EQ(writeByteModel(workspace), ""); // its tokenizer
    ToolEnd end = workspace.run(
        "llmc import --new=llama,layers=4,hidden=72,heads=6,kv_heads=2,"
        "intermediate=100,vocab=257,context=512 -o model.mlir");
    ASSERT_EQ(end.status, 0) << end.errors;
    workspace.write("train.jsonl", trainingLines());
  }

  void compile(const std::string& plan, const std::string& options) {
    ToolEnd end = workspace.run("llmc compile model.mlir --mode=train --seq=24 "
                                "--batch=12 -o " +
                                plan + " " + options);
    ASSERT_EQ(end.status, 0) << options << ": " << end.errors;
  }

  ToolEnd train(const std::string& plan, const std::string& options) {
    return workspace.run("llmrt run " + plan + " " + kRun + options, 100);
  }

  std::vector<StepLine> metrics(const std::string& name) {
    std::vector<StepLine> lines;
    std::stringstream text(workspace.read(name));
    for (std::string line; std::getline(text, line);) {
      nlohmann::json json = nlohmann::json::parse(line, nullptr, false);
      if (!json.is_discarded() && !json.contains("evaluation"))
        lines.push_back({json["step"], json["loss"], json["grad_norm"]});
    }
    return lines;
  }

  /// Losses of the evaluations of one set of data, by step.
  std::map<int64_t, double> evaluations(const std::string& name,
                                        const std::string& set) {
    std::map<int64_t, double> losses;
    std::stringstream text(workspace.read(name));
    for (std::string line; std::getline(text, line);) {
      nlohmann::json json = nlohmann::json::parse(line, nullptr, false);
      if (!json.is_discarded() && json.value("evaluation", "") == set)
        losses[json["step"]] = json["loss"];
    }
    return losses;
  }

  Workspace workspace;
};

} // namespace llmrt
