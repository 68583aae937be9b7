// SPDX-License-Identifier: Apache-2.0
#include "runtime/checkpoint/Checkpoint.h"

#include "runtime/base/Crc64.h"
#include "runtime/base/Error.h"
#include "runtime/checkpoint/CheckpointFolder.h"
#include "runtime/io/Dequantize.h"

#include "absl/container/flat_hash_map.h"
#include "absl/strings/str_cat.h"

#include <algorithm>
#include <filesystem>

namespace llmrt {
namespace {

absl::Status noSuchTensor(const std::string& path, absl::string_view name) {
  return makeError(ErrorCode::CheckpointMismatch,
                   absl::StrCat("checkpoint ", path, " has no tensor ", name),
                   "use a checkpoint of this model");
}

} // namespace

absl::StatusOr<std::unique_ptr<Checkpoint>>
Checkpoint::open(const std::string& path,
                 const OpenCheckpointOptions& options) {
  const std::string jsonPath = absl::StrCat(path, "/", kCheckpointJson);
  std::error_code error;
  if (!std::filesystem::exists(jsonPath, error))
    return makeError(ErrorCode::CheckpointNotFound,
                     absl::StrCat("no checkpoint in ", path, " (it has no ",
                                  kCheckpointJson, ")"),
                     "name a folder step-... that a training run has written");
  LLMRT_ASSIGN_OR_RETURN(MappedFile json, MappedFile::open(jsonPath));
  LLMRT_ASSIGN_OR_RETURN(CheckpointDescription description,
                         decodeCheckpointJson(json.bytes(), jsonPath));
  std::unique_ptr<Checkpoint> checkpoint(new Checkpoint());
  checkpoint->path_ = path;
  checkpoint->options_ = options;
  checkpoint->meta_ = std::move(description.meta);
  LLMRT_RETURN_IF_ERROR(checkpoint->openFiles(description.layout));
  return checkpoint;
}

absl::Status Checkpoint::openFiles(CheckpointLayout& layout) {
  for (size_t i = 0; i < layout.files.size(); ++i) {
    const std::string filePath = absl::StrCat(path_, "/", layout.files[i].name);
    auto file = MappedFile::open(filePath);
    if (!file.ok())
      return checkpointCorrupt(path_, file.status().message());
    if (static_cast<int64_t>(file->bytes().size()) != layout.files[i].sizeBytes)
      return checkpointCorrupt(
          filePath, absl::StrCat("has ", file->bytes().size(), " bytes, not ",
                                 layout.files[i].sizeBytes));
    auto contents = parseSafetensors(file->bytes(), filePath);
    if (!contents.ok())
      return checkpointCorrupt(path_, contents.status().message());
    files_.push_back(*std::move(file));
    LLMRT_RETURN_IF_ERROR(addTensors(static_cast<int>(i), *contents, layout));
  }
  if (tensors_.size() != layout.tensors.size())
    return checkpointCorrupt(
        path_, absl::StrCat("has ", tensors_.size(), " tensors, ",
                            kCheckpointJson, " lists ", layout.tensors.size()));
  return absl::OkStatus();
}

absl::Status Checkpoint::addTensors(int file,
                                    const SafetensorsContents& contents,
                                    CheckpointLayout& layout) {
  absl::flat_hash_map<absl::string_view, PlacedTensor*> wanted;
  for (PlacedTensor& placed : layout.tensors)
    if (placed.file == file)
      wanted.emplace(placed.tensor.name, &placed);
  for (const SourceTensor& source : contents.tensors) {
    auto found = wanted.find(source.name);
    if (found == wanted.end() || found->second->tensor.dtype != source.type ||
        found->second->tensor.shape != source.shape ||
        !indexByName_.emplace(source.name, static_cast<int>(tensors_.size()))
             .second)
      return checkpointCorrupt(files_[file].path(),
                               absl::StrCat("tensor ", source.name,
                                            " is not as ", kCheckpointJson,
                                            " lists it"));
    Entry entry;
    entry.source = source;
    entry.file = file;
    entry.checksums = std::move(found->second->checksums);
    entry.isVerified =
        std::make_unique<std::atomic<bool>[]>(entry.checksums.size());
    tensors_.push_back(std::move(found->second->tensor));
    entries_.push_back(std::move(entry));
    wanted.erase(found);
  }
  return absl::OkStatus();
}

const CheckpointTensor* Checkpoint::find(absl::string_view name) const {
  auto found = indexByName_.find(name);
  return found == indexByName_.end() ? nullptr : &tensors_[found->second];
}

absl::StatusOr<const CheckpointTensor*>
Checkpoint::require(absl::string_view name,
                    absl::Span<const int64_t> shape) const {
  const CheckpointTensor* tensor = find(name);
  if (!tensor)
    return noSuchTensor(path_, name);
  if (absl::MakeConstSpan(tensor->shape) != shape)
    return makeError(ErrorCode::CheckpointMismatch,
                     absl::StrCat("tensor ", name, " of checkpoint ", path_,
                                  " has shape ", shapeText(tensor->shape),
                                  ", the model's has ", shapeText(shape)),
                     "use a checkpoint of this model");
  return tensor;
}

absl::Status Checkpoint::verifyChunk(int tensor, int64_t chunk) const {
  const Entry& entry = entries_[tensor];
  if (entry.isVerified[chunk].load(std::memory_order_relaxed))
    return absl::OkStatus();
  auto bytes = entry.source.bytes.subspan(
      static_cast<size_t>(chunk * kChecksumBytes), kChecksumBytes);
  if (crc64(bytes) != entry.checksums[chunk])
    return checkpointCorrupt(files_[entry.file].path(),
                             absl::StrCat("checksum of tensor ",
                                          entry.source.name,
                                          " does not match"));
  entry.isVerified[chunk].store(true, std::memory_order_relaxed);
  return absl::OkStatus();
}

absl::Status Checkpoint::read(absl::string_view tensor, int64_t elementOffset,
                              absl::Span<float> out) const {
  auto found = indexByName_.find(tensor);
  if (found == indexByName_.end())
    return noSuchTensor(path_, tensor);
  const Entry& entry = entries_[found->second];
  auto count = static_cast<int64_t>(out.size());
  if (elementOffset < 0 || elementOffset > entry.source.numElements() - count)
    return absl::OutOfRangeError(
        absl::StrCat("elements ", elementOffset, " to ", elementOffset + count,
                     " of tensor ", tensor, " of checkpoint ", path_));
  return readRun(found->second, elementOffset, count, out.data());
}

absl::Status Checkpoint::readBox(absl::string_view tensor,
                                 const CheckpointBox& box, float* out) const {
  auto found = indexByName_.find(tensor);
  if (found == indexByName_.end())
    return noSuchTensor(path_, tensor);
  const std::vector<int64_t>& shape = tensors_[found->second].shape;
  int64_t firstElement = firstElementOf(box, shape);
  if (firstElement < 0)
    return absl::OutOfRangeError(absl::StrCat(
        "rows ", box.rowBegin, " to ", box.rowBegin + box.numRows, ", columns ",
        box.colBegin, " to ", box.colBegin + box.numCols, " of tensor ", tensor,
        " of checkpoint ", path_));
  int64_t cols = shape.empty() ? 1 : shape.back();
  for (int64_t i = 0; i < box.numRows; ++i)
    LLMRT_RETURN_IF_ERROR(readRun(found->second, firstElement + i * cols,
                                  box.numCols, out + i * box.rowStride));
  return absl::OkStatus();
}

absl::Status Checkpoint::readRun(int tensor, int64_t elementOffset,
                                 int64_t numElements, float* out) const {
  const Entry& entry = entries_[tensor];
  if (numElements == 0)
    return absl::OkStatus();
  if (options_.verifyChecksums) {
    int64_t elementBytes = sourceTypeInfo(entry.source.type).blockBytes;
    int64_t last = (elementOffset + numElements) * elementBytes - 1;
    for (int64_t chunk = elementOffset * elementBytes / kChecksumBytes;
         chunk <= last / kChecksumBytes; ++chunk)
      LLMRT_RETURN_IF_ERROR(verifyChunk(tensor, chunk));
  }
  return readElements(entry.source, elementOffset, numElements, out);
}

absl::Status Checkpoint::verifyShare(int rank, int size) const {
  int64_t index = 0;
  for (size_t i = 0; i < entries_.size(); ++i)
    for (size_t c = 0; c < entries_[i].checksums.size(); ++c, ++index)
      if (index % size == rank)
        LLMRT_RETURN_IF_ERROR(
            verifyChunk(static_cast<int>(i), static_cast<int64_t>(c)));
  return absl::OkStatus();
}

absl::StatusOr<FoundCheckpoint>
findNewestCheckpoint(const std::string& folder, Communicator* communicator) {
  constexpr const char* kSubject = "search for a checkpoint";
  RankGroup ranks(communicator);
  std::vector<int64_t> steps;
  if (ranks.rank() == 0)
    steps = listCheckpointSteps(folder);
  LLMRT_RETURN_IF_ERROR(ranks.broadcast(steps, kSubject));
  if (steps.empty())
    return makeError(ErrorCode::CheckpointNotFound,
                     "no checkpoint in " + folder,
                     "start without --resume, or name the folder that was "
                     "given to --checkpoint-dir");
  FoundCheckpoint found;
  absl::Status newest;
  for (auto step = steps.rbegin(); step != steps.rend(); ++step) {
    found.step = *step;
    found.path = absl::StrCat(folder, "/", checkpointName(*step));
    auto checkpoint = Checkpoint::open(found.path);
    absl::Status mine =
        checkpoint.ok() ? (*checkpoint)->verifyShare(ranks.rank(), ranks.size())
                        : checkpoint.status();
    absl::Status agreed;
    LLMRT_RETURN_IF_ERROR(ranks.share(mine, kSubject, agreed));
    if (agreed.ok())
      return found;
    if (agreed.code() == absl::StatusCode::kUnimplemented) // CheckpointTooNew
      return agreed;
    if (newest.ok())
      newest = agreed;
    found.messages.push_back(
        absl::StrCat("passing over ", found.path, ": ", agreed.message()));
  }
  return newest;
}

} // namespace llmrt
