// SPDX-License-Identifier: Apache-2.0
// A plan that does not fit: the error says where the bytes are, and every
// change that it names is true: compiled under the same limit, it fits and
// needs what was said.
#include "tests/plan/tools/RunLlmc.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include <map>
#include <sstream>

namespace llmc::test {
namespace {

using nlohmann::json;
using testing::AllOf;
using testing::HasSubstr;
using testing::StartsWith;

struct Case {
  const char* name;
  const char* options;
  double share;      // of what the plan needs
  const char* named; // one change that must be among those found
  const char* model = "m.mlir";
};

void PrintTo(const Case& test, std::ostream* os) { *os << test.name; }

using OptionValues = std::map<std::string, std::string>;

/// "--a=1 --b=2" over what `values` has.
OptionValues withOptions(OptionValues values, const std::string& options) {
  std::istringstream words(options);
  for (std::string word; words >> word;) {
    size_t equal = word.find('=');
    values[word.substr(0, equal)] = word.substr(equal + 1);
  }
  return values;
}

std::string textOf(const OptionValues& values) {
  std::string text;
  for (const auto& [name, value] : values)
    text += name + "=" + value + " ";
  return text;
}

class MemoryLimit : public testing::TestWithParam<Case> {
protected:
  static void SetUpTestSuite() {
    folder_ = new LlmcFolder;
    ToolEnd end = folder_->run(
        "for n in 4 16; do llmc import -o $n.mlir --new=llama,layers=$n,"
        "hidden=64,heads=4,kv_heads=2,intermediate=128,vocab=96,context=128; "
        "done; mv 4.mlir m.mlir; mv 16.mlir deep.mlir");
    ASSERT_EQ(end.status, 0) << end.errors;
  }

  static void TearDownTestSuite() { delete folder_; }

  ToolEnd compile(const OptionValues& options, int64_t limitBytes = 0) {
    std::string limit =
        limitBytes ? "--memory-limit=" + std::to_string(limitBytes) : "";
    return folder_->run("rm -f p.fb; llmc compile -o p.fb " + model() + " " +
                        textOf(options) + limit);
  }

  std::string model() const { return GetParam().model; }

  int64_t neededBytes() {
    json plan =
        json::parse(folder_->run("llmc inspect p.fb --output=json").output);
    return plan["counters"]["memory_bytes.total"];
  }

  static LlmcFolder* folder_;
};

LlmcFolder* MemoryLimit::folder_ = nullptr;

TEST_P(MemoryLimit, EveryNamedChangeFits) {
  OptionValues options = withOptions({}, GetParam().options);
  ASSERT_EQ(compile(options).status, 0);
  int64_t needed = neededBytes();
  auto limit = static_cast<int64_t>(GetParam().share * needed);
  EXPECT_EQ(compile(options, needed).status, 0) << "it just fits";

  ToolEnd end = compile(options, limit);
  ASSERT_EQ(end.status, 1);
  EXPECT_FALSE(folder_->exists("p.fb"));
  EXPECT_THAT(
      end.errors,
      AllOf(HasSubstr("llmc: LLMC-E1008: each rank of pipeline stage "),
            HasSubstr(std::to_string(needed) + " bytes), "
                                               "--memory-limit allows "),
            HasSubstr("(" + std::to_string(limit) + ")"),
            HasSubstr("largest classes: "), HasSubstr("largest buffers: "),
            HasSubstr(GetParam().named)));
  int changes = 0;
  std::istringstream lines(end.errors);
  for (std::string line; std::getline(lines, line);) {
    size_t at = line.find("  needs ");
    if (line.rfind("--", 0) != 0)
      continue;
    ASSERT_NE(at, std::string::npos) << line;
    ++changes;
    std::string change = line.substr(0, line.find_last_not_of(' ', at) + 1);
    EXPECT_THAT(end.errors, HasSubstr(change + " (")) << "not in the error";
    ToolEnd changed = compile(withOptions(options, change), limit);
    EXPECT_EQ(changed.status, 0) << change << "\n" << changed.errors;
    EXPECT_THAT(line,
                HasSubstr("(" + std::to_string(neededBytes()) + " bytes); "));
  }
  EXPECT_GT(changes, 0) << end.errors;
}

INSTANTIATE_TEST_SUITE_P(
    Options, MemoryLimit,
    testing::Values(
        Case{"Recompute", "--mode=train --batch=8 --seq=64", 0.9,
             "--recompute=selective"},
        Case{"Microbatches", "--mode=train --batch=8 --seq=64", 0.6,
             "--microbatches="},
        Case{"Zero", "--mode=train --batch=4 --seq=16 --mesh=dp=4", 0.8,
             "--zero="},
        Case{"Schedule",
             "--mode=train --batch=16 --seq=64 --mesh=pp=2 --schedule=gpipe "
             "--microbatches=8",
             0.6, "--schedule=1f1b"},
        Case{"WeightGradients",
             "--mode=train --batch=16 --seq=64 --mesh=pp=4 "
             "--schedule=zero-bubble --microbatches=8",
             0.8, "--schedule=1f1b"},
        Case{"Together",
             "--mode=train --batch=8 --seq=32 --mesh=dp=2,pp=2 "
             "--schedule=gpipe --microbatches=2",
             0.3, " --"},
        Case{"MoreRanks", "--mode=train --batch=1 --seq=16", 0.7, "--mesh="},
        Case{"Rows",
             "--mode=train --batch=4 --seq=64 --mesh=tp=2 "
             "--sequence-parallel=false",
             0.95, "--sequence-parallel=true"},
        Case{"Batch", "--batch=4 --seq=128", 0.8, "--batch="},
        Case{"Chunk", "--seq=128 --chunk=128", 0.9, "--chunk="},
        Case{"Gather", "--mesh=dp=2 --chunk=16 --seq=64", 0.9, "--zero=3",
             "deep.mlir"}),
    [](const testing::TestParamInfo<Case>& info) { return info.param.name; });

TEST_F(MemoryLimit, ADumpCannotBeChanged) {
  ToolEnd end = folder_->run(
      "llmc compile m.mlir --compile-to=step -o step.mlir && "
      "llmc compile step.mlir --compile-from=step --memory-limit=100K -o p.fb");
  EXPECT_EQ(end.status, 1);
  EXPECT_THAT(end.errors, AllOf(StartsWith("llmc: LLMC-E1008: "),
                                HasSubstr("compile from the model")));
}

} // namespace
} // namespace llmc::test
