// SPDX-License-Identifier: Apache-2.0
// Checks of parameters: shapes, cuts, shards and the buffers that hold them.
#include "runtime/base/Error.h"
#include "runtime/kernels/KernelAbi.h"
#include "runtime/plan/Mesh.h"
#include "runtime/plan/VerifyPlan.h"
#include "runtime/plan/WeightBlocks.h"

#include "absl/strings/str_cat.h"

#include <algorithm>
#include <cmath>

namespace llmrt {
namespace {

// Blocks of elements that share a factor.
constexpr int64_t kBlock = 32;
constexpr int64_t kFactorBytes = 2;

// Bytes of the local box as it is laid out, or -1.
int64_t laidOutBytes(const fb::Parameter& parameter) {
  DType dtype = static_cast<DType>(parameter.dtype());
  if (isLayoutOfBlocks(parameter.layout())) {
    const int64_t elementBytes =
        parameter.layout() == fb::WeightLayout::Q8_0 ? kBlock : kBlock / 2;
    return multiply(productOf(parameter.local_shape()) / kBlock,
                    elementBytes + kFactorBytes);
  }
  if (parameter.layout() == fb::WeightLayout::RowMajor)
    return multiply(productOf(parameter.local_shape()), dtypeBytes(dtype));
  int64_t panelCols = kPanelBytes / dtypeBytes(dtype);
  int64_t rows = parameter.local_shape()->Get(0);
  int64_t panels = (rows + panelCols - 1) / panelCols;
  return multiply(multiply(panels, parameter.local_shape()->Get(1)),
                  kPanelBytes);
}

absl::Status verifyBox(const fb::Plan& plan, const fb::Parameter& parameter,
                       const Place& outer) {
  int64_t numDims = lengthOf(parameter.global_shape());
  std::vector<bool> isCut(numDims);
  for (int64_t i = 0; i < lengthOf(parameter.box()); ++i) {
    const fb::BoxDim* cut = parameter.box()->Get(i);
    Place place{&outer, "box", i};
    LLMRT_PLAN_CHECK(isWithin(cut->dim(), 0, numDims - 1) && !isCut[cut->dim()],
                     place, "dimension out of range or cut twice");
    isCut[cut->dim()] = true;
    int64_t globalSize = parameter.global_shape()->Get(cut->dim());
    int64_t localSize = parameter.local_shape()->Get(cut->dim());
    Place offset{&place, "offset"};
    Place count{&place, "count"};
    LLMRT_PLAN_CHECK(cut->offset(), offset, "it is missing");
    LLMRT_PLAN_CHECK(cut->count(), count, "it is missing");
    LLMRT_RETURN_IF_ERROR(
        verifyByCoordinate(plan, cut->offset(), 0, globalSize, offset));
    LLMRT_RETURN_IF_ERROR(
        verifyByCoordinate(plan, cut->count(), 0, localSize, count));
    // Offset and count follow one axis, or one of them is the same everywhere.
    int offsetAxis = cut->offset()->axis();
    int countAxis = cut->count()->axis();
    LLMRT_PLAN_CHECK(offsetAxis < 0 || countAxis < 0 || offsetAxis == countAxis,
                     place, "offset and count follow different axes");
    int64_t values = std::max(lengthOf(cut->offset()->values()),
                              lengthOf(cut->count()->values()));
    for (int64_t v = 0; v < values; ++v) {
      int64_t begin = cut->offset()->values()->Get(offsetAxis < 0 ? 0 : v);
      int64_t rows = cut->count()->values()->Get(countAxis < 0 ? 0 : v);
      LLMRT_PLAN_CHECK(begin + rows <= globalSize, place,
                       "it reaches beyond the logical tensor");
    }
  }
  for (int64_t d = 0; d < numDims; ++d)
    LLMRT_PLAN_CHECK(isCut[d] || parameter.local_shape()->Get(d) >=
                                     parameter.global_shape()->Get(d),
                     outer, "a dimension without a cut is not held whole");
  return absl::OkStatus();
}

absl::Status verifyParameterShape(const fb::Parameter& parameter,
                                  const Place& place) {
  constexpr int64_t kMaxDims = 8;
  int64_t numDims = lengthOf(parameter.global_shape());
  LLMRT_PLAN_CHECK(isWithin(numDims, 1, kMaxDims) &&
                       lengthOf(parameter.local_shape()) == numDims,
                   place, "global and local shape do not match");
  LLMRT_PLAN_CHECK(productOf(parameter.global_shape()) > 0 &&
                       productOf(parameter.local_shape()) >= 0,
                   place, "a shape has an impossible size");
  LLMRT_PLAN_CHECK(parameter.dtype() == fb::ElementType::F32 ||
                       parameter.dtype() == fb::ElementType::BF16,
                   place, "parameters are f32 or bf16");
  LLMRT_PLAN_CHECK(
      parameter.layout() == fb::WeightLayout::RowMajor ||
          (numDims == 2 && (parameter.layout() == fb::WeightLayout::Panel ||
                            isLayoutOfBlocks(parameter.layout()))),
      place,
      "unknown layout, or panels or blocks of a tensor that is not a "
      "matrix");
  LLMRT_PLAN_CHECK(!parameter.transposed() || numDims == 2, place,
                   "only matrices are transposed");
  bool isSlice =
      parameter.source_row_begin() != -1 || parameter.source_row_end() != -1;
  LLMRT_PLAN_CHECK(
      !isSlice || (isWithin(parameter.source_row_begin(), 0, kMaxPlanInteger) &&
                   parameter.source_row_end() - parameter.source_row_begin() ==
                       parameter.global_shape()->Get(0)),
      place, "the rows of the source are not as many as the tensor has");
  LLMRT_PLAN_CHECK(parameter.init() >= fb::InitKind::MIN &&
                       parameter.init() <= fb::InitKind::MAX &&
                       std::isfinite(parameter.init_std()),
                   place, "unknown initialiser");
  return absl::OkStatus();
}

// Blocks are made of neighbouring columns of whole matrices, which nothing
// trains.
absl::Status verifyBlocks(const fb::Plan& plan, const fb::Parameter& parameter,
                          const Place& place) {
  if (!isLayoutOfBlocks(parameter.layout()))
    return absl::OkStatus();
  LLMRT_PLAN_CHECK(textOf(plan.mode()) != "train" &&
                       lengthOf(parameter.shard_axes()) == 0,
                   place, "a parameter in blocks is trained, or sharded");
  auto isWhole = [](int64_t columns) { return columns % kBlock == 0; };
  bool areWhole = isWhole(parameter.global_shape()->Get(1)) &&
                  isWhole(parameter.local_shape()->Get(1));
  for (int64_t i = 0; i < lengthOf(parameter.box()); ++i) {
    const fb::BoxDim* cut = parameter.box()->Get(i);
    for (const fb::ByCoordinate* values : {cut->offset(), cut->count()})
      for (int64_t value : *values->values())
        areWhole = areWhole && (cut->dim() != 1 || isWhole(value));
  }
  LLMRT_PLAN_CHECK(areWhole, place, "a row is not a whole number of blocks");
  return absl::OkStatus();
}

} // namespace

absl::Status verifyParameter(const fb::Plan& plan, const fb::Stage& stage,
                             const fb::Parameter& parameter,
                             const Place& place) {
  LLMRT_PLAN_CHECK(!textOf(parameter.name()).empty(), place,
                   "the name is empty");
  LLMRT_RETURN_IF_ERROR(verifyParameterShape(parameter, place));
  LLMRT_RETURN_IF_ERROR(verifyBox(plan, parameter, place));
  LLMRT_RETURN_IF_ERROR(verifyBlocks(plan, parameter, place));
  LLMRT_PLAN_CHECK(
      isWithin(parameter.buffer(), 0, lengthOf(stage.buffers()) - 1), place,
      absl::StrCat("buffer ", parameter.buffer(), " does not exist"));
  int64_t heldBytes = laidOutBytes(parameter);
  LLMRT_PLAN_CHECK(heldBytes >= 0, place, "impossible size");
  if (lengthOf(parameter.shard_axes()) > 0) {
    Place axes{&place, "shard_axes"};
    LLMRT_RETURN_IF_ERROR(verifyAxes(plan, parameter.shard_axes(), axes));
    int64_t shards = sizeAlongAxes(plan, spanOf(parameter.shard_axes()));
    int64_t unitBytes = parameter.layout() == fb::WeightLayout::Panel
                            ? kPanelBytes
                            : dtypeBytes(static_cast<DType>(parameter.dtype()));
    LLMRT_PLAN_CHECK(isWithin(parameter.shard_bytes(), 0, kMaxPlanInteger) &&
                         parameter.shard_bytes() % unitBytes == 0 &&
                         multiply(parameter.shard_bytes(), shards) >= heldBytes,
                     place, "the shards do not make the whole parameter");
    heldBytes = parameter.shard_bytes();
  }
  LLMRT_PLAN_CHECK(
      stage.buffers()->Get(parameter.buffer())->size_bytes() >= heldBytes,
      place, absl::StrCat("its buffer is smaller than ", heldBytes, " bytes"));
  return absl::OkStatus();
}

} // namespace llmrt
