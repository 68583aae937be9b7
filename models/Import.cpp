// SPDX-License-Identifier: Apache-2.0
// The steps every import takes once the checkpoint's own words are understood.
#include "models/Import.h"

#include "models/ImportSteps.h"

#include "dialects/llm/Llm.h"
#include "runtime/base/Error.h"
#include "runtime/io/Dequantize.h"

#include "absl/strings/match.h"
#include "mlir/IR/Builders.h"
#include "mlir/IR/Diagnostics.h"
#include "mlir/IR/Verifier.h"

#include <algorithm>
#include <filesystem>
#include <map>
#include <set>

namespace llmc {

using llmrt::ErrorCode;
using llmrt::makeError;

namespace {

/// What the checkpoint should hold for one or, if fused, several parameters.
struct Expectation {
  std::string name;
  std::vector<int64_t> shape; // as stored
  std::string parameter;      // one of them, for messages
};

std::vector<Expectation> expectedTensors(mlir::ModuleOp module) {
  std::vector<Expectation> tensors;
  std::map<std::string, size_t> indexByName;
  for (auto param : module.getOps<llm::ParamOp>()) {
    auto type = llvm::cast<mlir::RankedTensorType>(param.getType());
    std::vector<int64_t> shape = type.getShape().vec();
    if (auto rows = param->getAttrOfType<mlir::ArrayAttr>("rows"))
      shape[0] = llvm::cast<mlir::IntegerAttr>(rows[1]).getInt();
    if (param.getTransposed())
      std::reverse(shape.begin(), shape.end());
    std::string source = param.getSource().value_or(param.getSymName()).str();
    auto [it, isFirst] = indexByName.emplace(source, tensors.size());
    if (isFirst)
      tensors.push_back({source, shape, param.getSymName().str()});
    // Of a fused tensor the last range gives the number of rows.
    Expectation& e = tensors[it->second];
    e.shape = std::max(e.shape, shape);
  }
  return tensors;
}

/// A head that is saved although it is tied has to be the embedding.
absl::Status checkTiedHead(const llmrt::SourceTensor& head,
                           const llmrt::WeightSource& weights) {
  if (!absl::EndsWith(head.name, "lm_head.weight"))
    return absl::OkStatus();
  for (const llmrt::SourceTensor& table : weights.tensors())
    if ((absl::EndsWith(table.name, "embed_tokens.weight") ||
         absl::EndsWith(table.name, "wte.weight")) &&
        (table.shape != head.shape || table.type != head.type ||
         table.bytes != head.bytes))
      return makeError(
          ErrorCode::ConfigContradiction,
          absl::StrCat("tensor ", head.name, " of ", weights.path(), " is not ",
                       table.name, ", to which tie_word_embeddings ties it"),
          "set tie_word_embeddings to false in config.json, or leave the "
          "tensor out");
  return absl::OkStatus();
}

absl::Status
checkAgainst(mlir::ModuleOp module, const llmrt::WeightSource& weights,
             const std::function<bool(const std::string&)>& isIgnored) {
  std::set<std::string> used;
  for (const Expectation& e : expectedTensors(module)) {
    const std::string& name = e.name;
    used.insert(name);
    LLMRT_ASSIGN_OR_RETURN(const llmrt::SourceTensor* tensor,
                           weights.require(name));
    if (tensor->shape != e.shape)
      return makeError(
          ErrorCode::TensorShapeMismatch,
          absl::StrCat("tensor ", name, " of ", weights.path(), " has shape ",
                       llmrt::shapeText(tensor->shape), ", parameter ",
                       e.parameter, " needs ", llmrt::shapeText(e.shape)),
          "the config does not belong to these weights: download both again");
    if (!llmrt::canReadElements(tensor->type))
      return makeError(
          ErrorCode::TensorTypeUnsupported,
          absl::StrCat("tensor ", name, " of ", weights.path(), " has type ",
                       llmrt::sourceTypeInfo(tensor->type).name),
          "use a checkpoint in f32, f16, bf16, Q8_0, Q4_0, Q4_1 or Q6_K");
  }
  for (const llmrt::SourceTensor& tensor : weights.tensors()) {
    if (used.count(tensor.name))
      continue;
    if (isIgnored(tensor.name))
      LLMRT_RETURN_IF_ERROR(checkTiedHead(tensor, weights));
    else
      return makeError(
          ErrorCode::TensorUnused,
          absl::StrCat("tensor ", tensor.name, " of ", weights.path(),
                       " has no place in the model that its config describes"),
          "check the number of layers and the model type of the config");
  }
  return absl::OkStatus();
}

mlir::DictionaryAttr describe(mlir::MLIRContext& context, const Family& family,
                              const ModelConfig& c, const ModelFiles& files,
                              const std::string& configJson) {
  mlir::Builder b(&context);
  mlir::NamedAttrList list;
  list.append("family", b.getStringAttr(family.name));
  list.append("vocab_size", b.getI64IntegerAttr(c.vocab));
  list.append("hidden_size", b.getI64IntegerAttr(c.hidden));
  list.append("layers", b.getI64IntegerAttr(c.layers));
  list.append("heads", b.getI64IntegerAttr(c.heads));
  list.append("kv_heads", b.getI64IntegerAttr(c.kvHeads));
  list.append("head_dim", b.getI64IntegerAttr(c.headDim));
  list.append("context_length", b.getI64IntegerAttr(c.context));
  if (c.bosToken)
    list.append("bos_token", b.getI64IntegerAttr(*c.bosToken));
  if (!c.eosTokens.empty())
    list.append("eos_tokens", b.getI64ArrayAttr(c.eosTokens));
  if (!files.source.empty())
    list.append("source", b.getStringAttr(files.source));
  if (!files.tokenizer.empty())
    list.append("tokenizer", b.getStringAttr(files.tokenizer));
  if (!configJson.empty())
    list.append("config", b.getStringAttr(configJson));
  return list.getDictionary(&context);
}

/// Adds what transformers chooses its classes by.
std::string completeConfig(const std::string& text, const Family& family) {
  if (text.empty())
    return text;
  auto config = nlohmann::ordered_json::parse(text);
  config["model_type"] = family.modelTypes.front();
  config["architectures"] = {family.architectures.front()};
  return config.dump();
}

/// Returns `path` as seen from `folder`; unchanged if that is empty.
std::string relativeTo(const std::string& path, const std::string& folder) {
  namespace fs = std::filesystem;
  if (folder.empty())
    return path;
  std::error_code error;
  auto absolute = [&](const std::string& p) {
    fs::path full = fs::absolute(p, error).lexically_normal();
    return full.has_filename() ? full : full.parent_path();
  };
  fs::path relative = absolute(path).lexically_relative(absolute(folder));
  return error || relative.empty() ? path : relative.string();
}

} // namespace

absl::StatusOr<mlir::OwningOpRef<mlir::ModuleOp>>
buildModel(mlir::MLIRContext& context, ModelDescription& description,
           const ModelFiles& files, const llmrt::WeightSource* weights) {
  const Family& family = *description.family;
  ModelConfig config;
  config.family = family.name;
  family.read(description.reader, config);
  for (const std::string& field : description.givenFields)
    if (!description.reader.isUsed(field))
      description.reader.refuse(field, "not set: " + config.family +
                                           " has no such field");
  LLMRT_RETURN_IF_ERROR(description.reader.status());

  ModelBuilder builder(context, config, description.sourceNames);
  family.build(builder, config);
  mlir::OwningOpRef<mlir::ModuleOp> module = builder.take();
  (*module)->setAttr(llm::LlmDialect::kModelAttr,
                     describe(context, family, config, files,
                              completeConfig(description.config, family)));
  // The reader has ruled out what the verifier would find: this is our error.
  mlir::ScopedDiagnosticHandler silence(
      &context, [](mlir::Diagnostic&) { return mlir::success(); });
  if (mlir::failed(mlir::verify(*module)))
    return absl::InternalError("the imported model does not verify: " +
                               description.reader.fileName());
  if (weights)
    LLMRT_RETURN_IF_ERROR(
        checkAgainst(*module, *weights, [&](const std::string& name) {
          return description.isIgnored(name, config);
        }));
  return module;
}

absl::StatusOr<mlir::OwningOpRef<mlir::ModuleOp>>
importCheckpoint(mlir::MLIRContext& context, const std::string& checkpointPath,
                 const std::string& outputDir) {
  LLMRT_ASSIGN_OR_RETURN(std::unique_ptr<llmrt::WeightSource> weights,
                         llmrt::WeightSource::open(checkpointPath));
  bool isFolder = std::filesystem::is_directory(checkpointPath);
  if (!weights->gguf() && !isFolder)
    return makeError(ErrorCode::CheckpointNotRecognised,
                     "a safetensors file says nothing about its model: " +
                         checkpointPath,
                     "give its folder, which should hold config.json too");
  LLMRT_ASSIGN_OR_RETURN(ModelDescription description,
                         weights->gguf()
                             ? describeGguf(*weights)
                             : describeHuggingFace(checkpointPath, *weights));
  ModelFiles files;
  files.source = relativeTo(checkpointPath, outputDir);
  if (description.hasTokenizer)
    files.tokenizer = files.source;
  return buildModel(context, description, files, weights.get());
}

} // namespace llmc
