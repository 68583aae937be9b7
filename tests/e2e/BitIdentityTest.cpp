// SPDX-License-Identifier: Apache-2.0
// The arithmetic contract (docs/design/architecture.md, section 8): a row's
// logits have the same bits whatever the chunk size, the number of sequences in
// flight, what the other sequences are, the threads of a rank, the entry that
// computes it, checked memory, and each optimisation. Everything is compared
// with one scoring run.
#include "tests/e2e/PlanRunner.h"
#include "tests/e2e/Workspace.h"

#include <gtest/gtest.h>

#include <cstring>
#include <filesystem>
#include <sstream>

namespace llmrt {
namespace {

struct Case {
  const char* name;
  std::string
      fixture; // or "": a random model wide enough for every vector loop
  std::vector<std::string> options;
};

void PrintTo(const Case& c, std::ostream* os) { *os << c.name; }

/// Where two runs differ first, or "".
std::string firstDifference(const Logits& a, const Logits& b) {
  if (a.size() != b.size())
    return std::to_string(a.size()) + " and " + std::to_string(b.size()) +
           " rows";
  for (size_t r = 0; r < a.size(); ++r)
    for (size_t c = 0; c < a[r].size(); ++c)
      if (std::memcmp(&a[r][c], &b[r][c], sizeof(float)) != 0) {
        std::stringstream text;
        text.precision(9);
        text << "row " << r << ", column " << c << ": " << a[r][c] << " and "
             << b[r][c];
        return text.str();
      }
  return "";
}

class BitIdentity : public testing::TestWithParam<Case> {
protected:
  void SetUp() override {
    if (GetParam().fixture.empty()) {
      ToolEnd end = workspace_.run(
          "llmc import --new=llama,layers=2,hidden=320,heads=10,kv_heads=2,"
          "intermediate=900,vocab=515,context=256,init_std=0.1 -o model.mlir");
      ASSERT_EQ(end.status, 0) << end.errors;
      model_ = workspace_.path("model.mlir");
      weights_ = "random:5";
      tokens_ = someTokens(70, 515);
    } else {
      std::string folder = environment("LLMC_SOURCE_DIR") + "/tests/fixtures/" +
                           GetParam().fixture;
      model_ = weights_ = std::filesystem::exists(folder + "/model.gguf")
                              ? folder + "/model.gguf"
                              : folder;
      tokens_ = readTokens(folder + "/tokens.json", "tokens");
    }
    RunRequest r = request(compile("first", {"--chunk=32"}));
    r.score = true;
    auto result = runPlan(r);
    ASSERT_TRUE(result.ok()) << result.status();
    known_ = result->logits;
    ASSERT_EQ(known_.size(), tokens_.size());
  }

  std::string compile(const std::string& name,
                      std::vector<std::string> options) {
    std::string plan = workspace_.path(name + ".fb");
    options.push_back("--seq=128");
    options.insert(options.end(), GetParam().options.begin(),
                   GetParam().options.end());
    absl::Status status = compilePlan(model_, plan, options);
    EXPECT_TRUE(status.ok()) << status;
    return plan;
  }

  RunRequest request(const std::string& plan) {
    RunRequest r;
    r.plan = plan;
    r.weights = weights_;
    r.tokens = tokens_;
    return r;
  }

  /// Prefills r.prefill tokens and decodes the rest, or scores all.
  void expectKnown(const RunRequest& r, const std::string& what) {
    auto result = runPlan(r);
    ASSERT_TRUE(result.ok()) << what << ": " << result.status();
    Logits part = known_;
    if (!r.score)
      part.erase(part.begin(),
                 part.begin() + std::max<int64_t>(r.prefill, 1) - 1);
    EXPECT_EQ(firstDifference(result->logits, part), "") << what;
  }

  Workspace workspace_;
  std::string model_, weights_;
  std::vector<int32_t> tokens_;
  Logits known_;
};

TEST_P(BitIdentity, ChunkSizes) {
  for (int64_t chunk : {1, 7, 32, 64}) {
    std::string name = "chunk " + std::to_string(chunk);
    RunRequest r = request(
        compile(std::to_string(chunk), {"--chunk=" + std::to_string(chunk)}));
    r.score = true;
    expectKnown(r, name + ", compiled, score");
    r.score = false;
    r.prefill = 67;
    expectKnown(r, name + ", compiled, prefill");
    r.plan = workspace_.path("first.fb");
    r.chunk = chunk;
    expectKnown(r, name + ", given, prefill");
    r.score = true;
    expectKnown(r, name + ", given, score");
  }
}

TEST_P(BitIdentity, Entries) {
  RunRequest r = request(workspace_.path("first.fb"));
  expectKnown(r, "decode of every token");
  for (int64_t prefill : {1, 2, 31, 32, 33, 64, 70}) {
    r.prefill = prefill;
    expectKnown(r, "prefill of " + std::to_string(prefill));
  }
}

TEST_P(BitIdentity, Batches) {
  for (int64_t batch : {2, 3, 4, 9}) {
    RunRequest r =
        request(compile("batch" + std::to_string(batch),
                        {"--chunk=32", "--batch=" + std::to_string(batch)}));
    for (bool hasCompanions : {false, true})
      for (int64_t slot : {int64_t(0), batch - 1}) {
        r.slot = slot;
        r.hasCompanions = hasCompanions;
        r.prefill = 20;
        std::string name = "batch " + std::to_string(batch) + ", slot " +
                           std::to_string(slot) +
                           (hasCompanions ? ", companions" : "");
        expectKnown(r, name);
        r.prefill = 0;
        expectKnown(r, name + ", decode of every token");
      }
  }
}

TEST_P(BitIdentity, ThreadsAndCheckedMemory) {
  for (int threads : {1, 2, 3, 5})
    for (bool isChecked : {false, true}) {
      RunRequest r = request(workspace_.path("first.fb"));
      r.numThreads = threads;
      r.checkMemory = isChecked;
      std::string name = std::to_string(threads) + " threads" +
                         (isChecked ? ", checked memory" : "");
      r.prefill = 40;
      expectKnown(r, name);
      r.score = true;
      expectKnown(r, name + ", score");
    }
}

TEST_P(BitIdentity, EachOptimisationOff) {
  ToolEnd listed = workspace_.run("llmc compile --list-passes");
  ASSERT_EQ(listed.status, 0) << listed.errors;
  std::stringstream text(listed.output);
  std::vector<std::string> names;
  for (std::string line; std::getline(text, line);) {
    std::stringstream words(line);
    std::string phase, name, kind;
    words >> phase >> name >> kind;
    if (kind == "optional")
      names.push_back(name);
  }
  ASSERT_FALSE(names.empty()) << listed.output;
  std::string all;
  for (const std::string& name : names)
    all += (all.empty() ? "" : ",") + name;
  names.push_back(all);
  for (const std::string& name : names) {
    RunRequest r = request(
        compile("disabled", {"--chunk=32", "--batch=2", "--disable=" + name}));
    r.prefill = 40;
    r.hasCompanions = true;
    expectKnown(r, "without " + name);
    r.score = true;
    expectKnown(r, "without " + name + ", score");
  }
}

const Case kCases[] = {
    {"llama9q3kv", "llama-9q3kv", {}},
    {"qwen2", "qwen2", {}},
    {"gemma3", "gemma3", {}},
    {"gpt2", "gpt2", {}},
    {"quantized", "llama-quantized-gguf", {}},
    {"wide", "", {}},
    {"wideBf16", "", {"--dtype=bf16"}},
    {"gemma2Bf16", "gemma2", {"--dtype=bf16"}},
    {"wideTp2", "", {"--mesh=tp=2"}},
    {"widePp2", "", {"--mesh=pp=2"}},
    {"wideDp2", "", {"--mesh=dp=2", "--zero=3"}},
};

INSTANTIATE_TEST_SUITE_P(Models, BitIdentity, testing::ValuesIn(kCases),
                         [](const testing::TestParamInfo<Case>& info) {
                           return info.param.name;
                         });

} // namespace
} // namespace llmrt
