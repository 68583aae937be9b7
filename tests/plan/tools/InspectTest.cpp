// SPDX-License-Identifier: Apache-2.0
#include "tests/plan/tools/RunLlmc.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include <map>

namespace llmc::test {
namespace {

using nlohmann::json;
using testing::HasSubstr;

class Inspect : public testing::Test {
protected:
  static void SetUpTestSuite() {
    folder_ = new LlmcFolder;
    folder_->makePlan("p", kTinyLlama, "--mesh=dp=2,pp=2,tp=2 --zero=3");
  }

  static void TearDownTestSuite() { delete folder_; }

  std::string output(const std::string& command) {
    ToolEnd end = folder_->run(command);
    EXPECT_EQ(end.status, 0) << end.errors;
    EXPECT_EQ(end.errors, "");
    return end.output;
  }

  static LlmcFolder* folder_;
};

LlmcFolder* Inspect::folder_ = nullptr;

TEST_F(Inspect, SummaryNamesModelMeshMemoryKernelsAndCosts) {
  std::string text = output("llmc inspect p");
  for (const char* part :
       {"llama, ", "dp=2, pp=2, tp=2: 8 ranks", "ranks 0-1, 4-5",
        "gathered_parameters", "arena in device", "rope_append", "avx512",
        "decode", "sent tp", "zero = 3"})
    EXPECT_THAT(text, HasSubstr(part));
}

// The three sources of a counter agree: the cost table, which the compiler
// computed from its IR, and the commands of the plan, which inspect counts
// again.
TEST_F(Inspect, JsonCommandsAddUpToTheCostTable) {
  json plan = json::parse(output("llmc inspect p --output=json"));
  ASSERT_EQ(plan["kind"], "plan");
  EXPECT_EQ(plan["ranks"], 8);
  ASSERT_EQ(plan["stages"].size(), 2u);
  for (const json& cost : plan["costs"]) {
    const json& stage = plan["stages"][cost["stage"].get<int>()];
    for (const json& program : stage["programs"]) {
      if (program["entry"] != cost["entry"])
        continue;
      int64_t launches = 0;
      double flops = 0;
      std::map<std::string, int64_t> sent = {{"dp", 0}, {"pp", 0}, {"tp", 0}};
      for (const json& command : program["commands"]) {
        if (command["kind"] == "launch") {
          ++launches;
          flops += command["flops"].get<double>();
        } else if (command.contains("sent_bytes")) {
          sent[command["axes"].back()] += command["sent_bytes"].get<int64_t>();
        }
      }
      EXPECT_EQ(cost["launches"], launches) << cost;
      EXPECT_EQ(cost["flops"], flops) << cost;
      EXPECT_EQ(cost["sent_bytes"], json(sent)) << cost;
      EXPECT_GT(sent["dp"], 0) << "parameters are gathered along dp";
    }
  }
}

TEST_F(Inspect, JsonSaysWhoPutEachCollectiveThere) {
  json plan = json::parse(output("llmc inspect p --output=json"));
  int count = 0;
  for (const json& stage : plan["stages"])
    for (const json& program : stage["programs"])
      for (const json& command : program["commands"]) {
        if (!command.contains("axes"))
          continue;
        ++count;
        EXPECT_NE(command["pass"], "") << command;
        EXPECT_NE(command["subject"], "") << command;
      }
  EXPECT_GT(count, 0);
}

TEST_F(Inspect, BuffersOfTheMemoryTableAreInTheArena) {
  json plan = json::parse(output("llmc inspect p --output=json"));
  for (const json& stage : plan["stages"]) {
    int64_t arena = stage["arenas"][0]["bytes"];
    for (const json& buffer : stage["buffers"])
      EXPECT_LE(buffer["offset"].get<int64_t>() +
                    buffer["bytes"].get<int64_t>(),
                arena);
  }
}

TEST_F(Inspect, DisassemblyHasEveryCommandWithItsOrigin) {
  json plan = json::parse(output("llmc inspect p --output=json"));
  std::string text = output("llmc inspect p --output=disassembly");
  size_t commands = 0, lines = 0;
  for (const json& stage : plan["stages"])
    for (const json& program : stage["programs"])
      commands += program["commands"].size();
  for (size_t at = text.find(" stream "); at != std::string::npos;
       at = text.find(" stream ", at + 1))
    ++lines;
  EXPECT_EQ(lines, commands);
  EXPECT_THAT(text, HasSubstr("put there by insert-zero-gathers for "
                              "model.layers.0.self_attn.q_proj.weight"));
  EXPECT_THAT(text, HasSubstr("sharded over dp"));
  EXPECT_THAT(text, HasSubstr("slot0 "));
}

TEST_F(Inspect, DotDrawsTheChosenEntry) {
  std::string first = output("llmc inspect p --output=dot");
  std::string decode = output("llmc inspect p --output=dot --entry=decode");
  EXPECT_THAT(first, HasSubstr("digraph \"prefill\""));
  EXPECT_THAT(decode, HasSubstr("digraph \"decode\""));
  EXPECT_THAT(decode, HasSubstr("cluster_1"));
  EXPECT_THAT(decode, HasSubstr(" -> "));
  ToolEnd unknown = folder_->run("llmc inspect p --output=dot --entry=decod");
  EXPECT_EQ(unknown.status, 1);
  EXPECT_THAT(unknown.errors, HasSubstr("LLMC-E1104"));
  EXPECT_THAT(unknown.errors, HasSubstr("prefill, decode"));
}

TEST_F(Inspect, OutputMayGoToAFile) {
  EXPECT_EQ(output("llmc inspect p -o s.txt"), "");
  EXPECT_EQ(folder_->read("s.txt"), output("llmc inspect p"));
}

TEST_F(Inspect, ModelSummaryCountsParametersOnce) {
  std::string text = output("llmc inspect p.mlir");
  EXPECT_THAT(text, HasSubstr("4 x model.layers.*.self_attn.q_proj.weight : "
                              "tensor<64x64xf32>"));
  EXPECT_THAT(text, HasSubstr("function layer, called 4 times"));
  EXPECT_THAT(text, HasSubstr("function forward, an entry"));
}

TEST_F(Inspect, ModelJsonHasShapesAndCalls) {
  json model = json::parse(output("llmc inspect p.mlir --output=json"));
  EXPECT_EQ(model["kind"], "model");
  EXPECT_EQ(model["model"]["layers"], 4);
  EXPECT_EQ(model["parameters"][0]["shape"], json({128, 64}));
  EXPECT_EQ(model["functions"][0]["calls"], 4);
}

TEST_F(Inspect, ModelDisassemblyIsTheModel) {
  EXPECT_EQ(output("llmc inspect p.mlir --output=disassembly"),
            folder_->read("p.mlir"));
}

TEST_F(Inspect, EveryDumpCanBeInspected) {
  output("llmc compile p.mlir -o q --quiet --mesh=pp=2,tp=2 "
         "--dump-compilation-phases-to=d");
  for (const char* dump :
       {"00-model", "01-step", "02-sharded", "03-kernels", "04-plan"}) {
    std::string path = std::string("d/") + dump + ".mlir";
    EXPECT_THAT(output("llmc inspect " + path), HasSubstr("parameters"))
        << path;
    EXPECT_EQ(json::parse(output("llmc inspect --output=json " + path))["kind"],
              "model");
  }
  EXPECT_THAT(output("llmc inspect d/03-kernels.mlir --output=dot"),
              HasSubstr("plan.launch"));
  EXPECT_THAT(output("llmc inspect d/04-plan.mlir"), HasSubstr("commands of "));
  ToolEnd dot = folder_->run("llmc inspect d/04-plan.mlir --output=dot");
  EXPECT_EQ(dot.status, 1);
  EXPECT_THAT(dot.errors, HasSubstr("LLMC-E1003"));
}

TEST_F(Inspect, AReaderThatLeavesIsNoCrash) {
  for (const char* view : {"summary", "disassembly", "json", "dot"}) {
    ToolEnd end = folder_->run("(llmc inspect p --output=" + std::string(view) +
                               "; echo $? >status) | true; cat status");
    int status = std::stoi(end.output);
    // 141: ended by SIGPIPE, as other tools in a pipe are.
    EXPECT_TRUE(status == 0 || status == 141) << view << " " << status;
    EXPECT_EQ(end.errors, "");
  }
}

TEST_F(Inspect, AFullDiskIsAnError) {
  ToolEnd end = folder_->run("llmc inspect p --output=json >/dev/full");
  EXPECT_EQ(end.status, 1);
  EXPECT_THAT(end.errors, HasSubstr("LLMC-E0105"));
}

} // namespace
} // namespace llmc::test
