// SPDX-License-Identifier: Apache-2.0
#include "compiler/passes/ModelForm.h"

#include "llvm/Support/xxhash.h"

using namespace mlir;

namespace llmc {
namespace {

LogicalResult checkForward(func::FuncOp forward) {
  auto isMatrix = [](Type type, auto isElement) {
    auto tensor = dyn_cast<RankedTensorType>(type);
    return tensor && tensor.getRank() == 2 &&
           isElement(tensor.getElementType());
  };
  auto isI32 = [](Type type) { return type.isInteger(32); };
  auto isF32 = [](Type type) { return type.isF32(); };
  auto entry = forward->getAttrOfType<StringAttr>(llm::LlmDialect::kEntryAttr);
  FunctionType type = forward.getFunctionType();
  if (!entry || entry.getValue() != "forward" || forward.isDeclaration() ||
      type.getNumInputs() != 2 || type.getNumResults() != 1 ||
      !isMatrix(type.getInput(0), isI32) ||
      !isMatrix(type.getInput(1), isI32) || !isMatrix(type.getResult(0), isF32))
    return forward.emitOpError("expects an entry \"forward\" from ids and "
                               "positions, i32 matrices, to logits, an f32 "
                               "matrix");
  return success();
}

/// Checks what later parts believe of `llm.model`. A module without one gets
/// what the logits say, for llmrt samples and checks ids by it.
LogicalResult checkModelCard(func::FuncOp forward) {
  auto module = forward->getParentOfType<ModuleOp>();
  auto model =
      module->getAttrOfType<DictionaryAttr>(llm::LlmDialect::kModelAttr);
  int64_t columns =
      cast<RankedTensorType>(forward.getResultTypes()[0]).getDimSize(1);
  if (!model) {
    Builder builder(module.getContext());
    NamedAttribute vocab(builder.getStringAttr("vocab_size"),
                         builder.getI64IntegerAttr(columns));
    module->setAttr(llm::LlmDialect::kModelAttr,
                    builder.getDictionaryAttr(vocab));
    return success();
  }
  constexpr int64_t kMost = int64_t(1) << 31;
  for (StringRef name : {"vocab_size", "context_length", "hidden_size",
                         "layers", "heads", "kv_heads", "head_dim"}) {
    auto value = model.getAs<IntegerAttr>(name);
    if (!value || value.getInt() < 1 || value.getInt() > kMost)
      return module.emitError("expects llm.model to have ")
             << name << " from 1 to " << kMost;
  }
  int64_t vocab = model.getAs<IntegerAttr>("vocab_size").getInt();
  if (vocab != columns)
    return module.emitError("expects a vocab_size of ")
           << columns << ", the columns of the logits, got " << vocab;
  return success();
}

/// Adds `digest` to `llm.model`: a number of the module's functions and
/// parameters as they are written, constants included. Where files lie does not
/// count. A dump of a later phase has it already.
void addDigest(ModuleOp module) {
  auto model =
      module->getAttrOfType<DictionaryAttr>(llm::LlmDialect::kModelAttr);
  if (model.contains("digest"))
    return;
  std::string text;
  llvm::raw_string_ostream stream(text);
  for (Operation& op : *module.getBody())
    op.print(stream, OpPrintingFlags().enableDebugInfo(false));
  Builder builder(module.getContext());
  NamedAttrList entries(model);
  entries.set("digest", builder.getI64IntegerAttr(
                            static_cast<int64_t>(llvm::xxh3_64bits(text))));
  module->setAttr(llm::LlmDialect::kModelAttr,
                  entries.getDictionary(module.getContext()));
}

} // namespace

LogicalResult checkModel(func::FuncOp forward) {
  if (failed(checkForward(forward)) || failed(checkModelCard(forward)))
    return failure();
  addDigest(forward->getParentOfType<ModuleOp>());
  return success();
}

Type computeDtype(const Options& options, MLIRContext* context) {
  if (options.dtype == "bf16")
    return BFloat16Type::get(context);
  return Float32Type::get(context);
}

void convertParameters(ModuleOp module, Type dtype) {
  for (auto param : module.getOps<llm::ParamOp>()) {
    auto type = cast<RankedTensorType>(param.getType());
    if (type.getRank() == 2)
      param.setType(type.clone(dtype));
  }
}

} // namespace llmc
