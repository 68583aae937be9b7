// SPDX-License-Identifier: Apache-2.0
// Which tensor lies where in which file.
#include "runtime/checkpoint/CheckpointFormat.h"

#include "runtime/base/Error.h"

#include "absl/container/flat_hash_set.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "nlohmann/json.hpp"

#include <algorithm>

namespace llmrt {
namespace {

absl::Status checkTensors(const std::vector<CheckpointTensor>& tensors) {
  absl::flat_hash_set<absl::string_view> names;
  for (const CheckpointTensor& tensor : tensors) {
    bool isKnownType =
        tensor.dtype == SourceType::F32 || tensor.dtype == SourceType::BF16;
    if (!isKnownType || !sourceSizeBytes(tensor.dtype, tensor.shape) ||
        !names.insert(tensor.name).second)
      return absl::InvalidArgumentError(
          absl::StrCat("a checkpoint cannot hold tensor ", tensor.name));
  }
  return absl::OkStatus();
}

// Cuts the tensors of a part into files.
std::vector<std::vector<const CheckpointTensor*>>
splitPart(const std::vector<CheckpointTensor>& tensors, CheckpointPart part,
          int64_t maxFileBytes) {
  std::vector<const CheckpointTensor*> ordered;
  for (const CheckpointTensor& tensor : tensors)
    if (tensor.part == part)
      ordered.push_back(&tensor);
  std::stable_sort(ordered.begin(), ordered.end(), [](auto* a, auto* b) {
    return sourceTypeInfo(a->dtype).blockBytes >
           sourceTypeInfo(b->dtype).blockBytes;
  });
  std::vector<std::vector<const CheckpointTensor*>> files;
  int64_t fileBytes = 0;
  for (const CheckpointTensor* tensor : ordered) {
    int64_t sizeBytes = *sourceSizeBytes(tensor->dtype, tensor->shape);
    if (files.empty() ||
        (fileBytes > 0 && sizeBytes > maxFileBytes - fileBytes)) {
      files.emplace_back();
      fileBytes = 0;
    }
    files.back().push_back(tensor);
    fileBytes += sizeBytes;
  }
  return files;
}

absl::Status addFile(const std::vector<const CheckpointTensor*>& tensors,
                     const std::string& name, CheckpointLayout& layout) {
  std::vector<TensorDeclaration> declarations;
  for (const CheckpointTensor* tensor : tensors)
    declarations.push_back({tensor->name, tensor->dtype, tensor->shape});
  CheckpointFile file = {.name = name};
  LLMRT_ASSIGN_OR_RETURN(
      file.header, encodeSafetensorsHeader(declarations, {{"format", "pt"}}));
  auto cursor = static_cast<int64_t>(file.header.size());
  for (const CheckpointTensor* tensor : tensors) {
    PlacedTensor placed = {.tensor = *tensor,
                           .file = static_cast<int>(layout.files.size()),
                           .offsetBytes = cursor,
                           .sizeBytes =
                               *sourceSizeBytes(tensor->dtype, tensor->shape)};
    placed.checksums.resize(placed.numChunks());
    cursor += placed.sizeBytes;
    layout.tensors.push_back(std::move(placed));
  }
  file.sizeBytes = cursor;
  layout.files.push_back(std::move(file));
  return absl::OkStatus();
}

std::string indexText(const CheckpointLayout& layout, size_t firstTensor) {
  nlohmann::ordered_json weightMap = nlohmann::ordered_json::object();
  int64_t totalBytes = 0;
  for (size_t i = firstTensor; i < layout.tensors.size(); ++i) {
    const PlacedTensor& placed = layout.tensors[i];
    weightMap[placed.tensor.name] = layout.files[placed.file].name;
    totalBytes += placed.sizeBytes;
  }
  nlohmann::ordered_json index = {{"metadata", {{"total_size", totalBytes}}},
                                  {"weight_map", std::move(weightMap)}};
  return index.dump(2, ' ', false, nlohmann::json::error_handler_t::replace) +
         "\n";
}

} // namespace

std::string momentName(absl::string_view name, int moment) {
  return absl::StrCat(name, ".moment", moment);
}

int64_t firstElementOf(const CheckpointBox& box,
                       absl::Span<const int64_t> shape) {
  int64_t cols = shape.empty() ? 1 : shape.back();
  int64_t rows = cols > 0 ? *countElements(shape) / cols : 0;
  bool isInside = box.rowBegin >= 0 && box.colBegin >= 0 && box.numRows >= 0 &&
                  box.numCols >= 0 && box.rowBegin <= rows - box.numRows &&
                  box.colBegin <= cols - box.numCols;
  return isInside ? box.rowBegin * cols + box.colBegin : -1;
}

absl::StatusOr<CheckpointLayout>
layOutCheckpoint(const std::vector<CheckpointTensor>& tensors,
                 int64_t maxFileBytes) {
  LLMRT_RETURN_IF_ERROR(checkTensors(tensors));
  CheckpointLayout layout;
  for (CheckpointPart part :
       {CheckpointPart::Model, CheckpointPart::Optimizer}) {
    const char* stem = part == CheckpointPart::Model ? "model" : "optimizer";
    auto files = splitPart(tensors, part, maxFileBytes);
    size_t firstTensor = layout.tensors.size();
    for (size_t i = 0; i < files.size(); ++i)
      LLMRT_RETURN_IF_ERROR(addFile(
          files[i],
          files.size() == 1 ? absl::StrCat(stem, ".safetensors")
                            : absl::StrFormat("%s-%05d-of-%05d.safetensors",
                                              stem, i + 1, files.size()),
          layout));
    if (files.size() > 1)
      layout.indexes.emplace_back(absl::StrCat(stem, ".safetensors.index.json"),
                                  indexText(layout, firstTensor));
  }
  return layout;
}

} // namespace llmrt
