// SPDX-License-Identifier: Apache-2.0
#include "compiler/passes/Launches.h"

#include "compiler/passes/Options.h"
#include "runtime/kernels/KernelAbi.h"

#include "mlir/IR/Builders.h"

using namespace mlir;

namespace llmc {
namespace {

/// Versions from Kernels.def, the one list of hand-tuned kernels.
int64_t kernelVersion(StringRef name) {
#define LLMRT_KERNEL(kernel, version, rowTile, colTile, words)                 \
  if (name == #kernel)                                                         \
    return version;
#define LLMRT_CUDA_ONLY_KERNEL(kernel, version, words)                         \
  LLMRT_KERNEL(kernel, version, 0, 0, words)
#include "runtime/kernels/Kernels.def"
#undef LLMRT_KERNEL
  llvm_unreachable("a kernel that is not in Kernels.def");
}

void ensureKernel(ModuleOp module, StringRef name) {
  if (SymbolTable::lookupSymbolIn(module, name))
    return;
  OpBuilder builder = OpBuilder::atBlockEnd(module.getBody());
  auto kernel = plan::KernelOp::create(
      builder, builder.getUnknownLoc(), builder.getStringAttr(name),
      builder.getStringAttr(name),
      builder.getI64IntegerAttr(kernelVersion(name)), UnitAttr());
  kernel.getBody().emplaceBlock();
}

} // namespace

plan::LaunchOp createLaunch(OpBuilder& builder, Location loc,
                            const LaunchSpec& spec) {
  auto module =
      builder.getInsertionBlock()->getParentOp()->getParentOfType<ModuleOp>();
  ensureKernel(module, spec.kernel);
  SmallVector<Value> inputs, inouts;
  SmallVector<Type> results;
  SmallVector<StringRef> inputWords, inoutWords, resultWords;
  for (auto& [word, value] : spec.inputs) {
    inputWords.push_back(word);
    inputs.push_back(value);
  }
  for (auto& [word, value] : spec.inouts) {
    inoutWords.push_back(word);
    inouts.push_back(value);
  }
  for (auto& [word, type] : spec.results) {
    resultWords.push_back(word);
    results.push_back(type);
  }
  SmallVector<NamedAttribute> scalars;
  for (auto& [word, value] : spec.scalars)
    scalars.push_back(builder.getNamedAttr(word, value));
  return plan::LaunchOp::create(
      builder, loc, results, spec.kernel, inputs, inouts,
      builder.getStrArrayAttr(inputWords), builder.getStrArrayAttr(inoutWords),
      builder.getStrArrayAttr(resultWords), builder.getDictionaryAttr(scalars),
      spec.rows, spec.columns, ArrayAttr());
}

plan::WordAttr rowsWord(func::FuncOp entry, int64_t numRows) {
  MLIRContext* context = entry.getContext();
  auto word = [&](plan::WordKind kind, int64_t value, StringAttr axis) {
    return plan::WordAttr::get(context, kind, value, StringAttr(),
                               dist::ByCoordinateAttr(), axis);
  };
  // A training step runs whole sequences.
  if (Options::read(entry->getParentOfType<ModuleOp>()).mode == "train")
    return word(plan::WordKind::integer, numRows, StringAttr());
  auto ids = cast<RankedTensorType>(entry.getArgument(0).getType());
  int64_t sequences = ids.getDimSize(0);
  int64_t rows = sequences * ids.getDimSize(1);
  if (numRows == rows)
    return word(plan::WordKind::rows, 1, StringAttr());
  if (numRows == sequences)
    return word(plan::WordKind::sequences, 1, StringAttr());
  int64_t tp = meshAxisSize(entry->getParentOfType<ModuleOp>(), "tp");
  if (tp > 1 && numRows * tp == rows)
    return word(plan::WordKind::rows_shard, 1, StringAttr::get(context, "tp"));
  return word(plan::WordKind::integer, numRows, StringAttr());
}

void addFactorDtype(Value factor, LaunchSpec& spec) {
  Type element = cast<ShapedType>(factor.getType()).getElementType();
  if (!element.isF32())
    spec.scalars.push_back(
        {"factorDtype", intScalar(element.getContext(), dtypeOf(element))});
}

Attribute intScalar(MLIRContext* context, int64_t value) {
  return IntegerAttr::get(IntegerType::get(context, 64), value);
}

Attribute realScalar(MLIRContext* context, double value) {
  return FloatAttr::get(Float64Type::get(context), value);
}

int64_t dtypeOf(Type elementType) {
  if (elementType.isF32())
    return static_cast<int64_t>(llmrt::DType::F32);
  if (elementType.isBF16())
    return static_cast<int64_t>(llmrt::DType::BF16);
  if (elementType.isF64())
    return static_cast<int64_t>(llmrt::DType::F64);
  if (elementType.isInteger(64))
    return static_cast<int64_t>(llmrt::DType::I64);
  return static_cast<int64_t>(llmrt::DType::I32);
}

int64_t panelWidth(Type elementType) {
  return llmrt::kPanelBytes * 8 / elementType.getIntOrFloatBitWidth();
}

int64_t zeroRunElements(RankedTensorType type, int64_t ranks) {
  int64_t panel = panelWidth(type.getElementType());
  int64_t panels = (type.getDimSize(0) + panel - 1) / panel;
  return (panels + ranks - 1) / ranks * panel * type.getDimSize(1);
}

llm::GetParamOp paramOf(Value value) {
  while (Operation* op = value.getDefiningOp()) {
    if (auto get = dyn_cast<llm::GetParamOp>(op))
      return get;
    if (!isa<dist::AllGatherOp, dist::ZeroGatherOp, dist::StartOp, dist::WaitOp,
             dist::TakeRowsOp>(op))
      return {};
    value = op->getOperand(0);
  }
  return {};
}

} // namespace llmc
