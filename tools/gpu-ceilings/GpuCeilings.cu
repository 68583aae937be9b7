// SPDX-License-Identifier: Apache-2.0
// What a GPU can do at most: bytes a second that it copies and reads, and the
// rate of products of bf16 matrices. Prints JSON: a number or an error for
// each; with --probe only what the GPU is. Exit status: 0; 1 if a part failed;
// 77 without a GPU, with the reason.
// The ceilings of tools/gpu-suite measure. Copy and read are kernels of ours
// over memory much larger than any cache; the matrix rate is cuBLASLt's, which
// is loaded at run time.
#include <cublasLt.h>
#include <cuda_bf16.h>
#include <cuda_runtime.h>

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <dlfcn.h>
#include <functional>
#include <string>
#include <vector>

namespace {

constexpr int kSkipped = 77;
constexpr int64_t kBytes = int64_t{4} << 30; // at most; less on a small GPU
constexpr int kRepetitions = 20;
constexpr int kThreads = 512;
constexpr int kLoads = 8; // of 16 bytes, in flight in each thread
constexpr int kFillThreads = 256;
constexpr int kWaves[] = {1, 2, 4}; // of the blocks that run at once

// Each thread reads kLoads vectors that are a block's width apart, so that a
// warp's accesses are whole lines.
__global__ void __launch_bounds__(kThreads)
    readBytes(const uint4* data, int64_t numVectors, uint32_t* out) {
  uint32_t sum = 0;
  const int64_t step = int64_t{gridDim.x} * kThreads * kLoads;
  for (int64_t i = int64_t{blockIdx.x} * kThreads * kLoads + threadIdx.x;
       i + kThreads * (kLoads - 1) < numVectors; i += step) {
    uint4 v[kLoads];
#pragma unroll
    for (int j = 0; j < kLoads; ++j)
      v[j] = __ldcs(data + i + j * kThreads);
#pragma unroll
    for (int j = 0; j < kLoads; ++j)
      sum ^= v[j].x ^ v[j].y ^ v[j].z ^ v[j].w;
  }
  if (sum == 0x9E3779B9u) // all but never: keeps the reads
    *out = sum;
}

__global__ void __launch_bounds__(kThreads)
    copyBytes(uint4* to, const uint4* from, int64_t numVectors) {
  const int64_t step = int64_t{gridDim.x} * kThreads * kLoads;
  for (int64_t i = int64_t{blockIdx.x} * kThreads * kLoads + threadIdx.x;
       i + kThreads * (kLoads - 1) < numVectors; i += step) {
    uint4 v[kLoads];
#pragma unroll
    for (int j = 0; j < kLoads; ++j)
      v[j] = __ldcs(from + i + j * kThreads);
#pragma unroll
    for (int j = 0; j < kLoads; ++j)
      __stcs(to + i + j * kThreads, v[j]);
  }
}

// Numbers between -1 and 1: the rate of a product depends on the bits that
// change.
__global__ void fillRandom(__nv_bfloat16* out, int64_t count, uint64_t seed) {
  for (int64_t i = int64_t{blockIdx.x} * blockDim.x + threadIdx.x; i < count;
       i += int64_t{gridDim.x} * blockDim.x) {
    uint64_t x = (static_cast<uint64_t>(i) + seed) * 0x9E3779B97F4A7C15ull;
    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9ull;
    x ^= x >> 27;
    out[i] = __float2bfloat16(static_cast<float>(x & 0xFFFFFF) / 0x800000 - 1);
  }
}

struct Failure {
  std::string text;
};

void check(cudaError_t result, const char* doing) {
  if (result != cudaSuccess)
    throw Failure{std::string(doing) + ": " + cudaGetErrorString(result)};
}

/// Seconds of the best of some runs.
double bestSeconds(const std::function<void()>& enqueue, int repetitions) {
  cudaEvent_t begin, end;
  check(cudaEventCreate(&begin), "making an event");
  check(cudaEventCreate(&end), "making an event");
  double best = 1e30;
  for (int i = 0; i <= repetitions; ++i) { // the first is the warm-up
    check(cudaEventRecord(begin), "recording");
    enqueue();
    check(cudaEventRecord(end), "recording");
    check(cudaEventSynchronize(end), "running");
    float milliseconds = 0;
    check(cudaEventElapsedTime(&milliseconds, begin, end), "timing");
    if (i > 0)
      best = std::min(best, milliseconds * 1e-3);
  }
  check(cudaEventDestroy(begin), "releasing an event");
  check(cudaEventDestroy(end), "releasing an event");
  return best;
}

class DeviceMemory {
public:
  explicit DeviceMemory(int64_t sizeBytes) {
    check(cudaMalloc(&memory_, sizeBytes), "allocating");
    check(cudaMemset(memory_, 1, sizeBytes), "filling");
  }

  ~DeviceMemory() { (void)cudaFree(memory_); }

  DeviceMemory(const DeviceMemory&) = delete;
  DeviceMemory& operator=(const DeviceMemory&) = delete;

  template <typename T>
  T* as() const {
    return static_cast<T*>(memory_);
  }

private:
  void* memory_ = nullptr;
};

int64_t bytesToUse() {
  size_t free = 0, total = 0;
  check(cudaMemGetInfo(&free, &total), "asking for memory");
  return std::min<int64_t>(kBytes, static_cast<int64_t>(free) / 4) / 4096 *
         4096;
}

/// Blocks of a kernel that the GPU runs at once.
template <typename Kernel>
int blocksAtOnce(Kernel kernel, int threads) {
  int processors = 0, ofEach = 0;
  check(cudaDeviceGetAttribute(&processors, cudaDevAttrMultiProcessorCount, 0),
        "asking for multiprocessors");
  check(cudaOccupancyMaxActiveBlocksPerMultiprocessor(&ofEach, kernel, threads,
                                                      /*dynamicSMemSize=*/0),
        "asking for blocks of a multiprocessor");
  if (processors * ofEach == 0)
    throw Failure{"no multiprocessor takes a block of a kernel"};
  return processors * ofEach;
}

/// Seconds of the best grid: blocks that stay to the end, or several after one
/// another in each place, which even out what some take longer.
double bestSecondsOfGrids(int blocks, const std::function<void(int)>& enqueue) {
  double best = 1e30;
  for (int waves : kWaves)
    best = std::min(
        best, bestSeconds([&] { enqueue(waves * blocks); }, kRepetitions));
  return best;
}

double readRate() {
  const int64_t sizeBytes = bytesToUse();
  DeviceMemory data(sizeBytes), out(4);
  const double seconds =
      bestSecondsOfGrids(blocksAtOnce(readBytes, kThreads), [&](int blocks) {
        readBytes<<<blocks, kThreads>>>(data.as<uint4>(), sizeBytes / 16,
                                        out.as<uint32_t>());
        check(cudaGetLastError(), "reading");
      });
  return sizeBytes / seconds;
}

// Bytes read and written; the better of our kernel and the library.
double copyRate() {
  const int64_t sizeBytes = bytesToUse() / 2 / 4096 * 4096;
  DeviceMemory from(sizeBytes), to(sizeBytes);
  const double ours =
      bestSecondsOfGrids(blocksAtOnce(copyBytes, kThreads), [&](int blocks) {
        copyBytes<<<blocks, kThreads>>>(to.as<uint4>(), from.as<uint4>(),
                                        sizeBytes / 16);
        check(cudaGetLastError(), "copying");
      });
  const double library = bestSeconds(
      [&] {
        check(cudaMemcpyAsync(to.as<void>(), from.as<void>(), sizeBytes,
                              cudaMemcpyDeviceToDevice),
              "copying");
      },
      kRepetitions);
  return 2.0 * sizeBytes / std::min(ours, library);
}

/// The functions of cuBLASLt that one product needs.
class CublasLt {
public:
  CublasLt() {
    for (const char* name : {"libcublasLt.so.13", "libcublasLt.so"})
      if (!library_)
        library_ = dlopen(name, RTLD_NOW | RTLD_LOCAL);
    if (!library_)
      throw Failure{std::string("cuBLASLt is not there: ") + dlerror()};
    load(create, "cublasLtCreate");
    load(matmul, "cublasLtMatmul");
    load(describe, "cublasLtMatmulDescCreate");
    load(describeSet, "cublasLtMatmulDescSetAttribute");
    load(layout, "cublasLtMatrixLayoutCreate");
    load(preference, "cublasLtMatmulPreferenceCreate");
    load(preferenceSet, "cublasLtMatmulPreferenceSetAttribute");
    load(heuristic, "cublasLtMatmulAlgoGetHeuristic");
    load(version, "cublasLtGetVersion");
  }

  static void check(cublasStatus_t result, const char* doing) {
    if (result != CUBLAS_STATUS_SUCCESS)
      throw Failure{std::string("cuBLASLt, ") + doing + ": status " +
                    std::to_string(static_cast<int>(result))};
  }

  decltype(&cublasLtCreate) create;
  decltype(&cublasLtMatmul) matmul;
  decltype(&cublasLtMatmulDescCreate) describe;
  decltype(&cublasLtMatmulDescSetAttribute) describeSet;
  decltype(&cublasLtMatrixLayoutCreate) layout;
  decltype(&cublasLtMatmulPreferenceCreate) preference;
  decltype(&cublasLtMatmulPreferenceSetAttribute) preferenceSet;
  decltype(&cublasLtMatmulAlgoGetHeuristic) heuristic;
  decltype(&cublasLtGetVersion) version;

private:
  template <typename Function>
  void load(Function& function, const char* name) {
    function = reinterpret_cast<Function>(dlsym(library_, name));
    if (!function)
      throw Failure{std::string("cuBLASLt has no ") + name};
  }

  void* library_ = nullptr; // until the program ends
};

// y = x * W^T, x and W of 8192 rows of 8192, sums in f32: the best of eight
// algorithms that the library proposes. `text` gets the library's version.
double matrixRate(std::string& text) {
  constexpr int64_t N = 8192;
  constexpr size_t kWorkspaceBytes = size_t{64} << 20;
  constexpr int kAlgorithms = 8;
  CublasLt lt;
  text = "cuBLASLt " + std::to_string(lt.version());
  cublasLtHandle_t handle;
  CublasLt::check(lt.create(&handle), "starting");
  cublasLtMatmulDesc_t product;
  CublasLt::check(lt.describe(&product, CUBLAS_COMPUTE_32F, CUDA_R_32F),
                  "describing");
  const cublasOperation_t transposed = CUBLAS_OP_T;
  CublasLt::check(lt.describeSet(product, CUBLASLT_MATMUL_DESC_TRANSA,
                                 &transposed, sizeof transposed),
                  "describing");
  cublasLtMatrixLayout_t square;
  CublasLt::check(lt.layout(&square, CUDA_R_16BF, N, N, N), "describing");
  cublasLtMatmulPreference_t preference;
  CublasLt::check(lt.preference(&preference), "choosing");
  CublasLt::check(lt.preferenceSet(preference,
                                   CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES,
                                   &kWorkspaceBytes, sizeof kWorkspaceBytes),
                  "choosing");
  cublasLtMatmulHeuristicResult_t found[kAlgorithms];
  int numFound = 0;
  CublasLt::check(lt.heuristic(handle, product, square, square, square, square,
                               preference, kAlgorithms, found, &numFound),
                  "choosing");
  DeviceMemory a(N * N * 2), b(N * N * 2), c(N * N * 2);
  DeviceMemory workspace(kWorkspaceBytes);
  const int blocks = blocksAtOnce(fillRandom, kFillThreads);
  fillRandom<<<blocks, kFillThreads>>>(a.as<__nv_bfloat16>(), N * N, 1);
  fillRandom<<<blocks, kFillThreads>>>(b.as<__nv_bfloat16>(), N * N, 2);
  check(cudaGetLastError(), "filling");
  const float one = 1, zero = 0;
  double best = 1e30;
  for (int i = 0; i < numFound; ++i)
    if (found[i].state == CUBLAS_STATUS_SUCCESS)
      best = std::min(
          best,
          bestSeconds(
              [&] {
                CublasLt::check(
                    lt.matmul(handle, product, &one, a.as<void>(), square,
                              b.as<void>(), square, &zero, c.as<void>(), square,
                              c.as<void>(), square, &found[i].algo,
                              workspace.as<void>(), kWorkspaceBytes, nullptr),
                    "multiplying");
              },
              kRepetitions));
  if (best > 1e29)
    throw Failure{"cuBLASLt proposes no algorithm"};
  return 2.0 * N * N * N / best;
}

std::string quoted(const std::string& text) {
  std::string out = "\"";
  for (char c : text)
    out += c == '"' || c == '\\' || c < ' ' ? ' ' : c;
  return out + "\"";
}

/// Prints one member; returns whether it is a number.
bool print(const char* name, const std::function<double()>& measure) {
  try {
    std::printf("  \"%s\": %.6g,\n", name, measure());
    return true;
  } catch (const Failure& failure) {
    std::printf("  \"%s_error\": %s,\n", name, quoted(failure.text).c_str());
    return false;
  }
}

} // namespace

int main(int argc, char** argv) {
  const bool onlyProbes = argc > 1 && std::string(argv[1]) == "--probe";
  int count = 0, driver = 0;
  const cudaError_t counted = cudaGetDeviceCount(&count);
  if (counted != cudaSuccess || count == 0) {
    std::printf("{\"skipped\": %s}\n", quoted(std::string("no GPU/driver: ") +
                                              cudaGetErrorString(counted))
                                           .c_str());
    return kSkipped;
  }
  cudaDeviceProp properties;
  bool isGood = cudaGetDeviceProperties(&properties, 0) == cudaSuccess &&
                cudaDriverGetVersion(&driver) == cudaSuccess;
  std::string library;
  std::printf("{\n");
  if (!onlyProbes) {
    isGood &= print("read_bytes_per_second", readRate);
    isGood &= print("copy_bytes_per_second", copyRate);
    isGood &=
        print("bf16_flops_per_second", [&] { return matrixRate(library); });
    std::printf("  \"matrix_library\": %s,\n", quoted(library).c_str());
  }
  std::printf("  \"architecture\": %d,\n",
              10 * properties.major + properties.minor);
  std::printf("  \"cuda_of_driver\": %d,\n", driver);
  std::printf("  \"gpu\": %s\n}\n", quoted(properties.name).c_str());
  return isGood ? 0 : 1;
}
