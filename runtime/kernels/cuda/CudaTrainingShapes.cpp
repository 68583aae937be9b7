// SPDX-License-Identifier: Apache-2.0
// Forms and grids of the kernels of the training step. All numbers here are
// those of the kernels' sources.
#include "runtime/kernels/cuda/CudaTrainingShapes.h"

#include "runtime/base/Error.h"
#include "runtime/kernels/TrainingKernelArgs.h"
#include "runtime/kernels/cuda/Constants.h"

#include <algorithm>

namespace llmrt {
namespace {

/// Columns that one block of sum_rows adds, the fewest items (rows, or groups
/// of their columns) that are worth a block, and the most blocks for a column:
/// constants, so that the order of sums does not depend on the GPU.
constexpr int64_t kSumRowsCols = 32;
constexpr int64_t kSumRowsItems = 128;
constexpr int64_t kSumRowsParts = 32;
/// Side of the tiles of the f32 forms of the linear gradients.
constexpr int64_t kPlainSide = 64;
/// Rows, and keys, that a block of attention_gradient works on: tensor cores,
/// plain.
constexpr int64_t kGradientRows = 64;
constexpr int64_t kPlainGradientRows = 16;
/// Rows of a block of rounded heads.
constexpr int64_t kRoundedRows = 64;

int64_t roundUpTo(int64_t value, int64_t multiple) {
  return (value + multiple - 1) / multiple * multiple;
}

bool isBf16(int64_t dtype) {
  return dtype == static_cast<int64_t>(DType::BF16);
}

bool isRowMajor(int64_t layout) {
  return layout == static_cast<int64_t>(WeightLayout::RowMajor);
}

/// Elements of a head with padding, as the tensor core forms hold it.
int64_t paddedHead(int64_t D) { return D <= 64 ? 64 : D <= 128 ? 128 : 256; }

int64_t sumRowsParts(const SumRowsArgs& a) {
  if ((a.W + kSumRowsCols - 1) / kSumRowsCols > kCudaCounterBytes / 4)
    return 1;
  return std::clamp<int64_t>(a.rows * (a.C / a.W) / kSumRowsItems, 1,
                             kSumRowsParts);
}

/// A grid over flat memory of f32 elements.
void shapeFlat(int64_t elements, CudaLaunchShape& shape) {
  shape.rowTile = 1;
  shape.rows = std::max<int64_t>(
      (elements + kCudaFlatElements - 1) / kCudaFlatElements, 1);
}

/// Linear gradients: a grid of rows x cols of the result.
absl::Status shapeProduct(std::string_view kernel, int64_t rows, int64_t cols,
                          int64_t dtype, int64_t factorDtype,
                          CudaLaunchShape& shape) {
  shape.rows = rows;
  shape.cols = cols;
  shape.scratchBytes = 0; // only a library needs some
  if (isBf16(factorDtype)) {
    shape.symbol += "_of_bf16";
    return isBf16(dtype) ? absl::OkStatus()
                         : noCudaForm(kernel, "multiplies factors of bf16 with "
                                              "weights of bf16 alone");
  }
  if (isBf16(dtype))
    return absl::OkStatus();
  shape.file += "F32";
  shape.symbol += "_f32";
  shape.rowTile = shape.colTile = kPlainSide;
  return absl::OkStatus();
}

absl::Status checkHead(std::string_view kernel, int64_t D) {
  if (D <= kCudaMaxHead)
    return absl::OkStatus();
  return noCudaForm(kernel, absl::StrCat("takes heads of up to ", kCudaMaxHead,
                                         " elements, not of ", D));
}

/// Tiles never cross the border of two sequences.
int64_t rowsOfTiles(int64_t sequences, int64_t R, int64_t tile) {
  return sequences * roundUpTo(R, tile);
}

/// Bytes of `heads` heads of each row, rounded to bf16, in blocks of rows
/// (AttentionRound.cuh).
int64_t roundedBytes(int64_t sequences, int64_t R, int64_t heads, int64_t D) {
  return rowsOfTiles(sequences, R, kRoundedRows) * heads * paddedHead(D) * 2;
}

/// The launch that rounds the rows of sequences before `shape` is launched: a
/// block each.
std::shared_ptr<const CudaLaunchShape>
roundingShape(const CudaLaunchShape& shape, const char* symbol,
              int64_t sequences, int64_t R) {
  auto rounding = std::make_shared<CudaLaunchShape>(shape);
  rounding->symbol = symbol;
  rounding->rows = rowsOfTiles(sequences, R, kRoundedRows);
  rounding->cols = rounding->rowTile = rounding->colTile = 1;
  rounding->threads = 256;
  rounding->sharedBytes = 0;
  return rounding;
}

absl::Status shapeAttentionRows(const CudaKernelInfo& kernel,
                                const AttentionRowsArgs& a,
                                CudaFeatures features, CudaLaunchShape& shape) {
  shape.cols = a.H;
  const int64_t sequences = (a.rows + a.R - 1) / a.R;
  if (isBf16(a.dtype)) {
    shapeBf16Attention(a.D, features, shape);
    if (features.hasWgmma)
      shape.before =
          roundingShape(shape, "attention_rows_round", sequences, a.R);
  } else {
    shape.sharedBytes = (16 * a.D + 32 * (a.D + 1) + 32 * a.D + 16 * 33) * 4;
  }
  shape.rows = rowsOfTiles(sequences, a.R, shape.rowTile);
  return checkHead(kernel.name, a.D);
}

/// Columns are the key/value heads (gradients of keys and values), then the
/// query heads (gradients of queries).
absl::Status shapeAttentionGradient(const CudaKernelInfo& kernel,
                                    const AttentionGradientArgs& a,
                                    CudaFeatures features,
                                    CudaLaunchShape& shape) {
  shape.cols = a.KV + a.H;
  if (isBf16(a.dtype) && features.hasWgmma) {
    const int64_t P = paddedHead(a.D);
    shape.file = "AttentionGradientWgmma";
    shape.symbol = absl::StrCat("attention_gradient_wgmma_", P);
    shape.rowTile = P == 256 ? 64 : 128;
    shape.threads = 256;
    // Own rows and two blocks of others, of two kinds each, two barriers,
    // numbers of queries, and room to begin at a multiple of 1024.
    shape.sharedBytes =
        (2 * shape.rowTile + 4 * 64) * P * 2 + 16 + 2 * 3 * 64 * 4 + 1024;
    shape.before =
        roundingShape(shape, "attention_gradient_round", a.sequences, a.R);
  } else if (isBf16(a.dtype)) {
    const int64_t P = paddedHead(a.D);
    shape.file = "AttentionGradientBf16";
    shape.symbol = absl::StrCat("attention_gradient_bf16_", P);
    shape.rowTile = kGradientRows;
    shape.threads = P == 256 ? 256 : 128;
    // Own rows and the others', of two kinds each, then numbers of queries.
    shape.sharedBytes = 4 * 64 * (P + 8) * 2 + 3 * 64 * 4;
  } else {
    shape.rowTile = kPlainGradientRows;
    shape.sharedBytes =
        (2 * 16 * a.D + 2 * 32 * (a.D + 1) + 2 * 16 * 33 + 3 * 32) * 4;
  }
  shape.rows = rowsOfTiles(a.sequences, a.R, shape.rowTile);
  return checkHead(kernel.name, a.D);
}

} // namespace

void shapeBf16Attention(int64_t D, CudaFeatures features,
                        CudaLaunchShape& shape) {
  const int64_t P = paddedHead(D);
  if (features.hasWgmma) {
    shape.file += "Wgmma";
    absl::StrAppend(&shape.symbol, "_wgmma_", P);
    shape.rowTile = 128;
    shape.threads = 256;
    // Queries, two blocks of 64 keys and of values, two barriers, what the
    // block works on, and room to begin at a multiple of 1024.
    shape.sharedBytes = (128 + 4 * 64) * P * 2 + 16 + 32 + 1024;
    return;
  }
  shape.file += "Bf16";
  absl::StrAppend(&shape.symbol, "_bf16_", P);
  shape.rowTile = 64;
  shape.threads = P == 256 ? 256 : 128;
  shape.sharedBytes = 3 * 64 * (P + 8) * 2; // queries, keys, values
}

absl::Status shapeTrainingLaunch(const CudaKernelInfo& kernel,
                                 const uint64_t* words, CudaFeatures features,
                                 CudaLaunchShape& shape) {
  const std::string_view name = kernel.name;
  int64_t layout = static_cast<int64_t>(WeightLayout::RowMajor);
  if (name == "linear_input_gradient") {
    const auto a = readArgs<LinearInputGradientArgs>(words);
    layout = a.layout;
    LLMRT_RETURN_IF_ERROR(
        shapeProduct(name, a.rows, a.K, a.dtype, a.factorDtype, shape));
  } else if (name == "linear_weight_gradient") {
    const auto a = readArgs<LinearWeightGradientArgs>(words);
    layout = a.layout;
    LLMRT_RETURN_IF_ERROR(
        shapeProduct(name, a.N, a.K, a.dtype, a.factorDtype, shape));
  } else if (name == "embedding_gradient") {
    const auto a = readArgs<EmbeddingGradientArgs>(words);
    layout = a.layout;
    shape.rows = a.V;
    shape.cols = a.C;
  } else if (name == "sum_rows") {
    const auto a = readArgs<SumRowsArgs>(words);
    shape.cols = a.W;
    shape.parts = static_cast<int>(sumRowsParts(a));
    shape.scratchBytes = trainingScratchBytes(name, words);
  } else if (name == "move_rows") {
    const auto a = readArgs<MoveRowsArgs>(words);
    layout = isRowMajor(a.fromLayout) ? a.toLayout : a.fromLayout;
  } else if (name == "adamw") {
    const auto a = readArgs<AdamwArgs>(words);
    shapeFlat(std::min(a.blocks * a.blockElements, a.elements), shape);
  } else if (name == "cast_weight") {
    const auto a = readArgs<CastWeightArgs>(words);
    layout = a.layout;
    shapeFlat(a.panels * a.K, shape);
  } else if (name == "attention_rows") {
    return shapeAttentionRows(kernel, readArgs<AttentionRowsArgs>(words),
                              features, shape);
  } else if (name == "attention_gradient") {
    return shapeAttentionGradient(
        kernel, readArgs<AttentionGradientArgs>(words), features, shape);
  }
  if (!isRowMajor(layout))
    return noCudaForm(name, "reads and writes weights by rows only");
  return absl::OkStatus();
}

int64_t trainingScratchBytes(std::string_view kernel, const uint64_t* words) {
  if (kernel == "attention_rows") { // on a GPU with wgmma
    const auto a = readArgs<AttentionRowsArgs>(words);
    return isBf16(a.dtype)
               ? 2 * roundedBytes((a.rows + a.R - 1) / a.R, a.R, a.KV, a.D)
               : 0;
  }
  if (kernel == "attention_gradient") { // on a GPU with wgmma
    const auto a = readArgs<AttentionGradientArgs>(words);
    return isBf16(a.dtype)
               ? 2 * roundedBytes(a.sequences, a.R, a.H + a.KV, a.D) +
                     a.sequences * a.R * a.H * int64_t{sizeof(float)}
               : 0;
  }
  if (kernel != "sum_rows")
    return 0;
  const auto a = readArgs<SumRowsArgs>(words);
  const int64_t parts = sumRowsParts(a);
  return parts > 1 ? parts * a.W * 4 : 0;
}

} // namespace llmrt
