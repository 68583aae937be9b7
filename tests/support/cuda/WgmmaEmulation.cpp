// SPDX-License-Identifier: Apache-2.0
// A product is worked out when its warpgroup has met at it, and its sums are
// given to the threads when they wait for it. Tensor cores read a copy of
// shared memory, into which publishShared() puts what a thread has written.
// Over 500 lines because copies and products share the state of one block.
#include "tests/support/cuda/WgmmaEmulation.h"

#include <algorithm>
#include <deque>
#include <map>
#include <memory>

namespace llmrt::emulation {
namespace {

constexpr int kGroup = 128; // threads of a warpgroup
constexpr int kRows = 64;
constexpr int kDepth = 16;
constexpr int64_t kUnit = 16;              // bytes that are written at once
constexpr uint32_t kUnderWay = 0x7FFFDEAD; // a NaN
constexpr uint8_t kPoison = 0xFF;

/// 16 bytes of shared memory.
struct Unit {
  int writer = -1;         // the last thread that wrote it
  bool isUnderWay = false; // by a copy
  bool isInBulk = false;   // by a bulk copy
  bool isPublished = false;
  uint64_t barriers = 0; // of the block, when it was published
  int readers = 0;       // products under way
};

struct Copy {
  uint8_t* to;
  const void* from; // null: zeros
};

/// A barrier in shared memory at which one thread arrives.
struct BulkBarrier {
  uint64_t rounds = 0;      // that are over
  std::vector<Copy> copies; // of 16 bytes each
  int copier = -1;
  bool isArrived = false;
  bool isAwaited = false;
  int maker = -1;
  bool isPublished = false;
  uint64_t barriers = 0; // of the block, when it was published
};

/// What the threads of a warpgroup make together.
struct Product {
  std::vector<float> a, b; // [kRows, kDepth], [kDepth, columns]
  std::vector<int64_t> units;
  int threadsLeft = kGroup;
};

/// A thread's part of it.
struct Part {
  std::shared_ptr<Product> product;
  float* sums;
  std::vector<float> values;
  const uint32_t* registers; // of the first factor, or null
  uint32_t content[4];
};

struct Thread {
  std::vector<int64_t> written; // units to be published
  std::vector<Copy> copies;     // of no group yet
  std::deque<std::vector<Copy>> copyGroups;
  bool hasBegun = false;
  std::vector<Part> parts; // of no group yet
  std::deque<std::vector<Part>> partGroups;
};

/// How a thread calls a product.
struct Call {
  uint64_t a, b;
  uint32_t registers[4];
  int columns;
  bool isShared, adds;

  bool isSame(const Call& o) const {
    return b == o.b && columns == o.columns && isShared == o.isShared &&
           adds == o.adds && (!isShared || a == o.a);
  }
};

/// Two places for calls, used in turn, as those of warps.
struct Group {
  Call calls[2][kGroup];
  std::shared_ptr<Product> products[2];
  uint64_t numCalls[kGroup] = {};
};

struct Block {
  std::vector<uint8_t> seen; // shared memory, as tensor cores see it
  std::vector<Unit> units;
  std::vector<Thread> threads;
  std::vector<Group> groups;
  std::map<const uint64_t*, BulkBarrier> barriers;
};

// Null: nothing of this was used yet.
thread_local std::unique_ptr<Block> block;

Block& current() {
  if (!block) {
    block = std::make_unique<Block>();
    block->seen.assign(sharedSize(), kPoison);
    block->units.resize(sharedSize() / kUnit);
    block->threads.resize(blockDim.x);
    block->groups.resize((blockDim.x + kGroup - 1) / kGroup);
  }
  return *block;
}

Thread& self() { return current().threads[threadIdx.x]; }

// ---- copies ----

/// Returns the unit that is written at `to`, -1 if there is none.
int64_t unitToWrite(const void* to) {
  const int64_t offset = static_cast<const uint8_t*>(to) - sharedMemory();
  if (offset < 0 || offset % kUnit != 0 || offset + kUnit > sharedSize()) {
    fail("16 bytes are written that are none of shared memory");
    return -1;
  }
  Unit& unit = current().units[offset / kUnit];
  if (unit.readers > 0)
    fail("shared memory is written while products read it");
  if (unit.isInBulk)
    fail("shared memory is written while a bulk copy comes there");
  unit.writer = static_cast<int>(threadIdx.x);
  unit.isPublished = false;
  return offset / kUnit;
}

void finishCopy(const Copy& copy) {
  if (copy.from)
    std::memcpy(copy.to, copy.from, kUnit);
  else
    std::memset(copy.to, 0, kUnit);
  const int64_t unit = (copy.to - sharedMemory()) / kUnit;
  current().units[unit].isUnderWay = false;
  self().written.push_back(unit);
}

// ---- bulk copies ----

/// Returns the barrier, made and seen by this thread; or null.
BulkBarrier* barrierAt(const uint64_t* at) {
  auto found = current().barriers.find(at);
  if (found == current().barriers.end()) {
    fail("a barrier is used that nobody made");
    return nullptr;
  }
  BulkBarrier& barrier = found->second;
  if (!barrier.isPublished || (barrier.maker != static_cast<int>(threadIdx.x) &&
                               barrier.barriers == blockBarriers()))
    fail("a barrier is used that is not published, or without a barrier of "
         "the block behind it");
  return &barrier;
}

void beginBulk(uint8_t* to) {
  Unit& unit = current().units[(to - sharedMemory()) / kUnit];
  if (unit.readers > 0)
    fail("a bulk copy comes to where products read");
  if (unit.isUnderWay || unit.isInBulk)
    fail("a bulk copy comes to where another copy is under way");
  if (unit.writer >= 0 && !unit.isPublished)
    fail("a bulk copy comes to what was written and not published");
  if (unit.writer >= 0 && unit.barriers == blockBarriers())
    fail("a bulk copy comes without a barrier behind what was there");
  unit.isInBulk = true;
  unit.isPublished = false;
  std::memset(to, kPoison, kUnit);
  std::memset(current().seen.data() + (to - sharedMemory()), kPoison, kUnit);
}

/// What a round has brought is there for tensor cores too.
void endRound(BulkBarrier& barrier) {
  for (const Copy& copy : barrier.copies) {
    const int64_t offset = copy.to - sharedMemory();
    std::memcpy(copy.to, copy.from, kUnit);
    std::memcpy(current().seen.data() + offset, copy.from, kUnit);
    Unit& unit = current().units[offset / kUnit];
    unit.isInBulk = false;
    unit.writer = barrier.copier;
    unit.isPublished = true;
    unit.barriers = blockBarriers();
  }
  barrier.copies.clear();
  barrier.copier = -1;
  barrier.isArrived = barrier.isAwaited = false;
  ++barrier.rounds;
}

// ---- products ----

float fromBf16(uint32_t bits) { return cuda::floatOfBits(bits << 16); }

/// PTX ISA, matrix descriptor of wgmma.
struct Descriptor {
  uint32_t start, leading, stride;
  bool isUsable;

  explicit Descriptor(uint64_t bits)
      : start(bits << 4 & 0x3FFF0), leading(bits >> 12 & 0x3FFF0),
        stride(bits >> 28 & 0x3FFF0) {
    constexpr uint64_t kZeros = 3ull << 14 | 3ull << 30 | 7ull << 46 |
                                7ull << 49 /* base offset */ | 0x3FFull << 52;
    isUsable = (bits & kZeros) == 0 && bits >> 62 == 1;
    if (!isUsable)
      fail("a descriptor has another swizzle than 128 bytes, or bits that must "
           "be zero");
  }
};

/// Takes an element out of what tensor cores see.
float elementAt(uint32_t address, Product& product) {
  // The swizzle of 128 bytes: address bits 4 - 6 xor bits 7 - 9.
  const uint32_t swizzled = address ^ (address >> 7 & 7) << 4;
  const int64_t offset = int64_t{swizzled} - kSharedAddress;
  if (offset < 0 || offset + 2 > sharedSize()) {
    fail("a product reads beside shared memory");
    return NAN;
  }
  const int64_t index = offset / kUnit;
  const Unit& unit = current().units[index];
  if (unit.isInBulk)
    fail("a product reads shared memory where a bulk copy is under way");
  else if (unit.writer < 0)
    fail("a product reads shared memory that nobody wrote");
  else if (!unit.isPublished)
    fail("a product reads shared memory that is not published");
  else if (unit.barriers == blockBarriers())
    fail("a product reads shared memory without a barrier behind its writer");
  if (product.units.empty() || product.units.back() != index)
    product.units.push_back(index); // some of them twice
  uint16_t bits;
  std::memcpy(&bits, current().seen.data() + offset, 2);
  return fromBf16(bits);
}

/// Rows of 64 elements of the depth: element k of row `row`.
float elementByRow(const Descriptor& d, int row, int k, Product& product) {
  return elementAt(d.start + row / 8 * d.stride + row % 8 * 128 + k * 2,
                   product);
}

/// Rows are the depth, of panels of 64 columns each.
float elementByDepth(const Descriptor& d, int k, int col, Product& product) {
  return elementAt(d.start + col / 64 * d.leading + k / 8 * d.stride +
                       k % 8 * 128 + col % 64 * 2,
                   product);
}

/// The fragment of each warp is that of mma.m16n8k16.
float elementOfRegisters(const Call* calls, int row, int k) {
  const int thread = row / 16 * 32 + row % 8 * 4 + k % 8 / 2;
  const uint32_t pair = calls[thread].registers[row % 16 / 8 + k / 8 * 2];
  return fromBf16(k % 2 == 0 ? pair & 0xFFFF : pair >> 16);
}

std::shared_ptr<Product> take(const Call* calls) {
  for (int i = 1; i < kGroup; ++i)
    if (!calls[i].isSame(calls[0]))
      fail("threads of a warpgroup make different products");
  const Call& call = calls[0];
  auto product = std::make_shared<Product>();
  const Descriptor b(call.b);
  const Descriptor a(call.isShared ? call.a : call.b);
  if (!a.isUsable || !b.isUsable)
    return product;
  for (int row = 0; row < kRows; ++row)
    for (int k = 0; k < kDepth; ++k)
      product->a.push_back(call.isShared ? elementByRow(a, row, k, *product)
                                         : elementOfRegisters(calls, row, k));
  for (int k = 0; k < kDepth; ++k)
    for (int col = 0; col < call.columns; ++col)
      product->b.push_back(call.isShared ? elementByRow(b, col, k, *product)
                                         : elementByDepth(b, k, col, *product));
  for (int64_t unit : product->units)
    ++current().units[unit].readers;
  return product;
}

/// Meets the warpgroup; returns what it makes.
std::shared_ptr<Product> meet(const Call& call) {
  const int inGroup = threadIdx.x % kGroup;
  Group& group = current().groups[threadIdx.x / kGroup];
  const int turn = group.numCalls[inGroup]++ % 2;
  group.calls[turn][inGroup] = call;
  group.products[turn] = nullptr; // all have taken that of the call before last
  warpgroupBarrier();
  if (!group.products[turn])
    group.products[turn] = take(group.calls[turn]);
  return group.products[turn];
}

bool isUnderWay(const float* sums, size_t count) {
  for (size_t i = 0; i < count; ++i)
    if (cuda::bitsOfFloat(sums[i]) != kUnderWay)
      return false;
  return true;
}

/// Returns the last part under way that has these sums, or null.
const Part* lastPartOf(const float* sums) {
  const Thread& thread = self();
  for (size_t i = thread.parts.size(); i-- > 0;)
    if (thread.parts[i].sums == sums)
      return &thread.parts[i];
  for (size_t g = thread.partGroups.size(); g-- > 0;)
    for (size_t i = thread.partGroups[g].size(); i-- > 0;)
      if (thread.partGroups[g][i].sums == sums)
        return &thread.partGroups[g][i];
  return nullptr;
}

/// Adds to the sums of this thread; those of one element of K are independent.
void addProducts(const Product& product, size_t columns, float* sums) {
  const int lane = threadIdx.x % kWarp;
  const size_t row = threadIdx.x % kGroup / kWarp * 16 + lane / 4;
  for (size_t k = 0; k < kDepth; ++k) {
    const float above = product.a[row * kDepth + k];
    const float below = product.a[(row + 8) * kDepth + k];
    const float* b = product.b.data() + k * columns + lane % 4 * 2;
    for (size_t i = 0; i < columns / 2; i += 4, b += 8) {
      sums[i] += above * b[0];
      sums[i + 1] += above * b[1];
      sums[i + 2] += below * b[0];
      sums[i + 3] += below * b[1];
    }
  }
}

void multiply(float* sums, const Call& call, const uint32_t* registers) {
  if (!self().hasBegun)
    fail("products without beginProducts()");
  Part part = {meet(call), sums, {}, registers, {}};
  std::copy(call.registers, call.registers + 4, part.content);
  const size_t count = call.columns / 2;
  const Part* last = lastPartOf(sums);
  if (last && !isUnderWay(sums, count))
    fail("sums were touched while products are under way");
  part.values.assign(count, 0.0f);
  if (call.adds)
    std::copy_n(last ? last->values.data() : sums, count, part.values.begin());
  const Product& product = *part.product;
  if (!product.b.empty())
    addProducts(product, call.columns, part.values.data());
  std::fill(sums, sums + count, cuda::floatOfBits(kUnderWay));
  self().parts.push_back(std::move(part));
}

/// isLast: of the parts of its group that share its sums.
void finish(const Part& part, bool isLast) {
  if (--part.product->threadsLeft == 0)
    for (int64_t unit : part.product->units)
      --current().units[unit].readers;
  if (part.registers &&
      !std::equal(part.content, part.content + 4, part.registers))
    fail("the first factor was touched while products are under way");
  if (!isLast || lastPartOf(part.sums))
    return; // another one's sums are the sums
  if (!isUnderWay(part.sums, part.values.size()))
    fail("sums were touched while products are under way");
  std::copy(part.values.begin(), part.values.end(), part.sums);
}

} // namespace

void beginWgmmaBlock() { block = nullptr; }

void endWgmmaBlock() {
  if (!block)
    return;
  for (const Thread& thread : block->threads)
    if (!thread.copies.empty() || !thread.parts.empty() ||
        !thread.partGroups.empty())
      fail("a thread left with copies or products under way");
  for (const auto& [at, barrier] : block->barriers)
    if (!barrier.copies.empty())
      fail("a block ended with bulk copies under way");
  block = nullptr;
}

} // namespace llmrt::emulation

namespace llmrt::cuda {

using namespace emulation;

uint32_t sharedAddress(const void* p) {
  return static_cast<uint32_t>(static_cast<const uint8_t*>(p) -
                               emulation::sharedMemory()) +
         kSharedAddress;
}

void copyAsync16(void* to, const void* from, bool isThere) {
  if (reinterpret_cast<uintptr_t>(from) % 16 != 0)
    fail("16 bytes are copied from where none begin");
  const int64_t unit = unitToWrite(to);
  if (unit < 0)
    return;
  current().units[unit].isUnderWay = true;
  std::memset(to, kPoison, 16);
  self().copies.push_back(
      {static_cast<uint8_t*>(to), isThere ? from : nullptr});
}

void endCopies() {
  Thread& thread = self();
  thread.copyGroups.push_back(std::move(thread.copies));
  thread.copies.clear();
}

void waitForCopies(int pending) {
  Thread& thread = self();
  for (; thread.copyGroups.size() > static_cast<size_t>(pending);
       thread.copyGroups.pop_front())
    for (const Copy& copy : thread.copyGroups.front())
      finishCopy(copy);
}

void initBarrier(uint64_t* barrier) {
  const int64_t offset =
      reinterpret_cast<uint8_t*>(barrier) - emulation::sharedMemory();
  if (offset < 0 || offset % 8 != 0 || offset + 8 > sharedSize())
    return fail("a barrier is made that is not in shared memory");
  BulkBarrier& made = current().barriers[barrier];
  made = {};
  made.maker = static_cast<int>(threadIdx.x);
}

void copyBulk(void* to, const void* from, int bytes, uint64_t* at) {
  BulkBarrier* barrier = barrierAt(at);
  if (!barrier)
    return;
  auto* target = static_cast<uint8_t*>(to);
  const auto* source = static_cast<const uint8_t*>(from);
  const int64_t offset = target - emulation::sharedMemory();
  if (bytes <= 0 || bytes % 16 != 0 || offset < 0 || offset % 16 != 0 ||
      offset + bytes > sharedSize() ||
      reinterpret_cast<uintptr_t>(from) % 16 != 0)
    return fail("a bulk copy is not of whole 16 bytes to shared memory");
  if (barrier->isArrived)
    endRound(*barrier); // nobody has waited for it yet
  barrier->copier = static_cast<int>(threadIdx.x);
  for (int i = 0; i < bytes; i += kUnit) {
    beginBulk(target + i);
    barrier->copies.push_back({target + i, source + i});
  }
}

void arrive(uint64_t* at) {
  BulkBarrier* barrier = barrierAt(at);
  if (!barrier)
    return;
  if (barrier->isArrived)
    endRound(*barrier);
  if (!barrier->copies.empty() &&
      barrier->copier != static_cast<int>(threadIdx.x))
    fail("another thread arrives than the one that copies");
  barrier->isArrived = true;
  if (barrier->isAwaited)
    endRound(*barrier);
}

// The round of a parity is over when the one that runs has the other.
void waitBarrier(uint64_t* at, int parity) {
  BulkBarrier* barrier = barrierAt(at);
  while (barrier && static_cast<int>(barrier->rounds % 2) == parity) {
    if (barrier->isArrived) {
      endRound(*barrier);
    } else {
      barrier->isAwaited = true;
      waitForNext(barrier->rounds);
    }
  }
}

void storeShared16(void* to, uint4 value) {
  const int64_t unit = unitToWrite(to);
  if (unit < 0)
    return;
  std::memcpy(to, &value, 16);
  self().written.push_back(unit);
}

void publishShared() {
  Thread& thread = self();
  for (int64_t index : thread.written) {
    Unit& unit = current().units[index];
    if (unit.writer != static_cast<int>(threadIdx.x) || unit.isUnderWay)
      continue; // another thread's by now, or not there yet
    std::memcpy(current().seen.data() + index * kUnit,
                emulation::sharedMemory() + index * kUnit, kUnit);
    unit.isPublished = true;
    unit.barriers = blockBarriers();
  }
  thread.written.clear();
  for (auto& [at, barrier] : current().barriers)
    if (barrier.maker == static_cast<int>(threadIdx.x) &&
        !barrier.isPublished) {
      barrier.isPublished = true;
      barrier.barriers = blockBarriers();
    }
}

void beginProducts() {
  warpBarrier();
  self().hasBegun = true;
}

void endProducts() {
  warpBarrier();
  Thread& thread = self();
  thread.partGroups.push_back(std::move(thread.parts));
  thread.parts.clear();
}

void waitForProducts(int pending) {
  warpBarrier();
  Thread& thread = self();
  thread.hasBegun = false;
  while (thread.partGroups.size() > static_cast<size_t>(pending)) {
    const std::vector<Part> done = std::move(thread.partGroups.front());
    thread.partGroups.pop_front();
    // The last of those that share their sums has them.
    for (size_t i = 0; i < done.size(); ++i) {
      const bool isLast =
          std::none_of(done.begin() + i + 1, done.end(),
                       [&](const Part& p) { return p.sums == done[i].sums; });
      finish(done[i], isLast);
    }
  }
}

void checkSettled(const float* sums) {
  if (lastPartOf(sums))
    fail("sums are used while products are under way");
}

void multiplyShared(float (&sums)[8][4], uint64_t a, uint64_t b, bool adds) {
  multiply(&sums[0][0], {a, b, {}, 64, true, adds}, nullptr);
}

void multiplyRegisters(float (&sums)[8][4], const uint32_t (&a)[4],
                       uint64_t b) {
  multiply(&sums[0][0], {0, b, {a[0], a[1], a[2], a[3]}, 64, false, true}, a);
}

void multiplyRegisters(float (&sums)[16][4], const uint32_t (&a)[4],
                       uint64_t b) {
  multiply(&sums[0][0], {0, b, {a[0], a[1], a[2], a[3]}, 128, false, true}, a);
}

} // namespace llmrt::cuda
