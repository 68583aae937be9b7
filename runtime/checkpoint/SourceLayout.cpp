// SPDX-License-Identifier: Apache-2.0
#include "runtime/checkpoint/SourceLayout.h"

#include "runtime/base/Error.h"

#include "absl/container/flat_hash_map.h"
#include "absl/strings/str_cat.h"

#include <algorithm>

namespace llmrt {
namespace {

absl::Status mapInvalid(absl::string_view name, absl::string_view what) {
  return makeError(ErrorCode::ExportMapInvalid,
                   absl::StrCat("tensor ", name, " cannot be exported: ", what),
                   "name the folder that training started from");
}

int64_t numRows(const CheckpointTensor& tensor) {
  return tensor.shape.empty() ? 1 : tensor.shape[0];
}

absl::Span<const int64_t> rowShape(const CheckpointTensor& tensor) {
  return absl::MakeConstSpan(tensor.shape)
      .subspan(tensor.shape.empty() ? 0 : 1);
}

// Adds a logical tensor to the source tensor that it is (rows of).
absl::Status addPiece(const CheckpointTensor& tensor,
                      const CheckpointSource& source, ExportTensor& target) {
  bool isRows = source.rowEnd >= 0;
  bool isFit = !isRows || source.rowEnd - source.rowBegin == numRows(tensor);
  bool isFirst = target.pieces.empty();
  if (!isFirst) {
    const CheckpointTensor& first = *target.pieces[0].tensor;
    isFit = isFit && target.isTransposed == source.isTransposed &&
            first.shape.size() == tensor.shape.size() &&
            rowShape(first) == rowShape(tensor);
  }
  if (source.isTransposed && tensor.shape.size() != 2)
    isFit = false;
  if (!isFit)
    return mapInvalid(target.name,
                      absl::StrCat("parameter ", tensor.name, " of shape ",
                                   shapeText(tensor.shape),
                                   " is not the rows of it that it should be"));
  if (isFirst)
    target.dtype = tensor.dtype;
  if (tensor.dtype == SourceType::F32)
    target.dtype = SourceType::F32;
  target.isTransposed = source.isTransposed;
  target.pieces.push_back({&tensor, isRows ? source.rowBegin : 0});
  return absl::OkStatus();
}

absl::Status finishTensor(ExportTensor& target) {
  std::sort(target.pieces.begin(), target.pieces.end(),
            [](const SourcePiece& a, const SourcePiece& b) {
              return a.rowBegin < b.rowBegin;
            });
  int64_t cursor = 0;
  for (const SourcePiece& piece : target.pieces) {
    if (piece.rowBegin != cursor)
      return mapInvalid(
          target.name,
          absl::StrCat("its rows from ", std::min(piece.rowBegin, cursor),
                       piece.rowBegin > cursor ? " are missing"
                                               : " are given twice",
                       ", seen at parameter ", piece.tensor->name));
    cursor += numRows(*piece.tensor);
  }
  target.shape = target.pieces[0].tensor->shape;
  if (!target.shape.empty())
    target.shape[0] = cursor;
  if (target.isTransposed)
    std::swap(target.shape[0], target.shape[1]);
  return absl::OkStatus();
}

} // namespace

absl::StatusOr<std::vector<ExportTensor>>
invertSources(const Checkpoint& checkpoint) {
  absl::flat_hash_map<absl::string_view, const CheckpointSource*> sources;
  for (const CheckpointSource& source : checkpoint.meta().sources)
    if (!sources.emplace(source.name, &source).second)
      return mapInvalid(source.name, "its source is given twice");
  std::vector<ExportTensor> targets;
  absl::flat_hash_map<std::string, size_t> targetByName;
  for (const CheckpointTensor& tensor : checkpoint.tensors()) {
    if (tensor.part != CheckpointPart::Model)
      continue;
    auto found = sources.find(tensor.name);
    CheckpointSource own = {tensor.name, tensor.name};
    if (found != sources.end())
      own = *found->second;
    if (own.source.empty())
      own.source = tensor.name;
    auto [target, isNew] = targetByName.emplace(own.source, targets.size());
    if (isNew)
      targets.emplace_back().name = own.source;
    LLMRT_RETURN_IF_ERROR(addPiece(tensor, own, targets[target->second]));
  }
  for (ExportTensor& target : targets)
    LLMRT_RETURN_IF_ERROR(finishTensor(target));
  return targets;
}

absl::Status checkAgainstSource(const std::vector<ExportTensor>& tensors,
                                const WeightSource& source) {
  for (const ExportTensor& tensor : tensors) {
    const SourceTensor* original = source.find(tensor.name);
    if (!original)
      return mapInvalid(tensor.name, "no such tensor in " + source.path());
    if (original->shape != tensor.shape)
      return mapInvalid(tensor.name,
                        absl::StrCat("its shape is ", shapeText(tensor.shape),
                                     ", in ", source.path(), " it is ",
                                     shapeText(original->shape)));
  }
  return absl::OkStatus();
}

} // namespace llmrt
