// SPDX-License-Identifier: Apache-2.0
#include "compiler/plan/Counters.h"

#include "compiler/passes/Buckets.h"
#include "runtime/kernels/KernelAbi.h"
#include "runtime/plan/KernelFlops.h"

#include "llvm/ADT/StringMap.h"

#include <map>
#include <set>

using namespace mlir;

namespace llmc {
namespace {

/// Highest end of the arena ranges that buffers of a class use, not counting
/// overlap.
int64_t coveredBytes(std::vector<std::pair<int64_t, int64_t>> ranges) {
  llvm::sort(ranges);
  int64_t covered = 0, end = 0;
  for (auto [from, to] : ranges) {
    from = std::max(from, end);
    if (to > from)
      covered += to - from;
    end = std::max(end, to);
  }
  return covered;
}

int64_t integerWord(plan::RunOp op, unsigned i) {
  auto words = op.getWords();
  if (i >= words.size())
    return 0;
  auto word = cast<plan::WordAttr>(words[i]);
  if (word.getKind() == plan::WordKind::coordinate)
    return word.getCoordinates().getValues().front();
  return word.getValue();
}

/// Position of a word of a hand-tuned kernel by its name in Kernels.def.
unsigned wordIndex(StringRef kernel, StringRef name) {
  StringRef text;
#define LLMRT_KERNEL(kernelName, version, rowTile, colTile, words)             \
  if (kernel == #kernelName)                                                   \
    text = words;
#define LLMRT_CUDA_ONLY_KERNEL(name, version, words)                           \
  LLMRT_KERNEL(name, version, 0, 0, words)
#include "runtime/kernels/Kernels.def"
#undef LLMRT_KERNEL
  SmallVector<StringRef> parts;
  text.split(parts, ' ', -1, /*KeepEmpty=*/false);
  for (auto [i, part] : llvm::enumerate(parts))
    if (part.split(':').first == name)
      return i;
  return ~0u;
}

/// Rows of the full block that a launch runs over.
int64_t fullRows(plan::WordAttr rows, plan::EntryOp entry,
                 const std::vector<std::string>& axes,
                 const std::vector<int64_t>& sizes) {
  int64_t all = entry.getSequences() * entry.getRows();
  switch (rows.getKind()) {
  case plan::WordKind::rows:
    return all * rows.getValue();
  case plan::WordKind::sequences:
    return entry.getSequences() * rows.getValue();
  case plan::WordKind::rows_shard:
    for (auto [axis, n] : llvm::zip(axes, sizes))
      if (rows.getAxis().getValue() == axis)
        return all / n * rows.getValue();
    return all;
  default:
    return rows.getValue();
  }
}

} // namespace

std::vector<MemoryCounter> countMemory(plan::StageOp stage) {
  std::map<std::string, MemoryCounter> counters;
  std::map<std::string, std::vector<std::pair<int64_t, int64_t>>> transient;
  for (auto buffer : stage.getOps<plan::BufferOp>()) {
    MemoryCounter& counter = counters[buffer.getMemoryClass().str()];
    counter.memoryClass = buffer.getMemoryClass().str();
    if (buffer.getPersistent()) {
      counter.bytes += buffer.getBytes();
      counter.paddingBytes += buffer.getPaddingBytes();
      continue;
    }
    counter.isPeak = true;
    int64_t offset = buffer.getOffset().value_or(0);
    transient[counter.memoryClass].push_back(
        {offset, offset + static_cast<int64_t>(buffer.getBytes())});
  }
  std::vector<MemoryCounter> result;
  for (auto& [name, counter] : counters) {
    counter.bytes += coveredBytes(transient[name]);
    result.push_back(counter);
  }
  return result;
}

ProgramCounter countProgram(ModuleOp module, plan::ProgramOp program,
                            const std::vector<std::string>& axes,
                            const std::vector<int64_t>& axisSizes) {
  ProgramCounter counter;
  counter.axisBytes.assign(axes.size(), 0);
  SymbolTable symbols(module);
  auto entry =
      symbols.lookup<plan::EntryOp>(("entry_" + program.getEntry()).str());
  auto stage = program->getParentOfType<plan::StageOp>();
  llvm::StringMap<int64_t> bufferBytes;
  for (auto buffer : stage.getOps<plan::BufferOp>())
    bufferBytes[buffer.getSymName()] = buffer.getBytes();
  for (Operation& op : program.getBody().front()) {
    if (auto run = dyn_cast<plan::RunOp>(op)) {
      auto kernel = symbols.lookup<plan::KernelOp>(run.getKernel());
      ++counter.launches;
      int64_t rows = fullRows(run.getGridRows(), entry, axes, axisSizes);
      if (!kernel.isGenerated())
        counter.flops += llmrt::kernelFlops(
            kernel.getHandTuned()->str(),
            {rows, static_cast<int64_t>(entry.getPages()) * llmrt::kPageTokens},
            [&](absl::string_view name) {
              StringRef word(name.data(), name.size());
              return integerWord(run, wordIndex(*kernel.getHandTuned(), word));
            });
      std::set<StringRef> touched;
      for (ArrayAttr names : {run.getReads(), run.getWrites()})
        for (Attribute name : names)
          touched.insert(cast<StringAttr>(name).getValue());
      for (StringRef name : touched)
        counter.bytesTouched += bufferBytes.lookup(name);
      continue;
    }
    auto collective = dyn_cast<plan::CollectiveOp>(op);
    if (!collective || collective.getKind() == "copy")
      continue;
    int64_t ranks = 1, axis = -1;
    for (Attribute name : collective.getAxes())
      for (auto [i, known] : llvm::enumerate(axes))
        if (cast<StringAttr>(name).getValue() == known) {
          ranks *= axisSizes[i];
          axis = i;
        }
    if (axis < 0 || collective.getKind() == "recv")
      continue;
    // What one rank sends: a gather its part to each peer; a reduction a part
    // to each peer, and again when it is followed by the gather.
    int64_t bytes = collective.getBytes();
    for (const CollectivePart& part : furtherParts(collective))
      bytes += part.bytes;
    if (collective.getKind() == "all_gather" ||
        collective.getKind() == "reduce_scatter")
      bytes *= ranks - 1;
    else if (collective.getKind() == "all_reduce")
      bytes = 2 * bytes * (ranks - 1) / ranks;
    counter.axisBytes[axis] += bytes;
  }
  return counter;
}

} // namespace llmc
