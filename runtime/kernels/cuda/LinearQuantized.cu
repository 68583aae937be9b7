// SPDX-License-Identifier: Apache-2.0
// linear_quantized: any number of rows times a weight in blocks of 32 elements
// that share a factor (WeightFormat), for rows that FusedLinearQuantized.cu
// does not take. A step of K is one block. bf16: tensor cores over tiles of 128
// rows x 128 outputs, two of them in shared memory; elements times their
// factor, and x, are rounded to bf16 (nearest even) on the way there, sums are
// f32. `linear_quantized_f32`: plain f32 products over tiles of 64 x 64, which
// add in the order of the cpu kernel `linear`.
//
// Constraints  K a multiple of 32, ldx of 4; x and w aligned to 16 bytes.
// Scratch  none.
#include "runtime/kernels/cuda/FewRowProducts.cuh"
#include "runtime/kernels/cuda/LinearMatrixTile.cuh"

namespace llmrt::cuda {
namespace {

/// What one of P threads that share a block moves of it.
template <typename W, int P>
struct BlockPart {
  static constexpr int kBlockWords =
      kBlockElements / WeightRow<W>::kElements * 4;
  static constexpr int kWords = kBlockWords / P;
  uint4 raw;
  uint16_t factor;

  /// Part `part` of block `block` of row n; zeros behind the last row.
  __device__ void load(const LinearQuantizedArgs& a, int64_t n, int block,
                       int part) {
    raw = make_uint4(0, 0, 0, 0);
    factor = 0;
    if (n >= a.N)
      return;
    const int64_t rowBytes = a.K / kBlockElements * kBlockWords * 4;
    const auto* from = reinterpret_cast<const uint32_t*>(
        static_cast<const uint8_t*>(a.w) + n * rowBytes +
        (block * kBlockWords + part * kWords) * 4);
    if constexpr (kWords == 4) {
      raw = load16(from);
    } else if constexpr (kWords == 2) {
      const uint2 pair = *reinterpret_cast<const uint2*>(from);
      raw.x = pair.x;
      raw.y = pair.y;
    } else {
      raw.x = *from;
    }
    factor = factorsOf({a.w, n, a.N}, a.K, rowBytes)[block];
  }

  /// Calls emit(element, values) for each four neighbouring elements, counted
  /// in the block.
  template <typename Emit>
  __device__ void forFours(int part, const Emit& emit) const {
    const float scale = floatOfHalf(factor);
#pragma unroll
    for (int high = 0; high < WeightRow<W>::kElements / 16; ++high)
#pragma unroll
      for (int i = 0; i < kWords; ++i) {
        float four[4];
        WeightRow<W>::take(raw, high * 16 + i * 4, four);
#pragma unroll
        for (int j = 0; j < 4; ++j)
          four[j] *= scale;
        emit(high * 16 + (part * kWords + i) * 4, four);
      }
  }
};

// ---- tensor cores ----

constexpr int kPiecesX = kTileRows * kTileK / 4 / kThreads;
constexpr int kParts = kThreads / kTileCols; // threads that share a block

/// The tiles of one step in K, on their way to shared memory.
template <typename W>
struct StepPieces {
  float x[kPiecesX][4];
  BlockPart<W, kParts> w;

  __device__ void load(const LinearQuantizedArgs& a, int64_t row, int64_t col,
                       int block) {
#pragma unroll
    for (int i = 0; i < kPiecesX; ++i) {
      const int piece = i * kThreads + threadIdx.x;
      const int64_t r = row + piece / (kTileK / 4);
      x[i][0] = x[i][1] = x[i][2] = x[i][3] = 0.0f;
      if (r < a.rows)
        widenVector(
            load16(a.x + r * a.ldx + block * kTileK + piece % (kTileK / 4) * 4),
            a.x, x[i]);
    }
    w.load(a, col + threadIdx.x / kParts, block, threadIdx.x % kParts);
  }

  __device__ void store(BF16* toX, BF16* toW) const {
#pragma unroll
    for (int i = 0; i < kPiecesX; ++i) {
      const int piece = i * kThreads + threadIdx.x;
      *reinterpret_cast<uint2*>(toX + piece / (kTileK / 4) * kStride +
                                piece % (kTileK / 4) * 4) =
          make_uint2(packBf16(x[i][0], x[i][1]), packBf16(x[i][2], x[i][3]));
    }
    BF16* row = toW + threadIdx.x / kParts * kStride;
    w.forFours(threadIdx.x % kParts, [&](int element, const float* four) {
      *reinterpret_cast<uint2*>(row + element) =
          make_uint2(packBf16(four[0], four[1]), packBf16(four[2], four[3]));
    });
  }
};

template <typename W>
__device__ inline void multiplyBlocks(const LinearQuantizedArgs& a,
                                      const LlmrtTile& grid, BF16* sharedX,
                                      BF16* sharedW) {
  const int lane = threadIdx.x % kWarpLanes, warp = threadIdx.x / kWarpLanes;
  const int warpRow = warp / 4 * kWarpRows, warpCol = warp % 4 * kWarpCols;
  const int64_t row = grid.rowBegin, col = grid.colBegin;
  const int numBlocks = static_cast<int>(a.K / kTileK);
  auto x = [&](int step) { return sharedX + step % 2 * kTileRows * kStride; };
  auto w = [&](int step) { return sharedW + step % 2 * kTileCols * kStride; };
  Sums sums = {};
  StepPieces<W> pieces;
  pieces.load(a, row, col, 0);
  pieces.store(x(0), w(0));
  __syncthreads();
  for (int block = 0; block < numBlocks; ++block) {
    const bool isMore = block + 1 < numBlocks;
    if (isMore)
      pieces.load(a, row, col, block + 1);
    multiplyTile(x(block) + warpRow * kStride, w(block) + warpCol * kStride,
                 lane, sums);
    if (isMore)
      pieces.store(x(block + 1), w(block + 1));
    __syncthreads();
  }
  storeSums(sums, row + warpRow, col + warpCol, a.rows, a.N,
            [&](int64_t r, int64_t c, float sum) { a.y[r * a.ldy + c] = sum; });
}

// ---- f32 ----

constexpr int kSide = 64;
constexpr int kPlainParts = kThreads / kSide;
constexpr int kPlainStride = kSide + 4;

/// Tiles of a step lie as [k][row].
template <typename W>
__device__ inline void loadPlainTiles(const LinearQuantizedArgs& a,
                                      const LlmrtTile& grid, int block,
                                      float* x, float* w) {
#pragma unroll
  for (int i = 0; i < kSide * kTileK / kThreads; ++i) {
    const int element = i * kThreads + threadIdx.x;
    const int row = element / kTileK, k = element % kTileK;
    const int64_t r = grid.rowBegin + row;
    x[k * kPlainStride + row] =
        r < a.rows ? a.x[r * a.ldx + block * kTileK + k] : 0.0f;
  }
  const int col = threadIdx.x / kPlainParts, part = threadIdx.x % kPlainParts;
  BlockPart<W, kPlainParts> mine;
  mine.load(a, grid.colBegin + col, block, part);
  mine.forFours(part, [&](int element, const float* four) {
#pragma unroll
    for (int j = 0; j < 4; ++j)
      w[(element + j) * kPlainStride + col] = four[j];
  });
}

template <typename W>
__device__ inline void multiplyPlainBlocks(const LinearQuantizedArgs& a,
                                           const LlmrtTile& grid, float* x,
                                           float* w) {
  const int row = threadIdx.x / 16 * 4, col = threadIdx.x % 16 * 4;
  const int numBlocks = static_cast<int>(a.K / kTileK);
  float sum[4][4] = {};
  for (int block = 0; block < numBlocks; ++block) {
    loadPlainTiles<W>(a, grid, block, x, w);
    __syncthreads();
#pragma unroll
    for (int k = 0; k < kTileK; ++k)
#pragma unroll
      for (int i = 0; i < 4; ++i)
#pragma unroll
        for (int j = 0; j < 4; ++j)
          sum[i][j] = fmaf(x[k * kPlainStride + row + i],
                           w[k * kPlainStride + col + j], sum[i][j]);
    __syncthreads();
  }
#pragma unroll
  for (int i = 0; i < 4; ++i)
#pragma unroll
    for (int j = 0; j < 4; ++j) {
      const int64_t r = grid.rowBegin + row + i, n = grid.colBegin + col + j;
      if (r < a.rows && n < a.N)
        a.y[r * a.ldy + n] = sum[i][j];
    }
}

__device__ inline bool isQ8(const LinearQuantizedArgs& a) {
  return a.dtype == static_cast<int64_t>(WeightFormat::Q8_0);
}

} // namespace
} // namespace llmrt::cuda

LLMRT_CUDA_ENTRY(linear_quantized, 256) {
  using namespace llmrt::cuda;
  __shared__ __align__(16) BF16 x[2 * kTileRows * kStride];
  __shared__ __align__(16) BF16 w[2 * kTileCols * kStride];
  const auto& a = argsOf<llmrt::LinearQuantizedArgs>(args);
  const LlmrtTile grid = blockTile(rows, cols, rowTile, colTile);
  if (grid.rowBegin >= a.rows)
    return;
  if (isQ8(a))
    multiplyBlocks<Q8>(a, grid, x, w);
  else
    multiplyBlocks<Q4>(a, grid, x, w);
}

LLMRT_CUDA_ENTRY(linear_quantized_f32, 256) {
  using namespace llmrt::cuda;
  __shared__ __align__(16) float x[kTileK * kPlainStride];
  __shared__ __align__(16) float w[kTileK * kPlainStride];
  const auto& a = argsOf<llmrt::LinearQuantizedArgs>(args);
  const LlmrtTile grid = blockTile(rows, cols, rowTile, colTile);
  if (grid.rowBegin >= a.rows)
    return;
  if (isQ8(a))
    multiplyPlainBlocks<Q8>(a, grid, x, w);
  else
    multiplyPlainBlocks<Q4>(a, grid, x, w);
}
