// SPDX-License-Identifier: Apache-2.0
// What the machine can do at most. Uses the widest vectors of the machine by
// function targets, not the kernels' own code.
#include "tests/kernels/Ceilings.h"

#include <cstring>
#include <ctime>
#include <immintrin.h>
#include <sys/mman.h>

namespace llmrt::bench {
namespace {

/// Bytes of one tile of a read.
constexpr int64_t kReadTile = 1 << 20;
constexpr int64_t kMultiplyAdds = 1 << 20;

// Words: tiles, memory, streams, prefetch distance, result.
template <int streams, int prefetch>
__attribute__((target("avx512f"))) void readWide(const char* begin,
                                                 int64_t bytes, char* result) {
  __m512i sum[4] = {};
  const int64_t part = bytes / streams;
  for (int64_t i = 0; i < part; i += 128)
#pragma GCC unroll 4
    for (int s = 0; s < streams; ++s) {
      const char* p = begin + s * part + i;
      if (prefetch > 0) {
        _mm_prefetch(p + prefetch, _MM_HINT_T0);
        _mm_prefetch(p + prefetch + 64, _MM_HINT_T0);
      }
      sum[s] = _mm512_add_epi32(sum[s], _mm512_loadu_si512(p));
      sum[s] = _mm512_add_epi32(sum[s], _mm512_loadu_si512(p + 64));
    }
  for (int s = 1; s < 4; ++s)
    sum[0] = _mm512_add_epi32(sum[0], sum[s]);
  _mm512_storeu_si512(result, sum[0]);
}

__attribute__((target("avx2"))) void readNarrow(const char* begin,
                                                int64_t bytes, char* result) {
  __m256i sum[2] = {};
  for (int64_t i = 0; i < bytes; i += 64)
    for (int v = 0; v < 2; ++v)
      sum[v] = _mm256_add_epi32(
          sum[v],
          _mm256_loadu_si256(reinterpret_cast<const __m256i*>(begin + i) + v));
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(result),
                      _mm256_add_epi32(sum[0], sum[1]));
}

void readTiles(const uint64_t* words, const LlmrtTile* tile, void* scratch) {
  auto* begin =
      reinterpret_cast<const char*>(words[1]) + tile->colBegin * kReadTile;
  int64_t bytes = (tile->colEnd - tile->colBegin) * kReadTile;
  auto* result = static_cast<char*>(scratch);
  if (!__builtin_cpu_supports("avx512f"))
    return readNarrow(begin, bytes, result);
  switch (words[2]) {
  case 0:
    return readWide<1, 0>(begin, bytes, result);
  case 1:
    return readWide<1, 2048>(begin, bytes, result);
  case 2:
    return readWide<4, 0>(begin, bytes, result);
  case 3:
    return readWide<4, 1024>(begin, bytes, result);
  }
}

__attribute__((target("avx512f"))) void chainsWide(float* out) {
  __m512 sum[24];
  __m512 a = _mm512_set1_ps(1.0f), b = _mm512_set1_ps(1e-9f);
  for (auto& s : sum)
    s = a;
  for (int64_t i = 0; i < kMultiplyAdds; ++i) {
    asm volatile("" : "+v"(a), "+v"(b));
#pragma GCC unroll 24
    for (int c = 0; c < 24; ++c)
      sum[c] = _mm512_fmadd_ps(a, b, sum[c]);
  }
  for (auto& s : sum)
    sum[0] = _mm512_add_ps(sum[0], s);
  _mm512_storeu_ps(out, sum[0]);
}

__attribute__((target("avx2,fma"))) void chainsNarrow(float* out) {
  __m256 sum[12];
  __m256 a = _mm256_set1_ps(1.0f), b = _mm256_set1_ps(1e-9f);
  for (auto& s : sum)
    s = a;
  for (int64_t i = 0; i < kMultiplyAdds; ++i) {
    asm volatile("" : "+x"(a), "+x"(b));
#pragma GCC unroll 12
    for (int c = 0; c < 12; ++c)
      sum[c] = _mm256_fmadd_ps(a, b, sum[c]);
  }
  for (auto& s : sum)
    sum[0] = _mm256_add_ps(sum[0], s);
  _mm256_storeu_ps(out, sum[0]);
}

void multiplyAdds(const uint64_t*, const LlmrtTile* tile, void* scratch) {
  for (int64_t c = tile->colBegin; c < tile->colEnd; ++c) {
    if (__builtin_cpu_supports("avx512f"))
      chainsWide(static_cast<float*>(scratch));
    else
      chainsNarrow(static_cast<float*>(scratch));
  }
}

} // namespace

char* hugeMemory(int64_t bytes) {
  constexpr int64_t page = 2 << 20;
  bytes = (bytes + page - 1) / page * page;
  void* raw = mmap(nullptr, bytes + page, PROT_READ | PROT_WRITE,
                   MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  auto address = (reinterpret_cast<uintptr_t>(raw) + page - 1) / page * page;
  char* memory = reinterpret_cast<char*>(address);
  madvise(memory, bytes, MADV_HUGEPAGE);
  std::memset(memory, 0, bytes);
  return memory;
}

double nowSeconds() {
  timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec + t.tv_nsec * 1e-9;
}

double readRate(ThreadPool& pool, const char* memory, int64_t bytes,
                int variant) {
  uint64_t words[] = {1, reinterpret_cast<uint64_t>(memory),
                      static_cast<uint64_t>(variant)};
  double begin = nowSeconds();
  pool.run({1, bytes / kReadTile, 1, 1}, readTiles, words, 64);
  return bytes / (nowSeconds() - begin);
}

double multiplyAddRate(ThreadPool& pool) {
  const bool wide = __builtin_cpu_supports("avx512f");
  double begin = nowSeconds();
  pool.run({1, pool.numThreads() * 4, 1, 1}, multiplyAdds, nullptr, 64);
  double lanes = wide ? 16 * 24 : 8 * 12;
  return 2.0 * lanes * kMultiplyAdds * pool.numThreads() * 4 /
         (nowSeconds() - begin);
}

} // namespace llmrt::bench
