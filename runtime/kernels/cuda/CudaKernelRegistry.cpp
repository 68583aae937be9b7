// SPDX-License-Identifier: Apache-2.0
// Forms of `linear`: a few rows are bound by the weights' bytes, many by
// arithmetic. Forms of `attention` likewise. All numbers here are those of the
// kernels' sources.
#include "runtime/kernels/cuda/CudaKernelRegistry.h"

#include "runtime/base/Error.h"
#include "runtime/kernels/KernelArgs.h"
#include "runtime/kernels/cuda/Constants.h"
#include "runtime/kernels/cuda/CudaTrainingShapes.h"
#include "runtime/kernels/cuda/FusedProductArgs.h"
#include "runtime/kernels/cuda/LibraryProducts.h"

#include <algorithm>
#include <cstdlib>

namespace llmrt {
namespace {

/// The most rows that LinearFewRows.cu, LinearSomeRows.cu and
/// FewRowProducts.cuh multiply.
constexpr int64_t kLinearFewRows = kCudaLinearFewRows;
/// Warps that run at once on a large GPU: 16 on each of 132 multiprocessors.
/// Fewer outputs than that many warps take: several warps share the elements of
/// one, but not so many that blocks have to wait for others to end. A constant,
/// so that the order of sums does not depend on the GPU.
constexpr int64_t kWarpsAtOnce = 2112;
constexpr int64_t kProductWarps = 8; // of a block
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

constexpr const char* kWantsBf16Weights =
    "multiplies factors of bf16 with weights of bf16 alone";

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

bool isAligned16(const void* p) {
  return reinterpret_cast<uintptr_t>(p) % 16 == 0;
}

// What LinearSomeRows.cu reads 16 bytes at a time.
bool suitsTensorCores(const LinearArgs& a) {
  bool suits =
      isBf16(a.dtype) && a.K % 8 == 0 && a.ldx % 4 == 0 && isAligned16(a.x);
  for (int64_t j = 0; j < a.count; ++j)
    suits = suits && isAligned16(a.weights[j].w);
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
  if (isBf16(a.factorDtype)) {
    if (!isBf16(a.dtype))
      return noCudaForm(kernel.name, kWantsBf16Weights);
    shape.symbol = "linear_of_bf16";
  } else if (rows > 2 && rows <= kLinearFewRows && suitsTensorCores(a)) {
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

/// Elements of 16 bytes of weights; 0 for a format that there is not.
int64_t elementsOfAccess(int64_t dtype) {
  switch (static_cast<WeightFormat>(dtype)) {
  case WeightFormat::F32:
    return 4;
  case WeightFormat::BF16:
    return 8;
  case WeightFormat::Q8_0:
    return 16;
  case WeightFormat::Q4_0:
    return 32;
  }
  return 0;
}

bool isQuantized(int64_t dtype) { return elementsOfAccess(dtype) > 8; }

/// Blocks that keep a large GPU busy where each has enough loads in flight for
/// its multiprocessor: one on each of 132, less a few.
constexpr int64_t kBusyBlocks = 128;

/// The fewest rows that FewRowQuantizedMatrices.cuh multiplies. An H200 has
/// 132 x 128 lanes of 1.7 GHz for 4.8 TB/s: 6 instructions for each element of
/// q8_0 that memory brings, 3 for one of q4_0. By lanes an element costs about
/// 2 (its conversion) + rows (products) + (1 + 2.5 rows) / 2 (x and its norm,
/// which two weights share): 5 instructions for one row and 7.5 for two. By
/// tensor cores it is 4.5 (q8_0) or 4 (q4_0) for up to 8 rows and 6.5 or 6 for
/// up to 16.
constexpr int64_t kQuantizedMatrixRows = 2;

/// The form of FewRowProducts.cuh for these rows, and how many rows of weights
/// a block takes of the `numWeightRows` of a launch.
struct ProductForm {
  std::string suffix;
  int64_t rowTile;
  int64_t slots;
  int64_t sharedBytes = 0; // dynamic
};

absl::StatusOr<ProductForm> productForm(const CudaKernelInfo& kernel,
                                        const NormedRows& in, int64_t rows,
                                        int64_t numWeightRows) {
  const int64_t vector = elementsOfAccess(in.dtype);
  if (vector == 0)
    return noCudaForm(kernel.name,
                      absl::StrCat("knows no weights of type ", in.dtype));
  const int64_t whole = isQuantized(in.dtype) ? kBlockElements : vector;
  if (rows > kLinearFewRows)
    return noCudaForm(
        kernel.name,
        absl::StrCat("takes at most ", kLinearFewRows, " rows, not ", rows));
  if (in.K >= int64_t{1} << 30)
    return noCudaForm(kernel.name, "takes rows of less than 2^30 elements");
  if (in.K % whole != 0 || in.ldx % 4 != 0 || !isAligned16(in.x) ||
      !isAligned16(in.normWeight) || !isAligned16(in.normBias))
    return noCudaForm(kernel.name, "reads 16 bytes at a time and whole blocks, "
                                   "which its rows are not multiples of");
  const int64_t tile = rows <= 8 ? 8 : 16;
  if (rows > 2 && isBf16(in.dtype))
    return ProductForm{absl::StrCat("_mma_", tile), tile, 16};
  if (rows >= kQuantizedMatrixRows && isQuantized(in.dtype)) {
    const int64_t slots = numWeightRows >= 32 * kBusyBlocks ? 32 : 16;
    return ProductForm{absl::StrCat("_mma_", tile), tile, slots,
                       slots * kCudaBlockRowBytes};
  }
  const int64_t M = powerOfTwoFrom(std::clamp<int64_t>(rows, 1, 8));
  // Rows of weights of a warp.
  const int64_t R = M == 2 || isQuantized(in.dtype) ? 2 : 4;
  // A warp reads 32 times 16 bytes of a weight in a step; two each at least.
  const int64_t steps = in.K / (32 * vector);
  int64_t sharing = 1;
  while (sharing < kProductWarps &&
         numWeightRows / R * sharing * 2 <= kWarpsAtOnce &&
         steps >= 4 * sharing)
    sharing *= 2;
  return ProductForm{absl::StrCat("_rows_", M), M, kProductWarps / sharing * R};
}

/// FusedLinearManyRows.cu.
absl::StatusOr<CudaLaunchShape>
fusedLinearManyRowsShape(const CudaKernelInfo& kernel, const FusedLinearArgs& a,
                         int64_t rows) {
  if (a.in.norm != 0 || a.count != 1 || a.softcap != 0 || a.postWeight ||
      isQuantized(a.in.dtype) ||
      (a.activation != 0 && a.activation != kGeluByTanh))
    return noCudaForm(
        kernel.name,
        absl::StrCat("takes norms, gates, soft caps, blocks of weights and "
                     "activations but gelu by tanh with at most ",
                     kLinearFewRows, " rows, not ", rows));
  if (a.in.x == a.y)
    return noCudaForm(kernel.name, "does not write on its input");
  if (!isAligned16(a.w0) || !isAligned16(a.in.x) || a.in.ldx % 4 != 0 ||
      a.in.K % elementsOfAccess(a.in.dtype) != 0)
    return noCudaForm(kernel.name, "reads 16 bytes at a time");
  const bool isOfBf16 = isBf16(a.factorDtype);
  if (isOfBf16 && (!isBf16(a.in.dtype) || a.in.ldx % 8 != 0))
    return noCudaForm(kernel.name, kWantsBf16Weights);
  CudaLaunchShape shape = plainShape(kernel, rows, a.N);
  shape.file = "FusedLinearManyRows";
  shape.symbol = isOfBf16             ? "fused_linear_many_of_bf16"
                 : isBf16(a.in.dtype) ? "fused_linear_many"
                                      : "fused_linear_many_f32";
  shape.rowTile = shape.colTile = isBf16(a.in.dtype) ? 128 : 64;
  return shape;
}

/// Names the form; a tile's columns remain to be chosen.
void takeProductForm(const NormedRows& in, const ProductForm& form,
                     CudaLaunchShape& shape) {
  if (isQuantized(in.dtype)) {
    shape.file += "Quantized";
    shape.symbol += "_quantized";
  }
  absl::StrAppend(&shape.symbol, form.suffix);
  shape.rowTile = form.rowTile;
  shape.sharedBytes = form.sharedBytes;
}

absl::StatusOr<CudaLaunchShape> fusedLinearShape(const CudaKernelInfo& kernel,
                                                 const FusedLinearArgs& a,
                                                 int64_t rows) {
  if ((rows > kLinearFewRows && elementsOfAccess(a.in.dtype) != 0) ||
      isBf16(a.factorDtype))
    return fusedLinearManyRowsShape(kernel, a, rows);
  if (!isAligned16(a.w0) || !isAligned16(a.w1))
    return noCudaForm(kernel.name, "reads weights 16 bytes at a time");
  if (a.in.x == a.y)
    return noCudaForm(kernel.name, "does not write on its input");
  LLMRT_ASSIGN_OR_RETURN(ProductForm form,
                         productForm(kernel, a.in, rows, a.N * a.count));
  CudaLaunchShape shape = plainShape(kernel, rows, a.N);
  takeProductForm(a.in, form, shape);
  shape.colTile = form.slots / a.count;
  shape.mayBeginEarly = true;
  return shape;
}

int64_t headScratchBytes(const LinearRopeAppendArgs& a) {
  return a.headNormQ ? a.in.rows * (a.H + a.KV) * a.D * 4 : 0;
}

absl::StatusOr<CudaLaunchShape>
linearRopeAppendShape(const CudaKernelInfo& kernel,
                      const LinearRopeAppendArgs& a, int64_t rows) {
  if (!isAligned16(a.w0) || !isAligned16(a.w1) || !isAligned16(a.w2))
    return noCudaForm(kernel.name, "reads weights 16 bytes at a time");
  if (a.D % 2 != 0 || a.rotary % 2 != 0)
    return noCudaForm(kernel.name, "takes heads of an even number of elements");
  const int64_t heads = a.H + 2 * a.KV;
  LLMRT_ASSIGN_OR_RETURN(ProductForm form,
                         productForm(kernel, a.in, rows, heads * a.D));
  CudaLaunchShape shape = plainShape(kernel, rows, 0);
  takeProductForm(a.in, form, shape);
  shape.colTile = form.slots / 2; // pairs
  shape.cols = heads * roundUpTo(a.D / 2, shape.colTile);
  if (a.headNormQ && shape.rowTiles() * heads > kCudaCounterBytes / 4)
    return noCudaForm(
        kernel.name,
        absl::StrCat("norms at most ", kCudaCounterBytes / 4, " heads"));
  shape.scratchBytes = headScratchBytes(a);
  shape.mayBeginEarly = true;
  return shape;
}

absl::StatusOr<CudaLaunchShape>
linearQuantizedShape(const CudaKernelInfo& kernel, const LinearQuantizedArgs& a,
                     int64_t rows) {
  if (!isQuantized(a.dtype))
    return noCudaForm(kernel.name,
                      absl::StrCat("knows no blocks of type ", a.dtype));
  if (a.K % kBlockElements != 0 || a.ldx % 4 != 0 || !isAligned16(a.x) ||
      !isAligned16(a.w))
    return noCudaForm(kernel.name, "reads 16 bytes at a time and whole blocks, "
                                   "which its rows are not multiples of");
  CudaLaunchShape shape = plainShape(kernel, rows, a.N);
  if (!isBf16(a.compute)) {
    shape.symbol += "_f32";
    shape.rowTile = shape.colTile = 64;
  }
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

// What AttentionFewRows.cu reads 16 bytes at a time.
bool suitsWholeAccesses(const AttentionArgs& a) {
  return isBf16(a.dtype) && a.D % 8 == 0 && a.ldq % 4 == 0 &&
         isAligned16(a.q) && isAligned16(a.keyCache) &&
         isAligned16(a.valueCache);
}

CudaLaunchShape attentionFewRowsShape(const CudaKernelInfo& kernel,
                                      const AttentionArgs& a, int64_t rows) {
  constexpr int kThreads = 128;
  const HeadCut cut = headCut(a);
  CudaLaunchShape shape = plainShape(kernel, rows, a.KV * cut.chunks);
  shape.file = "AttentionFewRows";
  shape.symbol = absl::StrCat("attention_rows_", cut.G);
  int64_t width = kCudaMaxHead;
  if (suitsWholeAccesses(a)) {
    width = std::max<int64_t>(powerOfTwoFrom(a.D), 64);
    absl::StrAppend(&shape.symbol, "_", width);
  }
  shape.rowTile = shape.colTile = 1;
  shape.threads = kThreads;
  shape.mayBeginEarly = true;
  // Lanes of 8 elements hold a head, and a group of them at least 2 tokens.
  const int64_t groups = kThreads / (width / 8);
  const int64_t tiles = std::max<int64_t>(rows * shape.cols, 1);
  if (tiles <= kCudaCounterBytes / 4)
    shape.parts = static_cast<int>(std::clamp<int64_t>(
        kAttentionBlocks / tiles, 1,
        std::max<int64_t>(a.pages * kPageTokens / (2 * groups), 1)));
  shape.sharedBytes = groups * (a.D + 2) * cut.G * 4;
  if (shape.parts > 1)
    shape.scratchBytes = tiles * shape.parts * cut.G * (a.D + 2) * 4;
  return shape;
}

absl::StatusOr<CudaLaunchShape> attentionShape(const CudaKernelInfo& kernel,
                                               const AttentionArgs& a,
                                               int64_t rows,
                                               CudaFeatures features) {
  if (a.D > kCudaMaxHead)
    return noCudaForm(kernel.name,
                      absl::StrCat("takes heads of up to ", kCudaMaxHead,
                                   " elements, not of ", a.D));
  if (a.R <= kAttentionFewRows)
    return attentionFewRowsShape(kernel, a, rows);
  CudaLaunchShape shape = plainShape(kernel, 0, a.H);
  if (isBf16(a.dtype)) {
    shapeBf16Attention(a.D, features, shape);
    // Heads without padding, whose pages are panels.
    const bool isWhole = a.D == 64 || a.D == 128 || a.D == 256;
    if (features.hasWgmma && isWhole && isAligned16(a.keyCache) &&
        isAligned16(a.valueCache))
      shape.symbol = absl::StrCat("attention_wgmma_bulk_", a.D);
  } else {
    shape.sharedBytes = (16 * a.D + 32 * (a.D + 1) + 32 * a.D + 16 * 33) * 4;
  }
  // Tiles never cross the border of two sequences.
  const int64_t sequences = (rows + a.R - 1) / a.R;
  shape.rows = sequences * roundUpTo(a.R, shape.rowTile);
  return shape;
}

constexpr int64_t versionOf(std::string_view kernel) {
#define LLMRT_KERNEL(name, version, rowTile, colTile, words)                   \
  if (kernel == #name)                                                         \
    return version;
#define LLMRT_CUDA_ONLY_KERNEL(name, version, words)                           \
  LLMRT_KERNEL(name, version, 0, 0, words)
#include "runtime/kernels/Kernels.def"
#undef LLMRT_KERNEL
  return 0;
}

absl::StatusOr<CudaLaunchShape> shapeOf(const CudaKernelInfo& kernel,
                                        const uint64_t* words, int64_t rows,
                                        int64_t cols, CudaFeatures features) {
  if (kernel.name == "linear")
    return linearShape(kernel, readArgs<LinearArgs>(words), rows);
  if (kernel.name == "attention")
    return attentionShape(kernel, readArgs<AttentionArgs>(words), rows,
                          features);
  if (kernel.name == "fused_linear")
    return fusedLinearShape(kernel, readArgs<FusedLinearArgs>(words), rows);
  if (kernel.name == "linear_rope_append")
    return linearRopeAppendShape(kernel, readArgs<LinearRopeAppendArgs>(words),
                                 rows);
  if (kernel.name == "linear_quantized")
    return linearQuantizedShape(kernel, readArgs<LinearQuantizedArgs>(words),
                                rows);
  CudaLaunchShape shape = plainShape(kernel, rows, cols);
  if (kernel.name == "embedding" &&
      readArgs<EmbeddingArgs>(words).layout !=
          static_cast<int64_t>(WeightLayout::RowMajor))
    return noCudaForm(kernel.name, "reads tables by rows only");
  shape.scratchBytes = cudaScratchBytes(kernel.name, words);
  LLMRT_RETURN_IF_ERROR(shapeTrainingLaunch(kernel, words, features, shape));
  return shape;
}

bool isOff(const char* variable) {
  const char* value = std::getenv(variable);
  return value && std::string_view(value) == "off";
}

} // namespace

absl::Status noCudaForm(std::string_view kernel, const std::string& why) {
  return makeError(ErrorCode::KernelMissing,
                   absl::StrCat("the cuda kernel ",
                                absl::string_view(kernel.data(), kernel.size()),
                                " ", why),
                   "compile the plan for --target=cpu, or with a newer llmc");
}

CudaFeatures cudaFeaturesOf(int level) {
  // Code for sm_90a runs on no later generation.
  return {.hasWgmma = level == 90 && !isOff(kCudaWgmmaVariable),
          .hasEarlyLaunch = level >= 90 && !isOff(kCudaEarlyLaunchVariable)};
}

const CudaKernelInfo* findCudaKernel(std::string_view name) {
  static constexpr CudaKernelInfo kKernels[] = {
#define LLMRT_CUDA_KERNEL(name, rowTile, colTile, threads)                     \
  {#name, versionOf(#name), rowTile, colTile, threads},
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
                                                int64_t rows, int64_t cols,
                                                CudaFeatures features) {
  LLMRT_ASSIGN_OR_RETURN(CudaLaunchShape shape,
                         shapeOf(kernel, words, rows, cols, features));
  shape.mayBeginEarly = shape.mayBeginEarly && features.hasEarlyLaunch;
  return shape;
}

int64_t cudaScratchBytes(std::string_view kernel, const uint64_t* words) {
  if (int64_t sizeBytes = libraryScratchBytes(kernel, words); sizeBytes > 0)
    return sizeBytes;
  if (kernel == "sample") {
    const auto a = readArgs<SampleArgs>(words);
    return a.S * a.V * 4;
  }
  if (kernel == "linear_rope_append")
    return headScratchBytes(readArgs<LinearRopeAppendArgs>(words));
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
