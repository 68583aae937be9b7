// SPDX-License-Identifier: Apache-2.0
// Every count of the file is compared with the bytes that are left before
// anything is allocated for it. The data section must be what ggml itself
// accepts: tensors in the order of their entries, each padded to the alignment,
// no holes.
#include "runtime/io/Gguf.h"

#include "runtime/base/Error.h"

#include "absl/container/flat_hash_set.h"
#include "absl/strings/str_cat.h"

#include <algorithm>
#include <cstring>
#include <optional>

namespace llmrt {
namespace {

constexpr absl::string_view kMagic = "GGUF";
constexpr uint32_t kMaxDimensions = 4; // GGML_MAX_DIMS
constexpr int kMaxArrayDepth = 4;
constexpr uint64_t kDefaultAlignment = 32;
constexpr uint64_t kMaxAlignment = 1 << 20;
// An empty key, a type and a one-byte value; an empty name, no dimensions, a
// type and an offset.
constexpr uint64_t kMinValueBytes = 8 + 4 + 1;
constexpr uint64_t kMinTensorBytes = 8 + 4 + 4 + 8;

absl::Status corrupt(absl::string_view fileName, absl::string_view what) {
  return makeError(ErrorCode::GgufCorrupt,
                   absl::StrCat("damaged GGUF file ", fileName, ": ", what),
                   "download or convert the file again");
}

template <class T>
T loadAs(const uint8_t* bytes) {
  T value;
  std::memcpy(&value, bytes, sizeof(T));
  return value;
}

// Reads forward through the bytes; never past them.
class Cursor {
public:
  Cursor(absl::Span<const uint8_t> bytes, absl::string_view fileName)
      : bytes_(bytes), fileName_(fileName) {}

  uint64_t position() const { return position_; }

  uint64_t remaining() const { return bytes_.size() - position_; }

  absl::StatusOr<absl::Span<const uint8_t>> take(uint64_t count,
                                                 absl::string_view what) {
    if (count > remaining())
      return corrupt(fileName_,
                     absl::StrCat(what, " at byte ", position_, " needs ",
                                  count, " bytes, ", remaining(), " are left"));
    absl::Span<const uint8_t> taken = bytes_.subspan(position_, count);
    position_ += count;
    return taken;
  }

  template <class T>
  absl::StatusOr<T> number(absl::string_view what) {
    LLMRT_ASSIGN_OR_RETURN(absl::Span<const uint8_t> taken,
                           take(sizeof(T), what));
    return loadAs<T>(taken.data());
  }

  absl::StatusOr<absl::string_view> text(absl::string_view what) {
    LLMRT_ASSIGN_OR_RETURN(uint64_t length, number<uint64_t>(what));
    LLMRT_ASSIGN_OR_RETURN(absl::Span<const uint8_t> taken, take(length, what));
    return absl::string_view(reinterpret_cast<const char*>(taken.data()),
                             taken.size());
  }

  // Steps over one value of `type`; `value` tells what it was.
  absl::Status value(GgufValueType type, int depth, absl::string_view key,
                     GgufValue& value) {
    value.type = type;
    if (std::optional<uint64_t> count = ggufScalarBytes(type)) {
      LLMRT_ASSIGN_OR_RETURN(value.bytes, take(*count, key));
      return checkBools(type, value.bytes, key);
    }
    if (type == GgufValueType::String) {
      LLMRT_ASSIGN_OR_RETURN(absl::string_view taken, text(key));
      value.bytes = {reinterpret_cast<const uint8_t*>(taken.data()),
                     taken.size()};
      return absl::OkStatus();
    }
    if (type != GgufValueType::Array)
      return corrupt(fileName_,
                     absl::StrCat("key ", key, " has the unknown value type ",
                                  static_cast<uint32_t>(type)));
    if (depth == kMaxArrayDepth)
      return corrupt(fileName_,
                     absl::StrCat("key ", key, " nests arrays too deeply"));
    return array(depth, key, value);
  }

private:
  absl::Status array(int depth, absl::string_view key, GgufValue& value) {
    LLMRT_ASSIGN_OR_RETURN(uint32_t elementType, number<uint32_t>(key));
    LLMRT_ASSIGN_OR_RETURN(value.numElements, number<uint64_t>(key));
    value.elementType = static_cast<GgufValueType>(elementType);
    uint64_t begin = position_;
    if (elementType > static_cast<uint32_t>(GgufValueType::F64))
      return corrupt(fileName_,
                     absl::StrCat("key ", key,
                                  " has an array of the unknown value type ",
                                  elementType));
    if (std::optional<uint64_t> count = ggufScalarBytes(value.elementType)) {
      if (value.numElements > remaining() / *count)
        return corrupt(fileName_,
                       absl::StrCat("key ", key, " has an array of ",
                                    value.numElements,
                                    " elements, longer than the file"));
      LLMRT_ASSIGN_OR_RETURN(value.bytes,
                             take(value.numElements * *count, key));
      return checkBools(value.elementType, value.bytes, key);
    }
    // Vocabularies hold 100000 texts, so this loop makes no Status.
    if (value.elementType == GgufValueType::String) {
      for (uint64_t i = 0; i < value.numElements; ++i) {
        uint64_t length =
            remaining() < 8 ? 0 : loadAs<uint64_t>(bytes_.data() + position_);
        if (remaining() < 8 || length > remaining() - 8)
          return corrupt(fileName_, absl::StrCat("text ", i, " of key ", key,
                                                 " ends outside the file"));
        position_ += 8 + length;
      }
      value.bytes = bytes_.subspan(begin, position_ - begin);
      return absl::OkStatus();
    }
    // Every array takes at least 12 bytes, so that the loop
    // ends with the file whatever numElements says.
    for (uint64_t i = 0; i < value.numElements; ++i) {
      GgufValue element;
      LLMRT_RETURN_IF_ERROR(
          this->value(value.elementType, depth + 1, key, element));
    }
    value.bytes = bytes_.subspan(begin, position_ - begin);
    return absl::OkStatus();
  }

  absl::Status checkBools(GgufValueType type, absl::Span<const uint8_t> bytes,
                          absl::string_view key) {
    if (type != GgufValueType::Bool ||
        std::all_of(bytes.begin(), bytes.end(),
                    [](uint8_t byte) { return byte <= 1; }))
      return absl::OkStatus();
    return corrupt(fileName_,
                   absl::StrCat("key ", key, " has a bool that is not 0 or 1"));
  }

  absl::Span<const uint8_t> bytes_;
  absl::string_view fileName_;
  uint64_t position_ = 0;
};

absl::StatusOr<uint32_t> readVersion(Cursor& cursor,
                                     absl::string_view fileName) {
  LLMRT_ASSIGN_OR_RETURN(absl::Span<const uint8_t> magic,
                         cursor.take(kMagic.size(), "magic"));
  if (std::memcmp(magic.data(), kMagic.data(), kMagic.size()) != 0)
    return corrupt(fileName, "does not begin with GGUF");
  LLMRT_ASSIGN_OR_RETURN(uint32_t version, cursor.number<uint32_t>("version"));
  if (version == 2 || version == 3)
    return version;
  bool isBigEndian = version != 0 && (version & 0xffff) == 0;
  return makeError(ErrorCode::GgufUnsupportedVersion,
                   isBigEndian
                       ? absl::StrCat("big-endian GGUF file: ", fileName)
                       : absl::StrCat("GGUF version ", version, ": ", fileName),
                   "convert the model again to a little-endian GGUF file of "
                   "version 2 or 3");
}

struct TensorEntry {
  SourceTensor tensor;
  uint64_t offsetBytes = 0; // from the beginning of the data section
  uint64_t sizeBytes = 0;
};

absl::StatusOr<TensorEntry> readTensorEntry(Cursor& cursor,
                                            absl::string_view fileName) {
  TensorEntry entry;
  LLMRT_ASSIGN_OR_RETURN(absl::string_view name, cursor.text("tensor name"));
  entry.tensor.name = std::string(name);
  LLMRT_ASSIGN_OR_RETURN(uint32_t numDimensions,
                         cursor.number<uint32_t>("tensor rank"));
  if (numDimensions > kMaxDimensions)
    return corrupt(fileName, absl::StrCat("tensor ", name, " has ",
                                          numDimensions, " dimensions"));
  for (uint32_t i = 0; i < numDimensions; ++i) {
    LLMRT_ASSIGN_OR_RETURN(int64_t extent,
                           cursor.number<int64_t>("tensor shape"));
    entry.tensor.shape.push_back(extent);
  }
  // The file stores the innermost dimension first.
  std::reverse(entry.tensor.shape.begin(), entry.tensor.shape.end());
  LLMRT_ASSIGN_OR_RETURN(uint32_t number,
                         cursor.number<uint32_t>("tensor type"));
  std::optional<SourceType> type = findGgufType(number);
  if (!type)
    return makeError(ErrorCode::GgufUnsupportedType,
                     absl::StrCat("tensor ", name, " of ", fileName,
                                  " has the unknown GGUF type ", number),
                     "convert the model to F32, F16, BF16, Q8_0 or Q4_1");
  entry.tensor.type = *type;
  std::optional<int64_t> sizeBytes = sourceSizeBytes(*type, entry.tensor.shape);
  if (!sizeBytes)
    return corrupt(fileName,
                   absl::StrCat("tensor ", name, " cannot have shape ",
                                shapeText(entry.tensor.shape), " in ",
                                sourceTypeInfo(*type).name));
  entry.sizeBytes = static_cast<uint64_t>(*sizeBytes);
  LLMRT_ASSIGN_OR_RETURN(entry.offsetBytes,
                         cursor.number<uint64_t>("tensor offset"));
  return entry;
}

} // namespace

absl::StatusOr<GgufFile> GgufFile::parse(absl::Span<const uint8_t> bytes,
                                         absl::string_view fileName) {
  GgufFile file;
  file.fileName_ = std::string(fileName);
  Cursor cursor(bytes, fileName);
  LLMRT_ASSIGN_OR_RETURN(file.version_, readVersion(cursor, fileName));
  LLMRT_ASSIGN_OR_RETURN(uint64_t numTensors,
                         cursor.number<uint64_t>("tensor count"));
  LLMRT_ASSIGN_OR_RETURN(uint64_t numValues,
                         cursor.number<uint64_t>("metadata count"));
  if (numTensors > cursor.remaining() / kMinTensorBytes ||
      numValues > cursor.remaining() / kMinValueBytes)
    return corrupt(fileName,
                   absl::StrCat(numTensors, " tensors and ", numValues,
                                " keys do not fit in the file"));

  for (uint64_t i = 0; i < numValues; ++i) {
    LLMRT_ASSIGN_OR_RETURN(absl::string_view key, cursor.text("metadata key"));
    LLMRT_ASSIGN_OR_RETURN(uint32_t type, cursor.number<uint32_t>(key));
    GgufValue value;
    LLMRT_RETURN_IF_ERROR(
        cursor.value(static_cast<GgufValueType>(type), 0, key, value));
    if (!file.values_.emplace(std::string(key), value).second)
      return corrupt(fileName, absl::StrCat("key given twice: ", key));
    file.keys_.emplace_back(key);
  }

  LLMRT_ASSIGN_OR_RETURN(int64_t numSplits,
                         file.readIntegerOr("split.count", 1));
  if (numSplits > 1)
    return makeError(
        ErrorCode::GgufSplit,
        absl::StrCat(fileName, " is one of ", numSplits, " parts of a model"),
        "join the parts with llama-gguf-split --merge");
  LLMRT_ASSIGN_OR_RETURN(
      int64_t alignment,
      file.readIntegerOr("general.alignment", kDefaultAlignment));
  if (alignment <= 0 || alignment > static_cast<int64_t>(kMaxAlignment) ||
      (alignment & (alignment - 1)) != 0)
    return corrupt(fileName, absl::StrCat("general.alignment is ", alignment));
  uint64_t mask = static_cast<uint64_t>(alignment) - 1;

  std::vector<TensorEntry> entries;
  absl::flat_hash_set<std::string> names;
  for (uint64_t i = 0; i < numTensors; ++i) {
    LLMRT_ASSIGN_OR_RETURN(TensorEntry entry,
                           readTensorEntry(cursor, fileName));
    if (!names.insert(entry.tensor.name).second)
      return corrupt(fileName,
                     absl::StrCat("tensor named twice: ", entry.tensor.name));
    entries.push_back(std::move(entry));
  }

  uint64_t dataBegin = (cursor.position() + mask) & ~mask;
  uint64_t dataBytes = bytes.size() > dataBegin ? bytes.size() - dataBegin : 0;
  uint64_t expected = 0;
  for (TensorEntry& entry : entries) {
    if (entry.offsetBytes != expected)
      return corrupt(fileName,
                     absl::StrCat("data of tensor ", entry.tensor.name,
                                  " begins at ", entry.offsetBytes,
                                  ", expected ", expected));
    if (expected > dataBytes || entry.sizeBytes > dataBytes - expected)
      return corrupt(fileName,
                     absl::StrCat("data of tensor ", entry.tensor.name,
                                  " ends at ", expected + entry.sizeBytes,
                                  " of ", dataBytes, " data bytes"));
    if (entry.sizeBytes > 0)
      entry.tensor.bytes = bytes.subspan(dataBegin + expected, entry.sizeBytes);
    expected = (expected + entry.sizeBytes + mask) & ~mask;
    file.tensors_.push_back(std::move(entry.tensor));
  }
  return file;
}

} // namespace llmrt
