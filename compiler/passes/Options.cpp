// SPDX-License-Identifier: Apache-2.0
#include "compiler/passes/Options.h"

#include "dialects/dist/Dist.h"

#include "mlir/IR/Builders.h"
#include "mlir/IR/Location.h"

using namespace mlir;

namespace llmc {
namespace {

void readInt(DictionaryAttr dict, llvm::StringRef name, int64_t& out) {
  if (auto attr = dict.getAs<IntegerAttr>(name))
    out = attr.getInt();
}

void readString(DictionaryAttr dict, llvm::StringRef name, std::string& out) {
  if (auto attr = dict.getAs<StringAttr>(name))
    out = attr.getValue().str();
}

} // namespace

Options Options::read(ModuleOp module) {
  Options options;
  auto dict =
      module->getAttrOfType<DictionaryAttr>(llm::LlmDialect::kOptionsAttr);
  if (auto model =
          module->getAttrOfType<DictionaryAttr>(llm::LlmDialect::kModelAttr))
    readInt(model, "context_length", options.seq);
  if (!dict)
    return options;
  readString(dict, "mode", options.mode);
  readString(dict, "target", options.target);
  readString(dict, "dtype", options.dtype);
  readString(dict, "weights_format", options.weightsFormat);
  readInt(dict, "batch", options.batch);
  readInt(dict, "seq", options.seq);
  readInt(dict, "chunk", options.chunk);
  readInt(dict, "zero", options.zero);
  readInt(dict, "zero_live_bytes", options.zeroLiveBytes);
  readInt(dict, "zero_bucket_bytes", options.zeroBucketBytes);
  readString(dict, "objective", options.objective);
  readString(dict, "schedule", options.schedule);
  readString(dict, "recompute", options.recompute);
  readString(dict, "freeze", options.freeze);
  readString(dict, "preference_loss", options.preferenceLoss);
  readString(dict, "reference", options.reference);
  readInt(dict, "reference_zero", options.referenceZero);
  readInt(dict, "microbatches", options.microbatches);
  readInt(dict, "virtual_stages", options.virtualStages);
  if (auto attr = dict.getAs<BoolAttr>("sequence_parallel"))
    options.sequenceParallel = attr.getValue();
  return options;
}

void Options::write(ModuleOp module) const {
  Builder b(module.getContext());
  SmallVector<NamedAttribute> attrs = {
      b.getNamedAttr("mode", b.getStringAttr(mode)),
      b.getNamedAttr("target", b.getStringAttr(target)),
      b.getNamedAttr("dtype", b.getStringAttr(dtype)),
      b.getNamedAttr("batch", b.getI64IntegerAttr(batch)),
      b.getNamedAttr("seq", b.getI64IntegerAttr(seq)),
      b.getNamedAttr("chunk", b.getI64IntegerAttr(chunk)),
      b.getNamedAttr("zero", b.getI64IntegerAttr(zero)),
      b.getNamedAttr("sequence_parallel", b.getBoolAttr(sequenceParallel)),
  };
  if (weightsFormat != "dense")
    attrs.push_back(
        b.getNamedAttr("weights_format", b.getStringAttr(weightsFormat)));
  if (mode == "train")
    attrs.append(
        {b.getNamedAttr("objective", b.getStringAttr(objective)),
         b.getNamedAttr("schedule", b.getStringAttr(schedule)),
         b.getNamedAttr("recompute", b.getStringAttr(recompute)),
         b.getNamedAttr("freeze", b.getStringAttr(freeze)),
         b.getNamedAttr("microbatches", b.getI64IntegerAttr(microbatches)),
         b.getNamedAttr("virtual_stages", b.getI64IntegerAttr(virtualStages)),
         b.getNamedAttr("zero_live_bytes", b.getI64IntegerAttr(zeroLiveBytes)),
         b.getNamedAttr("zero_bucket_bytes",
                        b.getI64IntegerAttr(zeroBucketBytes))});
  if (mode == "train" && objective == "dpo")
    attrs.append(
        {b.getNamedAttr("preference_loss", b.getStringAttr(preferenceLoss)),
         b.getNamedAttr("reference", b.getStringAttr(reference)),
         b.getNamedAttr("reference_zero", b.getI64IntegerAttr(referenceZero))});
  module->setAttr(llm::LlmDialect::kOptionsAttr, b.getDictionaryAttr(attrs));
}

int64_t meshAxisSize(ModuleOp module, llvm::StringRef axis) {
  for (auto mesh : module.getOps<dist::MeshOp>())
    return mesh.getAxisSize(axis);
  return 1;
}

std::string locationName(Location loc) {
  if (auto name = dyn_cast<NameLoc>(loc))
    return name.getName().str();
  if (auto call = dyn_cast<CallSiteLoc>(loc)) {
    std::string caller = locationName(call.getCaller());
    std::string callee = locationName(call.getCallee());
    return caller.empty() ? callee : caller + "/" + callee;
  }
  if (auto fused = dyn_cast<FusedLoc>(loc))
    for (Location part : fused.getLocations())
      if (std::string name = locationName(part); !name.empty())
        return name;
  return "";
}

} // namespace llmc
