// SPDX-License-Identifier: Apache-2.0
// A run of a laid-out box is cut into rectangles of the local matrix, these at
// padding and at rows that do not follow each other in the logical tensor.
#include "runtime/executor/HeldElements.h"

#include "runtime/base/Error.h"
#include "runtime/io/Dequantize.h"
#include "runtime/kernels/Pack.h"
#include "runtime/plan/Mesh.h"

#include <cstring>

namespace llmrt {
namespace {

constexpr int64_t kStagingElements = int64_t{1} << 18;

/// Removes `hole` from every interval.
std::vector<Interval> subtract(const std::vector<Interval>& from,
                               const Interval& hole) {
  std::vector<Interval> rest;
  for (const Interval& part : from) {
    int64_t end = std::min(part.second, hole.first);
    int64_t begin = std::max(part.first, hole.second);
    if (part.first < end)
      rest.emplace_back(part.first, end);
    if (begin < part.second)
      rest.emplace_back(std::max(begin, end), part.second);
  }
  return rest;
}

const fb::BoxDim* findCut(const fb::Parameter& parameter, int dim) {
  for (unsigned i = 0; parameter.box() && i < parameter.box()->size(); ++i)
    if (parameter.box()->Get(i)->dim() == dim)
      return parameter.box()->Get(i);
  return nullptr;
}

} // namespace

HeldElements::HeldElements(const HeldElementsArgs& args)
    : parameter_(*args.parameter),
      coordinates_(args.coordinates.begin(), args.coordinates.end()),
      box_(*args.parameter, args.coordinates), dtype_(args.dtype),
      isPanel_(args.parameter->layout() == fb::WeightLayout::Panel),
      memory_(args.memory) {
  int64_t panelRows = panelCols(dtype_);
  int64_t lines =
      isPanel_ ? (box_.rows() + panelRows - 1) / panelRows : box_.rows();
  begin_ = 0;
  end_ = lines * box_.cols();
  if (args.shardBytes > 0) {
    int64_t units =
        args.shardBytes / (isPanel_ ? kPanelBytes : dtypeBytes(dtype_));
    begin_ = std::min(end_, units * args.shard);
    end_ = std::min(end_, begin_ + units);
  }
  for (int d = 0; d < box_.numDims(); ++d)
    own_.push_back(ownIntervals(d, args.isFirstOnly));
}

std::vector<Interval> HeldElements::ownIntervals(int dim,
                                                 bool isFirstOnly) const {
  std::vector<Interval> own = {
      {box_.offset(dim), box_.offset(dim) + box_.count(dim)}};
  const fb::BoxDim* cut = findCut(parameter_, dim);
  if (!isFirstOnly || !cut)
    return own;
  int axis = std::max(cut->offset()->axis(), cut->count()->axis());
  if (axis < 0)
    return own;
  std::vector<int> other = coordinates_;
  for (other[axis] = 0; other[axis] < coordinates_[axis]; ++other[axis]) {
    int64_t begin = atCoordinates(cut->offset(), other, 0);
    own = subtract(own, {begin, begin + atCoordinates(cut->count(), other, 0)});
  }
  return own;
}

uint8_t* HeldElements::elementAt(int64_t row, int64_t col) const {
  int64_t elementBytes = dtypeBytes(dtype_);
  if (!isPanel_)
    return memory_ + (row * box_.cols() + col - begin_) * elementBytes;
  int64_t P = panelCols(dtype_);
  int64_t line = row / P * box_.cols() + col - begin_;
  return memory_ + (line * P + row % P) * elementBytes;
}

float HeldElements::load(int64_t row, int64_t col) const {
  const uint8_t* at = elementAt(row, col);
  float value;
  if (dtype_ == DType::F32) {
    std::memcpy(&value, at, sizeof(value));
    return value;
  }
  uint16_t half;
  std::memcpy(&half, at, sizeof(half));
  uint32_t bits = static_cast<uint32_t>(half) << 16;
  std::memcpy(&value, &bits, sizeof(value));
  return value;
}

void HeldElements::store(int64_t row, int64_t col, float value) const {
  uint8_t* at = elementAt(row, col);
  if (dtype_ == DType::F32) {
    std::memcpy(at, &value, sizeof(value));
    return;
  }
  uint16_t half = bf16FromFloat(value);
  std::memcpy(at, &half, sizeof(half));
}

bool HeldElements::ownsRow(int64_t localRow) const {
  for (int d = box_.numDims() - 2; d >= 0; --d) {
    int64_t index = box_.offset(d) + localRow % box_.localSize(d);
    localRow /= box_.localSize(d);
    bool isOwn = false;
    for (const Interval& part : own_[d])
      isOwn = isOwn || (index >= part.first && index < part.second);
    if (!isOwn)
      return false;
  }
  return true;
}

absl::Status HeldElements::visit(bool isChanged, Visit visit) {
  if (begin_ == end_)
    return absl::OkStatus();
  return isPanel_ ? visitPanels(isChanged, visit) : visitRows(isChanged, visit);
}

absl::Status HeldElements::visitPanels(bool isChanged, Visit visit) {
  int64_t K = box_.cols();
  int64_t P = panelCols(dtype_);
  int64_t mostCols = std::max<int64_t>(1, kStagingElements / P);
  for (int64_t line = begin_; line < end_;) {
    int64_t col = line % K;
    int64_t count = std::min({end_ - line, K - col, mostCols});
    int64_t row = line / K * P;
    LLMRT_RETURN_IF_ERROR(
        visitRectangle({row, std::min(row + P, box_.rows()), col, col + count},
                       isChanged, visit));
    line += count;
  }
  return absl::OkStatus();
}

absl::Status HeldElements::visitRows(bool isChanged, Visit visit) {
  int64_t cols = box_.cols();
  int64_t mostRows = std::max<int64_t>(1, kStagingElements / cols);
  for (int64_t at = begin_; at < end_;) {
    int64_t row = at / cols;
    int64_t col = at % cols;
    int64_t numRows = 1;
    int64_t count = std::min({end_ - at, cols - col, kStagingElements});
    if (col == 0 && count == cols)
      numRows = std::min(mostRows, (end_ - at) / cols);
    LLMRT_RETURN_IF_ERROR(visitRectangle({row, row + numRows, col, col + count},
                                         isChanged, visit));
    at += numRows * count;
  }
  return absl::OkStatus();
}

absl::Status HeldElements::visitRectangle(const Rectangle& part, bool isChanged,
                                          Visit visit) {
  for (int64_t row = part.rowBegin; row < part.rowEnd;) {
    int64_t globalRow = box_.globalRow(row);
    int64_t numRows = 1;
    if (globalRow < 0 || !ownsRow(row)) {
      ++row;
      continue;
    }
    while (row + numRows < part.rowEnd &&
           box_.globalRow(row + numRows) == globalRow + numRows &&
           ownsRow(row + numRows))
      ++numRows;
    for (const Interval& own : own_.back()) {
      int64_t begin = std::max(own.first, box_.firstCol() + part.colBegin);
      int64_t end = std::min(own.second, box_.firstCol() + part.colEnd);
      if (begin < end)
        LLMRT_RETURN_IF_ERROR(visitBlock(
            row, {globalRow, numRows, begin, end - begin}, isChanged, visit));
    }
    row += numRows;
  }
  return absl::OkStatus();
}

absl::Status HeldElements::visitBlock(int64_t localRow, const LogicalBox& box,
                                      bool isChanged, Visit visit) {
  int64_t localCol = box.colBegin - box_.firstCol();
  if (!isPanel_ && dtype_ == DType::F32)
    return visit(box, reinterpret_cast<float*>(elementAt(localRow, localCol)),
                 box_.cols());
  staging_.resize(std::max<size_t>(staging_.size(), box.numRows * box.numCols));
  for (int64_t i = 0; i < box.numRows; ++i)
    for (int64_t j = 0; j < box.numCols; ++j)
      staging_[i * box.numCols + j] = load(localRow + i, localCol + j);
  LLMRT_RETURN_IF_ERROR(visit(box, staging_.data(), box.numCols));
  if (isChanged)
    for (int64_t i = 0; i < box.numRows; ++i)
      for (int64_t j = 0; j < box.numCols; ++j)
        store(localRow + i, localCol + j, staging_[i * box.numCols + j]);
  return absl::OkStatus();
}

} // namespace llmrt
