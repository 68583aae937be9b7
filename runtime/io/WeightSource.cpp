// SPDX-License-Identifier: Apache-2.0
// Finding and mapping the files of a checkpoint, and looking tensors up by
// name.
#include "runtime/io/WeightSource.h"

#include "runtime/base/Error.h"
#include "runtime/io/Safetensors.h"

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"

#include <algorithm>
#include <cstring>
#include <filesystem>

namespace llmrt {
namespace {

constexpr absl::string_view kIndexSuffix = ".index.json";
constexpr size_t kMaxSuggestionLength = 256;

// Number of insertions, deletions and replacements that turn `a` into `b`.
size_t editDistance(absl::string_view a, absl::string_view b) {
  std::vector<size_t> row(b.size() + 1);
  for (size_t j = 0; j <= b.size(); ++j)
    row[j] = j;
  for (size_t i = 1; i <= a.size(); ++i) {
    size_t diagonal = row[0];
    row[0] = i;
    for (size_t j = 1; j <= b.size(); ++j) {
      size_t replaced = diagonal + (a[i - 1] == b[j - 1] ? 0 : 1);
      diagonal = row[j];
      row[j] = std::min({replaced, row[j] + 1, row[j - 1] + 1});
    }
  }
  return row[b.size()];
}

// The files of a folder whose names end in `suffix`, sorted.
std::vector<std::string> listFiles(const std::string& folder,
                                   absl::string_view suffix) {
  std::vector<std::string> names;
  std::error_code error;
  for (std::filesystem::directory_iterator it(folder, error), end;
       !error && it != end; it.increment(error)) {
    std::string name = it->path().filename().string();
    if (absl::EndsWith(name, suffix))
      names.push_back(std::move(name));
  }
  std::sort(names.begin(), names.end());
  return names;
}

} // namespace

absl::StatusOr<std::unique_ptr<WeightSource>>
WeightSource::open(const std::string& path) {
  std::unique_ptr<WeightSource> source(new WeightSource());
  source->path_ = path;
  std::error_code error;
  if (std::filesystem::is_directory(path, error))
    LLMRT_RETURN_IF_ERROR(source->openFolder(path));
  else if (absl::EndsWith(path, kIndexSuffix))
    LLMRT_RETURN_IF_ERROR(source->openIndex(path));
  else
    LLMRT_RETURN_IF_ERROR(source->openFile(path));
  for (size_t i = 0; i < source->tensors_.size(); ++i)
    source->indexByName_.emplace(source->tensors_[i].name, i);
  return source;
}

absl::Status WeightSource::openFolder(const std::string& path) {
  const std::string index = path + "/model.safetensors.index.json";
  const std::string single = path + "/model.safetensors";
  std::error_code error;
  if (std::filesystem::exists(index, error))
    return openIndex(index);
  if (std::filesystem::exists(single, error))
    return openFile(single);
  for (absl::string_view suffix : {".safetensors", ".gguf"}) {
    std::vector<std::string> names = listFiles(path, suffix);
    if (names.size() == 1)
      return openFile(absl::StrCat(path, "/", names[0]));
    if (names.size() > 1)
      return makeError(ErrorCode::WeightsAmbiguous,
                       absl::StrCat(path, " holds ", names.size(), " ", suffix,
                                    " files and no model.safetensors.index"
                                    ".json: ",
                                    names[0], ", ", names[1],
                                    names.size() > 2 ? ", ..." : ""),
                       "name one of the files instead of the folder");
  }
  return makeError(ErrorCode::WeightsNotFound,
                   absl::StrCat("no weights in ", path),
                   "name a folder with model.safetensors or a .gguf file");
}

absl::Status WeightSource::openFile(const std::string& path) {
  LLMRT_ASSIGN_OR_RETURN(MappedFile file, MappedFile::open(path));
  if (file.bytes().size() >= 4 &&
      std::memcmp(file.bytes().data(), "GGUF", 4) == 0) {
    LLMRT_ASSIGN_OR_RETURN(gguf_, GgufFile::parse(file.bytes(), path));
    tensors_ = gguf_->tensors();
  } else {
    LLMRT_ASSIGN_OR_RETURN(SafetensorsContents contents,
                           parseSafetensors(file.bytes(), path));
    tensors_ = std::move(contents.tensors);
  }
  files_.push_back(std::move(file));
  return absl::OkStatus();
}

absl::Status WeightSource::openIndex(const std::string& path) {
  LLMRT_ASSIGN_OR_RETURN(MappedFile index, MappedFile::open(path));
  LLMRT_ASSIGN_OR_RETURN(auto namesByFile,
                         parseSafetensorsIndex(index.bytes(), path));
  const std::string folder = std::filesystem::path(path).parent_path().string();
  for (const auto& [name, wanted] : namesByFile) {
    const std::string partPath =
        folder.empty() ? name : absl::StrCat(folder, "/", name);
    LLMRT_ASSIGN_OR_RETURN(MappedFile file, MappedFile::open(partPath));
    LLMRT_ASSIGN_OR_RETURN(SafetensorsContents contents,
                           parseSafetensors(file.bytes(), partPath));
    absl::flat_hash_map<absl::string_view, SourceTensor*> byName;
    for (SourceTensor& tensor : contents.tensors)
      byName.emplace(tensor.name, &tensor);
    // A part may hold tensors that the index leaves out; they are not weights.
    for (const std::string& tensorName : wanted) {
      auto found = byName.find(tensorName);
      if (found == byName.end())
        return makeError(ErrorCode::WeightIndexCorrupt,
                         absl::StrCat("damaged index ", path, ": ", name,
                                      " does not hold tensor ", tensorName),
                         "download the checkpoint again, with all its parts");
      tensors_.push_back(*found->second);
    }
    files_.push_back(std::move(file));
  }
  return absl::OkStatus();
}

std::vector<absl::string_view> WeightSource::names() const {
  std::vector<absl::string_view> names;
  names.reserve(tensors_.size());
  for (const SourceTensor& tensor : tensors_)
    names.push_back(tensor.name);
  return names;
}

const SourceTensor* WeightSource::find(absl::string_view name) const {
  auto found = indexByName_.find(name);
  return found == indexByName_.end() ? nullptr : &tensors_[found->second];
}

absl::StatusOr<const SourceTensor*>
WeightSource::require(absl::string_view name) const {
  if (const SourceTensor* tensor = find(name))
    return tensor;
  const SourceTensor* nearest = nullptr;
  size_t nearestDistance = kMaxSuggestionLength;
  for (const SourceTensor& tensor : tensors_) {
    if (tensor.name.size() > kMaxSuggestionLength ||
        name.size() > kMaxSuggestionLength)
      continue;
    size_t distance = editDistance(name, tensor.name);
    if (distance < nearestDistance) {
      nearest = &tensor;
      nearestDistance = distance;
    }
  }
  std::string what = absl::StrCat(path_, " has no tensor ", name);
  if (nearest)
    absl::StrAppend(&what, " (the nearest name is ", nearest->name, ")");
  return makeError(ErrorCode::TensorNotFound, what,
                   "check that the weights belong to this model");
}

} // namespace llmrt
