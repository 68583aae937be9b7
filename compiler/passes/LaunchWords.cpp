// SPDX-License-Identifier: Apache-2.0
#include "compiler/passes/LaunchWords.h"

#include "runtime/kernels/KernelAbi.h"

#include "llvm/ADT/StringMap.h"

using namespace mlir;

namespace llmc {
namespace {

plan::WordAttr word(MLIRContext* context, plan::WordKind kind, int64_t value) {
  return plan::WordAttr::get(context, kind, value, StringAttr(),
                             dist::ByCoordinateAttr(), StringAttr());
}

/// Word names of a hand-tuned kernel, in order, from Kernels.def.
SmallVector<std::pair<StringRef, char>> kernelWords(StringRef kernel) {
  StringRef text;
#define LLMRT_KERNEL(name, version, rowTile, colTile, words)                   \
  if (kernel == #name)                                                         \
    text = words;
#define LLMRT_CUDA_ONLY_KERNEL(name, version, words)                           \
  LLMRT_KERNEL(name, version, 0, 0, words)
#include "runtime/kernels/Kernels.def"
#undef LLMRT_KERNEL
  SmallVector<std::pair<StringRef, char>> result;
  SmallVector<StringRef> parts;
  text.split(parts, ' ', -1, /*KeepEmpty=*/false);
  for (StringRef part : parts)
    result.push_back({part.split(':').first, part.back()});
  return result;
}

/// Words of a generated kernel: rows, inputs, results.
SmallVector<plan::WordAttr> generatedWords(plan::WordAttr rows,
                                           ArrayRef<StringAttr> buffers) {
  SmallVector<plan::WordAttr> words = {rows};
  for (StringAttr buffer : buffers)
    words.push_back(buffer ? addressWord(buffer)
                           : integerWord(rows.getContext(), 0));
  return words;
}

plan::WordAttr scalarWord(Attribute attr) {
  MLIRContext* context = attr.getContext();
  if (auto by = dyn_cast<dist::ByCoordinateAttr>(attr))
    return plan::WordAttr::get(context, plan::WordKind::coordinate, 0,
                               StringAttr(), by, StringAttr());
  if (auto real = dyn_cast<FloatAttr>(attr))
    return realWord(context, real.getValueAsDouble());
  return integerWord(context, cast<IntegerAttr>(attr).getInt());
}

/// Binds the words of one launch of a hand-tuned kernel.
class WordBinding {
public:
  WordBinding(plan::LaunchOp op, const LaunchBuffers& buffers)
      : op_(op), context_(op.getContext()), buffers_(buffers) {}

  void run() {
    bind(op_.getInputWords(), buffers_.inputs);
    bind(op_.getInoutWords(), buffers_.inouts);
    bind(op_.getResultWords(), buffers_.results);
    for (NamedAttribute attr : op_.getScalars()) {
      StringRef name = attr.getName().getValue();
      if (name.consume_back(".offset")) // bytes into an address
        bound_[name] = plan::WordAttr::get(
            context_, plan::WordKind::address, 0,
            bound_.lookup(name).getBuffer(),
            cast<dist::ByCoordinateAttr>(attr.getValue()), StringAttr());
      else
        bound_[name] = scalarWord(attr.getValue());
    }
    if (ArrayAttr attrs = op_.getSlotsAttr())
      for (auto slot : attrs.getAsRange<plan::SlotAttr>())
        bindSlot(slot);
  }

  /// The words in the order of the kernel's declaration.
  SmallVector<Attribute> words(StringRef kernel) {
    SmallVector<Attribute> words;
    for (auto [i, declared] : llvm::enumerate(kernelWords(kernel))) {
      auto found = bound_.find(declared.first);
      plan::WordAttr absent = declared.second == 'f' ? realWord(context_, 0)
                                                     : integerWord(context_, 0);
      words.push_back(i == 0                  ? op_.getRows()
                      : found == bound_.end() ? absent
                                              : found->second);
    }
    return words;
  }

  ArrayRef<Attribute> slots() const { return slots_; }

private:
  void bind(ArrayAttr names, ArrayRef<StringAttr> buffers) {
    for (auto [name, buffer] : llvm::zip(names, buffers))
      if (StringRef text = cast<StringAttr>(name).getValue(); !text.empty())
        bound_[text] = addressWord(buffer);
  }

  /// Buffer of the i-th operand or result; null if i is negative.
  StringAttr bufferOf(int64_t i) const {
    int64_t numInputs = buffers_.inputs.size();
    return i < 0           ? StringAttr()
           : i < numInputs ? buffers_.inputs[i]
                           : buffers_.results[i - numInputs];
  }

  /// A slot's words: "epilogue1" has kernel word "epilogue1" and block word
  /// "epilogueArgs1"; "prologue" has "prologueArgs", and two words more that
  /// say where its output goes.
  void bindSlot(plan::SlotAttr slot) {
    int64_t number = slots_.size(), outputWord = -1;
    SmallVector<StringAttr> buffers;
    for (int64_t i : slot.getOperands())
      buffers.push_back(bufferOf(i));
    for (int64_t i : slot.getResults()) {
      if (i < 0)
        outputWord = buffers.size() + 1;
      buffers.push_back(bufferOf(i));
    }
    auto words = generatedWords(op_.getRows(), buffers);
    slots_.push_back(
        plan::SlotWordsAttr::get(context_, slot.getKernel(), words));
    StringRef name = slot.getWord().getValue();
    bound_[name] = word(context_, plan::WordKind::slot_kernel, number);
    size_t digits = name.find_last_not_of("0123456789") + 1;
    std::string args =
        (name.take_front(digits) + "Args" + name.drop_front(digits)).str();
    bound_[args] = word(context_, plan::WordKind::slot_words, number);
    if (outputWord < 0)
      return;
    bound_["prologueWords"] = integerWord(context_, words.size());
    bound_["prologueOut"] = integerWord(context_, outputWord);
  }

  plan::LaunchOp op_;
  MLIRContext* context_;
  const LaunchBuffers& buffers_;
  llvm::StringMap<plan::WordAttr> bound_;
  SmallVector<Attribute> slots_;
};

SmallVector<Attribute> join(ArrayRef<StringAttr> a, ArrayRef<StringAttr> b) {
  SmallVector<Attribute> all(a.begin(), a.end());
  all.append(b.begin(), b.end());
  return all;
}

} // namespace

plan::WordAttr integerWord(MLIRContext* context, int64_t value) {
  return word(context, plan::WordKind::integer, value);
}

plan::WordAttr realWord(MLIRContext* context, double value) {
  return word(context, plan::WordKind::real, llvm::bit_cast<int64_t>(value));
}

plan::WordAttr addressWord(StringAttr buffer) {
  return plan::WordAttr::get(buffer.getContext(), plan::WordKind::address, 0,
                             buffer, dist::ByCoordinateAttr(), StringAttr());
}

void createRun(OpBuilder& builder, plan::LaunchOp launch, plan::KernelOp kernel,
               const LaunchBuffers& buffers) {
  SmallVector<Attribute> words, slots;
  if (kernel.isGenerated()) {
    SmallVector<StringAttr> all(buffers.inputs);
    all.append(buffers.results);
    for (plan::WordAttr w : generatedWords(launch.getRows(), all))
      words.push_back(w);
  } else {
    WordBinding binding(launch, buffers);
    binding.run();
    words = binding.words(kernel.getHandTuned().value());
    slots.append(binding.slots().begin(), binding.slots().end());
  }
  plan::RunOp::create(
      builder, launch.getLoc(), launch.getKernelAttr(),
      builder.getArrayAttr(words), builder.getArrayAttr(slots),
      launch.getRows(), launch.getColumnsAttr(),
      builder.getArrayAttr(join(buffers.inputs, buffers.inouts)),
      builder.getArrayAttr(join(buffers.inouts, buffers.results)),
      builder.getI64IntegerAttr(0));
}

} // namespace llmc
