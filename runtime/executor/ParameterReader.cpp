// SPDX-License-Identifier: Apache-2.0
// Readers of parameters. A file's reader touches only the bytes of what is
// asked for.
#include "runtime/executor/ParameterReader.h"

#include "runtime/base/Error.h"
#include "runtime/base/Philox.h"
#include "runtime/executor/RandomNormal.h"
#include "runtime/io/Dequantize.h"

#include <algorithm>
#include <vector>

namespace llmrt {
namespace {

std::vector<int64_t> globalShape(const fb::Parameter& parameter) {
  return {parameter.global_shape()->begin(), parameter.global_shape()->end()};
}

class FileReader final : public ParameterReader {
public:
  FileReader(const fb::Parameter& parameter, const SourceTensor& tensor)
      : tensor_(tensor), isTransposed_(parameter.transposed()) {
    int64_t begin = std::max<int64_t>(parameter.source_row_begin(), 0);
    bool isVector = tensor.shape.size() == 1;
    rowBegin_ = isVector ? 0 : begin;
    colBegin_ = isVector ? begin : 0;
    int64_t leadingCols = 1; // of one entry of the first dimension
    for (size_t d = 1; d < tensor.shape.size(); ++d)
      leadingCols *= tensor.shape[d];
    sourceCols_ = tensor.shape.back();
    if (!isVector && !isTransposed_)
      rowBegin_ *= leadingCols / sourceCols_;
  }

  absl::Status read(int64_t row, int64_t numRows, int64_t col, int64_t numCols,
                    float* out, int64_t outStride) const override {
    row += rowBegin_;
    col += colBegin_;
    if (isTransposed_)
      return readTransposed(row, numRows, col, numCols, out, outStride);
    for (int64_t i = 0; i < numRows; ++i)
      LLMRT_RETURN_IF_ERROR(readElements(tensor_, (row + i) * sourceCols_ + col,
                                         numCols, out + i * outStride));
    return absl::OkStatus();
  }

  std::optional<StoredRows> stored(int64_t row, int64_t col) const override {
    bool isF32 = tensor_.type == SourceType::F32;
    if (isTransposed_ || (!isF32 && tensor_.type != SourceType::BF16))
      return std::nullopt;
    DType dtype = isF32 ? DType::F32 : DType::BF16;
    int64_t element = (row + rowBegin_) * sourceCols_ + col + colBegin_;
    const uint8_t* data = tensor_.bytes.data() + element * dtypeBytes(dtype);
    if (reinterpret_cast<uintptr_t>(data) % dtypeBytes(dtype) != 0)
      return std::nullopt;
    return StoredRows{data, dtype, sourceCols_};
  }

  const uint8_t* storedBlocks(SourceType type, int64_t row,
                              int64_t col) const override {
    const SourceTypeInfo& info = sourceTypeInfo(type);
    const int64_t element = (row + rowBegin_) * sourceCols_ + col + colBegin_;
    if (isTransposed_ || tensor_.type != type ||
        element % info.blockElements != 0)
      return nullptr;
    return tensor_.bytes.data() +
           element / info.blockElements * info.blockBytes;
  }

private:
  // The file holds [cols, rows].
  absl::Status readTransposed(int64_t row, int64_t numRows, int64_t col,
                              int64_t numCols, float* out,
                              int64_t outStride) const {
    std::vector<float> line(numRows);
    for (int64_t j = 0; j < numCols; ++j) {
      LLMRT_RETURN_IF_ERROR(readElements(tensor_, (col + j) * sourceCols_ + row,
                                         numRows, line.data()));
      for (int64_t i = 0; i < numRows; ++i)
        out[i * outStride + j] = line[i];
    }
    return absl::OkStatus();
  }

  const SourceTensor& tensor_;
  bool isTransposed_;
  int64_t sourceCols_;
  int64_t rowBegin_;
  int64_t colBegin_;
};

class InitReader final : public ParameterReader {
public:
  InitReader(const fb::Parameter& parameter, uint64_t seed)
      : init_(parameter.init()),
        deviation_(static_cast<float>(parameter.init_std())), seed_(seed),
        stream_(
            philoxStream({parameter.name()->data(), parameter.name()->size()})),
        cols_(globalShape(parameter).back()) {}

  absl::Status read(int64_t row, int64_t numRows, int64_t col, int64_t numCols,
                    float* out, int64_t outStride) const override {
    for (int64_t i = 0; i < numRows; ++i, out += outStride) {
      if (init_ == fb::InitKind::Normal)
        fillNormal(seed_, stream_, (row + i) * cols_ + col, numCols, deviation_,
                   out);
      else
        std::fill_n(out, numCols, init_ == fb::InitKind::Ones ? 1.0f : 0.0f);
    }
    return absl::OkStatus();
  }

private:
  fb::InitKind init_;
  float deviation_;
  uint64_t seed_;
  uint64_t stream_;
  int64_t cols_;
};

absl::Status checkShape(const fb::Parameter& parameter,
                        const SourceTensor& tensor) {
  std::vector<int64_t> wanted = globalShape(parameter);
  std::vector<int64_t> present = tensor.shape;
  if (parameter.transposed() && present.size() == 2)
    std::swap(present[0], present[1]);
  bool fits = present.size() == wanted.size();
  if (fits && parameter.source_row_end() >= 0) {
    fits = parameter.source_row_end() <= present[0];
    present[0] = wanted[0];
  }
  if (fits && present == wanted)
    return absl::OkStatus();
  std::string rows =
      parameter.source_row_end() < 0
          ? ""
          : absl::StrCat(", its rows ", parameter.source_row_begin(), " to ",
                         parameter.source_row_end());
  return makeError(
      ErrorCode::WeightShapeMismatch,
      absl::StrCat("parameter ", parameter.name()->c_str(), " has shape ",
                   shapeText(wanted), ", tensor ", tensor.name,
                   " in the weights has ", shapeText(tensor.shape),
                   parameter.transposed() ? " (stored transposed)" : "", rows),
      "use the weights that the model was imported from, or compile the "
      "model of these weights");
}

} // namespace

absl::StatusOr<std::unique_ptr<ParameterReader>>
createFileReader(const fb::Parameter& parameter, const WeightSource& source) {
  bool hasSource = parameter.source() && parameter.source()->size() > 0;
  const ::flatbuffers::String* name =
      hasSource ? parameter.source() : parameter.name();
  LLMRT_ASSIGN_OR_RETURN(
      const SourceTensor* tensor,
      source.require(absl::string_view(name->data(), name->size())));
  LLMRT_RETURN_IF_ERROR(checkShape(parameter, *tensor));
  if (!canReadElements(tensor->type)) {
    float ignored;
    return readElements(*tensor, 0, 1, &ignored); // the error names it
  }
  return std::make_unique<FileReader>(parameter, *tensor);
}

absl::StatusOr<std::unique_ptr<ParameterReader>>
createInitReader(const fb::Parameter& parameter, uint64_t seed) {
  if (parameter.init() == fb::InitKind::None)
    return makeError(ErrorCode::WeightNotInitialised,
                     absl::StrCat("parameter ", parameter.name()->c_str(),
                                  " has no initialiser"),
                     "give the checkpoint instead of random:SEED, or add "
                     "initialisers to the model (llmc import --new)");
  return std::make_unique<InitReader>(parameter, seed);
}

} // namespace llmrt
