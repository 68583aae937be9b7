// SPDX-License-Identifier: Apache-2.0
#include "tools/llmc/ModelInput.h"

#include "models/Import.h"
#include "runtime/base/Error.h"
#include "runtime/base/MappedFile.h"
#include "tools/llmc/ModelReport.h"

#include "llvm/Support/FileSystem.h"
#include "llvm/Support/Path.h"

using namespace mlir;
using llmrt::ErrorCode;
using llmrt::makeError;

namespace llmc {
namespace {

std::string folderOf(const std::string& path) {
  return llvm::sys::path::parent_path(path).str();
}

/// Refuses a file that is no checkpoint by its first bytes, before an importer
/// takes it for a damaged one.
absl::Status checkCheckpointFile(const std::string& path) {
  if (!llvm::sys::fs::is_regular_file(path))
    return absl::OkStatus();
  LLMRT_ASSIGN_OR_RETURN(auto file, llmrt::MappedFile::open(path));
  llvm::StringRef bytes(reinterpret_cast<const char*>(file.bytes().data()),
                        file.bytes().size());
  if (bytes.starts_with("GGUF"))
    return absl::OkStatus();
  std::string advice = "give a Hugging Face folder or a .gguf file";
  if (bytes.starts_with("LLMCPLAN"))
    advice = "it is a plan: run it with llmrt run, or see llmc inspect";
  else if (llvm::StringRef(path).ends_with(".safetensors"))
    advice = "give the folder that also holds its config.json";
  else if (llvm::StringRef(path).ends_with(".mlir"))
    advice = "it is a model: give it to llmc compile";
  return makeError(ErrorCode::CheckpointNotRecognised,
                   path + " is no checkpoint", advice);
}

} // namespace

absl::StatusOr<OwningOpRef<ModuleOp>> importModel(MLIRContext& context,
                                                  const std::string& path,
                                                  const std::string& output) {
  LLMRT_RETURN_IF_ERROR(checkCheckpointFile(path));
  return importCheckpoint(context, path, folderOf(output));
}

absl::StatusOr<OwningOpRef<ModuleOp>> readModel(MLIRContext& context,
                                                const std::string& path,
                                                const std::string& output) {
  if (!llvm::StringRef(path).ends_with(".mlir"))
    return importModel(context, path, output);
  LLMRT_ASSIGN_OR_RETURN(OwningOpRef<ModuleOp> module,
                         readModule(context, path));
  if (module->getBody()->empty())
    return makeError(ErrorCode::ModelInvalid, path + ": it holds no model",
                     "see llmc import");
  return module;
}

} // namespace llmc
