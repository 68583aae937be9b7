// SPDX-License-Identifier: Apache-2.0
// The header is parsed as a stream of events, so that a hostile one costs no
// more memory than its own length, and so that duplicate names are seen.
#include "runtime/io/Safetensors.h"

#include "runtime/base/Error.h"

#include "absl/container/flat_hash_set.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "nlohmann/json.hpp"

#include <algorithm>
#include <cstring>
#include <limits>

namespace llmrt {
namespace {

constexpr size_t kLengthBytes = 8;
// The limit of the reference implementation.
constexpr uint64_t kMaxHeaderBytes = 100'000'000;

absl::Status corrupt(absl::string_view fileName, absl::string_view what) {
  return makeError(
      ErrorCode::SafetensorsCorrupt,
      absl::StrCat("damaged safetensors file ", fileName, ": ", what),
      "download or export the file again");
}

absl::Status indexCorrupt(absl::string_view fileName, absl::string_view what) {
  return makeError(ErrorCode::WeightIndexCorrupt,
                   absl::StrCat("damaged index ", fileName, ": ", what),
                   "download the checkpoint again, with all its parts");
}

struct HeaderEntry {
  std::string name;
  std::string dtype;
  std::vector<int64_t> shape;
  std::vector<uint64_t> offsets;
  bool hasShape = false;
};

// Accepts exactly {"name": {"dtype": s, "shape": [n..], "data_offsets": [n,
// n]},
// "__metadata__": {"key": "value"}} and says what is wrong with all else.
class HeaderHandler final : public nlohmann::json::json_sax_t {
public:
  std::vector<HeaderEntry> entries;
  std::vector<std::pair<std::string, std::string>> metadata;
  std::string problem;

  bool null() override { return refuse("unexpected null"); }

  bool boolean(bool) override { return refuse("unexpected true or false"); }

  bool number_integer(int64_t) override { return refuse("negative number"); }

  bool number_float(double, const std::string&) override {
    return refuse("number that is not an integer");
  }

  bool binary(nlohmann::json::binary_t&) override {
    return refuse("unexpected binary value");
  }

  bool number_unsigned(uint64_t value) override {
    if (place_ == Place::Shape &&
        value <= static_cast<uint64_t>(std::numeric_limits<int64_t>::max()))
      entries.back().shape.push_back(static_cast<int64_t>(value));
    else if (place_ == Place::Offsets && entries.back().offsets.size() < 2)
      entries.back().offsets.push_back(value);
    else
      return refuse("unexpected number");
    return true;
  }

  bool string(std::string& value) override {
    if (place_ == Place::Metadata)
      metadata.emplace_back(key_, value);
    else if (place_ == Place::Entry && key_ == "dtype")
      entries.back().dtype = value;
    else
      return refuse("unexpected string");
    return true;
  }

  bool start_object(size_t) override {
    if (place_ == Place::Outside)
      place_ = Place::Top;
    else if (place_ == Place::Top && key_ == "__metadata__")
      place_ = Place::Metadata;
    else if (place_ == Place::Top)
      place_ = Place::Entry;
    else
      return refuse("unexpected object");
    return true;
  }

  bool key(std::string& value) override {
    key_ = value;
    if (place_ == Place::Top) {
      if (!names_.insert(value).second)
        return refuse(absl::StrCat("tensor named twice: ", value));
      if (value != "__metadata__") {
        entries.emplace_back().name = value;
        fields_ = 0;
      }
      return true;
    }
    if (place_ == Place::Metadata) {
      if (!metadataKeys_.insert(value).second)
        return refuse(absl::StrCat("metadata key given twice: ", value));
      return true;
    }
    int field = value == "dtype" ? 1 : value == "shape" ? 2 : 4;
    if (field == 4 && value != "data_offsets")
      return refuse(absl::StrCat("unknown field: ", value));
    if (fields_ & field)
      return refuse(absl::StrCat("field given twice: ", value));
    fields_ |= field;
    return true;
  }

  bool end_object() override {
    if (place_ == Place::Entry && fields_ != 7)
      return refuse("dtype, shape or data_offsets is missing");
    place_ = place_ == Place::Top ? Place::Outside : Place::Top;
    return true;
  }

  bool start_array(size_t) override {
    if (place_ == Place::Entry && key_ == "shape")
      place_ = Place::Shape;
    else if (place_ == Place::Entry && key_ == "data_offsets")
      place_ = Place::Offsets;
    else
      return refuse("unexpected array");
    return true;
  }

  bool end_array() override {
    if (place_ == Place::Offsets && entries.back().offsets.size() != 2)
      return refuse("data_offsets needs two numbers");
    place_ = Place::Entry;
    return true;
  }

  bool parse_error(size_t position, const std::string&,
                   const nlohmann::json::exception&) override {
    return refuse(
        absl::StrCat("not valid JSON at byte ", position + kLengthBytes));
  }

private:
  enum class Place { Outside, Top, Metadata, Entry, Shape, Offsets };

  bool refuse(absl::string_view what) {
    bool isInEntry = place_ == Place::Entry || place_ == Place::Shape ||
                     place_ == Place::Offsets;
    problem = isInEntry
                  ? absl::StrCat(what, " (tensor ", entries.back().name, ")")
                  : std::string(what);
    return false;
  }

  Place place_ = Place::Outside;
  std::string key_;
  int fields_ = 0; // bits: 1 dtype, 2 shape, 4 data_offsets
  absl::flat_hash_set<std::string> names_;
  absl::flat_hash_set<std::string> metadataKeys_;
};

// Checks one entry against the data; `cursor` is where the previous one ended.
absl::StatusOr<SourceTensor> resolveEntry(HeaderEntry& entry,
                                          absl::Span<const uint8_t> data,
                                          uint64_t cursor,
                                          absl::string_view fileName) {
  std::optional<SourceType> type = findSafetensorsType(entry.dtype);
  if (!type)
    return makeError(ErrorCode::SafetensorsUnknownType,
                     absl::StrCat("tensor ", entry.name, " of ", fileName,
                                  " has the unknown element type \"",
                                  entry.dtype, "\""),
                     "convert the checkpoint to F32, F16 or BF16");
  uint64_t begin = entry.offsets[0];
  uint64_t end = entry.offsets[1];
  if (begin > end || end > data.size())
    return corrupt(fileName, absl::StrCat("data of tensor ", entry.name,
                                          " lies outside the file: [", begin,
                                          ", ", end, ") of ", data.size()));
  if (begin != cursor)
    return corrupt(fileName,
                   absl::StrCat("data of tensor ", entry.name,
                                begin < cursor ? " overlaps another's"
                                               : " leaves a hole before it",
                                ": begins at ", begin, ", expected ", cursor));
  std::optional<int64_t> sizeBytes = sourceSizeBytes(*type, entry.shape);
  if (!sizeBytes || static_cast<uint64_t>(*sizeBytes) != end - begin)
    return corrupt(fileName,
                   absl::StrCat("tensor ", entry.name, " of ", entry.dtype, " ",
                                shapeText(entry.shape), " does not fill its ",
                                end - begin, " bytes"));
  SourceTensor tensor;
  tensor.name = std::move(entry.name);
  tensor.type = *type;
  tensor.shape = std::move(entry.shape);
  tensor.bytes = data.subspan(begin, end - begin);
  return tensor;
}

} // namespace

absl::StatusOr<SafetensorsContents>
parseSafetensors(absl::Span<const uint8_t> bytes, absl::string_view fileName) {
  if (bytes.size() < kLengthBytes)
    return corrupt(fileName, absl::StrCat("only ", bytes.size(), " bytes"));
  uint64_t headerBytes = 0;
  std::memcpy(&headerBytes, bytes.data(), kLengthBytes);
  if (headerBytes > kMaxHeaderBytes ||
      headerBytes > bytes.size() - kLengthBytes)
    return corrupt(fileName,
                   absl::StrCat("header of ", headerBytes,
                                " bytes in a file of ", bytes.size()));
  absl::Span<const uint8_t> header = bytes.subspan(kLengthBytes, headerBytes);
  absl::Span<const uint8_t> data = bytes.subspan(kLengthBytes + headerBytes);
  if (header.empty() || header[0] != '{')
    return corrupt(fileName, "header does not begin with {");

  HeaderHandler handler;
  if (!nlohmann::json::sax_parse(header.begin(), header.end(), &handler))
    return corrupt(fileName, handler.problem);

  std::vector<HeaderEntry>& entries = handler.entries;
  std::sort(entries.begin(), entries.end(),
            [](const HeaderEntry& a, const HeaderEntry& b) {
              return a.offsets < b.offsets;
            });
  SafetensorsContents contents;
  contents.metadata = std::move(handler.metadata);
  contents.tensors.reserve(entries.size());
  uint64_t cursor = 0;
  for (HeaderEntry& entry : entries) {
    LLMRT_ASSIGN_OR_RETURN(SourceTensor tensor,
                           resolveEntry(entry, data, cursor, fileName));
    cursor += tensor.bytes.size();
    contents.tensors.push_back(std::move(tensor));
  }
  if (cursor != data.size())
    return corrupt(fileName, absl::StrCat("tensors end at ", cursor, " of ",
                                          data.size(), " data bytes"));
  return contents;
}

absl::StatusOr<std::map<std::string, std::vector<std::string>>>
parseSafetensorsIndex(absl::Span<const uint8_t> bytes,
                      absl::string_view fileName) {
  nlohmann::json root =
      nlohmann::json::parse(bytes.begin(), bytes.end(), nullptr,
                            /*allow_exceptions=*/false);
  if (!root.is_object() || !root.contains("weight_map") ||
      !root["weight_map"].is_object())
    return indexCorrupt(fileName, "no object named weight_map");
  std::map<std::string, std::vector<std::string>> namesByFile;
  for (const auto& [name, part] : root["weight_map"].items()) {
    const std::string* text = part.get_ptr<const std::string*>();
    if (!text || text->empty() || text->find('/') != std::string::npos ||
        text->find('\0') != std::string::npos)
      return indexCorrupt(
          fileName,
          absl::StrCat("tensor ", name, " names no file of the same folder"));
    namesByFile[*text].push_back(name);
  }
  return namesByFile;
}

namespace {

// Invalid UTF-8 is replaced: a name that is not UTF-8 could not be read back.
std::string toJson(const nlohmann::json& value) {
  return value.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

} // namespace

absl::StatusOr<std::string> encodeSafetensorsHeader(
    const std::vector<TensorDeclaration>& tensors,
    const std::vector<std::pair<std::string, std::string>>& metadata) {
  std::string text = "{";
  if (!metadata.empty()) {
    nlohmann::json object = nlohmann::json::object();
    for (const auto& [key, value] : metadata)
      object[key] = value;
    absl::StrAppend(&text, "\"__metadata__\":", toJson(object));
  }
  int64_t cursor = 0;
  absl::flat_hash_set<absl::string_view> names = {"__metadata__"};
  for (const TensorDeclaration& tensor : tensors) {
    std::optional<int64_t> sizeBytes =
        sourceSizeBytes(tensor.type, tensor.shape);
    absl::string_view dtype = sourceTypeInfo(tensor.type).safetensorsName;
    int64_t end = 0;
    if (dtype.empty() || !sizeBytes || !names.insert(tensor.name).second ||
        __builtin_add_overflow(cursor, *sizeBytes, &end))
      return absl::InvalidArgumentError(
          absl::StrCat("safetensors cannot hold tensor ", tensor.name));
    absl::StrAppend(&text, text.size() > 1 ? "," : "", toJson(tensor.name),
                    ":{\"dtype\":\"", dtype, "\",\"shape\":[",
                    absl::StrJoin(tensor.shape, ","), "],\"data_offsets\":[",
                    cursor, ",", end, "]}");
    cursor = end;
  }
  text += "}";
  text.resize((text.size() + 7) / 8 * 8, ' '); // the data begins 8-byte aligned
  uint64_t headerBytes = text.size();
  if (headerBytes > kMaxHeaderBytes)
    return absl::InvalidArgumentError("safetensors header above 100 MB");
  char length[kLengthBytes];
  std::memcpy(length, &headerBytes, kLengthBytes);
  return absl::StrCat(absl::string_view(length, kLengthBytes), text);
}

absl::StatusOr<SafetensorsWriter> SafetensorsWriter::create(
    const std::string& path, const std::vector<TensorDeclaration>& tensors,
    const std::vector<std::pair<std::string, std::string>>& metadata) {
  LLMRT_ASSIGN_OR_RETURN(std::string header,
                         encodeSafetensorsHeader(tensors, metadata));
  SafetensorsWriter writer;
  LLMRT_ASSIGN_OR_RETURN(writer.file_, AtomicFile::create(path));
  LLMRT_RETURN_IF_ERROR(writer.file_.append(header));
  writer.endBytes_ = writer.file_.sizeBytes();
  for (const TensorDeclaration& tensor : tensors)
    writer.endBytes_ += *sourceSizeBytes(tensor.type, tensor.shape);
  return writer;
}

absl::Status SafetensorsWriter::append(absl::Span<const uint8_t> bytes) {
  if (static_cast<int64_t>(bytes.size()) > endBytes_ - file_.sizeBytes())
    return absl::InvalidArgumentError("more bytes than declared");
  return file_.append(bytes);
}

absl::Status SafetensorsWriter::finish() {
  if (file_.sizeBytes() != endBytes_)
    return absl::InvalidArgumentError(
        absl::StrCat(endBytes_ - file_.sizeBytes(), " declared bytes missing"));
  return file_.commit();
}

} // namespace llmrt
