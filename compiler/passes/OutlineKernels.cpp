// SPDX-License-Identifier: Apache-2.0
// Makes each distinct fused region a kernel symbol. Bodies are compared by
// their text with dynamic rows, so that prefill and decode share code. Names
// say what a kernel does.
#include "compiler/passes/Launches.h"
#include "compiler/passes/Options.h"
#include "compiler/passes/Passes.h"
#include "compiler/passes/RowOps.h"

#include "mlir/IR/IRMapping.h"
#include "llvm/ADT/StringMap.h"

using namespace mlir;

namespace llmc {
#define GEN_PASS_DEF_OUTLINEKERNELS
#include "compiler/passes/Passes.h.inc"

namespace {

/// Activations get dynamic rows; vectors keep their type.
Type dynamicRows(Type type) {
  auto tensor = cast<RankedTensorType>(type);
  if (tensor.getRank() != 2)
    return type;
  return tensor.clone({ShapedType::kDynamic, tensor.getDimSize(1)});
}

/// "add_rms_norm_576": the ops in order, then the width.
std::string kernelName(Block& body) {
  std::string name;
  for (Operation& op : body.without_terminator()) {
    StringRef stem = op.getName().stripDialect();
    if (auto activation = dyn_cast<llm::ActivationOp>(op))
      stem = llm::stringifyActivationKind(activation.getKind());
    if (auto gated = dyn_cast<llm::GatedActivationOp>(op))
      stem = llm::stringifyActivationKind(gated.getKind());
    name += stem.str() + "_";
    if (name.size() > 48)
      break;
  }
  auto type =
      cast<RankedTensorType>(body.getTerminator()->getOperand(0).getType());
  return name + std::to_string(type.getShape().back());
}

class Outliner {
public:
  explicit Outliner(ModuleOp module)
      : module_(module), symbols_(module),
        separator_(Options::read(module).isCuda() ? "_v" : ".") {}

  void outline(func::FuncOp entry) {
    SmallVector<plan::FusedOp> fused(entry.getOps<plan::FusedOp>());
    for (plan::FusedOp op : fused) {
      FlatSymbolRefAttr kernel = kernelOf(op);
      OpBuilder builder(op);
      auto type = cast<RankedTensorType>(op.getResult(0).getType());
      SmallVector<StringRef> noNames;
      auto launch = plan::LaunchOp::create(
          builder, op.getLoc(), op.getResultTypes(), kernel, op.getInputs(),
          ValueRange(), builder.getStrArrayAttr(noNames),
          builder.getStrArrayAttr(noNames), builder.getStrArrayAttr(noNames),
          builder.getDictionaryAttr({}), rowsWord(entry, type.getDimSize(0)),
          builder.getI64IntegerAttr(type.getDimSize(1)), ArrayAttr());
      op.replaceAllUsesWith(launch.getResults());
      op.erase();
    }
  }

  FlatSymbolRefAttr kernelOf(plan::FusedOp op) {
    OpBuilder builder = OpBuilder::atBlockEnd(module_.getBody());
    Block& body = op.getBody().front();
    auto kernel = plan::KernelOp::create(
        builder, builder.getUnknownLoc(), builder.getStringAttr("kernel"),
        StringAttr(), IntegerAttr(),
        isElementwiseBody(body) ? builder.getUnitAttr() : UnitAttr());
    Block* copy = builder.createBlock(&kernel.getBody());
    IRMapping mapping;
    for (BlockArgument arg : body.getArguments())
      mapping.map(arg, copy->addArgument(dynamicRows(arg.getType()),
                                         builder.getUnknownLoc()));
    builder.setInsertionPointToStart(copy);
    for (Operation& inner : body) {
      Operation* clone = builder.clone(inner, mapping);
      clone->setLoc(builder.getUnknownLoc());
      for (OpResult result : clone->getResults())
        result.setType(dynamicRows(result.getType()));
    }
    std::string text;
    llvm::raw_string_ostream stream(text);
    kernel.print(stream, OpPrintingFlags().useLocalScope());
    auto found = byText_.find(text);
    if (found != byText_.end()) {
      kernel.erase();
      return FlatSymbolRefAttr::get(found->second);
    }
    std::string name = kernelName(*copy), unique = name;
    for (int i = 1; symbols_.lookup(unique); ++i)
      unique = name + separator_ + std::to_string(i);
    kernel.setSymName(unique);
    symbols_.insert(kernel);
    auto symbol = kernel.getSymNameAttr();
    byText_[text] = symbol;
    return FlatSymbolRefAttr::get(symbol);
  }

private:
  ModuleOp module_;
  SymbolTable symbols_;
  std::string separator_; // of a name and its number; PTX names have no dot
  llvm::StringMap<StringAttr> byText_;
};

struct OutlineKernelsPass : impl::OutlineKernelsBase<OutlineKernelsPass> {
  void runOnOperation() override {
    Outliner outliner(getOperation());
    SmallVector<func::FuncOp> entries(getOperation().getOps<func::FuncOp>());
    for (func::FuncOp entry : entries)
      outliner.outline(entry);
  }
};

} // namespace
} // namespace llmc
