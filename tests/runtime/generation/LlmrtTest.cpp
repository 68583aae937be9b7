// SPDX-License-Identifier: Apache-2.0
// The command line of llmrt: what it prints, where, and with which exit status.
#include "runtime/base/MappedFile.h"
#include "runtime/io/Npy.h"
#include "tests/runtime/generation/RunTool.h"

#include "nlohmann/json.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <csignal>
#include <sstream>
#include <thread>

namespace llmrt::test {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;
using Json = nlohmann::json;

constexpr const char* kRun = "llmrt run plan.fb --weights=random:7 --quiet ";

class Llmrt : public ::testing::Test {
protected:
  void SetUp() override {
    if (!std::getenv("LLMC_BIN_DIR"))
      GTEST_SKIP() << "LLMC_BIN_DIR is not set: run through ctest";
    folder.writePlan("plan.fb", {});
  }

  void expectError(const std::string& command, int status,
                   const std::string& code, const std::string& text) {
    ToolEnd end = folder.run(command);
    EXPECT_EQ(end.status, status) << command << "\n" << end.errors;
    EXPECT_THAT(end.errors, StartsWith("llmrt: LLMC-E" + code)) << command;
    EXPECT_THAT(end.errors, HasSubstr(text)) << command;
    EXPECT_EQ(std::count(end.errors.begin(), end.errors.end(), '\n'), 1)
        << end.errors;
  }

  std::vector<Json> readLines(const std::string& name) {
    std::vector<Json> lines;
    std::stringstream text(folder.read(name));
    for (std::string line; std::getline(text, line);)
      lines.push_back(Json::parse(line));
    return lines;
  }

  /// Prompts of different lengths and stop points.
  std::string promptLines(int count) {
    std::string lines;
    for (int i = 0; i < count; ++i)
      lines += Json({{"prompt", std::string(1 + 5 * i % 23, 'a' + i % 26)},
                     {"max_new_tokens", 1 + 7 * i % 30}})
                   .dump() +
               "\n";
    return lines;
  }

  ToolFolder folder;
};

TEST_F(Llmrt, MistypedNamesAreErrorsWithASuggestion) {
  expectError("llmrt run plan.fb --promt=x", 2, "0101",
              "did you mean --prompt?");
  expectError("llmrt rnu", 2, "0101", "did you mean run?");
  expectError("llmrt run plan.fb other.fb", 2, "0101", "'other.fb'");
  expectError("llmrt", 2, "0102", "subcommand");
}

TEST_F(Llmrt, ValuesThatMakeNoSense) {
  expectError("llmrt run plan.fb --threads=many", 2, "0102", "--threads");
  expectError("llmrt run plan.fb --threads=-1", 2, "0102", "--threads=-1");
  expectError("llmrt run plan.fb --temperature=nan", 2, "0102",
              "--temperature");
  expectError("llmrt run plan.fb --top-p=1.5", 2, "0102", "--top-p");
  expectError("llmrt run plan.fb --max-new-tokens=-3", 2, "0102", "-3");
  expectError("llmrt run plan.fb --seed=99999999999999999999", 2, "0102",
              "99999999999999999999 is no whole number of 64 bits");
  expectError("llmrt run plan.fb --threads=0x2", 2, "0102", "--threads");
  expectError("llmrt run plan.fb --comm=carrier-pigeon", 2, "0102", "--comm");
  expectError("llmrt run plan.fb --tokens=1", 2, "0106", "--output-logits");
  expectError("llmrt run plan.fb --prompt=a --prompts=b", 2, "0106",
              "--prompts");
  expectError("llmrt run plan.fb --prompt=a --output=b", 2, "0106", "--output");
  expectError("llmrt run plan.fb --weights=a --weights=model=b --prompt=c", 2,
              "0106", "model");
}

TEST_F(Llmrt, NumbersAreDecimal) {
  ToolEnd end =
      folder.run(std::string(kRun) + "--prompt=Hello --max-new-tokens=010");
  ToolEnd ten =
      folder.run(std::string(kRun) + "--prompt=Hello --max-new-tokens=10");
  EXPECT_EQ(end.status, 0) << end.errors;
  EXPECT_EQ(end.output, ten.output);
}

// A value that is left out must not swallow what follows it.
TEST_F(Llmrt, MissingValuesAreErrors) {
  expectError("llmrt run plan.fb --output= --prompt=x", 2, "0102",
              "--output= has no value");
  expectError("llmrt run plan.fb --metrics=", 2, "0102",
              "--metrics= has no value");
  expectError("llmrt run plan.fb --trace --quiet --prompt=x", 2, "0102",
              "--trace has no value: --quiet follows it");
  expectError("llmrt run plan.fb --checkpoint-dir --steps=3", 2, "0102",
              "--steps=3 follows it");
  EXPECT_EQ(folder.run(std::string(kRun) + "--prompt=--chat").status, 0);
}

// Options that may be repeated take one value each.
TEST_F(Llmrt, NothingBesideAnOptionIsItsValue) {
  EXPECT_EQ(folder
                .run("llmrt run --weights=random:7 plan.fb --quiet "
                     "--prompt=x --max-new-tokens=1")
                .status,
            0);
  expectError("llmrt run plan.fb --weights=random:7 x --prompt=x", 2, "0101",
              "'x'");
  expectError("llmrt run plan.fb --data=a.jsonl b.jsonl", 2, "0101",
              "'b.jsonl'");
}

TEST_F(Llmrt, TrainingAndExportAreRefused) {
  expectError("llmrt run plan.fb --data=train.jsonl", 1, "0914", "--data");
  expectError("llmrt run plan.fb --learning-rate 1e-3", 1, "0914",
              "--learning-rate");
  expectError("llmrt run plan.fb --resume", 1, "0914", "--resume");
  expectError("llmrt export a -o b", 1, "1301", "a");
  expectError("llmrt export a", 2, "0102", "--output");
  expectError("llmrt export a -o b --sauce=c", 2, "0101",
              "did you mean --source?");
}

TEST_F(Llmrt, MissingFiles) {
  expectError("llmrt run nothing.fb --prompt=x", 1, "0103", "nothing.fb");
  expectError("mkfifo pipe && llmrt run pipe --prompt=x", 1, "0103", "regular");
  expectError("llmrt run plan.fb --weights=nothing --prompt=x", 1, "0103",
              "nothing");
  expectError("llmrt run plan.fb --prompt=x", 1, "0907", "--weights");
  expectError(std::string(kRun) + "--prompt=x --tokenizer=nothing", 1, "0",
              "nothing");
  expectError(std::string(kRun) + "--prompts=nothing.jsonl", 1, "0103",
              "nothing.jsonl");
}

TEST_F(Llmrt, BadPlansAreRefused) {
  folder.write("short.fb", folder.read("plan.fb").substr(0, 200));
  expectError("llmrt run short.fb --prompt=x", 1, "06", "");
}

TEST_F(Llmrt, TextGoesToStandardOutputAndProgressToStandardError) {
  ToolEnd quiet =
      folder.run(std::string(kRun) + "--prompt='Hello' --max-new-tokens=12");
  EXPECT_EQ(quiet.status, 0) << quiet.errors;
  EXPECT_EQ(quiet.errors, "");
  EXPECT_GT(quiet.output.size(), 1U);
  ToolEnd piped = folder.run("echo Hello | llmrt run plan.fb "
                             "--weights=random:7 --max-new-tokens=12");
  EXPECT_EQ(piped.output, quiet.output);
  EXPECT_THAT(piped.errors, HasSubstr("prompt of 5 tokens"));
  ToolEnd other =
      folder.run("llmrt run plan.fb --weights=random:8 --quiet --prompt=Hello "
                 "--max-new-tokens=12");
  EXPECT_NE(other.output, quiet.output);
  expectError(std::string(kRun) + "--prompt ''", 1, "0902", "");
  expectError(std::string(kRun) + "--prompt=x > /dev/full", 1, "0105",
              "standard output");
}

TEST_F(Llmrt, ChatAppliesTheTemplateAndRefusesAnUnknownOne) {
  std::string chat = std::string(kRun) + "--prompt=Hello --chat "
                                         "--max-new-tokens=12 ";
  expectError(chat, 1, "0508", "--chat-template");
  expectError(chat + "--chat-template=nothing", 1, "0508", "nothing");
  ToolEnd byName = folder.run(chat + "--chat-template=chatml --system=Be");
  EXPECT_EQ(byName.status, 0) << byName.errors;
  folder.write(
      "in.jsonl",
      R"({"messages": [{"role": "system", "content": "Be"}, {"role": "user", "content": "Hello"}]})");
  ToolEnd batch =
      folder.run(std::string(kRun) + "--prompts=in.jsonl --max-new-tokens=12 "
                                     "--chat-template=chatml");
  ASSERT_EQ(batch.status, 0) << batch.errors;
  Json line = Json::parse(batch.output);
  EXPECT_EQ(line["prompt"], "<|im_start|>system\nBe<|im_end|>\n"
                            "<|im_start|>user\nHello<|im_end|>\n"
                            "<|im_start|>assistant\n");
  EXPECT_EQ(line["completion"].get<std::string>() + "\n", byName.output);
}

TEST_F(Llmrt, SamplingIsReproducibleAndFollowsItsSeed) {
  std::string command = std::string(kRun) +
                        "--prompt=Hello --temperature=1 --top-k=40 "
                        "--top-p=0.9 --max-new-tokens=40 --seed=";
  ToolEnd first = folder.run(command + "1");
  EXPECT_EQ(first.status, 0) << first.errors;
  EXPECT_EQ(folder.run(command + "1").output, first.output);
  EXPECT_NE(folder.run(command + "2").output, first.output);
}

TEST_F(Llmrt, LogitsOfEveryToken) {
  std::string command = std::string(kRun) +
                        "--tokens=5,6,7,8,9,10,11,12,13,14,15 "
                        "--output-logits=";
  ASSERT_EQ(folder.run(command + "score.npy").status, 0);
  ASSERT_EQ(folder.run(command + "chunk.npy --chunk=3").status, 0);
  ASSERT_EQ(folder.run(command + "decode.npy --logits-entry=decode").status, 0);
  std::string bytes = folder.read("score.npy");
  EXPECT_EQ(bytes, folder.read("chunk.npy"));
  EXPECT_EQ(bytes, folder.read("decode.npy"));
  auto array = parseNpy(
      {reinterpret_cast<const uint8_t*>(bytes.data()), bytes.size()}, "x");
  ASSERT_TRUE(array.ok()) << array.status();
  EXPECT_THAT(array->shape, ::testing::ElementsAre(11, kBigramVocab));
  expectError(std::string(kRun) + "--tokens=1,257 --output-logits=a.npy", 1,
              "0904", "257");
  expectError(std::string(kRun) + "--tokens=1,x --output-logits=a.npy", 2,
              "0102", "'x'");
  expectError(std::string(kRun) + "--tokens=1 --output-logits=no/a.npy", 1,
              "0104", "no/a.npy");
  EXPECT_FALSE(folder.exists("a.npy"));
}

TEST_F(Llmrt, BatchInInputOrderWhateverTheMesh) {
  folder.write("in.jsonl", promptLines(9));
  ToolEnd end =
      folder.run(std::string(kRun) + "--prompts=in.jsonl --output=out.jsonl");
  ASSERT_EQ(end.status, 0) << end.errors;
  std::vector<Json> lines = readLines("out.jsonl");
  ASSERT_EQ(lines.size(), 9U);
  for (int i = 0; i < 9; ++i) {
    EXPECT_EQ(lines[i]["id"], i + 1);
    EXPECT_LE(lines[i]["tokens"].size(), static_cast<size_t>(1 + 7 * i % 30));
    EXPECT_EQ(lines[i]["finish_reason"], "length");
  }
  EXPECT_FALSE(folder.exists("out.jsonl.partial"));
  // Standard output, and other ways to compute the same.
  EXPECT_EQ(folder.run(std::string(kRun) + "--prompts=in.jsonl").output,
            folder.read("out.jsonl"));
  for (const BigramShape& shape : std::vector<BigramShape>{
           {.axes = {{"tp", 1}}, .batch = 1},
           {.axes = {{"dp", 2}}, .batch = 1},
           {.axes = {{"dp", 3}}, .batch = 2},
           {.axes = {{"dp", 2}, {"pp", 2}, {"tp", 2}}, .batch = 2}}) {
    folder.writePlan("plan.fb", shape);
    EXPECT_EQ(
        folder.run(std::string(kRun) + "--prompts=in.jsonl --threads=1").output,
        folder.read("out.jsonl"));
  }
}

TEST_F(Llmrt, ReplicasWithOneTwoThreePrompts) {
  for (int count : {1, 2, 3}) {
    folder.write("in.jsonl", promptLines(count));
    folder.writePlan("plan.fb", {.batch = 1});
    std::string alone =
        folder.run(std::string(kRun) + "--prompts=in.jsonl").output;
    folder.writePlan("plan.fb", {.axes = {{"dp", 2}}, .batch = 1});
    EXPECT_EQ(folder.run(std::string(kRun) + "--prompts=in.jsonl").output,
              alone);
  }
}

TEST_F(Llmrt, MalformedLinesAreNamedBeforeAnythingRuns) {
  for (const auto& [line, what] :
       std::vector<std::pair<std::string, std::string>>{
           {"{\"prompt\": \"a\"", "not JSON"},
           {"[1]", "not a JSON object"},
           {"{\"label\": 1}", "none of"},
           {"{\"prompt\": \"a\", \"text\": \"b\"}", "several of"},
           {"{\"prompt\": 3}", "not a text"},
           {"{\"prompt\": \"\"}", "empty"},
           {"{\"prompt\": \"\xff\"}", "not JSON"},
           {"{\"messages\": [{\"role\": \"user\"}]}", "message"},
           {"{\"prompt\": \"a\", \"temperature\": -1}", "temperature"},
           {"{\"prompt\": \"a\", \"top_k\": 1e30}", "top_k"},
           {"{\"prompt\": \"a\", \"max_new_tokens\": 99999999999999999999}",
            "max_new_tokens"},
           {"{\"prompt\": \"a\", \"id\": {}}", "id"}}) {
    folder.write("in.jsonl", "{\"prompt\": \"x\"}\n\n" + line + "\n");
    expectError(std::string(kRun) + "--prompts=in.jsonl --output=out.jsonl", 1,
                "0901", "in.jsonl: line 3: ");
    EXPECT_THAT(folder.read("err"), HasSubstr(what)) << line;
    EXPECT_FALSE(folder.exists("out.jsonl"));
    EXPECT_FALSE(folder.exists("out.jsonl.partial"));
  }
  folder.write("in.jsonl", Json({{"prompt", std::string(5000, 'a')}}).dump());
  expectError(std::string(kRun) + "--prompts=in.jsonl", 1, "0903", "line 1");
}

TEST_F(Llmrt, InterruptedBatchIsContinued) {
  std::string lines;
  for (int i = 0; i < 400; ++i)
    lines += Json({{"prompt", std::to_string(i)}}).dump() + "\n";
  folder.write("in.jsonl", lines);
  std::string command = std::string(kRun) +
                        "--prompts=in.jsonl --output=out.jsonl "
                        "--max-new-tokens=1000 ";
  pid_t process = folder.start("exec " + command);
  while (folder.read("out.jsonl.partial").size() < 20000)
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  ::kill(process, SIGINT);
  EXPECT_EQ(ToolFolder::wait(process), 130);
  EXPECT_THAT(folder.read("err"), HasSubstr("interrupted: "));
  EXPECT_FALSE(folder.exists("out.jsonl"));
  std::string partial = folder.read("out.jsonl.partial");
  ASSERT_FALSE(partial.empty());
  // Another run does not continue it.
  expectError(command + "--seed=3", 1, "0905", "out.jsonl.partial");
  // As after a kill -9 in mid-write.
  folder.write("out.jsonl.partial", partial.substr(0, partial.size() - 10));
  ToolEnd end = folder.run(command);
  EXPECT_EQ(end.status, 0) << end.errors;
  EXPECT_FALSE(folder.exists("out.jsonl.partial"));
  std::string continued = folder.read("out.jsonl");
  EXPECT_EQ(readLines("out.jsonl").size(), 400U);
  EXPECT_EQ(
      folder.run(std::string(kRun) + "--prompts=in.jsonl --max-new-tokens=1000")
          .output,
      continued);
}

TEST_F(Llmrt, InterruptionEndsEveryThreadOfALocalRun) {
  folder.writePlan("plan.fb", {.axes = {{"dp", 2}, {"tp", 2}}});
  std::string lines;
  for (int i = 0; i < 2000; ++i)
    lines += Json({{"prompt", std::to_string(i)}}).dump() + "\n";
  folder.write("in.jsonl", lines);
  pid_t process = folder.start("exec " + std::string(kRun) +
                               "--prompts=in.jsonl --max-new-tokens=3000");
  while (folder.read("out").empty())
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  ::kill(process, SIGTERM);
  EXPECT_EQ(ToolFolder::wait(process), 130);
}

TEST_F(Llmrt, FullDiskLeavesNothingHalfWritten) {
  folder.write("in.jsonl", promptLines(200));
  // 4 blocks of 512 bytes: the partial file fills them.
  expectError("ulimit -f 4; " + std::string(kRun) +
                  "--prompts=in.jsonl --output=out.jsonl",
              1, "0104", "out.jsonl.partial");
  EXPECT_FALSE(folder.exists("out.jsonl"));
  ToolEnd end =
      folder.run(std::string(kRun) + "--prompts=in.jsonl --output=out.jsonl");
  EXPECT_EQ(end.status, 0) << end.errors;
  EXPECT_EQ(readLines("out.jsonl").size(), 200U);
  expectError(std::string(kRun) + "--prompts=in.jsonl --output=no/out.jsonl", 1,
              "0104", "no/out.jsonl");
}

TEST_F(Llmrt, BenchInTheShapeOfGoogleBenchmark) {
  std::string command = "llmrt bench plan.fb --weights=random:1 --no-ceiling "
                        "--prompt-tokens=32 --decode-tokens=16 --output=";
  ToolEnd end = folder.run(command + "json");
  ASSERT_EQ(end.status, 0) << end.errors;
  Json json = Json::parse(end.output);
  ASSERT_EQ(json["benchmarks"].size(), 2U);
  EXPECT_EQ(json["benchmarks"][0]["name"], "prefill/32");
  EXPECT_EQ(json["benchmarks"][1]["name"], "decode/16");
  EXPECT_GT(json["benchmarks"][1]["real_time"].get<double>(), 0);
  // head.weight, padded to whole panels; the embedding table is only looked up.
  EXPECT_EQ(json["benchmarks"][1]["weight_bytes_per_token"], 288 * 16 * 4);
  EXPECT_EQ(json["context"]["ranks"], "1");
  EXPECT_THAT(folder.run(command + "csv").output, StartsWith("name,"));
  EXPECT_THAT(folder.run(command + "table").output, HasSubstr("decode/16"));
}

TEST_F(Llmrt, CompareNamesWhatIsSlower) {
  auto result = [](double prefill, double decode) {
    return Json({{"benchmarks",
                  {{{"name", "prefill"},
                    {"real_time", prefill},
                    {"time_unit", "ms"}},
                   {{"name", "decode"},
                    {"real_time", decode},
                    {"time_unit", "ms"}}}}})
        .dump();
  };
  folder.write("base.json", result(10, 20));
  folder.write("same.json", result(10.4, 15));
  folder.write("slow.json", result(10.4, 22));
  folder.write("bad.json", "{\"benchmarks\": [{}]}");
  EXPECT_EQ(folder.run("llmrt compare base.json same.json").status, 0);
  expectError("llmrt compare base.json slow.json", 1, "1122",
              "decode by 10.0 %");
  EXPECT_THAT(folder.read("out"), Not(HasSubstr("prefill  slower")));
  EXPECT_EQ(
      folder.run("llmrt compare base.json slow.json --tolerance=0.2").status,
      0);
  expectError("llmrt compare base.json bad.json", 1, "1121", "bad.json");
}

TEST_F(Llmrt, TraceIsChromeJson) {
  folder.writePlan("plan.fb", {.axes = {{"dp", 2}}});
  ASSERT_EQ(folder
                .run(std::string(kRun) +
                     "--prompt=ab --max-new-tokens=3 --trace=trace.json")
                .status,
            0);
  Json json = Json::parse(folder.read("trace.json"));
  std::map<std::string, int> entries;
  std::set<int> kernelRanks;
  for (const Json& event : json["traceEvents"]) {
    if (event["ph"] == "X" && event["tid"] == 0)
      ++entries[event["name"].get<std::string>()];
    if (event["ph"] == "X" && event["tid"] == 1 && event["cat"] == "compute")
      kernelRanks.insert(event["pid"].get<int>());
  }
  EXPECT_EQ(entries["prefill"], 2); // of two ranks
  EXPECT_EQ(entries["decode"], 4);
  EXPECT_EQ(kernelRanks.size(), 2U);
  EXPECT_EQ(json["otherData"]["dropped_events"], 0);
}

TEST_F(Llmrt, EnvSaysWhatTheMachineHas) {
  ToolEnd end = folder.run("llmrt env");
  EXPECT_EQ(end.status, 0);
  for (const char* name : {"cpu level", "memory", "huge pages", "mpi", "cuda"})
    EXPECT_THAT(end.output, HasSubstr(name));
}

#ifdef LLMC_MPIRUN
constexpr const char* kMpirun = LLMC_MPIRUN " --allow-run-as-root "
                                            "--oversubscribe -n ";

TEST_F(Llmrt, MpiGivesTheSameAsThreads) {
  folder.write("in.jsonl", promptLines(5));
  folder.writePlan("plan.fb", {.axes = {{"dp", 2}}, .batch = 2});
  std::string local =
      folder.run(std::string(kRun) + "--prompts=in.jsonl").output;
  ToolEnd end = folder.run(std::string(kMpirun) + "2 " + kRun +
                           "--prompts=in.jsonl --output=out.jsonl");
  EXPECT_EQ(end.status, 0) << end.errors;
  EXPECT_EQ(folder.read("out.jsonl"), local);
}

TEST_F(Llmrt, MpiErrorsArePrintedOnce) {
  ToolEnd end = folder.run(std::string(kMpirun) + "2 " + kRun + "--prompt=x");
  EXPECT_NE(end.status, 0);
  EXPECT_THAT(end.errors, HasSubstr("LLMC-E0605"));
  EXPECT_EQ(end.errors.find("LLMC-E"), end.errors.rfind("LLMC-E"))
      << end.errors;
  folder.writePlan("plan.fb", {.axes = {{"dp", 2}}});
  end = folder.run(std::string(kMpirun) +
                   "2 llmrt run plan.fb --weights=nothing --prompt=x");
  EXPECT_NE(end.status, 0);
  EXPECT_THAT(end.errors, HasSubstr("LLMC-E0103"));
  EXPECT_EQ(end.errors.find("LLMC-E"), end.errors.rfind("LLMC-E"))
      << end.errors;
}

TEST_F(Llmrt, MpiRankThatHangsIsNamed) {
  folder.writePlan("plan.fb", {.axes = {{"dp", 2}}});
  folder.write("in.jsonl", promptLines(20000));
  // Rank 1 stops itself once results are written, however fast the machine is.
  // The header of the file is there before the ranks have started.
  folder.write("rank", "[ \"$OMPI_COMM_WORLD_RANK\" = 1 ] && (until [ -n "
                       "\"$(find . -name 'out.jsonl*' -size +16k)\" ]; do "
                       "sleep 0.01; done; kill "
                       "-STOP $$) >/dev/null 2>&1 &\n"
                       "exec " +
                           std::string(kRun) +
                           "--prompts=in.jsonl --output=out.jsonl "
                           "--timeout=1\n");
  ToolEnd end = folder.run(std::string(kMpirun) + "2 sh ./rank");
  EXPECT_NE(end.status, 0);
  EXPECT_THAT(end.errors, HasSubstr("LLMC-E0701: rank 1 did not come"));
  EXPECT_THAT(end.errors, HasSubstr("last commands:"));
  EXPECT_FALSE(folder.exists("out.jsonl"));
}

TEST_F(Llmrt, MpiInterruption) {
  folder.writePlan("plan.fb", {.axes = {{"dp", 2}}});
  std::string lines;
  for (int i = 0; i < 2000; ++i)
    lines += Json({{"prompt", std::to_string(i)}}).dump() + "\n";
  folder.write("in.jsonl", lines);
  pid_t process = folder.start("exec " + std::string(kMpirun) + "2 " + kRun +
                               "--prompts=in.jsonl --output=out.jsonl "
                               "--max-new-tokens=1000");
  while (folder.read("out.jsonl.partial").size() < 10000)
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
  ::kill(process, SIGINT);
  EXPECT_NE(ToolFolder::wait(process), 0);
  EXPECT_FALSE(folder.exists("out.jsonl"));
  EXPECT_EQ(folder.read("out.jsonl.partial").back(), '\n');
}
#endif

} // namespace
} // namespace llmrt::test
