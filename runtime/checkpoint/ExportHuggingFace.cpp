// SPDX-License-Identifier: Apache-2.0
// Weights are streamed: no tensor is in memory whole.
#include "runtime/checkpoint/ExportHuggingFace.h"

#include "runtime/base/Error.h"
#include "runtime/checkpoint/CheckpointFolder.h"
#include "runtime/checkpoint/SourceLayout.h"
#include "runtime/io/Dequantize.h"

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "nlohmann/json.hpp"

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <filesystem>

namespace llmrt {
namespace {

namespace fs = std::filesystem;

constexpr int64_t kBlockElements = 4 << 20;

// What a folder of transformers may hold beside weights. config.json is written
// anew.
constexpr const char* kCopiedFiles[] = {"generation_config.json",
                                        "tokenizer.json",
                                        "tokenizer_config.json",
                                        "special_tokens_map.json",
                                        "added_tokens.json",
                                        "vocab.json",
                                        "merges.txt",
                                        "tokenizer.model",
                                        "chat_template.jinja",
                                        "chat_template.json",
                                        "preprocessor_config.json"};

bool isFile(const std::string& path) {
  std::error_code error;
  return fs::is_regular_file(path, error);
}

absl::Status sourceUnsupported(const std::string& what) {
  return makeError(ErrorCode::ExportSourceUnsupported, what,
                   "name the Hugging Face folder of the same model, with its "
                   "config.json and tokenizer files, as the source");
}

bool hasGguf(const std::string& folder) {
  std::error_code error;
  for (fs::directory_iterator it(folder, error), end; !error && it != end;
       it.increment(error))
    if (it->path().extension() == ".gguf")
      return true;
  return false;
}

std::string noteOf(const Checkpoint& checkpoint, absl::string_view name) {
  for (const auto& [key, value] : checkpoint.meta().notes)
    if (key == name)
      return value;
  return "";
}

/// What a checkpoint without a Hugging Face source says of itself.
struct OwnConfig {
  nlohmann::ordered_json config;
  std::string tokenizer; // folder or file; may be empty
};

absl::StatusOr<OwnConfig> readOwnConfig(const Checkpoint& checkpoint) {
  OwnConfig own;
  own.config =
      nlohmann::ordered_json::parse(noteOf(checkpoint, kConfigNote), nullptr,
                                    /*allow_exceptions=*/false);
  if (!own.config.is_object())
    return makeError(ErrorCode::ConfigCorrupt,
                     absl::StrCat("the config that ", checkpoint.path(),
                                  " notes is no JSON object"),
                     "name a Hugging Face folder with --source=DIR");
  own.tokenizer = noteOf(checkpoint, kTokenizerNote);
  return own;
}

/// Gives tensors of a GGUF file the names, and rows of heads the order, that
/// they have in a Hugging Face folder: the logical ones.
absl::Status nameAsHuggingFace(std::vector<ExportTensor>& tensors,
                               nlohmann::ordered_json& config) {
  bool isGguf = std::any_of(tensors.begin(), tensors.end(),
                            [](const ExportTensor& tensor) {
                              return tensor.name == "token_embd.weight";
                            });
  bool isInterleaved = config.value("rope_interleaved", false);
  config.erase("rope_interleaved");
  config.erase("transposed_weights");
  if (!isGguf)
    return absl::OkStatus();
  if (config.value("model_type", "") == "gpt2")
    return sourceUnsupported("a gpt2 from a GGUF file has other tensors than "
                             "transformers' class");
  int64_t heads = config.value("num_attention_heads", int64_t{0});
  int64_t width = config.value("hidden_size", int64_t{0});
  int64_t headRows =
      config.value("head_dim", heads > 0 ? width / heads : int64_t{0});
  for (ExportTensor& tensor : tensors) {
    if (tensor.pieces.size() != 1 || headRows < 2)
      return sourceUnsupported(absl::StrCat(
          "cannot give ", tensor.name, " the form of a Hugging Face tensor"));
    tensor.name = tensor.pieces[0].tensor->name;
    for (const char* end :
         {"q_proj.weight", "k_proj.weight", "q_proj.bias", "k_proj.bias"})
      if (isInterleaved && absl::EndsWith(tensor.name, end))
        tensor.headRows = headRows;
  }
  return absl::OkStatus();
}

absl::StatusOr<std::string> findSourceFolder(const std::string& source) {
  if (isFile(source)) {
    if (absl::EndsWith(source, ".gguf"))
      return sourceUnsupported("cannot export to the shape of a GGUF file: " +
                               source);
    std::string parent = fs::path(source).parent_path().string();
    return findSourceFolder(parent.empty() ? "." : parent);
  }
  if (source.empty())
    return sourceUnsupported(
        "the checkpoint does not say which folder its training started from");
  if (isFile(source + "/config.json"))
    return source;
  return sourceUnsupported(absl::StrCat(
      hasGguf(source) ? "a folder of GGUF files has no config.json: "
                      : "no config.json in ",
      source));
}

/// Writes the weights of one export into a folder.
class WeightExport {
public:
  WeightExport(const Checkpoint& checkpoint, const ExportRequest& request,
               std::vector<ExportTensor> tensors)
      : checkpoint_(checkpoint), request_(request),
        tensors_(std::move(tensors)) {
    for (ExportTensor& tensor : tensors_) {
      tensor.dtype = request.dtype.value_or(tensor.dtype);
      totalBytes_ += *sourceSizeBytes(tensor.dtype, tensor.shape);
    }
    // Wider elements first, so that all are aligned.
    std::stable_sort(tensors_.begin(), tensors_.end(),
                     [](const ExportTensor& a, const ExportTensor& b) {
                       return a.dtype == SourceType::F32 &&
                              b.dtype != SourceType::F32;
                     });
  }

  absl::Status write(const std::string& folder);

  int64_t totalBytes() const { return totalBytes_; }

  int64_t numTensors() const { return static_cast<int64_t>(tensors_.size()); }

  /// What config.json calls the widest type, to which the others convert
  /// without loss.
  const char* configDtype() const {
    bool hasF32 = std::any_of(tensors_.begin(), tensors_.end(), [](auto& t) {
      return t.dtype == SourceType::F32;
    });
    return hasF32 ? "float32" : "bfloat16";
  }

private:
  std::vector<std::vector<const ExportTensor*>> splitFiles() const;
  absl::Status writeFile(const std::string& path,
                         const std::vector<const ExportTensor*>& tensors);
  absl::Status writePiece(const SourcePiece& piece, const ExportTensor& tensor,
                          SafetensorsWriter& writer);
  absl::Status writeHeads(const SourcePiece& piece, const ExportTensor& tensor,
                          SafetensorsWriter& writer);
  absl::Status writeTransposed(const ExportTensor& tensor,
                               SafetensorsWriter& writer);
  absl::Status append(absl::Span<const float> values, SourceType dtype,
                      SafetensorsWriter& writer);

  const Checkpoint& checkpoint_;
  const ExportRequest& request_;
  std::vector<ExportTensor> tensors_;
  int64_t totalBytes_ = 0;
  int64_t doneBytes_ = 0;
  std::vector<uint16_t> narrow_;
};

std::vector<std::vector<const ExportTensor*>> WeightExport::splitFiles() const {
  std::vector<std::vector<const ExportTensor*>> files;
  int64_t fileBytes = 0;
  for (const ExportTensor& tensor : tensors_) {
    int64_t sizeBytes = *sourceSizeBytes(tensor.dtype, tensor.shape);
    if (files.empty() ||
        (fileBytes > 0 && sizeBytes > request_.maxFileBytes - fileBytes)) {
      files.emplace_back();
      fileBytes = 0;
    }
    files.back().push_back(&tensor);
    fileBytes += sizeBytes;
  }
  return files;
}

absl::Status WeightExport::write(const std::string& folder) {
  std::vector<std::vector<const ExportTensor*>> files = splitFiles();
  if (files.size() <= 1)
    return writeFile(folder + "/model.safetensors",
                     files.empty() ? std::vector<const ExportTensor*>()
                                   : files[0]);
  nlohmann::ordered_json weightMap = nlohmann::ordered_json::object();
  for (size_t i = 0; i < files.size(); ++i) {
    std::string name =
        absl::StrFormat("model-%05d-of-%05d.safetensors", i + 1, files.size());
    LLMRT_RETURN_IF_ERROR(writeFile(folder + "/" + name, files[i]));
    for (const ExportTensor* tensor : files[i])
      weightMap[tensor->name] = name;
  }
  nlohmann::ordered_json index = {{"metadata", {{"total_size", totalBytes_}}},
                                  {"weight_map", std::move(weightMap)}};
  return writeSmallFile(
      folder + "/model.safetensors.index.json",
      index.dump(2, ' ', false, nlohmann::json::error_handler_t::replace) +
          "\n");
}

absl::Status
WeightExport::writeFile(const std::string& path,
                        const std::vector<const ExportTensor*>& tensors) {
  std::vector<TensorDeclaration> declarations;
  for (const ExportTensor* tensor : tensors)
    declarations.push_back({tensor->name, tensor->dtype, tensor->shape});
  // transformers refuses a file that does not say this.
  LLMRT_ASSIGN_OR_RETURN(
      SafetensorsWriter writer,
      SafetensorsWriter::create(path, declarations, {{"format", "pt"}}));
  for (const ExportTensor* tensor : tensors) {
    if (tensor->isTransposed) {
      LLMRT_RETURN_IF_ERROR(writeTransposed(*tensor, writer));
      continue;
    }
    for (const SourcePiece& piece : tensor->pieces)
      LLMRT_RETURN_IF_ERROR(writePiece(piece, *tensor, writer));
  }
  return writer.finish();
}

// llama.cpp's converter puts the two halves of a head's rows in turn; here
// they come one after the other again.
absl::Status WeightExport::writeHeads(const SourcePiece& piece,
                                      const ExportTensor& tensor,
                                      SafetensorsWriter& writer) {
  int64_t numRows = piece.tensor->shape[0], half = tensor.headRows / 2;
  std::vector<float> row(*countElements(piece.tensor->shape) / numRows);
  auto width = static_cast<int64_t>(row.size());
  for (int64_t r = 0; r < numRows; ++r) {
    int64_t inHead = r % tensor.headRows;
    int64_t from =
        r - inHead + (inHead < half ? 2 * inHead : 2 * (inHead - half) + 1);
    LLMRT_RETURN_IF_ERROR(checkpoint_.read(piece.tensor->name, from * width,
                                           absl::MakeSpan(row)));
    LLMRT_RETURN_IF_ERROR(append(row, tensor.dtype, writer));
  }
  return absl::OkStatus();
}

absl::Status WeightExport::writePiece(const SourcePiece& piece,
                                      const ExportTensor& tensor,
                                      SafetensorsWriter& writer) {
  if (tensor.headRows > 0)
    return writeHeads(piece, tensor, writer);
  int64_t numElements = *countElements(piece.tensor->shape);
  std::vector<float> values(std::min(numElements, kBlockElements));
  for (int64_t done = 0; done < numElements; done += kBlockElements) {
    auto block = absl::MakeSpan(values).first(
        std::min(numElements - done, kBlockElements));
    LLMRT_RETURN_IF_ERROR(checkpoint_.read(piece.tensor->name, done, block));
    LLMRT_RETURN_IF_ERROR(append(block, tensor.dtype, writer));
  }
  return absl::OkStatus();
}

// Blocks of whole stored rows: column j of every piece, side by side.
absl::Status WeightExport::writeTransposed(const ExportTensor& tensor,
                                           SafetensorsWriter& writer) {
  int64_t inputs = tensor.shape[0], outputs = tensor.shape[1];
  if (inputs == 0 || outputs == 0)
    return absl::OkStatus();
  int64_t blockInputs =
      std::clamp<int64_t>(kBlockElements / outputs, 1, inputs);
  std::vector<float> block(blockInputs * outputs), line(blockInputs);
  for (int64_t first = 0; first < inputs; first += blockInputs) {
    int64_t count = std::min(blockInputs, inputs - first);
    auto run = absl::MakeSpan(line).first(count);
    for (const SourcePiece& piece : tensor.pieces)
      for (int64_t row = 0; row < piece.tensor->shape[0]; ++row) {
        LLMRT_RETURN_IF_ERROR(
            checkpoint_.read(piece.tensor->name, row * inputs + first, run));
        for (int64_t j = 0; j < count; ++j)
          block[j * outputs + piece.rowBegin + row] = line[j];
      }
    LLMRT_RETURN_IF_ERROR(append(absl::MakeSpan(block).first(count * outputs),
                                 tensor.dtype, writer));
  }
  return absl::OkStatus();
}

absl::Status WeightExport::append(absl::Span<const float> values,
                                  SourceType dtype, SafetensorsWriter& writer) {
  const void* data = values.data();
  size_t sizeBytes = values.size() * 4;
  if (dtype == SourceType::BF16) {
    narrow_.resize(values.size());
    convertToBf16(values.data(), static_cast<int64_t>(values.size()),
                  narrow_.data());
    data = narrow_.data();
    sizeBytes = values.size() * 2;
  }
  LLMRT_RETURN_IF_ERROR(writer.append(
      absl::MakeConstSpan(static_cast<const uint8_t*>(data), sizeBytes)));
  doneBytes_ += static_cast<int64_t>(sizeBytes);
  if (request_.progress)
    request_.progress(doneBytes_, totalBytes_);
  return absl::OkStatus();
}

absl::StatusOr<nlohmann::ordered_json> readConfig(const std::string& path) {
  LLMRT_ASSIGN_OR_RETURN(MappedFile file, MappedFile::open(path));
  nlohmann::ordered_json config = nlohmann::ordered_json::parse(
      file.bytes().begin(), file.bytes().end(), nullptr,
      /*allow_exceptions=*/false);
  if (!config.is_object())
    return makeError(ErrorCode::ConfigCorrupt, "not a JSON object: " + path,
                     "download the model again");
  return config;
}

// transformers converts weights to the type that config.json names.
absl::Status writeConfig(nlohmann::ordered_json config, const std::string& to,
                         const char* dtype) {
  bool hasNewName = config.contains("dtype");
  if (hasNewName)
    config["dtype"] = dtype;
  if (!hasNewName || config.contains("torch_dtype"))
    config["torch_dtype"] = dtype;
  return writeSmallFile(
      to, config.dump(2, ' ', false, nlohmann::json::error_handler_t::replace) +
              "\n");
}

absl::Status copyFile(const std::string& from, const std::string& to) {
  LLMRT_ASSIGN_OR_RETURN(MappedFile file, MappedFile::open(from));
  return writeSmallFile(
      to, absl::string_view(reinterpret_cast<const char*>(file.bytes().data()),
                            file.bytes().size()));
}

absl::Status checkTarget(const std::string& out) {
  std::error_code error;
  fs::file_status status = fs::status(out, error);
  if (!fs::exists(status))
    return absl::OkStatus();
  if (fs::is_directory(status) && fs::is_empty(out, error) && !error)
    return absl::OkStatus();
  return makeError(ErrorCode::ExportTargetNotEmpty,
                   "the folder to export to is there and not empty: " + out,
                   "name another folder");
}

absl::StatusOr<std::string> findCheckpoint(const std::string& path,
                                           ExportResult& result) {
  if (isFile(absl::StrCat(path, "/", kCheckpointJson)) ||
      listCheckpointSteps(path).empty())
    return path;
  LLMRT_ASSIGN_OR_RETURN(FoundCheckpoint found,
                         findNewestCheckpoint(path, nullptr));
  result.messages = std::move(found.messages);
  return found.path;
}

// A source of configuration alone, or of several weight files, is not compared.
absl::Status compareWithSource(const std::vector<ExportTensor>& tensors,
                               const std::string& path) {
  auto source = WeightSource::open(path);
  if (absl::IsNotFound(source.status()) ||
      absl::IsFailedPrecondition(source.status()))
    return absl::OkStatus();
  LLMRT_RETURN_IF_ERROR(source.status());
  return (*source)->gguf() ? absl::OkStatus()
                           : checkAgainstSource(tensors, **source);
}

absl::Status fillFolder(const std::string& folder,
                        const std::string& filesFolder,
                        nlohmann::ordered_json config, WeightExport& weights) {
  LLMRT_RETURN_IF_ERROR(weights.write(folder));
  for (const char* name : kCopiedFiles)
    if (std::string from = absl::StrCat(filesFolder, "/", name);
        !filesFolder.empty() && isFile(from))
      LLMRT_RETURN_IF_ERROR(copyFile(from, absl::StrCat(folder, "/", name)));
  LLMRT_RETURN_IF_ERROR(writeConfig(std::move(config), folder + "/config.json",
                                    weights.configDtype()));
  return syncFolder(folder);
}

/// The folder of a tokenizer whose files have Hugging Face's names; else "",
/// and a message.
std::string tokenizerFolder(const std::string& tokenizer,
                            ExportResult& result) {
  fs::path path(tokenizer);
  for (const char* name : kCopiedFiles) {
    if (isFile(absl::StrCat(tokenizer, "/", name)))
      return tokenizer;
    if (path.filename() == name && isFile(tokenizer))
      return path.has_parent_path() ? path.parent_path().string() : ".";
  }
  result.messages.push_back(
      tokenizer.empty()
          ? "the tokenizer is not known: add its files to the folder"
          : absl::StrCat("the tokenizer is not copied: name it with "
                         "--tokenizer=",
                         tokenizer));
  return "";
}

// "a/b/" is "a/b", whose hidden twin is "a/.b.partial".
std::string withoutTrailingSlash(const std::string& path) {
  fs::path normal = fs::path(path).lexically_normal();
  return (normal.has_filename() ? normal : normal.parent_path()).string();
}

} // namespace

absl::StatusOr<ExportResult> exportHuggingFace(const ExportRequest& request) {
  if (request.dtype && *request.dtype != SourceType::F32 &&
      *request.dtype != SourceType::BF16)
    return absl::InvalidArgumentError("export writes f32 and bf16");
  const std::string out = withoutTrailingSlash(request.out);
  LLMRT_RETURN_IF_ERROR(checkTarget(out));
  ExportResult result;
  LLMRT_ASSIGN_OR_RETURN(result.checkpoint,
                         findCheckpoint(request.checkpoint, result));
  LLMRT_ASSIGN_OR_RETURN(std::unique_ptr<Checkpoint> checkpoint,
                         Checkpoint::open(result.checkpoint));
  LLMRT_ASSIGN_OR_RETURN(std::vector<ExportTensor> tensors,
                         invertSources(*checkpoint));
  absl::StatusOr<std::string> source = findSourceFolder(request.source);
  nlohmann::ordered_json config;
  std::string filesFolder;
  if (!source.ok() && !noteOf(*checkpoint, kConfigNote).empty()) {
    LLMRT_ASSIGN_OR_RETURN(OwnConfig own, readOwnConfig(*checkpoint));
    config = std::move(own.config);
    LLMRT_RETURN_IF_ERROR(nameAsHuggingFace(tensors, config));
    filesFolder = tokenizerFolder(own.tokenizer, result);
  } else {
    LLMRT_RETURN_IF_ERROR(source.status());
    filesFolder = *source;
    LLMRT_ASSIGN_OR_RETURN(config, readConfig(filesFolder + "/config.json"));
    for (const ExportTensor& tensor : tensors)
      if (tensor.name == "token_embd.weight")
        return sourceUnsupported("the model that was trained came from a GGUF "
                                 "file, whose tensors have other names");
    LLMRT_RETURN_IF_ERROR(compareWithSource(tensors, request.source));
  }
  WeightExport weights(*checkpoint, request, std::move(tensors));
  result.numTensors = weights.numTensors();
  result.sizeBytes = weights.totalBytes();

  fs::path outPath(out);
  std::string parent = outPath.parent_path().string();
  parent = parent.empty() ? "." : parent;
  const std::string partial =
      absl::StrCat(parent, "/.", outPath.filename().string(), ".partial");
  std::error_code ignored;
  fs::remove_all(partial, ignored);
  LLMRT_RETURN_IF_ERROR(makeFolders(partial));
  absl::Status status =
      fillFolder(partial, filesFolder, std::move(config), weights);
  if (status.ok() && std::rename(partial.c_str(), out.c_str()) != 0)
    status = errno == ENOTEMPTY || errno == EEXIST
                 ? checkTarget(out)
                 : makeSystemError(ErrorCode::FileNotWritable, errno,
                                   "cannot rename to", out);
  if (!status.ok()) {
    fs::remove_all(partial, ignored);
    return status;
  }
  if (absl::Status synced = syncFolder(parent); !synced.ok())
    result.messages.emplace_back(synced.message());
  return result;
}

} // namespace llmrt
