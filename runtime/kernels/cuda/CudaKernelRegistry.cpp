// SPDX-License-Identifier: Apache-2.0
// Forms of `linear`: a few rows are bound by the weights' bytes, many by
// arithmetic. Forms of `attention` likewise. All numbers here are those of the
// kernels' sources.
#include "runtime/kernels/cuda/CudaKernelRegistry.h"

#include "runtime/base/Error.h"
#include "runtime/kernels/KernelArgs.h"
#include "runtime/kernels/cuda/Constants.h"
#include "runtime/kernels/cuda/CudaTrainingShapes.h"
#include "runtime/kernels/cuda/LibraryLinear.h"

#include <algorithm>

namespace llmrt {
namespace {

/// The most rows that LinearFewRows.cu and LinearSomeRows.cu multiply.
constexpr int64_t kLinearFewRows = kCudaLinearFewRows;
/// The most rows of a sequence that AttentionFewRows.cu attends.
constexpr int64_t kAttentionFewRows = 4;
/// Blocks that share the keys of decode's rows: two for each multiprocessor of
/// a large GPU. A constant, so that the order of sums does not depend on the
/// GPU.
constexpr int64_t kAttentionBlocks = 264;

int64_t roundUpTo(int64_t value, int64_t multiple) {
  return (value + multiple - 1) / multiple * multiple;
}

bool isBf16(int64_t dtype) {
  return dtype == static_cast<int64_t>(DType::BF16);
}

int64_t powerOfTwoFrom(int64_t value) {
  int64_t power = 1;
  while (power < value)
    power *= 2;
  return power;
}

// "rope_append" lies in RopeAppend.cu.
std::string fileOf(std::string_view kernel) {
  std::string file;
  bool isFirst = true;
  for (char c : kernel) {
    if (c != '_')
      file += isFirst ? static_cast<char>(c - 'a' + 'A') : c;
    isFirst = c == '_';
  }
  return file;
}

CudaLaunchShape plainShape(const CudaKernelInfo& kernel, int64_t rows,
                           int64_t cols) {
  return {fileOf(kernel.name),
          std::string(kernel.name),
          rows,
          cols,
          kernel.rowTile,
          kernel.colTile,
          1,
          kernel.threads,
          0,
          0};
}

// What LinearSomeRows.cu reads 16 bytes at a time.
bool suitsTensorCores(const LinearArgs& a) {
  auto isAligned = [](const void* p) {
    return reinterpret_cast<uintptr_t>(p) % 16 == 0;
  };
  bool suits =
      isBf16(a.dtype) && a.K % 8 == 0 && a.ldx % 4 == 0 && isAligned(a.x);
  for (int64_t j = 0; j < a.count; ++j)
    suits = suits && isAligned(a.weights[j].w);
  return suits;
}

absl::StatusOr<CudaLaunchShape> linearShape(const CudaKernelInfo& kernel,
                                            const LinearArgs& a, int64_t rows) {
  if (a.layout != static_cast<int64_t>(WeightLayout::RowMajor))
    return noCudaForm(kernel.name, "reads weights by rows only");
  if (a.prologue || a.weights[0].epilogue || a.weights[1].epilogue ||
      a.weights[2].epilogue)
    return noCudaForm(kernel.name, "has no slots");
  CudaLaunchShape shape = plainShape(kernel, rows, 0);
  if (rows > 2 && rows <= kLinearFewRows && suitsTensorCores(a)) {
    shape.file = "LinearSomeRows";
    shape.rowTile = rows <= 8 ? 8 : 16;
    shape.symbol = absl::StrCat("linear_mma_", shape.rowTile);
    shape.colTile = 16;
  } else if (rows <= kLinearFewRows) {
    const int64_t M = powerOfTwoFrom(std::min<int64_t>(rows, 8));
    shape.file = "LinearFewRows";
    shape.symbol = absl::StrCat("linear_rows_", M);
    shape.rowTile = M;
    shape.colTile = M <= 2 ? 16 : 32;
  } else if (!isBf16(a.dtype)) {
    shape.file = "LinearF32";
    shape.symbol = "linear_f32";
    shape.rowTile = shape.colTile = 64;
  }
  const int64_t count = a.zip ? 1 : a.count;
  for (int64_t j = 0; j < count; ++j)
    shape.cols += roundUpTo(a.weights[j].N, shape.colTile);
  shape.parts = a.zip ? 2 : 1;
  return shape;
}

/// How AttentionFewRows.cu cuts the heads: `chunks` columns of at most G heads
/// for each key/value head.
struct HeadCut {
  int64_t G;
  int64_t chunks;
};

HeadCut headCut(const AttentionArgs& a) {
  const int64_t lastBegin =
      std::max<int64_t>((a.KV - 1) * a.group - a.headOffset, 0);
  const int64_t most = std::max(a.group, a.H - lastBegin);
  const int64_t G = powerOfTwoFrom(std::min<int64_t>(most, 8));
  return {G, (most + G - 1) / G};
}

CudaLaunchShape attentionFewRowsShape(const CudaKernelInfo& kernel,
                                      const AttentionArgs& a, int64_t rows) {
  constexpr int kThreads = 128;
  const HeadCut cut = headCut(a);
  CudaLaunchShape shape = plainShape(kernel, rows, a.KV * cut.chunks);
  shape.file = "AttentionFewRows";
  shape.symbol = absl::StrCat("attention_rows_", cut.G);
  shape.rowTile = shape.colTile = 1;
  shape.threads = kThreads;
  const int64_t tiles = std::max<int64_t>(rows * shape.cols, 1);
  if (tiles <= kCudaCounterBytes / 4)
    shape.parts = static_cast<int>(
        std::clamp<int64_t>(kAttentionBlocks / tiles, 1, 2 * a.pages));
  const int64_t lanes = powerOfTwoFrom((a.D + 7) / 8);
  const int64_t groups = kThreads / lanes;
  shape.sharedBytes =
      (groups * (a.D + 2) + std::max<int64_t>(groups, shape.parts) + 2) *
      cut.G * 4;
  if (shape.parts > 1)
    shape.scratchBytes = tiles * shape.parts * cut.G * (a.D + 2) * 4;
  return shape;
}

absl::StatusOr<CudaLaunchShape> attentionShape(const CudaKernelInfo& kernel,
                                               const AttentionArgs& a,
                                               int64_t rows) {
  if (a.D > kCudaMaxHead)
    return noCudaForm(kernel.name,
                      absl::StrCat("takes heads of up to ", kCudaMaxHead,
                                   " elements, not of ", a.D));
  if (a.R <= kAttentionFewRows)
    return attentionFewRowsShape(kernel, a, rows);
  CudaLaunchShape shape = plainShape(kernel, 0, a.H);
  if (isBf16(a.dtype)) {
    const int64_t P = std::max<int64_t>(powerOfTwoFrom(a.D), 64);
    shape.file = "AttentionBf16";
    shape.symbol = absl::StrCat("attention_bf16_", P);
    shape.rowTile = 64;
    shape.threads = P == 256 ? 256 : 128;
    shape.sharedBytes = 3 * 64 * (P + 8) * 2; // queries, keys, values
  } else {
    shape.sharedBytes = (16 * a.D + 32 * (a.D + 1) + 32 * a.D + 16 * 33) * 4;
  }
  // Tiles never cross the border of two sequences.
  const int64_t sequences = (rows + a.R - 1) / a.R;
  shape.rows = sequences * roundUpTo(a.R, shape.rowTile);
  return shape;
}

} // namespace

absl::Status noCudaForm(std::string_view kernel, const std::string& why) {
  return makeError(ErrorCode::KernelMissing,
                   absl::StrCat("the cuda kernel ",
                                absl::string_view(kernel.data(), kernel.size()),
                                " ", why),
                   "compile the plan for --target=cpu, or with a newer llmc");
}

const CudaKernelInfo* findCudaKernel(std::string_view name) {
  static constexpr CudaKernelInfo kKernels[] = {
#define LLMRT_CUDA_KERNEL(name, rowTile, colTile, threads)                     \
  {#name, rowTile, colTile, threads},
#include "runtime/kernels/Kernels.def"
#undef LLMRT_KERNEL
  };
  for (const CudaKernelInfo& kernel : kKernels)
    if (kernel.name == name)
      return &kernel;
  return nullptr;
}

absl::StatusOr<CudaLaunchShape> cudaLaunchShape(const CudaKernelInfo& kernel,
                                                const uint64_t* words,
                                                int64_t rows, int64_t cols) {
  if (kernel.name == "linear")
    return linearShape(kernel, readArgs<LinearArgs>(words), rows);
  if (kernel.name == "attention")
    return attentionShape(kernel, readArgs<AttentionArgs>(words), rows);
  CudaLaunchShape shape = plainShape(kernel, rows, cols);
  if (kernel.name == "embedding" &&
      readArgs<EmbeddingArgs>(words).layout !=
          static_cast<int64_t>(WeightLayout::RowMajor))
    return noCudaForm(kernel.name, "reads tables by rows only");
  shape.scratchBytes = cudaScratchBytes(kernel.name, words);
  LLMRT_RETURN_IF_ERROR(shapeTrainingLaunch(kernel, words, shape));
  return shape;
}

int64_t cudaScratchBytes(std::string_view kernel, const uint64_t* words) {
  if (kernel == "linear")
    return libraryLinearScratchBytes(readArgs<LinearArgs>(words));
  if (kernel == "sample") {
    const auto a = readArgs<SampleArgs>(words);
    return a.S * a.V * 4;
  }
  if (kernel == "attention") {
    // As many blocks at any number of rows, if several share a row.
    const auto a = readArgs<AttentionArgs>(words);
    return a.R <= kAttentionFewRows
               ? kAttentionBlocks * headCut(a).G * (a.D + 2) * 4
               : 0;
  }
  return trainingScratchBytes(kernel, words);
}

} // namespace llmrt
