// SPDX-License-Identifier: Apache-2.0
// Weights from a safetensors file made here, or from initialisers, in every
// layout, cut and shard, against a plain loop over the elements. Over 500 lines
// because all layouts, blocks too, are cases of one description.
#include "runtime/base/Philox.h"
#include "runtime/io/Dequantize.h"
#include "runtime/io/Quantize.h"
#include "runtime/kernels/KernelAbi.h"
#include "tests/runtime/executor/RunRanks.h"
#include "tests/support/GgufWriter.h"

#include "absl/strings/str_format.h"

#include <cmath>
#include <cstring>
#include <fcntl.h>
#include <filesystem>
#include <fstream>
#include <gmock/gmock.h>
#include <map>
#include <sys/mman.h>
#include <unistd.h>

namespace llmrt {
namespace {

using test::PlanBuilder;
using test::RunOptions;
using test::runRanks;
using ::testing::HasSubstr;

/// A value for each element that bf16 does not hold exactly.
float valueAt(int64_t row, int64_t col) {
  return static_cast<float>(std::sin(0.37 * row + 1.01 * col) * (1 + row));
}

struct Tensor {
  std::string dtype; // "F32", "BF16"
  std::vector<int64_t> shape;
  std::string bytes;
};

Tensor makeTensor(const std::string& dtype, std::vector<int64_t> shape,
                  bool isTransposed = false) {
  Tensor tensor{dtype, shape, ""};
  int64_t cols = shape.back();
  int64_t rows = shape.size() == 1 ? 1 : shape[0];
  for (int64_t r = 0; r < rows; ++r)
    for (int64_t c = 0; c < cols; ++c) {
      float value = isTransposed ? valueAt(c, r) : valueAt(r, c);
      uint16_t half = bf16FromFloat(value);
      tensor.bytes.append(dtype == "F32" ? reinterpret_cast<const char*>(&value)
                                         : reinterpret_cast<const char*>(&half),
                          dtype == "F32" ? 4 : 2);
    }
  return tensor;
}

class LoadWeights : public ::testing::Test {
protected:
  void SetUp() override {
    path_ = ::testing::TempDir() + "/load-weights-" + std::to_string(getpid()) +
            ".safetensors";
  }

  void TearDown() override { std::filesystem::remove(path_); }

  void write(const std::map<std::string, Tensor>& tensors,
             int64_t headerPadding = 0) {
    std::string header = "{";
    int64_t offset = 0;
    for (const auto& [name, tensor] : tensors) {
      std::string shape;
      for (int64_t d : tensor.shape)
        absl::StrAppend(&shape, shape.empty() ? "" : ",", d);
      absl::StrAppendFormat(&header,
                            "%s\"%s\":{\"dtype\":\"%s\",\"shape\":[%s],"
                            "\"data_offsets\":[%d,%d]}",
                            offset ? "," : "", name, tensor.dtype, shape,
                            offset, offset + tensor.bytes.size());
      offset += tensor.bytes.size();
    }
    header += "}";
    while ((header.size() + headerPadding) % 8)
      header += ' ';
    uint64_t headerBytes = header.size();
    std::ofstream file(path_, std::ios::binary);
    file.write(reinterpret_cast<const char*>(&headerBytes), 8);
    file << header;
    for (const auto& [name, tensor] : tensors)
      file << tensor.bytes;
  }

  std::string path_;
};

/// What a parameter is and how it is cut along "tp" (axis 1 of the mesh dp,
/// tp).
struct Case {
  std::string name;
  std::vector<int64_t> global;
  std::vector<int64_t> local; // with padding
  int cutDim = -1;            // runs of ceil(global / tp) along tp
  fb::ElementType dtype = fb::ElementType::F32;
  fb::WeightLayout layout = fb::WeightLayout::RowMajor;
  bool isTransposed = false;
  int64_t sourceRow = -1;
  bool isSharded = false; // along dp
};

constexpr int kTp = 2;
constexpr int kDp = 3;

int64_t elementBytes(const Case& c) {
  return c.dtype == fb::ElementType::F32 ? 4 : 2;
}

int64_t runOf(const Case& c) {
  return c.cutDim < 0 ? 0 : (c.global[c.cutDim] + kTp - 1) / kTp;
}

int64_t countOf(const Case& c, int tp) {
  int64_t size = c.global[c.cutDim];
  return std::clamp<int64_t>(size - tp * runOf(c), 0, runOf(c));
}

std::optional<SourceType> blocksOf(const Case& c) {
  if (c.layout == fb::WeightLayout::Q8_0)
    return SourceType::Q8_0;
  if (c.layout == fb::WeightLayout::Q4_0)
    return SourceType::Q4_0;
  return std::nullopt;
}

/// Rows of f32 as blocks: all elements, then all factors.
std::string quantized(SourceType type, const std::string& rows) {
  const int64_t count = rows.size() / 4 / kQuantizedElements;
  std::vector<float> values(rows.size() / 4);
  std::memcpy(values.data(), rows.data(), rows.size());
  std::vector<uint8_t> elements(count * quantizedElementBytes(type));
  std::vector<uint16_t> factors(count);
  quantizeBlocks(type, values.data(), count, elements.data(), factors.data());
  return std::string(elements.begin(), elements.end()) +
         std::string(reinterpret_cast<const char*>(factors.data()), count * 2);
}

/// The laid-out box of a tp rank, by a loop over its elements.
std::string wantedBytes(const Case& c, int tp,
                        const std::function<float(int64_t, int64_t)>& value) {
  int64_t rows = c.local.size() == 1 ? 1 : c.local[0];
  int64_t cols = c.local.back();
  int64_t P = kPanelBytes / elementBytes(c);
  bool isPanel = c.layout == fb::WeightLayout::Panel;
  int64_t elements = (isPanel ? (rows + P - 1) / P * P : rows) * cols;
  std::string bytes(elements * elementBytes(c), '\0');
  bool cutsRows = c.cutDim == 0 && c.local.size() == 2;
  bool cutsCols = c.cutDim >= 0 && !cutsRows;
  int64_t globalRows = c.global.size() == 1 ? 1 : c.global[0];
  int64_t validRows = cutsRows ? countOf(c, tp) : globalRows;
  int64_t validCols = cutsCols ? countOf(c, tp) : c.global.back();
  for (int64_t r = 0; r < validRows; ++r)
    for (int64_t k = 0; k < validCols; ++k) {
      float v = value(r + (cutsRows ? tp * runOf(c) : 0),
                      k + (cutsCols ? tp * runOf(c) : 0));
      int64_t at = isPanel ? (r / P) * cols * P + k * P + r % P : r * cols + k;
      uint16_t half = bf16FromFloat(v);
      std::memcpy(&bytes[at * elementBytes(c)],
                  elementBytes(c) == 4 ? static_cast<void*>(&v) : &half,
                  elementBytes(c));
    }
  if (std::optional<SourceType> type = blocksOf(c))
    return quantized(*type, bytes);
  return bytes;
}

PlanBuilder planOf(const Case& c, int64_t* heldBytes) {
  PlanBuilder b({{"dp", kDp}, {"tp", kTp}});
  int entry = b.entry("decode", 1, 1);
  int64_t laidOut =
      wantedBytes(c, 0, [](int64_t, int64_t) { return 0.0f; }).size();
  int64_t shard = (laidOut + kDp - 1) / kDp;
  shard = (shard + 127) / 128 * 128;
  *heldBytes = c.isSharded ? shard : laidOut;
  int buffer =
      b.buffer("w", fb::MemoryClass::Parameters, (*heldBytes + 3) / 4 * 4);
  fb::ParameterT& p = b.parameter("logical", c.global, buffer, c.dtype);
  p.source = "file.tensor";
  p.local_shape = c.local;
  p.layout = c.layout;
  p.transposed = c.isTransposed;
  p.init_std = 0.5;
  if (c.sourceRow >= 0) {
    p.source_row_begin = c.sourceRow;
    p.source_row_end = c.sourceRow + c.global[0];
  }
  if (c.isSharded) {
    p.shard_axes = {0};
    p.shard_bytes = shard;
  }
  if (c.cutDim >= 0) {
    p.box.push_back(std::make_unique<fb::BoxDimT>());
    p.box[0]->dim = c.cutDim;
    std::vector<int64_t> offsets, counts;
    for (int tp = 0; tp < kTp; ++tp) {
      offsets.push_back(std::min(tp * runOf(c), c.global[c.cutDim]));
      counts.push_back(countOf(c, tp));
    }
    p.box[0]->offset = test::values(1, offsets);
    p.box[0]->count = test::values(1, counts);
  }
  b.output(entry, "logits", buffer, fb::ElementType::F32,
           {(*heldBytes + 3) / 4});
  return b;
}

// Loads the case and compares every rank's bytes.
void expectLoads(const Case& c, const std::string& weights,
                 const std::function<float(int64_t, int64_t)>& value) {
  SCOPED_TRACE(c.name + " from " + weights);
  int64_t heldBytes = 0;
  PlanBuilder b = planOf(c, &heldBytes);
  for (int threads : {1, 3}) {
    RunOptions options;
    options.executor.numThreads = threads;
    options.executor.weights = {{"model", weights}};
    test::expectAllOk(runRanks(b.plan, options, [&](Executor& e) {
      absl::Span<const uint8_t> output = e.output(0, "logits");
      std::string got(output.begin(), output.begin() + heldBytes);
      std::string wanted = wantedBytes(c, e.coordinates()[1], value);
      if (c.isSharded) {
        wanted.resize(heldBytes * kDp, '\0');
        wanted = wanted.substr(heldBytes * e.coordinates()[0], heldBytes);
      }
      EXPECT_EQ(got.size(), wanted.size());
      EXPECT_TRUE(got == wanted)
          << "dp " << e.coordinates()[0] << " tp " << e.coordinates()[1];
      return absl::OkStatus();
    }));
  }
}

absl::Status statusOf(const Case& c, const std::vector<WeightLocation>& weights,
                      fb::InitKind init = fb::InitKind::Normal) {
  int64_t heldBytes;
  PlanBuilder b = planOf(c, &heldBytes);
  b.stage().parameters[0]->init = init;
  RunOptions options;
  options.executor.weights = weights;
  return runRanks(b.plan, options,
                  [](Executor&) { return absl::OkStatus(); })[0];
}

std::vector<Case> allCases() {
  constexpr auto F32 = fb::ElementType::F32;
  constexpr auto BF16 = fb::ElementType::BF16;
  constexpr auto Panel = fb::WeightLayout::Panel;
  std::vector<Case> cases;
  for (auto dtype : {F32, BF16})
    for (auto layout : {fb::WeightLayout::RowMajor, Panel})
      for (bool isTransposed : {false, true})
        for (bool isSharded : {false, true}) {
          Case c;
          c.dtype = dtype;
          c.layout = layout;
          c.isTransposed = isTransposed;
          c.isSharded = isSharded;
          c.global = {71, 1100}; // K in two blocks
          c.local = {71, 1100};
          c.name = absl::StrCat("dtype ", int(dtype), " layout ", int(layout),
                                " transposed ", isTransposed, " sharded ",
                                isSharded);
          cases.push_back(c);
          c.cutDim = 0;
          c.local = {40, 1100};
          c.name += " rows cut and padded";
          cases.push_back(c);
          c.cutDim = 1;
          c.local = {71, 560};
          c.name += ", columns cut and padded";
          cases.push_back(c);
        }
  Case vector{"vector", {130}, {130}};
  cases.push_back(vector);
  Case cut{"cut vector", {131}, {80}, 0};
  cases.push_back(cut);
  return cases;
}

TEST_F(LoadWeights, InEveryLayoutFromEveryType) {
  for (const char* dtype : {"F32", "BF16"})
    // An odd header leaves the tensors unaligned: slower, the same values.
    for (int64_t headerPadding : {0, 1})
      for (const Case& c : allCases()) {
        std::vector<int64_t> shape = c.global;
        if (c.isTransposed)
          std::swap(shape[0], shape[1]);
        write({{"file.tensor", makeTensor(dtype, shape, c.isTransposed)}},
              headerPadding);
        bool isBf16 = std::string(dtype) == "BF16";
        expectLoads(c, path_, [&](int64_t r, int64_t k) {
          float v = valueAt(r, k);
          return isBf16 ? floatFromBf16(bf16FromFloat(v)) : v;
        });
      }
}

std::vector<Case> blockCases() {
  std::vector<Case> cases;
  for (auto layout : {fb::WeightLayout::Q8_0, fb::WeightLayout::Q4_0})
    for (bool isTransposed : {false, true}) {
      Case c;
      c.layout = layout;
      c.isTransposed = isTransposed;
      c.global = c.local = {71, 192};
      c.name =
          absl::StrCat("layout ", int(layout), " transposed ", isTransposed);
      cases.push_back(c);
      c.cutDim = 0;
      c.local = {40, 192};
      c.name += " rows cut and padded";
      cases.push_back(c);
      c.cutDim = 1;
      c.local = {71, 128};
      c.name += ", columns cut and padded";
      cases.push_back(c);
    }
  return cases;
}

TEST_F(LoadWeights, RoundsToBlocks) {
  for (const Case& c : blockCases()) {
    std::vector<int64_t> shape = c.global;
    if (c.isTransposed)
      std::swap(shape[0], shape[1]);
    write({{"file.tensor", makeTensor("F32", shape, c.isTransposed)}});
    expectLoads(c, path_, valueAt);
    if (!c.isTransposed)
      expectLoads(c, "random:42", [&](int64_t r, int64_t k) {
        return 0.5f *
               normal(42, philoxStream("logical"), r * c.global.back() + k);
      });
  }
}

// Blocks of the wanted type are not rounded again; others are.
TEST_F(LoadWeights, TakesBlocksOfAFileAsTheyAre) {
  constexpr int64_t kFileRows = 9, kCols = 128, kRowBlocks = kCols / 32;
  for (SourceType type : {SourceType::Q8_0, SourceType::Q4_0}) {
    const int64_t elementBytes = quantizedElementBytes(type);
    std::string file;
    uint32_t random = 1;
    for (int64_t b = 0; b < kFileRows * kRowBlocks; ++b) {
      // A factor that no largest element has.
      file.push_back(static_cast<char>(b));
      file.push_back(0x2C);
      for (int64_t i = 0; i < elementBytes; ++i)
        file.push_back(
            static_cast<char>((random = random * 1664525 + 1013904223) >> 26));
    }
    testing::GgufWriter writer;
    writer.addText("general.architecture", "llama");
    writer.addTensor("file.tensor", type, {kFileRows, kCols}, file);
    const std::string path = path_ + ".gguf";
    ASSERT_TRUE(testing::writeFile(path, writer.serialize()));
    Case c{"", {7, kCols}, {7, kCols / 2}, 1};
    c.sourceRow = 2;
    for (auto layout : {fb::WeightLayout::Q8_0, fb::WeightLayout::Q4_0}) {
      c.layout = layout;
      c.name = absl::StrCat(sourceTypeInfo(type).name, " to ", int(layout));
      if (blocksOf(c) != type) {
        SourceTensor tensor{
            "file.tensor",
            type,
            {kFileRows, kCols},
            {reinterpret_cast<const uint8_t*>(file.data()), file.size()}};
        expectLoads(c, path, [&](int64_t r, int64_t k) {
          float value = 0;
          EXPECT_TRUE(
              readElements(tensor, (r + 2) * kCols + k, 1, &value).ok());
          return value;
        });
        continue;
      }
      int64_t heldBytes = 0;
      PlanBuilder b = planOf(c, &heldBytes);
      RunOptions options;
      options.executor.weights = {{"model", path}};
      test::expectAllOk(runRanks(b.plan, options, [&](Executor& e) {
        const int64_t first = e.coordinates()[1] * kRowBlocks / 2;
        std::string elements, factors;
        for (int64_t r = 2; r < 9; ++r)
          for (int64_t i = 0; i < kRowBlocks / 2; ++i) {
            const size_t at = (r * kRowBlocks + first + i) * (2 + elementBytes);
            factors += file.substr(at, 2);
            elements += file.substr(at + 2, elementBytes);
          }
        absl::Span<const uint8_t> got = e.output(0, "logits");
        EXPECT_TRUE(std::string(got.begin(), got.begin() + heldBytes) ==
                    elements + factors)
            << c.name << " tp " << e.coordinates()[1];
        return absl::OkStatus();
      }));
    }
    std::filesystem::remove(path);
  }
}

TEST_F(LoadWeights, RefusesPartsOfBlocks) {
  Case c{"", {4, 48}, {4, 48}};
  c.layout = fb::WeightLayout::Q8_0;
  EXPECT_THAT(statusOf(c, {{"model", "random:1"}}).message(),
              HasSubstr("not a whole number of blocks"));
  c = {"", {4, 96}, {4, 64}, 1}; // cut at 48
  c.layout = fb::WeightLayout::Q4_0;
  EXPECT_THAT(statusOf(c, {{"model", "random:1"}}).message(),
              HasSubstr("not a whole number of blocks"));
  c = {"", {64, 96}, {64, 96}};
  c.layout = fb::WeightLayout::Q4_0;
  c.isSharded = true;
  EXPECT_THAT(statusOf(c, {{"model", "random:1"}}).message(),
              HasSubstr("in blocks is trained, or sharded"));
}

TEST_F(LoadWeights, RowsOfAFusedTensor) {
  for (bool isTransposed : {false, true}) {
    Case c{"rows 10 to 81", {71, 50}, {71, 50}};
    c.sourceRow = 10;
    c.isTransposed = isTransposed;
    c.layout = fb::WeightLayout::Panel;
    write({{"file.tensor", isTransposed ? makeTensor("F32", {50, 90}, true)
                                        : makeTensor("F32", {90, 50})}});
    expectLoads(c, path_,
                [](int64_t r, int64_t k) { return valueAt(10 + r, k); });
  }
  Case bias{"bias 3 to 8", {5}, {5}};
  bias.sourceRow = 3;
  write({{"file.tensor", makeTensor("F32", {9})}});
  expectLoads(bias, path_,
              [](int64_t r, int64_t k) { return valueAt(r, 3 + k); });
}

// Whatever the cut, an element is the one of its global index.
TEST_F(LoadWeights, RandomDoesNotDependOnTheMesh) {
  for (const Case& c : allCases()) {
    if (c.isTransposed)
      continue;
    expectLoads(c, "random:42", [&](int64_t r, int64_t k) {
      return 0.5f *
             normal(42, philoxStream("logical"), r * c.global.back() + k);
    });
  }
}

TEST_F(LoadWeights, ErrorsNameTheTensor) {
  Case c{"", {4, 6}, {4, 6}};
  write({{"file.tensor", makeTensor("F32", {4, 7})},
         {"file.tenser", makeTensor("F32", {4, 6})}});
  EXPECT_THAT(statusOf(c, {{"model", path_}}).message(),
              HasSubstr("LLMC-E0921: parameter logical has shape [4, 6], "
                        "tensor file.tensor in the weights has [4, 7]"));
  write({{"other", makeTensor("F32", {4, 6})}});
  EXPECT_THAT(statusOf(c, {{"model", path_}}).message(),
              HasSubstr("file.tensor"));
  EXPECT_THAT(statusOf(c, {}).message(), HasSubstr("LLMC-E0920"));
  EXPECT_THAT(statusOf(c, {{"reference", path_}}).message(),
              HasSubstr("LLMC-E0920"));
  EXPECT_THAT(statusOf(c, {{"model", "random:x"}}).message(),
              HasSubstr("LLMC-E0923"));
  EXPECT_THAT(
      statusOf(c, {{"model", "random:1"}}, fb::InitKind::None).message(),
      HasSubstr("LLMC-E0922: parameter logical"));
  write({{"file.tensor", {"I64", {4, 6}, std::string(192, 'x')}}});
  EXPECT_THAT(statusOf(c, {{"model", path_}}).message(),
              HasSubstr("file.tensor"));
  c.sourceRow = 3;
  write({{"file.tensor", makeTensor("F32", {6, 6})}});
  EXPECT_THAT(statusOf(c, {{"model", path_}}).message(),
              HasSubstr("its rows 3 to 7"));
}

TEST_F(LoadWeights, ZerosAndOnes) {
  for (auto [init, value] : {std::pair(fb::InitKind::Zeros, 0.0f),
                             std::pair(fb::InitKind::Ones, 1.0f)}) {
    Case c{"", {4, 6}, {4, 6}};
    int64_t heldBytes;
    PlanBuilder b = planOf(c, &heldBytes);
    b.stage().parameters[0]->init = init;
    RunOptions options;
    options.executor.weights = {{"model", "random:1"}};
    test::expectAllOk(runRanks(b.plan, options, [&, v = value](Executor& e) {
      for (float element : test::outputAs<float>(e, 0, "logits"))
        EXPECT_EQ(element, v);
      return absl::OkStatus();
    }));
  }
}

// One rank of six loads its sixth of the rows: the rest of the file is not
// read.
TEST_F(LoadWeights, ReadsOnlyItsOwnBytes) {
  constexpr int64_t kRows = 6 * 8192; // 32 MiB for each rank
  constexpr int64_t kCols = 1024;
  PlanBuilder b({{"tp", 6}});
  b.entry("decode", 1, 1);
  int buffer =
      b.buffer("w", fb::MemoryClass::Parameters, kRows / 6 * kCols * 4);
  fb::ParameterT& p = b.parameter("w", {kRows, kCols}, buffer);
  p.local_shape = {kRows / 6, kCols};
  p.box.push_back(std::make_unique<fb::BoxDimT>());
  p.box[0]->offset = test::values(
      0, {0, kRows / 6, kRows / 3, kRows / 2, kRows / 3 * 2, kRows / 6 * 5});
  p.box[0]->count = test::values(-1, {kRows / 6});
  // The data are a hole: nothing is written, pages are read all the same.
  constexpr int64_t kDataBytes = kRows * kCols * 4;
  std::string header =
      absl::StrFormat("{\"w\":{\"dtype\":\"F32\",\"shape\":[%d,%d],"
                      "\"data_offsets\":[0,%d]}}",
                      kRows, kCols, kDataBytes);
  header.resize((header.size() + 7) / 8 * 8, ' ');
  uint64_t headerBytes = header.size();
  std::ofstream(path_, std::ios::binary)
          .write(reinterpret_cast<const char*>(&headerBytes), 8)
      << header;
  int64_t fileBytes = 8 + headerBytes + kDataBytes;
  std::filesystem::resize_file(path_, fileBytes);
  int file = open(path_.c_str(), O_RDWR);
  ASSERT_GE(file, 0);
  auto residentBytes = [&] {
    void* map = mmap(nullptr, fileBytes, PROT_READ, MAP_SHARED, file, 0);
    std::vector<unsigned char> pages((fileBytes + 4095) / 4096);
    mincore(map, fileBytes, pages.data());
    munmap(map, fileBytes);
    int64_t resident = 0;
    for (unsigned char page : pages)
      resident += page & 1;
    return resident * 4096;
  };
  fsync(file);
  posix_fadvise(file, 0, 0, POSIX_FADV_DONTNEED);
  if (residentBytes() > 0) {
    close(file);
    GTEST_SKIP() << "this file system does not drop cached pages";
  }
  RunOptions options;
  options.executor.weights = {{"model", path_}};
  // The other ranks stop before they load anything.
  std::vector<absl::Status> statuses;
  {
    test::PlanBytes bytes = test::finishPlan(b.plan);
    auto plan = readPlan(bytes);
    ASSERT_TRUE(plan.ok()) << plan.status();
    auto fabrics = createLocalFabrics(6, {});
    std::vector<std::thread> threads;
    for (int r = 0; r < 6; ++r)
      threads.emplace_back([&, r] {
        auto e = Executor::create(**plan, *fabrics[r], options.executor);
        ASSERT_TRUE(e.ok()) << e.status();
        if (r == 2) {
          absl::Status status = (*e)->initialise();
          EXPECT_TRUE(status.ok()) << status;
        }
      });
    for (std::thread& thread : threads)
      thread.join();
  }
  // Some disks are read up to 8 MiB ahead and around: of the header, of the
  // rows.
  constexpr int64_t kReadAheadBytes = 3 * (int64_t{8} << 20);
  EXPECT_GE(residentBytes(), kDataBytes / 6);
  EXPECT_LE(residentBytes(), kDataBytes / 6 + kReadAheadBytes);
  close(file);
}

} // namespace
} // namespace llmrt
