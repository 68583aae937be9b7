// SPDX-License-Identifier: Apache-2.0
// Encodes as gguf.md says, without asking whether the result is sensible.
#include "tests/support/GgufWriter.h"

#include <fstream>

namespace llmrt::testing {
namespace {

template <class T>
std::string encoded(T value) {
  std::string bytes;
  appendNumber(bytes, value);
  return bytes;
}

template <class T>
std::string encodedArray(GgufValueType type, const std::vector<T>& values) {
  std::string bytes;
  appendNumber(bytes, static_cast<uint32_t>(type));
  appendNumber<uint64_t>(bytes, values.size());
  for (T value : values)
    appendNumber(bytes, value);
  return bytes;
}

uint32_t numberOf(GgufValueType type) { return static_cast<uint32_t>(type); }

} // namespace

void appendText(std::string& out, absl::string_view text) {
  appendNumber<uint64_t>(out, text.size());
  out.append(text.data(), text.size());
}

bool writeFile(const std::string& path, absl::string_view contents) {
  std::ofstream file(path, std::ios::binary);
  file.write(contents.data(), static_cast<std::streamsize>(contents.size()));
  file.close();
  return file.good();
}

void GgufWriter::addU32(absl::string_view key, uint32_t value) {
  addEncoded(key, numberOf(GgufValueType::U32), encoded(value));
}

void GgufWriter::addI64(absl::string_view key, int64_t value) {
  addEncoded(key, numberOf(GgufValueType::I64), encoded(value));
}

void GgufWriter::addF32(absl::string_view key, float value) {
  addEncoded(key, numberOf(GgufValueType::F32), encoded(value));
}

void GgufWriter::addBool(absl::string_view key, bool value) {
  addEncoded(key, numberOf(GgufValueType::Bool), encoded<uint8_t>(value));
}

void GgufWriter::addText(absl::string_view key, absl::string_view value) {
  std::string bytes;
  appendText(bytes, value);
  addEncoded(key, numberOf(GgufValueType::String), bytes);
}

void GgufWriter::addTexts(absl::string_view key,
                          const std::vector<std::string>& values) {
  std::string bytes;
  appendNumber(bytes, numberOf(GgufValueType::String));
  appendNumber<uint64_t>(bytes, values.size());
  for (const std::string& value : values)
    appendText(bytes, value);
  addEncoded(key, numberOf(GgufValueType::Array), bytes);
}

void GgufWriter::addI32s(absl::string_view key,
                         const std::vector<int32_t>& values) {
  addEncoded(key, numberOf(GgufValueType::Array),
             encodedArray(GgufValueType::I32, values));
}

void GgufWriter::addF32s(absl::string_view key,
                         const std::vector<float>& values) {
  addEncoded(key, numberOf(GgufValueType::Array),
             encodedArray(GgufValueType::F32, values));
}

void GgufWriter::addEncoded(absl::string_view key, uint32_t type,
                            absl::string_view payload) {
  appendText(values_, key);
  appendNumber(values_, type);
  values_.append(payload.data(), payload.size());
  ++numValues_;
}

void GgufWriter::addTensor(absl::string_view name, SourceType type,
                           const std::vector<int64_t>& shape,
                           absl::string_view bytes) {
  addTensorOfNumber(name,
                    static_cast<uint32_t>(sourceTypeInfo(type).ggufNumber),
                    shape, bytes);
}

void GgufWriter::addTensorOfNumber(absl::string_view name, uint32_t ggufNumber,
                                   const std::vector<int64_t>& shape,
                                   absl::string_view bytes) {
  Tensor& tensor = tensors_.emplace_back();
  appendText(tensor.head, name);
  appendNumber(tensor.head, static_cast<uint32_t>(shape.size()));
  for (auto extent = shape.rbegin(); extent != shape.rend(); ++extent)
    appendNumber(tensor.head, *extent);
  appendNumber(tensor.head, ggufNumber);
  tensor.bytes = std::string(bytes);
}

std::string GgufWriter::serialize() const {
  std::string file = "GGUF";
  appendNumber(file, version);
  appendNumber<uint64_t>(file, tensors_.size());
  appendNumber<uint64_t>(file, numValues_ + (alignment != 32 ? 1 : 0));
  file += values_;
  if (alignment != 32) {
    appendText(file, "general.alignment");
    appendNumber(file, numberOf(GgufValueType::U32));
    appendNumber(file, alignment);
  }
  auto padded = [this](uint64_t count) {
    return (count + alignment - 1) / alignment * alignment;
  };
  uint64_t offset = 0;
  for (const Tensor& tensor : tensors_) {
    file += tensor.head;
    appendNumber(file, offset);
    offset += padded(tensor.bytes.size());
  }
  for (const Tensor& tensor : tensors_) {
    file.resize(padded(file.size()));
    file += tensor.bytes;
  }
  file.resize(padded(file.size()));
  return file;
}

} // namespace llmrt::testing
