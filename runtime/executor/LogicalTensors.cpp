// SPDX-License-Identifier: Apache-2.0
#include "runtime/executor/LogicalTensors.h"

#include "runtime/base/Error.h"
#include "runtime/executor/HeldElements.h"
#include "runtime/plan/Mesh.h"

#include <algorithm>
#include <cmath>

namespace llmrt {
namespace {

absl::string_view viewOf(const ::flatbuffers::String* text) {
  return text ? absl::string_view(text->data(), text->size())
              : absl::string_view();
}

bool isOfModel(const fb::Parameter& parameter) {
  absl::string_view set = viewOf(parameter.weight_set());
  return set.empty() || set == "model";
}

const fb::State* findState(const fb::Stage& stage, int parameter,
                           fb::StateRole role) {
  for (unsigned i = 0; stage.states() && i < stage.states()->size(); ++i) {
    const fb::State* state = stage.states()->Get(i);
    if (state->parameter() == parameter && state->role() == role)
      return state;
  }
  return nullptr;
}

bool isCutAlong(const fb::Parameter& parameter, int axis) {
  for (unsigned i = 0; parameter.box() && i < parameter.box()->size(); ++i) {
    const fb::BoxDim* cut = parameter.box()->Get(i);
    if (cut->offset()->axis() == axis || cut->count()->axis() == axis)
      return true;
  }
  return false;
}

LogicalTensor makeTensor(const fb::Parameter& parameter, LogicalRole role,
                         DType dtype) {
  return {parameter.name()->str(), role, dtype,
          std::vector<int64_t>(parameter.global_shape()->begin(),
                               parameter.global_shape()->end()),
          &parameter};
}

} // namespace

LogicalTensors LogicalTensors::create(const fb::Plan& plan,
                                      Executor& executor) {
  LogicalTensors all(plan, executor);
  all.listTensors();
  all.listParts();
  return all;
}

void LogicalTensors::listTensors() {
  std::vector<bool> isTrained;
  for (unsigned s = 0; s < plan_.stages()->size(); ++s) {
    const fb::Stage* stage = plan_.stages()->Get(s);
    for (unsigned p = 0; stage->parameters() && p < stage->parameters()->size();
         ++p) {
      const fb::Parameter& parameter = *stage->parameters()->Get(p);
      if (!isOfModel(parameter))
        continue;
      bool hasMoments = findState(*stage, p, fb::StateRole::Moment1) != nullptr;
      DType dtype =
          hasMoments ? DType::F32 : static_cast<DType>(parameter.dtype());
      LogicalTensor tensor = makeTensor(parameter, LogicalRole::Weight, dtype);
      std::pair<int, int> place(s, p);
      int known = findTensor(parameter, LogicalRole::Weight);
      if (known < 0) {
        tensors_.push_back(std::move(tensor));
        homes_.push_back(place);
        isTrained.push_back(hasMoments);
      } else if (hasMoments && !isTrained[known]) {
        tensors_[known] = std::move(tensor);
        homes_[known] = place;
        isTrained[known] = true;
      }
    }
  }
  for (LogicalRole role : {LogicalRole::Moment1, LogicalRole::Moment2})
    for (size_t i = 0; i < homes_.size(); ++i)
      if (isTrained[i])
        tensors_.push_back(makeTensor(*tensors_[i].source, role, DType::F32));
}

int LogicalTensors::findTensor(const fb::Parameter& parameter,
                               LogicalRole role) const {
  for (size_t i = 0; i < tensors_.size(); ++i)
    if (tensors_[i].role == role &&
        tensors_[i].parameter == viewOf(parameter.name()))
      return static_cast<int>(i);
  return -1;
}

void LogicalTensors::listParts() {
  Executor& executor = *executor_;
  const fb::Stage& stage = *plan_.stages()->Get(executor.stage());
  for (unsigned p = 0; stage.parameters() && p < stage.parameters()->size();
       ++p) {
    const fb::Parameter& parameter = *stage.parameters()->Get(p);
    if (!isOfModel(parameter))
      continue;
    Part part;
    part.tensor = findTensor(parameter, LogicalRole::Weight);
    part.parameter = &parameter;
    part.dtype = static_cast<DType>(parameter.dtype());
    part.shardAxes = spanOf(parameter.shard_axes());
    part.shardBytes = part.shardAxes.empty() ? 0 : parameter.shard_bytes();
    part.memory = executor.parameterMemory(static_cast<int>(p));
    part.isHome = homes_[part.tensor] ==
                  std::make_pair(executor.stage(), static_cast<int>(p));
    bool hasMaster = findState(stage, p, fb::StateRole::Master) != nullptr;
    Part weight = part;
    weight.isHome = part.isHome && !hasMaster;
    parts_.push_back(weight);
    addStates(static_cast<int>(p), part);
  }
}

void LogicalTensors::addStates(int parameter, Part part) {
  Executor& executor = *executor_;
  const fb::Stage& stage = *plan_.stages()->Get(executor.stage());
  for (unsigned i = 0; stage.states() && i < stage.states()->size(); ++i) {
    const fb::State* state = stage.states()->Get(i);
    if (state->parameter() != parameter ||
        state->role() == fb::StateRole::Scalar)
      continue;
    part.dtype = DType::F32;
    part.shardAxes = spanOf(state->shard_axes());
    part.shardBytes = part.shardAxes.empty() ? 0 : state->shard_bytes();
    part.memory = executor.stateMemory(static_cast<int>(i));
    if (state->role() == fb::StateRole::Gradient) {
      gradients_.emplace_back(findTensor(*part.parameter, LogicalRole::Weight),
                              part.memory);
      continue;
    }
    LogicalRole role = LogicalRole::Weight; // a master
    if (state->role() == fb::StateRole::Moment1)
      role = LogicalRole::Moment1;
    if (state->role() == fb::StateRole::Moment2)
      role = LogicalRole::Moment2;
    part.tensor = findTensor(*part.parameter, role);
    parts_.push_back(part);
  }
}

/// Ranks that differ along an axis that neither cuts nor shards the part hold
/// the same.
bool LogicalTensors::isWriter(const Part& part) const {
  if (!part.isHome)
    return false;
  int stageAxis = findAxis(plan_, kStageAxis);
  for (int axis = 0; axis < static_cast<int>(coordinates_.size()); ++axis) {
    bool differs = axis == stageAxis || isCutAlong(*part.parameter, axis) ||
                   std::find(part.shardAxes.begin(), part.shardAxes.end(),
                             axis) != part.shardAxes.end();
    if (!differs && coordinates_[axis] != 0)
      return false;
  }
  return true;
}

namespace {

/// Elements on the host: themselves, or copies of those on a device.
class OnHost {
public:
  OnHost(Executor& executor, absl::Span<uint8_t> memory)
      : executor_(executor), memory_(memory) {}

  absl::StatusOr<uint8_t*> read() {
    if (executor_.sharesHostMemory())
      return memory_.data();
    copy_.resize(memory_.size());
    LLMRT_RETURN_IF_ERROR(executor_.readMemory(memory_, copy_.data()));
    return copy_.data();
  }

  absl::Status writeBack() {
    return copy_.empty() ? absl::OkStatus()
                         : executor_.writeMemory(copy_.data(), memory_);
  }

private:
  Executor& executor_;
  absl::Span<uint8_t> memory_;
  std::vector<uint8_t> copy_;
};

} // namespace

absl::Status LogicalTensors::visitPart(const Part& part, bool isChanged,
                                       GiveElements give) const {
  OnHost host(*executor_, part.memory);
  LLMRT_ASSIGN_OR_RETURN(uint8_t * memory, host.read());
  HeldElements held(
      {.parameter = part.parameter,
       .coordinates = coordinates_,
       .dtype = part.dtype,
       .shard = indexAlongAxes(plan_, coordinates_, part.shardAxes),
       .shardBytes = part.shardBytes,
       .memory = memory,
       .isFirstOnly = !isChanged});
  LLMRT_RETURN_IF_ERROR(held.visit(
      isChanged, [&](const LogicalBox& box, float* values, int64_t rowStride) {
        return give(part.tensor, box, values, rowStride);
      }));
  return isChanged ? host.writeBack() : absl::OkStatus();
}

absl::Status LogicalTensors::write(TakeElements take) const {
  for (const Part& part : parts_)
    if (isWriter(part))
      LLMRT_RETURN_IF_ERROR(visitPart(part, /*isChanged=*/false, take));
  return absl::OkStatus();
}

absl::Status LogicalTensors::read(GiveElements give) {
  for (const Part& part : parts_)
    LLMRT_RETURN_IF_ERROR(visitPart(part, /*isChanged=*/true, give));
  return absl::OkStatus();
}

absl::StatusOr<int> LogicalTensors::findNonFiniteGradient() const {
  int first = -1;
  for (const auto& [tensor, memory] : gradients_) {
    if (first >= 0 && tensor >= first)
      continue;
    OnHost host(*executor_, memory);
    LLMRT_ASSIGN_OR_RETURN(const uint8_t* bytes, host.read());
    const auto* values = reinterpret_cast<const float*>(bytes);
    for (size_t i = 0; i < memory.size() / sizeof(float); ++i)
      if (!std::isfinite(values[i])) {
        first = tensor;
        break;
      }
  }
  return first;
}

} // namespace llmrt
