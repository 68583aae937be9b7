// SPDX-License-Identifier: Apache-2.0
// Sums are element by element, so the vector width changes no bit: the AVX2
// variant is the same source compiled twice. Vectors are explicit, because the
// result may overwrite a summand and compilers then give up.
#include "runtime/comm/RankOrderSum.h"

#include <cassert>
#include <cstring>

namespace llmrt {
namespace {

using Blocks = absl::Span<const void* const>;

constexpr int kLanes = 16;
typedef float Floats __attribute__((vector_size(4 * kLanes)));
typedef uint32_t Words __attribute__((vector_size(4 * kLanes)));
typedef uint16_t Halves __attribute__((vector_size(2 * kLanes)));

#define LLMRT_INLINE inline __attribute__((always_inline))

LLMRT_INLINE Floats loadAsFloats(const float* from) {
  Floats value;
  std::memcpy(&value, from, sizeof(value));
  return value;
}

LLMRT_INLINE Floats loadAsFloats(const uint16_t* from) {
  Halves halves;
  std::memcpy(&halves, from, sizeof(halves));
  return (Floats)(__builtin_convertvector(halves, Words) << 16);
}

LLMRT_INLINE void storeFloats(Floats value, float* to) {
  std::memcpy(to, &value, sizeof(value));
}

/// Rounds to nearest even; a NaN stays one.
LLMRT_INLINE void storeFloats(Floats value, uint16_t* to) {
  Words bits = (Words)value;
  Words rounded = (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
  Words quietNan = (bits >> 16) | 0x40;
  Words isNan = (Words)((bits & 0x7fffffff) > 0x7f800000);
  Words chosen = (isNan & quietNan) | (~isNan & rounded);
  Halves halves = __builtin_convertvector(chosen, Halves);
  std::memcpy(to, &halves, sizeof(halves));
}

template <typename T>
LLMRT_INLINE void addVector(T* out, Blocks blocks, int64_t offset) {
  Floats sum = loadAsFloats(static_cast<const T*>(blocks[0]) + offset);
  for (size_t r = 1; r < blocks.size(); ++r)
    sum += loadAsFloats(static_cast<const T*>(blocks[r]) + offset);
  storeFloats(sum, out + offset);
}

template <typename T>
LLMRT_INLINE void addAll(void* out, Blocks blocks, int64_t numElements) {
  T* result = static_cast<T*>(out);
  int64_t whole = numElements / kLanes * kLanes;
  if (blocks.size() == 2) {
    const T* first = static_cast<const T*>(blocks[0]);
    const T* second = static_cast<const T*>(blocks[1]);
    for (int64_t i = 0; i < whole; i += kLanes)
      storeFloats(loadAsFloats(first + i) + loadAsFloats(second + i),
                  result + i);
  } else {
    for (int64_t i = 0; i < whole; i += kLanes)
      addVector(result, blocks, i);
  }
  if (whole == numElements)
    return;
  // The tail goes through padded copies and the same code.
  int64_t tail = numElements - whole;
  Floats total = {};
  for (size_t r = 0; r < blocks.size(); ++r) {
    T block[kLanes] = {};
    std::memcpy(block, static_cast<const T*>(blocks[r]) + whole,
                tail * sizeof(T));
    total = r == 0 ? loadAsFloats(block) : total + loadAsFloats(block);
  }
  T sum[kLanes];
  storeFloats(total, sum);
  std::memcpy(result + whole, sum, tail * sizeof(T));
}

using AddFn = void (*)(void*, Blocks, int64_t);

void addF32(void* out, Blocks blocks, int64_t numElements) {
  addAll<float>(out, blocks, numElements);
}

void addBf16(void* out, Blocks blocks, int64_t numElements) {
  addAll<uint16_t>(out, blocks, numElements);
}

#if defined(__x86_64__)
__attribute__((target("avx2"))) void addF32Avx2(void* out, Blocks blocks,
                                                int64_t numElements) {
  addAll<float>(out, blocks, numElements);
}

__attribute__((target("avx2"))) void addBf16Avx2(void* out, Blocks blocks,
                                                 int64_t numElements) {
  addAll<uint16_t>(out, blocks, numElements);
}

AddFn chooseAdd(DType dtype) {
  static const bool kHasAvx2 = __builtin_cpu_supports("avx2");
  if (dtype == DType::BF16)
    return kHasAvx2 ? addBf16Avx2 : addBf16;
  return kHasAvx2 ? addF32Avx2 : addF32;
}
#else
AddFn chooseAdd(DType dtype) { return dtype == DType::BF16 ? addBf16 : addF32; }
#endif

} // namespace

void addInRankOrder(void* out, Blocks blocks, int64_t numElements,
                    DType dtype) {
  assert((dtype == DType::F32 || dtype == DType::BF16) && "no such sum");
  if (numElements == 0)
    return;
  if (blocks.size() == 1) {
    if (out != blocks[0])
      std::memcpy(out, blocks[0], numElements * dtypeBytes(dtype));
    return;
  }
  chooseAdd(dtype)(out, blocks, numElements);
}

} // namespace llmrt
