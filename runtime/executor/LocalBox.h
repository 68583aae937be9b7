// SPDX-License-Identifier: Apache-2.0
// Private to the executor: which elements of a logical parameter a rank holds,
// as a matrix whose rows are all dimensions but the last.
#pragma once

#include "runtime/plan/PlanFile.h"

#include <vector>

namespace llmrt {

class LocalBox {
public:
  LocalBox(const fb::Parameter& parameter, absl::Span<const int> coordinates) {
    for (unsigned d = 0; d < parameter.global_shape()->size(); ++d) {
      global_.push_back(parameter.global_shape()->Get(d));
      local_.push_back(parameter.local_shape()->Get(d));
      offset_.push_back(0);
      count_.push_back(global_.back());
    }
    for (unsigned i = 0; parameter.box() && i < parameter.box()->size(); ++i) {
      const fb::BoxDim* cut = parameter.box()->Get(i);
      offset_[cut->dim()] = atCoordinates(cut->offset(), coordinates, 0);
      count_[cut->dim()] = atCoordinates(cut->count(), coordinates, 0);
    }
  }

  /// Size of the local matrix, padding included.
  int64_t cols() const { return local_.back(); }

  int64_t rows() const {
    int64_t rows = 1;
    for (size_t d = 0; d + 1 < local_.size(); ++d)
      rows *= local_[d];
    return rows;
  }

  /// Local columns [0, validCols()) are columns from firstCol() on of the
  /// logical tensor; the others are padding.
  int64_t validCols() const { return count_.back(); }

  int64_t firstCol() const { return offset_.back(); }

  /// Elements [offset(d), offset(d) + count(d)) of dimension d are here.
  int numDims() const { return static_cast<int>(local_.size()); }

  int64_t offset(int d) const { return offset_[d]; }

  int64_t count(int d) const { return count_[d]; }

  int64_t localSize(int d) const { return local_[d]; }

  /// Returns the row of the logical tensor, or -1 for padding.
  int64_t globalRow(int64_t localRow) const {
    int64_t row = 0;
    int64_t stride = 1;
    for (int d = static_cast<int>(local_.size()) - 2; d >= 0; --d) {
      int64_t index = localRow % local_[d];
      localRow /= local_[d];
      if (index >= count_[d])
        return -1;
      row += (offset_[d] + index) * stride;
      stride *= global_[d];
    }
    return row;
  }

private:
  std::vector<int64_t> global_, local_, offset_, count_;
};

} // namespace llmrt
