// SPDX-License-Identifier: Apache-2.0
// Counts as runtime/executor/Program.cpp allocates.
#include "compiler/plan/OutsideMemory.h"

#include "compiler/passes/Options.h"
#include "runtime/kernels/ScratchFormulas.h"
#include "runtime/kernels/cuda/Constants.h"
#include "runtime/kernels/cuda/CudaKernelRegistry.h"

#include "llvm/ADT/STLExtras.h"
#include "llvm/ADT/StringMap.h"

#include <set>

using namespace mlir;

namespace llmc {
namespace {

constexpr int64_t kBlockWords = 8;

int64_t blockBytes(int64_t numWords) {
  return (numWords + kBlockWords - 1) / kBlockWords * kBlockWords *
         static_cast<int64_t>(sizeof(uint64_t));
}

int64_t argumentBytes(plan::ProgramOp program) {
  int64_t bytes = 0;
  for (auto run : program.getBody().getOps<plan::RunOp>()) {
    bytes += blockBytes(run.getWords().size() + 1); // and the grid's rows
    for (auto slot : run.getSlots().getAsRange<plan::SlotWordsAttr>())
      bytes += blockBytes(slot.getWords().size());
  }
  return bytes;
}

/// A word as the executor sets it with all rows valid. Addresses are not zero.
uint64_t valueOf(plan::WordAttr word, plan::EntryOp entry,
                 const std::vector<std::string>& axes,
                 const std::vector<int64_t>& axisSizes) {
  int64_t sequences = entry ? entry.getSequences() : 0;
  int64_t rows = entry ? sequences * entry.getRows() : 0;
  switch (word.getKind()) {
  case plan::WordKind::rows:
    return rows * word.getValue();
  case plan::WordKind::sequences:
    return sequences * word.getValue();
  case plan::WordKind::rows_shard:
    for (auto [axis, size] : llvm::zip(axes, axisSizes))
      if (word.getAxis().getValue() == axis)
        return (rows + size - 1) / size * word.getValue();
    return rows * word.getValue();
  case plan::WordKind::coordinate:
    return *llvm::max_element(word.getCoordinates().getValues());
  case plan::WordKind::address:
  case plan::WordKind::slot_kernel:
  case plan::WordKind::slot_words:
    return 1;
  default:
    return word.getValue();
  }
}

} // namespace

int64_t countArgumentBytes(plan::StageOp stage) {
  llvm::StringMap<std::set<std::vector<int64_t>>> slotSets;
  for (auto action : stage.getOps<plan::ActionOp>()) {
    std::vector<int64_t> slots(action.getSlots());
    slots.push_back(action.getMicroBatch());
    slotSets[action.getEntry()].insert(std::move(slots));
  }
  int64_t bytes = 0;
  for (auto program : stage.getOps<plan::ProgramOp>())
    bytes += argumentBytes(program) *
             std::max<int64_t>(1, slotSets[program.getEntry()].size());
  return bytes;
}

int64_t countScratchBytes(ModuleOp module, plan::StageOp stage,
                          const std::vector<std::string>& axes,
                          const std::vector<int64_t>& axisSizes) {
  SymbolTable symbols(module);
  const bool isCuda =
      StringRef(Options::read(module).target).starts_with("cuda");
  int64_t bytes = 0;
  for (auto program : stage.getOps<plan::ProgramOp>()) {
    auto entry =
        symbols.lookup<plan::EntryOp>(("entry_" + program.getEntry()).str());
    for (auto run : program.getBody().getOps<plan::RunOp>()) {
      auto kernel = symbols.lookup<plan::KernelOp>(run.getKernel());
      if (kernel.isGenerated())
        continue;
      StringRef name = *kernel.getHandTuned();
      std::vector<uint64_t> words;
      for (auto word : run.getWords().getAsRange<plan::WordAttr>())
        words.push_back(valueOf(word, entry, axes, axisSizes));
      std::string_view view(name.data(), name.size());
      bytes =
          std::max(bytes, isCuda ? llmrt::cudaScratchBytes(view, words.data())
                                 : llmrt::scratchFormulaOf(view)(words.data()));
    }
  }
  return isCuda ? bytes + llmrt::kCudaCounterBytes : bytes;
}

} // namespace llmc
