// SPDX-License-Identifier: Apache-2.0
// The main of the fuzz programs that need no libFuzzer. Input number i depends
// on the seed and i alone, so that any run can be repeated by its number.
#include "tests/fuzz/FuzzDriver.h"

#include <algorithm>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iterator>
#include <memory>
#include <string_view>
#include <unistd.h>

// Present where a sanitizer is linked.
extern "C" [[gnu::weak]] void
__sanitizer_set_death_callback(void (*callback)());

namespace {

constexpr size_t kMaxInputBytes = 64 * 1024;

volatile uint64_t currentRun = 0;

// Called while the process dies: nothing but write().
void printCurrentRun() {
  char text[64];
  int count = std::snprintf(text, sizeof(text), "\nfuzz: died in run %llu\n",
                            static_cast<unsigned long long>(currentRun));
  if (write(STDERR_FILENO, text, static_cast<size_t>(count)) < 0)
    return;
}

void onSignal(int number) {
  printCurrentRun();
  std::signal(number, SIG_DFL);
  std::raise(number);
}

// SplitMix64 (Steele, Lea, Flood 2014).
class Random {
public:
  explicit Random(uint64_t state) : state_(state) {}

  uint64_t next() {
    uint64_t z = state_ += 0x9e3779b97f4a7c15;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
    z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
    return z ^ (z >> 31);
  }

  size_t below(size_t bound) { return bound == 0 ? 0 : next() % bound; }

private:
  uint64_t state_;
};

// Numbers at which readers go wrong.
uint64_t awkwardNumber(Random& random, size_t sizeBytes) {
  switch (random.below(8)) {
  case 0:
    return 0;
  case 1:
    return random.below(256);
  case 2:
    return ~uint64_t{0} - random.below(16);
  case 3:
    return (uint64_t{1} << random.below(64)) - random.below(2);
  case 4:
    return sizeBytes + random.below(64) - 32;
  case 5:
    return (uint64_t{1} << 63) / (1 + random.below(64));
  default:
    return random.next();
  }
}

void mutateOnce(std::string& input, const std::vector<std::string>& seeds,
                Random& random) {
  size_t at = random.below(input.size() + 1);
  size_t count = 1 + random.below(random.below(4) == 0 ? 256 : 8);
  count = std::min(count, input.size() - at);
  switch (random.below(9)) {
  case 0: // flip a bit
    if (count > 0)
      input[at] = static_cast<char>(input[at] ^ (1 << random.below(8)));
    return;
  case 1: // replace a byte
    if (count > 0)
      input[at] = static_cast<char>(random.next());
    return;
  case 2:
  case 3: { // overwrite a number
    uint64_t number = awkwardNumber(random, input.size());
    size_t width = std::min(size_t{1} << random.below(4), input.size() - at);
    std::memcpy(input.data() + at, &number, width);
    return;
  }
  case 4: // delete
    input.erase(at, count);
    return;
  case 5: // repeat
    input.insert(at, std::string(input, at, count));
    return;
  case 6: // move
    if (count > 0) {
      std::string piece(input, at, count);
      size_t target = random.below(input.size() - count + 1);
      std::memcpy(input.data() + target, piece.data(), count);
    }
    return;
  case 7: // cut short
    if (random.below(4) == 0)
      input.resize(at);
    return;
  default: { // take a piece of another seed
    const std::string& other = seeds[random.below(seeds.size())];
    size_t from = random.below(other.size() + 1);
    input.replace(at, count, other.substr(from, 1 + random.below(64)));
    return;
  }
  }
}

std::string inputOf(uint64_t seed, uint64_t run,
                    const std::vector<std::string>& seeds) {
  if (run < seeds.size())
    return seeds[run];
  Random random(seed * 0x100000001b3 ^ run);
  std::string input = seeds[random.below(seeds.size())];
  for (size_t i = 1 + random.below(random.below(8) == 0 ? 32 : 4); i > 0; --i)
    mutateOnce(input, seeds, random);
  if (input.size() > kMaxInputBytes)
    input.resize(kMaxInputBytes);
  return input;
}

// A copy without slack, so that the address sanitizer sees the first byte
// beyond.
void runOnce(const std::string& input) {
  std::unique_ptr<uint8_t[]> bytes(new uint8_t[input.size()]);
  std::copy(input.begin(), input.end(), bytes.get());
  LLVMFuzzerTestOneInput(bytes.get(), input.size());
}

bool writeFile(const std::string& path, const std::string& contents) {
  std::ofstream file(path, std::ios::binary);
  file << contents;
  file.close();
  if (!file.good())
    std::fprintf(stderr, "fuzz: cannot write %s\n", path.c_str());
  return file.good();
}

} // namespace

int main(int argc, char** argv) {
  uint64_t runs = 50'000, seed = 1, from = 0;
  std::string save, seedFolder;
  std::vector<std::string> files;
  for (int i = 1; i < argc; ++i) {
    std::string_view argument = argv[i];
    size_t equals = argument.find('=');
    std::string_view name = argument.substr(0, equals);
    const char* value =
        equals == std::string_view::npos ? "" : argv[i] + equals + 1;
    if (name == "--runs") {
      runs = std::strtoull(value, nullptr, 10);
    } else if (name == "--seed") {
      seed = std::strtoull(value, nullptr, 10);
    } else if (name == "--from") {
      from = std::strtoull(value, nullptr, 10);
    } else if (name == "--save") {
      save = value;
    } else if (name == "--write-seeds") {
      seedFolder = value;
    } else if (name.substr(0, 2) == "--") {
      std::fprintf(stderr, "fuzz: unknown option %s\n", argv[i]);
      return 2;
    } else {
      files.push_back(argv[i]);
    }
  }
  const std::vector<std::string> seeds = fuzzSeeds();
  if (!save.empty())
    return writeFile(save, inputOf(seed, from, seeds)) ? 0 : 1;
  if (!seedFolder.empty()) {
    for (size_t i = 0; i < seeds.size(); ++i)
      if (!writeFile(seedFolder + "/seed" + std::to_string(i), seeds[i]))
        return 1;
    return 0;
  }
  for (const std::string& path : files) {
    std::ifstream file(path, std::ios::binary);
    if (!file) {
      std::fprintf(stderr, "fuzz: cannot read %s\n", path.c_str());
      return 1;
    }
    runOnce({std::istreambuf_iterator<char>(file), {}});
  }
  if (!files.empty())
    return 0;

  if (__sanitizer_set_death_callback) {
    __sanitizer_set_death_callback(printCurrentRun);
  } else {
    for (int number : {SIGSEGV, SIGBUS, SIGABRT, SIGFPE, SIGILL})
      std::signal(number, onSignal);
  }
  auto begin = std::chrono::steady_clock::now();
  for (uint64_t run = from; run < from + runs; ++run) {
    currentRun = run;
    runOnce(inputOf(seed, run, seeds));
  }
  double seconds =
      std::chrono::duration<double>(std::chrono::steady_clock::now() - begin)
          .count();
  std::printf("%llu runs of seed %llu in %.1f s, %.0f per second\n",
              static_cast<unsigned long long>(runs),
              static_cast<unsigned long long>(seed), seconds, runs / seconds);
  return 0;
}
