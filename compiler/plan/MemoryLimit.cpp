// SPDX-License-Identifier: Apache-2.0
#include "compiler/plan/MemoryLimit.h"

#include "compiler/passes/Options.h"
#include "compiler/plan/Counters.h"
#include "runtime/base/Error.h"

#include "absl/strings/numbers.h"
#include "absl/strings/str_format.h"

#include <cctype>
#include <cmath>

using namespace mlir;
using llmrt::ErrorCode;
using llmrt::makeError;

namespace llmc {
namespace {

std::string humanBytes(int64_t bytes) {
  if (bytes >= (int64_t(1) << 30))
    return absl::StrFormat("%.2f GiB", bytes / double(int64_t(1) << 30));
  if (bytes >= (1 << 20))
    return absl::StrFormat("%.1f MiB", bytes / double(1 << 20));
  return absl::StrFormat("%d bytes", bytes);
}

/// What would make a stage smaller, from its largest class.
std::string adviceFor(ModuleOp module, llvm::StringRef largestClass) {
  Options options = Options::read(module);
  if (largestClass == "caches")
    return "lower --seq or --batch, or raise tp or pp in --mesh";
  if (largestClass == "parameters") {
    std::string advice = "raise tp or pp in --mesh";
    if (options.dtype == "f32")
      advice += ", use --dtype=bf16";
    if (options.zero < 3)
      advice += ", or shard over dp with --zero=3";
    return advice;
  }
  return "lower --chunk, or raise tp in --mesh";
}

} // namespace

absl::StatusOr<int64_t> parseBytes(const std::string& text) {
  std::string number = text;
  int shift = 0;
  if (!number.empty()) {
    switch (std::toupper(static_cast<unsigned char>(number.back()))) {
    case 'K':
      shift = 10;
      break;
    case 'M':
      shift = 20;
      break;
    case 'G':
      shift = 30;
      break;
    case 'T':
      shift = 40;
      break;
    }
    if (shift)
      number.pop_back();
  }
  double value = 0;
  bool isNumber = absl::SimpleAtod(number, &value);
  double bytes = std::ldexp(value, shift);
  if (!isNumber || !(bytes >= 1) || bytes > 9e18)
    return makeError(ErrorCode::BadOptionValue, "--memory-limit=" + text,
                     "give a number of bytes, with K, M, G or T if you like");
  return static_cast<int64_t>(bytes);
}

absl::Status checkMemoryLimit(ModuleOp module, int64_t limitBytes) {
  for (auto stage : module.getOps<plan::StageOp>()) {
    int64_t arena = stage.getArenaBytes().value_or(0);
    if (arena <= limitBytes)
      continue;
    MemoryCounter largest;
    for (const MemoryCounter& counter : countMemory(stage))
      if (counter.bytes > largest.bytes)
        largest = counter;
    SmallVector<plan::BufferOp> buffers(stage.getOps<plan::BufferOp>());
    llvm::sort(buffers, [](plan::BufferOp a, plan::BufferOp b) {
      return a.getBytes() > b.getBytes();
    });
    std::string names;
    for (plan::BufferOp buffer : llvm::ArrayRef(buffers).take_front(3))
      names += (names.empty() ? "" : ", ") + buffer.getSymName().str() + " " +
               humanBytes(buffer.getBytes());
    return makeError(
        ErrorCode::MemoryLimit,
        "each rank of pipeline stage " + std::to_string(stage.getStage()) +
            " needs " + humanBytes(arena) + ", more than --memory-limit=" +
            humanBytes(limitBytes) + "; most is " + largest.memoryClass +
            " with " + humanBytes(largest.bytes) +
            "; largest buffers: " + names,
        adviceFor(module, largest.memoryClass));
  }
  return absl::OkStatus();
}

} // namespace llmc
