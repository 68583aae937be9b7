// SPDX-License-Identifier: Apache-2.0
// Fibers: each thread of a block has a stack of its own, entered once through
// ucontext and then switched by _setjmp and _longjmp, which make no system
// call. A fiber that has run its thread waits for that of the next block, or of
// the next grid that the same thread of the host runs.
#include "tests/support/cuda/CudaEmulation.h"

#include <algorithm>
#include <csetjmp>
#include <cstdio>
#include <memory>
#include <ucontext.h>

constinit thread_local dim3 threadIdx, blockIdx, blockDim, gridDim;

namespace llmrt::emulation {
namespace {

constexpr size_t kStackBytes = 128 * 1024;
constexpr int kWarpgroup = 128;
constexpr int64_t kGuardBytes = 256;
constexpr uint8_t kPoison = 0xFF; // as floats and bf16: NaN

/// A meeting of `members` threads; `round` counts the meetings that are over.
struct Barrier {
  int members = 0;
  int arrived = 0;
  uint64_t round = 0;
};

struct Fiber {
  std::unique_ptr<uint8_t[]> stack;
  ucontext_t first;
  jmp_buf state;
  bool isStarted = false;
  bool isDone = false;
  const uint64_t* waitsFor = nullptr; // the rounds of a barrier
  uint64_t round = 0;                 // when it began to wait
  uint64_t exchanges = 0;
};

/// What lanes of a warp give each other; two buffers, used in turn: who writes
/// one of them again has met everyone who read it.
struct Warp {
  Barrier barrier;
  uint8_t bytes[2][kWarp * 64];
};

struct Block {
  std::vector<Fiber>& fibers;
  size_t numThreads;
  std::vector<Warp> warps = {};
  std::vector<Barrier> warpgroups = {};
  Barrier barrier = {};
  std::vector<uint8_t> shared = {};
  uint8_t* sharedBegin = nullptr;
  int64_t sharedBytes = 0;
  jmp_buf scheduler = {};
  int current = 0;
  const std::function<void()>* kernel = nullptr;
  std::string error = {};
};

constinit thread_local Block* block = nullptr;

/// Kept from grid to grid: a small kernel costs less than its stacks.
std::vector<Fiber>& fibersFor(size_t numThreads) {
  thread_local std::vector<Fiber> fibers;
  while (fibers.size() < numThreads)
    fibers.emplace_back().stack.reset(new uint8_t[kStackBytes]);
  return fibers;
}

void leaveFiber() {
  if (_setjmp(block->fibers[block->current].state) == 0)
    _longjmp(block->scheduler, 1);
}

void waitAt(Barrier& barrier) {
  if (++barrier.arrived == barrier.members) {
    barrier.arrived = 0;
    ++barrier.round;
    return;
  }
  waitForNext(barrier.round);
}

void fiberMain() {
  for (;;) {
    (*block->kernel)();
    block->fibers[block->current].isDone = true;
    leaveFiber();
  }
}

void enterFiber(int index) {
  Fiber& fiber = block->fibers[index];
  block->current = index;
  threadIdx.x = index;
  if (_setjmp(block->scheduler) != 0)
    return;
  if (fiber.isStarted)
    _longjmp(fiber.state, 1);
  fiber.isStarted = true;
  getcontext(&fiber.first);
  fiber.first.uc_stack.ss_sp = fiber.stack.get();
  fiber.first.uc_stack.ss_size = kStackBytes;
  fiber.first.uc_link = nullptr;
  makecontext(&fiber.first, fiberMain, 0);
  setcontext(&fiber.first);
}

bool canRun(const Fiber& fiber) {
  return !fiber.isDone && (!fiber.waitsFor || *fiber.waitsFor != fiber.round);
}

// Returns false if some threads wait for ever.
bool runFibers() {
  for (;;) {
    bool isDone = true, hasRun = false;
    for (size_t i = 0; i < block->numThreads; ++i) {
      if (canRun(block->fibers[i])) {
        block->fibers[i].waitsFor = nullptr;
        enterFiber(static_cast<int>(i));
        hasRun = true;
      }
      isDone = isDone && block->fibers[i].isDone;
    }
    if (isDone)
      return true;
    if (!hasRun)
      return false;
  }
}

void beginBlock(const Launch& launch) {
  for (Fiber& fiber : block->fibers) {
    fiber.isDone = false;
    fiber.waitsFor = nullptr;
    fiber.exchanges = 0;
  }
  block->barrier = {static_cast<int>(launch.threads), 0, 0};
  for (size_t w = 0; w < block->warps.size(); ++w)
    block->warps[w].barrier = {
        std::min<int>(kWarp, static_cast<int>(launch.threads) -
                                 static_cast<int>(w) * kWarp),
        0, 0};
  block->warpgroups.assign(launch.threads / kWarpgroup, {kWarpgroup, 0, 0});
  std::fill(block->shared.begin(), block->shared.end(), kPoison);
  beginWgmmaBlock();
}

} // namespace

void blockBarrier() { waitAt(block->barrier); }

void warpBarrier() { waitAt(block->warps[block->current / kWarp].barrier); }

void warpgroupBarrier() {
  waitAt(block->warpgroups.at(block->current / kWarpgroup));
}

void waitForNext(const uint64_t& round) {
  Fiber& fiber = block->fibers[block->current];
  fiber.waitsFor = &round;
  fiber.round = round;
  leaveFiber();
}

uint64_t blockBarriers() { return block->barrier.round; }

void fail(const std::string& what) {
  if (block->error.empty())
    block->error = "block " + std::to_string(blockIdx.x) + ": " + what;
}

const uint8_t* exchange(const void* mine, size_t size) {
  Warp& warp = block->warps[block->current / kWarp];
  uint8_t* bytes = warp.bytes[block->fibers[block->current].exchanges++ % 2];
  std::memcpy(bytes + block->current % kWarp * size, mine, size);
  warpBarrier();
  return bytes;
}

uint8_t* sharedMemory() { return block->sharedBegin; }

int64_t sharedSize() { return block->sharedBytes; }

std::string runGrid(const Launch& launch, const std::function<void()>& kernel) {
  Block all{fibersFor(launch.threads), launch.threads};
  block = &all;
  all.kernel = &kernel;
  all.warps.resize((launch.threads + kWarp - 1) / kWarp);
  all.shared.resize(launch.sharedBytes + 2 * kGuardBytes);
  auto address = reinterpret_cast<uintptr_t>(all.shared.data());
  all.sharedBegin = all.shared.data() + (128 - address % 128);
  all.sharedBytes = launch.sharedBytes;
  gridDim = {launch.gridX, launch.gridY, 1};
  blockDim = {launch.threads, 1, 1};
  for (unsigned y = 0; y < launch.gridY; ++y)
    for (unsigned x = 0; x < launch.gridX; ++x) {
      blockIdx = {x, y, 0};
      beginBlock(launch);
      if (!runFibers()) {
        for (Fiber& fiber : all.fibers)
          fiber.isStarted = false; // some of them are inside the kernel
        return "threads of block " + std::to_string(x) + "," +
               std::to_string(y) + " wait for ever";
      }
      endWgmmaBlock();
      if (!all.error.empty())
        return all.error;
      const uint8_t* end = all.sharedBegin + launch.sharedBytes;
      if (std::any_of(end,
                      static_cast<const uint8_t*>(all.shared.data() +
                                                  all.shared.size()),
                      [](uint8_t byte) { return byte != kPoison; }))
        return "block " + std::to_string(x) + " wrote behind shared memory";
    }
  return "";
}

} // namespace llmrt::emulation

namespace llmrt::cuda {
namespace {

using emulation::kWarp;

float fromBf16(uint32_t bits) { return floatOfBits(bits << 16); }

uint32_t toBf16(float x) {
  const uint32_t bits = bitsOfFloat(x);
  if ((bits & 0x7FFFFFFF) > 0x7F800000)
    return 0x7FFF; // PTX ISA, cvt: a NaN becomes this one
  return (bits + 0x7FFF + (bits >> 16 & 1)) >> 16;
}

uint16_t elementAt(const uint8_t* const* rows, int row, int col) {
  uint16_t element;
  std::memcpy(&element, rows[row] + col * 2, 2);
  return element;
}

void readMatrices(const void* row, uint32_t (&r)[4], bool isTransposed) {
  const uint8_t* all = emulation::exchange(&row, sizeof(row));
  const uint8_t* rows[kWarp];
  std::memcpy(rows, all, sizeof(rows));
  const int lane = threadIdx.x % kWarp;
  for (int matrix = 0; matrix < 4; ++matrix) {
    const uint8_t* const* first = rows + matrix * 8;
    const int major = lane / 4, minor = lane % 4 * 2;
    const uint32_t low = isTransposed ? elementAt(first, minor, major)
                                      : elementAt(first, major, minor);
    const uint32_t high = isTransposed ? elementAt(first, minor + 1, major)
                                       : elementAt(first, major, minor + 1);
    r[matrix] = low | high << 16;
  }
}

} // namespace

uint32_t packBf16(float low, float high) {
  return toBf16(low) | toBf16(high) << 16;
}

// A difference of two bf16 numbers of like size has no more bits than a float.
uint32_t subtractBf16(uint32_t a, uint32_t b) {
  return packBf16(fromBf16(a & 0xFFFF) - fromBf16(b & 0xFFFF),
                  fromBf16(a >> 16) - fromBf16(b >> 16));
}

void loadMatrices(const void* row, uint32_t (&r)[4]) {
  readMatrices(row, r, false);
}

void loadMatricesTransposed(const void* row, uint32_t (&r)[4]) {
  readMatrices(row, r, true);
}

// PTX ISA, mma.m16n8k16 for .bf16: the element that register i of a lane holds.
void multiplyMatrices(float (&sum)[4], const uint32_t (&a)[4], uint32_t b0,
                      uint32_t b1) {
  uint32_t mine[6] = {a[0], a[1], a[2], a[3], b0, b1};
  const uint8_t* bytes = emulation::exchange(mine, sizeof(mine));
  auto registerOf = [&](int lane, int index) {
    uint32_t pair;
    std::memcpy(&pair, bytes + (lane * 6 + index) * 4, sizeof(pair));
    return pair;
  };
  // a: row = lane / 4 (+ 8 in registers 1 and 3), column = 2 (lane % 4) + half
  // (+ 8 in registers 2 and 3). b: row = 2 (lane % 4) + half (+ 8 in register
  // 1), column = lane / 4.
  const int lane = threadIdx.x % kWarp, row = lane / 4, col = lane % 4 * 2;
  for (int k = 0; k < 16; k += 2) {
    const int other = k % 8 / 2, high = k / 8;
    const uint32_t above = registerOf(row * 4 + other, high * 2);
    const uint32_t below = registerOf(row * 4 + other, high * 2 + 1);
    const uint32_t left = registerOf(col * 4 + other, 4 + high);
    const uint32_t right = registerOf((col + 1) * 4 + other, 4 + high);
    for (int shift : {0, 16}) {
      auto half = [&](uint32_t pair) {
        return fromBf16(pair >> shift & 0xFFFF);
      };
      sum[0] += half(above) * half(left);
      sum[1] += half(above) * half(right);
      sum[2] += half(below) * half(left);
      sum[3] += half(below) * half(right);
    }
  }
}

} // namespace llmrt::cuda
