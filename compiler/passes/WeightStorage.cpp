// SPDX-License-Identifier: Apache-2.0
#include "compiler/passes/WeightStorage.h"

#include "compiler/passes/Launches.h"
#include "runtime/kernels/cuda/FusedProductArgs.h"

#include "llvm/ADT/StringSwitch.h"

using namespace mlir;

namespace llmc {
namespace {

constexpr int64_t kBlock = llmrt::kBlockElements;
constexpr int64_t kFactorBytes = 2;
constexpr StringLiteral kWeightsFormatOption = "weights_format";

llmrt::WeightFormat formatNamed(StringRef storage) {
  return llvm::StringSwitch<llmrt::WeightFormat>(storage)
      .Case("q8_0", llmrt::WeightFormat::Q8_0)
      .Case("q4_0", llmrt::WeightFormat::Q4_0)
      .Default(llmrt::WeightFormat::F32);
}

/// The product that makes the logits, through what is behind it; null if there
/// is none.
llm::LinearOp headOf(func::FuncOp forward) {
  Value v = forward.getBody().front().getTerminator()->getOperand(0);
  while (Operation* op = v.getDefiningOp()) {
    if (auto linear = dyn_cast<llm::LinearOp>(op))
      return linear;
    if (op->getNumOperands() == 0)
      return {};
    v = op->getOperand(0);
  }
  return {};
}

} // namespace

LogicalResult storeInBlocks(func::FuncOp forward, StringRef format) {
  auto module = forward->getParentOfType<ModuleOp>();
  for (auto param : module.getOps<llm::ParamOp>()) {
    auto type = cast<RankedTensorType>(param.getType());
    if (type.getRank() != 2)
      continue;
    if (type.getDimSize(1) % kBlock != 0)
      return param.emitError("LLMC-E1003: --weights-format=")
             << format << ": rows of " << param.getSymName() << " have "
             << type.getDimSize(1) << " elements, a block has " << kBlock
             << "; compile with --weights-format=dense";
    param.setStorage(format);
  }
  // Few of the bytes of a large model, and each element is a token's.
  SymbolTable symbols(module);
  auto keepPrecise = [&](Value table) {
    if (llm::GetParamOp get = paramOf(table))
      symbols.lookup<llm::ParamOp>(get.getParam()).setStorage("q8_0");
  };
  module.walk([&](llm::EmbeddingOp op) { keepPrecise(op.getTable()); });
  if (llm::LinearOp head = headOf(forward))
    keepPrecise(head.getWeight());
  return success();
}

bool isInBlocks(llm::ParamOp param) {
  return formatNamed(param.getStorage().value_or("")) !=
         llmrt::WeightFormat::F32;
}

llm::ParamOp paramInBlocks(Value weight) {
  llm::GetParamOp get = paramOf(weight);
  if (!get)
    return {};
  // Symbols are looked up one by one: not where there is nothing to find.
  auto options =
      get->getParentOfType<ModuleOp>()->getAttrOfType<DictionaryAttr>(
          llm::LlmDialect::kOptionsAttr);
  if (!options || !options.contains(kWeightsFormatOption))
    return {};
  auto param = SymbolTable::lookupNearestSymbolFrom<llm::ParamOp>(
      get, get.getParamAttr());
  return param && isInBlocks(param) ? param : llm::ParamOp();
}

int64_t weightFormatOf(Value weight) {
  if (llm::ParamOp param = paramInBlocks(weight))
    return static_cast<int64_t>(formatNamed(*param.getStorage()));
  return dtypeOf(cast<ShapedType>(weight.getType()).getElementType());
}

int64_t storedBytes(llm::ParamOp param, RankedTensorType type) {
  const int64_t elements = type.getNumElements();
  switch (formatNamed(param.getStorage().value_or(""))) {
  case llmrt::WeightFormat::Q8_0:
    return elements / kBlock * (kBlock + kFactorBytes);
  case llmrt::WeightFormat::Q4_0:
    return elements / kBlock * (kBlock / 2 + kFactorBytes);
  default:
    return elements * type.getElementTypeBitWidth() / 8;
  }
}

LogicalResult checkColumnCut(llm::ParamOp param, dist::SliceAttr slice) {
  if (!isInBlocks(param))
    return success();
  for (auto [offset, count] : llvm::zip(slice.getOffsets(), slice.getCounts()))
    for (int64_t border : {offset, offset + count})
      if (border % kBlock != 0)
        return param.emitError("LLMC-E1002: ")
               << slice.getAxis().getValue() << "=" << slice.getOffsets().size()
               << " cuts the columns of " << param.getSymName() << " at "
               << border << ", inside a block of " << kBlock << " elements of "
               << *param.getStorage() << "; use another "
               << slice.getAxis().getValue() << " or --weights-format=dense";
  return success();
}

} // namespace llmc
