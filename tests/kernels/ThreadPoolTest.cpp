// SPDX-License-Identifier: Apache-2.0
// The thread pool: every element of a grid exactly once, whole tiles only,
// private scratch, for many launches, sleeping workers and more threads than
// cores.
#include "runtime/device/cpu/ThreadPool.h"

#include "gtest/gtest.h"

#include <chrono>
#include <set>
#include <thread>

namespace llmrt {
namespace {

// Words: rows, counters int32[rows, cols], cols, rowTile, colTile, rows of the
// grid, scratch bytes. Counts each visit; errors add a million.
void countVisits(const uint64_t* words, const LlmrtTile* tile, void* scratch) {
  auto* counters = reinterpret_cast<int32_t*>(words[1]);
  int64_t rows = words[0], cols = words[2];
  int64_t rowTile = words[3] ? words[3] : rows;
  int64_t colTile = words[4] ? words[4] : cols;
  auto whole = [](int64_t begin, int64_t end, int64_t tile, int64_t total) {
    return begin % tile == 0 && begin < end && end <= total &&
           (end % tile == 0 || end == total);
  };
  bool right = whole(tile->rowBegin, tile->rowEnd, rowTile, rows) &&
               whole(tile->colBegin, tile->colEnd, colTile, cols);
  // Another thread with the same scratch would disturb it in the meantime.
  auto* mine = static_cast<unsigned char*>(scratch);
  auto mark = static_cast<unsigned char>(tile->colBegin * 7 + tile->rowBegin);
  right = right && reinterpret_cast<uintptr_t>(scratch) % 64 == 0;
  for (uint64_t i = 0; i < words[6]; ++i)
    mine[i] = mark;
  for (int64_t r = tile->rowBegin; r < tile->rowEnd; ++r)
    for (int64_t c = tile->colBegin; c < tile->colEnd; ++c)
      counters[r * cols + c] += right ? 1 : 1000000;
  for (uint64_t i = 0; i < words[6]; ++i)
    if (mine[i] != mark)
      counters[tile->rowBegin * cols + tile->colBegin] += 1000000;
}

void expectEachOnce(ThreadPool& pool, TileGrid grid, uint64_t scratchBytes) {
  std::vector<int32_t> counters(grid.rows * grid.cols);
  uint64_t words[] = {static_cast<uint64_t>(grid.rows),
                      reinterpret_cast<uint64_t>(counters.data()),
                      static_cast<uint64_t>(grid.cols),
                      static_cast<uint64_t>(std::min(grid.rowTile, grid.rows)),
                      static_cast<uint64_t>(std::min(grid.colTile, grid.cols)),
                      0,
                      scratchBytes};
  pool.run(grid, countVisits, words, scratchBytes);
  for (int32_t count : counters)
    ASSERT_EQ(count, 1) << grid.rows << "x" << grid.cols << " by "
                        << grid.rowTile << "x" << grid.colTile;
}

TEST(ThreadPool, visitsEveryTileOnce) {
  for (int threads : {1, 2, 3, 5}) {
    ThreadPool pool({.numThreads = threads});
    EXPECT_EQ(pool.numThreads(), threads);
    for (int64_t rows : {1, 2, 7, 40})
      for (int64_t cols : {1, 5, 64, 301})
        for (int64_t rowTile : {0, 1, 3, 100})
          for (int64_t colTile : {0, 1, 64})
            expectEachOnce(pool, {rows, cols, rowTile, colTile}, 256);
  }
}

TEST(ThreadPool, manyLaunchesWithPauses) {
  ThreadPool pool({.numThreads = 3, .spinMicros = 5});
  for (int i = 0; i < 3000; ++i) {
    expectEachOnce(pool, {4, 9, 1, 1}, i % 500);
    if (i % 100 == 0)
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
}

TEST(ThreadPool, emptyGridRunsNothing) {
  ThreadPool pool({.numThreads = 2});
  pool.run({0, 5, 1, 1}, nullptr, nullptr, 0);
  pool.run({5, 0, 1, 1}, nullptr, nullptr, 0);
}

TEST(ThreadPool, usesGivenScratchAndPins) {
  alignas(64) static char memory[2 * 1024];
  ThreadPool pool({.numThreads = 2, .pinThreads = true});
  pool.useScratch(memory, 1024);
  expectEachOnce(pool, {8, 8, 1, 1}, 1024);
}

TEST(ThreadPool, startsAndEndsOften) {
  for (int i = 0; i < 200; ++i) {
    ThreadPool pool({.numThreads = 3, .spinMicros = i % 3 * 10});
    if (i % 2)
      expectEachOnce(pool, {3, 3, 1, 1}, 0);
  }
}

// Half of the work is slow: the other thread takes it over.
void slowFirstHalf(const uint64_t* words, const LlmrtTile* tile, void*) {
  auto* ran = reinterpret_cast<std::thread::id*>(words[1]);
  for (int64_t c = tile->colBegin; c < tile->colEnd; ++c) {
    if (c < 32)
      std::this_thread::sleep_for(std::chrono::microseconds(500));
    ran[c] = std::this_thread::get_id();
  }
}

TEST(ThreadPool, stealsFromASlowThread) {
  ThreadPool pool({.numThreads = 2});
  std::vector<std::thread::id> ran(64);
  uint64_t words[] = {1, reinterpret_cast<uint64_t>(ran.data())};
  pool.run({1, 64, 1, 1}, slowFirstHalf, words, 0);
  std::set<std::thread::id> slowHalf(ran.begin(), ran.begin() + 32);
  EXPECT_EQ(slowHalf.size(), 2u);
}

} // namespace
} // namespace llmrt
