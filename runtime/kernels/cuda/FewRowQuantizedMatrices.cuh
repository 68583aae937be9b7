// SPDX-License-Identifier: Apache-2.0
// Products of FewRowProducts.cuh by tensor cores with weights in blocks of 32
// elements that share a factor (WeightFormat): 8 or 16 rows of x times 16 or 32
// slots. An element of q8_0 (-128 to 127) or q4_0 (-8 to 7) is exact in bf16,
// so nothing is rounded but x, which is the sum of two bf16 numbers as in
// FewRowMatrices.cuh. A block is multiplied by itself, two products in K, into
// fresh f32 sums, which then take the factor of their slot's block.
//
// How weights come. A product's four lanes of a slot must hold a quarter of the
// same block each, 8 bytes of q8_0 and 4 of q4_0. Loads of that size into
// registers would use a sector of 32 bytes by halves (q4_0), take four times
// the instructions and keep 32 registers for what is on its way; so weights go
// past the registers into shared memory. A chunk is 64 bytes of each slot, two
// blocks of q8_0 or four of q4_0: four lanes copy 16 bytes each, whole sectors.
// Warps take chunks in turn, every 8th is a warp's own. Each has three stages
// to itself and meets only its own lanes: while it multiplies one chunk the
// next two are on their way, 16 KiB a thread block of 16 slots and 32 KiB one
// of 32, two of which fit on a multiprocessor. With the 0.7 us that memory
// takes, each of 132 multiprocessors needs 25 KiB for 4.8 TB/s. Pieces of 16
// bytes are permuted by the slot's number, so that lanes read from different
// banks. A factor goes to one of the four lanes, which gives it to the others.
//
// 32 slots where there are enough, for the sake of x: what a lane computes of
// an element of x serves all of them, and x, 4 bytes an element and row, comes
// from the caches beside 16 or 32 bytes of weights.
#pragma once

#include "runtime/kernels/cuda/FewRowMatrices.cuh"

namespace llmrt::cuda {

inline constexpr int kChunkBytes = 64; // of a slot
inline constexpr int kStages = 3;
inline constexpr int kRingBytes = kStages * kChunkBytes; // of a warp and slot

static_assert(kCudaBlockRowBytes ==
              kProductWarps * kRingBytes + sizeof(WeightRow<Q8>));

/// What a lane takes of a block: four elements for each of two products in K,
/// those at firstElement(lane) and those kApart behind them.
template <typename W>
struct BlockPart;

template <>
struct BlockPart<Q8> {
  static constexpr int kBlockBytes = 32;
  static constexpr int kApart = 4;
  uint2 raw;

  __device__ static int firstElement(int lane) { return lane % 4 * 8; }

  /// From block `block` of a chunk of a slot, of which piece i lies at i ^
  /// swizzle.
  __device__ BlockPart(const uint8_t* chunk, int block, int lane, int swizzle)
      : raw(*reinterpret_cast<const uint2*>(
            chunk + ((block * 2 + lane % 4 / 2) ^ swizzle) * 16 +
            lane % 2 * 8)) {}

  /// Bytes 0 and 2 as bf16: 0x4300 with seven bits of an element behind it is
  /// 128 more than they say. The eighth takes 128 away: where it lies it is the
  /// lowest bit of the exponent, and 0x4300 with it 256 instead of 128.
  __device__ static uint32_t pairOf(uint32_t bytes) {
    return subtractBf16(joinBits(bytes, 0x007F007Fu, 0x43004300u),
                        joinBits(bytes, 0x00800080u, 0x43004300u));
  }

  /// Elements 0 and 2, then 1 and 3, of the four for a product.
  __device__ void take(int product, uint32_t (&pairs)[2]) const {
    const uint32_t four = product == 0 ? raw.x : raw.y;
    pairs[0] = pairOf(four);
    pairs[1] = pairOf(four >> 8);
  }
};

template <>
struct BlockPart<Q4> {
  static constexpr int kBlockBytes = 16;
  static constexpr int kApart = 16; // low halves of bytes, then high ones
  uint32_t raw;

  __device__ static int firstElement(int lane) { return lane % 4 * 4; }

  __device__ BlockPart(const uint8_t* chunk, int block, int lane, int swizzle)
      : raw(*reinterpret_cast<const uint32_t*>(chunk + (block ^ swizzle) * 16 +
                                               lane % 4 * 4)) {}

  // Four bits of a byte: 128 more than they say as bf16, elements 8 less.
  __device__ static uint32_t pairOf(uint32_t bytes) {
    return subtractBf16(joinBits(bytes, 0x000F000Fu, 0x43004300u), 0x43084308u);
  }

  __device__ void take(int product, uint32_t (&pairs)[2]) const {
    const uint32_t four = product == 0 ? raw : raw >> 4;
    pairs[0] = pairOf(four);
    pairs[1] = pairOf(four >> 8);
  }
};

/// The chunks of a warp on their way: elements to shared memory, factors to
/// registers, of two chunks by turns.
template <typename W, int A>
struct BlockStream {
  static constexpr int kBlocks = kChunkBytes / BlockPart<W>::kBlockBytes;
  static constexpr int kSlots = 2 * A; // of a lane: lane / 4 and every 8th
  static constexpr int kStageBytes = A * kMatrixSlots * kChunkBytes;
  const WeightRow<W>* rows; // of each slot, in shared memory
  uint8_t* ring;            // the warp's
  int numBlocks;
  int lane;
  int swizzle; // of the lane's slots: rows of eight slots in different banks
  uint16_t halves[2][kSlots];

  __device__ BlockStream(uint8_t* shared, int numBlocks)
      : rows(reinterpret_cast<const WeightRow<W>*>(shared)),
        ring(shared + A * kMatrixSlots * sizeof(WeightRow<W>) +
             threadIdx.x / kWarpLanes * kStages * kStageBytes),
        numBlocks(numBlocks), lane(threadIdx.x % kWarpLanes),
        swizzle(lane / 8 % 2 * 2 + lane / 16) {}

  /// Asks for a chunk; zeros behind the end.
  __device__ void request(int chunk, int stage, int turn) {
    const int at = chunk * kChunkBytes + lane % 4 * 16;
    const bool isInside = at < numBlocks * BlockPart<W>::kBlockBytes;
    const int block = chunk * kBlocks + lane % kBlocks;
    uint8_t* to = ring + stage * kStageBytes + lane / 4 * kChunkBytes +
                  (lane % 4 ^ swizzle) * 16;
#pragma unroll
    for (int s = 0; s < kSlots; ++s) {
      const WeightRow<W> row = rows[s * 8 + lane / 4];
      copyAsync16(to + s * 8 * kChunkBytes, row.w + (isInside ? at : 0),
                  isInside);
      halves[turn][s] = block < numBlocks ? row.factors[block] : uint16_t{0};
    }
    endCopies();
  }

  __device__ BlockPart<W> part(int stage, int slot, int block) const {
    return {ring + stage * kStageBytes + (slot * 8 + lane / 4) * kChunkBytes,
            block, lane, swizzle};
  }
};

/// Adds 8 T rows times one block of each of a lane's 2 A slots, before the
/// blocks' factors. k is where the block begins.
template <typename W, int A, int T, InputNorm kNorm>
__device__ inline void
multiplyBlock(const NormedRows& a, const LaneRows<T, kNorm>& rows,
              const BlockStream<W, A>& stream, int stage, int block, int k,
              float (&sum)[A][T][4], float (&squares)[T]) {
  using Part = BlockPart<W>;
#pragma unroll
  for (int product = 0; product < 2; ++product) {
    uint32_t weights[A][4];
#pragma unroll
    for (int j = 0; j < A; ++j) {
      uint32_t above[2], below[2];
      stream.part(stage, 2 * j, block).take(product, above);
      stream.part(stage, 2 * j + 1, block).take(product, below);
      weights[j][0] = above[0];
      weights[j][1] = below[0];
      weights[j][2] = above[1];
      weights[j][3] = below[1];
    }
    const int from =
        k + Part::firstElement(stream.lane) + product * Part::kApart;
    const NormVectors<kNorm> vectors(a, from);
#pragma unroll
    for (int t = 0; t < T; ++t) {
      float v[4];
      vectors.load(rows.x[t] + from, rows.mean[t], rows.inverse[t], v,
                   squares[t]);
      const float paired[4] = {v[0], v[2], v[1], v[3]};
      const SplitFactor f(paired);
#pragma unroll
      for (int j = 0; j < A; ++j)
        multiplyMatrices(sum[j][t], weights[j], f.rest[0], f.rest[1]);
#pragma unroll
      for (int j = 0; j < A; ++j)
        multiplyMatrices(sum[j][t], weights[j], f.rounded[0], f.rounded[1]);
    }
  }
}

/// Multiplies a chunk that is there; factors are those that the lane holds.
template <typename W, int A, int T, InputNorm kNorm>
__device__ inline void
multiplyChunk(const NormedRows& a, const LaneRows<T, kNorm>& rows,
              const BlockStream<W, A>& stream, int chunk, int stage,
              const float (&factors)[2 * A], float (&sum)[A][T][4],
              float (&squares)[T]) {
  constexpr int kBlocks = BlockStream<W, A>::kBlocks;
  // As many as there are registers for.
  [[maybe_unused]] constexpr int kTogether = T * A < 4 ? 2 : 1;
#pragma unroll kTogether
  for (int b = 0; b < kBlocks; ++b) {
    // The lanes of a warp multiply together. Behind the end: a block of x that
    // is there, and zeros.
    const int block = chunk * kBlocks + b;
    const bool isInside = block < stream.numBlocks;
    float ofBlock[A][T][4] = {}, added[T] = {};
    multiplyBlock<W, A, T, kNorm>(a, rows, stream, stage, b,
                                  isInside ? block * kBlockElements : 0,
                                  ofBlock, added);
#pragma unroll
    for (int t = 0; t < T; ++t)
      squares[t] += isInside ? added[t] : 0.0f;
#pragma unroll
    for (int s = 0; s < 2 * A; ++s) {
      const float factor =
          __shfl_sync(0xFFFFFFFFu, factors[s], stream.lane / 4 * 4 + b);
#pragma unroll
      for (int t = 0; t < T; ++t)
#pragma unroll
        for (int i = s % 2 * 2; i < s % 2 * 2 + 2; ++i)
          sum[s / 2][t][i] =
              fmaf(ofBlock[s / 2][t][i], factor, sum[s / 2][t][i]);
    }
  }
}

template <typename W, int A, int T, InputNorm kNorm>
__device__ inline void sumByBlocks(const NormedRows& a, int64_t row,
                                   float* statistics, uint8_t* shared) {
  const int warp = threadIdx.x / kWarpLanes;
  const int numBlocks = static_cast<int>(a.K / kBlockElements);
  float sum[A][T][4] = {}, squares[T] = {};
  BlockStream<W, A> stream(shared, numBlocks);
  stream.request(warp, 0, 0);
  stream.request(warp + kProductWarps, 1, 1);
  waitForPreviousLaunch();
  const LaneRows<T, kNorm> rows(a, row, statistics);
  int stage = 0;
  for (int first = warp; first * stream.kBlocks < numBlocks;
       first += 2 * kProductWarps) {
#pragma unroll
    for (int turn = 0; turn < 2; ++turn) {
      const int chunk = first + turn * kProductWarps;
      if (chunk * stream.kBlocks >= numBlocks)
        break;
      // The lanes see each other's copies, and have left the stage before.
      waitCopies<1>();
      __syncwarp();
      float factors[2 * A];
#pragma unroll
      for (int s = 0; s < 2 * A; ++s)
        factors[s] = floatOfHalf(stream.halves[turn][s]);
      const int before = stage == 0 ? kStages - 1 : stage - 1;
      stream.request(chunk + 2 * kProductWarps, before, turn);
      multiplyChunk<W, A, T, kNorm>(a, rows, stream, chunk, stage, factors, sum,
                                    squares);
      stage = stage == kStages - 1 ? 0 : stage + 1;
    }
  }
  waitCopies<0>();
  __syncwarp();
  storeMatrixSums<A, T, kNorm>(sum, squares,
                               reinterpret_cast<float*>(stream.ring));
}

template <typename W, int A, int T, typename WeightAt>
__device__ inline BlockSums productsByBlocks(const NormedRows& a, int64_t row,
                                             WeightAt weightAt) {
  constexpr int kSlots = A * kMatrixSlots;
  constexpr int kWarpFloats = kSlots * kRingBytes / 4;
  static_assert(kWarpSums<T, A> <= kWarpFloats, "sums take a warp's stages");
  __shared__ float statistics[2 * kMostProductRows];
  auto* rows = reinterpret_cast<WeightRow<W>*>(sharedMemory());
  if (threadIdx.x < kSlots)
    rows[threadIdx.x] =
        WeightRow<W>::at(weightAt(static_cast<int>(threadIdx.x)), a.K);
  __syncthreads();
  if (a.norm == static_cast<int64_t>(InputNorm::RootMeanSquare))
    sumByBlocks<W, A, T, InputNorm::RootMeanSquare>(a, row, statistics,
                                                    sharedMemory());
  else if (a.norm == static_cast<int64_t>(InputNorm::Layer))
    sumByBlocks<W, A, T, InputNorm::Layer>(a, row, statistics, sharedMemory());
  else
    sumByBlocks<W, A, T, InputNorm::None>(a, row, statistics, sharedMemory());
  __syncthreads();
  return matrixSums<A, T>(reinterpret_cast<const float*>(rows + kSlots),
                          kWarpFloats);
}

/// As productsByLanes for rows [row, row + 8 T) and 16 or 32 slots in blocks.
/// Takes kCudaBlockRowBytes of dynamic shared memory for each slot.
template <int T, typename WeightAt>
__device__ inline BlockSums productsByBlocks(const NormedRows& a, int64_t row,
                                             int slots, WeightAt weightAt) {
  const bool isQ8 = a.dtype == static_cast<int64_t>(WeightFormat::Q8_0);
  if (slots == kMatrixSlots)
    return isQ8 ? productsByBlocks<Q8, 1, T>(a, row, weightAt)
                : productsByBlocks<Q4, 1, T>(a, row, weightAt);
  return isQ8 ? productsByBlocks<Q8, 2, T>(a, row, weightAt)
              : productsByBlocks<Q4, 2, T>(a, row, weightAt);
}

} // namespace llmrt::cuda
