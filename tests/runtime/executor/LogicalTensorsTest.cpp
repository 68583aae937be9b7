// SPDX-License-Identifier: Apache-2.0
// Tensors from the memory of the ranks of one mesh, and into that of another:
// against the initialiser's values, which know no mesh, and against what
// loading weights puts into the same buffers.
#include "runtime/executor/LogicalTensors.h"

#include "runtime/base/Error.h"
#include "runtime/base/Philox.h"
#include "runtime/executor/RandomNormal.h"
#include "runtime/io/Dequantize.h"
#include "runtime/plan/Mesh.h"
#include "tests/runtime/executor/RunRanks.h"

#include <cmath>
#include <cstring>
#include <gmock/gmock.h>
#include <map>
#include <mutex>

namespace llmrt {
namespace {

using test::PlanBuilder;
using test::runRanks;

/// A box along "tp": offsets and counts of its coordinates.
struct Cut {
  int dim = -1;
  std::vector<int64_t> offsets, counts;
};

struct Matrix {
  std::string name;
  std::vector<int64_t> shape;
  std::vector<int64_t> local = {}; // with padding; empty: whole
  Cut cut = {};
  fb::WeightLayout layout = fb::WeightLayout::RowMajor;
  bool isSharded = false;      // ZeRO 3, along dp
  bool isMomentSharded = true; // ZeRO 1, along dp
  bool isTrained = true;
  std::vector<int> stages = {0}; // holders; the first one trains it
};

struct Mesh {
  int dp = 1, pp = 1, tp = 1;
};

constexpr int kDpAxis = 0;
constexpr int kTpAxis = 2;

int64_t laidOutBytes(const Matrix& m, const std::vector<int64_t>& local) {
  int64_t rows = 1;
  for (size_t d = 0; d + 1 < local.size(); ++d)
    rows *= local[d];
  if (m.layout == fb::WeightLayout::Panel)
    rows = (rows + 31) / 32 * 32;
  return rows * local.back() * 4;
}

int64_t shardBytes(int64_t bytes, int dp) {
  int64_t panels = (bytes + 127) / 128;
  return (panels + dp - 1) / dp * 128;
}

void addState(PlanBuilder& b, const Matrix& m, int parameter,
              fb::StateRole role, const std::string& suffix, int64_t bytes,
              int dp) {
  auto state = std::make_unique<fb::StateT>();
  state->name = m.name + suffix;
  state->role = role;
  state->parameter = parameter;
  int64_t held = m.isMomentSharded ? shardBytes(bytes, dp) : bytes;
  state->buffer = b.buffer(state->name, fb::MemoryClass::Optimizer, held);
  if (m.isMomentSharded) {
    state->shard_axes = {kDpAxis};
    state->shard_bytes = held;
  }
  b.stage().states.push_back(std::move(state));
}

void addMatrix(PlanBuilder& b, const Matrix& m, const Mesh& mesh, int stage) {
  std::vector<int64_t> local = m.local.empty() ? m.shape : m.local;
  int64_t bytes = laidOutBytes(m, local);
  int64_t held = m.isSharded ? shardBytes(bytes, mesh.dp) : bytes;
  int buffer = b.buffer(m.name, fb::MemoryClass::Parameters, held);
  int number = static_cast<int>(b.stage().parameters.size());
  fb::ParameterT& p = b.parameter(m.name, m.shape, buffer);
  p.local_shape = local;
  p.layout = m.layout;
  p.init = fb::InitKind::Normal;
  p.init_std = 1;
  if (m.isSharded) {
    p.shard_axes = {kDpAxis};
    p.shard_bytes = held;
  }
  if (m.cut.dim >= 0) {
    p.box.push_back(std::make_unique<fb::BoxDimT>());
    p.box[0]->dim = m.cut.dim;
    p.box[0]->offset = test::values(kTpAxis, m.cut.offsets);
    p.box[0]->count = test::values(kTpAxis, m.cut.counts);
  }
  if (!m.isTrained || stage != m.stages.front())
    return;
  for (auto [role, suffix] : {std::pair{fb::StateRole::Moment1, ".moment1"},
                              std::pair{fb::StateRole::Moment2, ".moment2"},
                              std::pair{fb::StateRole::Gradient, ".gradient"}})
    addState(b, m, number, role, suffix, bytes, mesh.dp);
}

PlanBuilder planOf(const Mesh& mesh, const std::vector<Matrix>& matrices) {
  PlanBuilder b({{"dp", mesh.dp}, {"pp", mesh.pp}, {"tp", mesh.tp}});
  b.entry("decode", 1, 1);
  for (int stage = 0; stage < mesh.pp; ++stage) {
    b.select(stage);
    b.program(0);
    for (const Matrix& m : matrices)
      for (int holder : m.stages)
        if (holder == stage)
          addMatrix(b, m, mesh, stage);
  }
  return b;
}

/// The same seven tensors as every mesh below holds them.
std::vector<Matrix> wholeMatrices() {
  return {{"embed", {70, 40}},
          {"panels", {71, 40}},
          {"columns", {48, 71}},
          {"heads", {24, 40}},
          {"norm", {40}},
          {"bias", {71}},
          {"frozen", {6, 5, 4}, {}, {}, {}, false, false, false}};
}

std::vector<Matrix> shardedMatrices(int firstStage, int lastStage) {
  constexpr auto Panel = fb::WeightLayout::Panel;
  std::vector<Matrix> all = wholeMatrices();
  // Tied: the last stage has a copy of another layout, and trains it.
  all[0].stages = {lastStage};
  if (firstStage != lastStage)
    all[0].stages.push_back(firstStage);
  all[0].isSharded = true;
  all[1].local = {40, 40};
  all[1].cut = {0, {0, 36}, {36, 35}};
  all[1].layout = Panel;
  all[1].isSharded = true;
  all[2].local = {48, 36};
  all[2].cut = {1, {0, 36}, {36, 35}};
  all[2].layout = Panel;
  // 3 heads of 8 rows: both ranks hold the one in the middle.
  all[3].local = {16, 40};
  all[3].cut = {0, {0, 8}, {16, 16}};
  all[3].layout = Panel;
  all[3].isSharded = true;
  all[4].isMomentSharded = false;
  all[5].local = {40};
  all[5].cut = {0, {0, 36}, {36, 35}};
  all[5].isMomentSharded = false;
  all[6].local = {6, 4, 4};
  all[6].cut = {1, {0, 3}, {3, 2}};
  for (size_t i = 1; i < all.size(); ++i)
    all[i].stages = {i % 2 ? firstStage : lastStage};
  return all;
}

using Values = std::map<std::string, std::vector<float>>;

std::string keyOf(const LogicalTensor& tensor) {
  return absl::StrCat(tensor.parameter, " ", static_cast<int>(tensor.role));
}

/// The initialiser's values, and others for moments.
Values wantedValues() {
  Values all;
  for (const Matrix& m : wholeMatrices())
    for (int role = 0; role < (m.isTrained ? 3 : 1); ++role) {
      int64_t size = 1;
      for (int64_t d : m.shape)
        size *= d;
      std::vector<float>& values = all[absl::StrCat(m.name, " ", role)];
      for (int64_t i = 0; i < size; ++i)
        values.push_back(role == 0
                             ? normal(42, philoxStream(m.name), i)
                             : static_cast<float>(std::sin(i * role + 0.5)));
    }
  return all;
}

void forEachElement(const LogicalTensor& tensor, const LogicalBox& box,
                    const std::function<void(int64_t, int64_t)>& body) {
  for (int64_t i = 0; i < box.numRows; ++i)
    for (int64_t j = 0; j < box.numCols; ++j)
      body((box.rowBegin + i) * tensor.shape.back() + box.colBegin + j,
           i << 32 | j);
}

test::RunOptions randomWeights() {
  test::RunOptions options;
  options.executor.weights = {{"model", "random:42"}};
  return options;
}

/// Fills all ranks from `values`; then collects what they write, and counts
/// elements that are written more than once.
Values collect(const Mesh& mesh, const std::vector<Matrix>& matrices,
               const Values& values, int64_t* numTwice) {
  PlanBuilder b = planOf(mesh, matrices);
  test::PlanBytes bytes = test::finishPlan(b.plan);
  auto plan = readPlan(bytes);
  EXPECT_TRUE(plan.ok()) << plan.status();
  Values written;
  std::map<std::string, std::vector<int>> counts;
  std::mutex mutex;
  test::expectAllOk(runRanks(b.plan, randomWeights(), [&](Executor& e) {
    LogicalTensors tensors = LogicalTensors::create(**plan, e);
    auto stage = (*plan)->stages()->Get(e.stage());
    std::vector<std::string> loaded;
    for (unsigned p = 0; p < stage->parameters()->size(); ++p) {
      absl::Span<uint8_t> memory = e.parameterMemory(static_cast<int>(p));
      loaded.emplace_back(memory.begin(), memory.end());
      std::memset(memory.data(), 0, memory.size());
    }
    LLMRT_RETURN_IF_ERROR(tensors.read(
        [&](int t, const LogicalBox& box, float* out, int64_t stride) {
          const LogicalTensor& tensor = tensors.tensors()[t];
          forEachElement(tensor, box, [&](int64_t element, int64_t at) {
            out[(at >> 32) * stride + (at & 0xffffffff)] =
                values.at(keyOf(tensor))[element];
          });
          return absl::OkStatus();
        }));
    for (unsigned p = 0; p < stage->parameters()->size(); ++p) {
      absl::Span<uint8_t> memory = e.parameterMemory(static_cast<int>(p));
      EXPECT_TRUE(std::string(memory.begin(), memory.end()) == loaded[p])
          << stage->parameters()->Get(p)->name()->str();
    }
    return tensors.write(
        [&](int t, const LogicalBox& box, const float* in, int64_t stride) {
          const LogicalTensor& tensor = tensors.tensors()[t];
          std::lock_guard lock(mutex);
          std::vector<float>& to = written[keyOf(tensor)];
          std::vector<int>& count = counts[keyOf(tensor)];
          to.resize(values.at(keyOf(tensor)).size());
          count.resize(to.size());
          forEachElement(tensor, box, [&](int64_t element, int64_t at) {
            to[element] = in[(at >> 32) * stride + (at & 0xffffffff)];
            *numTwice += count[element]++ > 0;
          });
          return absl::OkStatus();
        });
  }));
  for (const auto& [name, count] : counts)
    EXPECT_EQ(std::count(count.begin(), count.end(), 0), 0) << name;
  return written;
}

void expectCollects(const Mesh& mesh, const std::vector<Matrix>& matrices) {
  SCOPED_TRACE(absl::StrCat("dp ", mesh.dp, " pp ", mesh.pp, " tp ", mesh.tp));
  Values wanted = wantedValues();
  int64_t numTwice = 0;
  Values got = collect(mesh, matrices, wanted, &numTwice);
  EXPECT_EQ(numTwice, 0);
  ASSERT_EQ(got.size(), wanted.size());
  for (const auto& [name, values] : wanted)
    EXPECT_TRUE(got[name] == values) << name;
}

TEST(LogicalTensors, OneRank) { expectCollects({}, wholeMatrices()); }

TEST(LogicalTensors, EveryElementOnceOnEveryMesh) {
  expectCollects({.tp = 2}, shardedMatrices(0, 0));
  expectCollects({.dp = 2, .tp = 2}, shardedMatrices(0, 0));
  expectCollects({.dp = 3, .tp = 2}, shardedMatrices(0, 0));
  expectCollects({.dp = 2, .pp = 2, .tp = 2}, shardedMatrices(0, 1));
}

// Weights in bf16 are kept by their f32 masters, and round from them.
TEST(LogicalTensors, MastersStandForWeights) {
  PlanBuilder b({{"dp", 1}, {"tp", 1}});
  b.entry("decode", 1, 1);
  b.program(0);
  int buffer = b.buffer("w", fb::MemoryClass::Parameters, 64 * 8 * 2);
  fb::ParameterT& p = b.parameter("w", {40, 8}, buffer, fb::ElementType::BF16);
  p.layout = fb::WeightLayout::Panel;
  p.init = fb::InitKind::Normal;
  p.init_std = 1;
  for (auto role : {fb::StateRole::Moment1, fb::StateRole::Moment2,
                    fb::StateRole::Master}) {
    auto state = std::make_unique<fb::StateT>();
    state->name = absl::StrCat("w.", static_cast<int>(role));
    state->role = role;
    state->parameter = 0;
    state->buffer =
        b.buffer(state->name, fb::MemoryClass::Optimizer, 64 * 8 * 4);
    b.stage().states.push_back(std::move(state));
  }
  test::PlanBytes bytes = test::finishPlan(b.plan);
  auto plan = readPlan(bytes);
  ASSERT_TRUE(plan.ok()) << plan.status();
  test::expectAllOk(runRanks(b.plan, randomWeights(), [&](Executor& e) {
    LogicalTensors tensors = LogicalTensors::create(**plan, e);
    EXPECT_EQ(tensors.tensors().size(), 3u);
    EXPECT_EQ(tensors.tensors()[0].dtype, DType::F32);
    // It begins as the initialiser's f32: two panels of 32 outputs.
    auto* master = reinterpret_cast<const float*>(e.stateMemory(2).data());
    for (int64_t row = 0; row < 40; ++row)
      for (int64_t col = 0; col < 8; ++col)
        EXPECT_EQ(master[(row / 32 * 8 + col) * 32 + row % 32],
                  normal(42, philoxStream("w"), row * 8 + col));
    auto value = [](int t, int64_t row, int64_t col) {
      return static_cast<float>(std::sin(row * 8 + col + 0.1 * t));
    };
    LLMRT_RETURN_IF_ERROR(tensors.read([&](int t, const LogicalBox& box,
                                           float* out, int64_t stride) {
      for (int64_t i = 0; i < box.numRows; ++i)
        for (int64_t j = 0; j < box.numCols; ++j)
          out[i * stride + j] = value(t, box.rowBegin + i, box.colBegin + j);
      return absl::OkStatus();
    }));
    auto* halves = reinterpret_cast<const uint16_t*>(
        e.parameterMemory(0).data()); // one panel of 64 outputs
    for (int64_t row = 0; row < 40; ++row)
      for (int64_t col = 0; col < 8; ++col)
        EXPECT_EQ(halves[col * 64 + row], bf16FromFloat(value(0, row, col)));
    int64_t numWritten = 0;
    LLMRT_RETURN_IF_ERROR(tensors.write(
        [&](int t, const LogicalBox& box, const float* in, int64_t stride) {
          for (int64_t i = 0; i < box.numRows; ++i)
            for (int64_t j = 0; j < box.numCols; ++j) {
              EXPECT_EQ(in[i * stride + j],
                        value(t, box.rowBegin + i, box.colBegin + j));
              ++numWritten;
            }
          return absl::OkStatus();
        }));
    EXPECT_EQ(numWritten, 3 * 40 * 8);
    return absl::OkStatus();
  }));
}

TEST(LogicalTensors, NamesTheFirstGradientThatWentBad) {
  std::vector<Matrix> all = wholeMatrices();
  PlanBuilder b = planOf({}, all);
  test::PlanBytes bytes = test::finishPlan(b.plan);
  auto plan = readPlan(bytes);
  ASSERT_TRUE(plan.ok()) << plan.status();
  test::expectAllOk(runRanks(b.plan, randomWeights(), [&](Executor& e) {
    LogicalTensors tensors = LogicalTensors::create(**plan, e);
    EXPECT_EQ(*tensors.findNonFiniteGradient(), -1);
    auto spoil = [&](int matrix) {
      // Three states each, the gradient last.
      auto* values =
          reinterpret_cast<float*>(e.stateMemory(3 * matrix + 2).data());
      values[1] = matrix == 4 ? INFINITY : NAN;
    };
    spoil(4);
    EXPECT_EQ(tensors.tensors()[*tensors.findNonFiniteGradient()].parameter,
              "norm");
    spoil(1);
    EXPECT_EQ(tensors.tensors()[*tensors.findNonFiniteGradient()].parameter,
              "panels");
    return absl::OkStatus();
  }));
}

} // namespace
} // namespace llmrt
