// SPDX-License-Identifier: Apache-2.0
#include "tests/values/CheckpointParameters.h"

#include "runtime/io/Dequantize.h"

using namespace mlir;

namespace llmc {
namespace {

std::string sourceName(llm::ParamOp op) {
  return op.getSource().value_or(op.getSymName()).str();
}

/// All elements of a tensor of the checkpoint.
Tensor readSource(const llmrt::WeightSource& source, const std::string& name) {
  const llmrt::SourceTensor* found = source.find(name);
  if (!found)
    return Tensor();
  std::vector<float> values(found->numElements());
  if (!llmrt::readElements(*found, 0, values.size(), values.data()).ok())
    return Tensor();
  Tensor tensor(found->shape);
  std::copy(values.begin(), values.end(), tensor.values.begin());
  return tensor;
}

Tensor transposed(const Tensor& x) {
  Tensor y({x.shape[1], x.shape[0]});
  for (int64_t i = 0; i < x.shape[0]; ++i)
    for (int64_t j = 0; j < x.shape[1]; ++j)
      y.row(j)[i] = x.row(i)[j];
  return y;
}

/// First row of the (unturned) tensor that a parameter has.
int64_t firstRow(llm::ParamOp op) {
  auto rows = op->getAttrOfType<ArrayAttr>("rows");
  return rows ? cast<IntegerAttr>(rows[0]).getInt() : 0;
}

} // namespace

ParameterSource checkpointParameters(const llmrt::WeightSource& source) {
  return [&source](llm::ParamOp op) {
    Tensor tensor = readSource(source, sourceName(op));
    if (op.getTransposed() && tensor.shape.size() == 2)
      tensor = transposed(tensor);
    if (op->hasAttr("rows")) {
      auto type = cast<RankedTensorType>(op.getType());
      int64_t inner = type.getNumElements() / type.getDimSize(0);
      auto begin = tensor.values.begin() + firstRow(op) * inner;
      tensor.values = {begin, begin + type.getNumElements()};
    }
    return tensor.values;
  };
}

std::map<std::string, std::vector<float>>
inCheckpointLayout(ModuleOp module, const ParameterSource& parameters) {
  std::map<std::string, Tensor> whole; // unturned
  std::map<std::string, bool> isTurned;
  for (auto param : module.getOps<llm::ParamOp>()) {
    auto type = cast<RankedTensorType>(param.getType());
    int64_t inner = type.getNumElements() / type.getDimSize(0);
    Tensor& tensor = whole[sourceName(param)];
    size_t begin = firstRow(param) * inner;
    std::vector<double> values = parameters(param);
    if (tensor.values.size() < begin + values.size())
      tensor.values.resize(begin + values.size());
    std::copy(values.begin(), values.end(), tensor.values.begin() + begin);
    tensor.shape = {int64_t(tensor.values.size()) / inner, inner};
    isTurned[sourceName(param)] = param.getTransposed() && type.getRank() == 2;
  }
  std::map<std::string, std::vector<float>> result;
  for (const auto& [name, tensor] : whole) {
    Tensor stored = isTurned[name] ? transposed(tensor) : tensor;
    result[name].assign(stored.values.begin(), stored.values.end());
  }
  return result;
}

} // namespace llmc
