// SPDX-License-Identifier: Apache-2.0
// checkpoint.json, written and read. It ends in a fixed number of bytes that
// hold the checksum of all before them, so that a damaged one is found before
// anything in it is believed.
#include "runtime/checkpoint/CheckpointFormat.h"

#include "runtime/base/Crc64.h"
#include "runtime/base/Error.h"

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "nlohmann/json.hpp"

#include <optional>

namespace llmrt {
namespace {

using Json = nlohmann::json;
using OrderedJson = nlohmann::ordered_json;

constexpr absl::string_view kFormatName = "llmc-checkpoint";
constexpr absl::string_view kTailBegin = ",\n\"checksum\": \"";
constexpr absl::string_view kTailEnd = "\"\n}\n";
constexpr size_t kTailBytes = kTailBegin.size() + 16 + kTailEnd.size();

std::string hexOf(uint64_t value) { return absl::StrFormat("%016x", value); }

uint64_t checksumOf(absl::string_view text) {
  return crc64(absl::MakeConstSpan(
      reinterpret_cast<const uint8_t*>(text.data()), text.size()));
}

const char* partName(CheckpointPart part) {
  return part == CheckpointPart::Model ? "model" : "optimizer";
}

OrderedJson jsonOf(const CheckpointSource& source) {
  OrderedJson json = {{"name", source.name}, {"source", source.source}};
  if (source.isTransposed)
    json["transposed"] = true;
  if (source.rowEnd >= 0)
    json["rows"] = {source.rowBegin, source.rowEnd};
  return json;
}

OrderedJson jsonOf(const PlacedTensor& placed, const CheckpointLayout& layout) {
  OrderedJson checksums = OrderedJson::array();
  for (uint64_t checksum : placed.checksums)
    checksums.push_back(hexOf(checksum));
  return {{"name", placed.tensor.name},
          {"part", partName(placed.tensor.part)},
          {"file", layout.files[placed.file].name},
          {"dtype", sourceTypeInfo(placed.tensor.dtype).safetensorsName},
          {"shape", placed.tensor.shape},
          {"checksums", std::move(checksums)}};
}

/// The fields of one JSON object; remembers the first that is not as it should
/// be, so that a reader need not look at each.
class Fields {
public:
  Fields(const Json& object, std::string where, std::string& problem)
      : object_(object), where_(std::move(where)), problem_(problem) {}

  int64_t integer(const char* key) {
    const Json* value = find(key);
    bool isFit = value && value->is_number_integer() &&
                 (!value->is_number_unsigned() ||
                  value->get<uint64_t>() <= uint64_t{INT64_MAX});
    return isFit ? value->get<int64_t>() : complain<int64_t>(key);
  }

  uint64_t unsignedInteger(const char* key) {
    const Json* value = find(key);
    return value && value->is_number_unsigned() ? value->get<uint64_t>()
                                                : complain<uint64_t>(key);
  }

  std::string text(const char* key) {
    const Json* value = find(key);
    return value && value->is_string() ? value->get<std::string>()
                                       : complain<std::string>(key);
  }

  bool flag(const char* key) {
    const Json* value = find(key);
    return value && value->is_boolean() && value->get<bool>();
  }

  const Json& array(const char* key) {
    static const Json kEmpty = Json::array();
    const Json* value = find(key);
    if (value && value->is_array())
      return *value;
    complain<int>(key);
    return kEmpty;
  }

  std::vector<int64_t> integers(const char* key) {
    std::vector<int64_t> values;
    for (const Json& value : array(key))
      values.push_back(value.is_number_integer() ? value.get<int64_t>()
                                                 : complain<int64_t>(key));
    return values;
  }

  std::vector<std::string> texts(const char* key) {
    std::vector<std::string> values;
    for (const Json& value : array(key))
      values.push_back(value.is_string() ? value.get<std::string>()
                                         : complain<std::string>(key));
    return values;
  }

  bool has(const char* key) const {
    return object_.is_object() && object_.contains(key);
  }

  template <typename T>
  T complain(const char* key) {
    if (problem_.empty())
      problem_ = absl::StrCat(where_, " has no valid ", key);
    return T();
  }

private:
  const Json* find(const char* key) const {
    return has(key) ? &object_[key] : nullptr;
  }

  const Json& object_;
  std::string where_;
  std::string& problem_;
};

CheckpointMeta readMeta(Fields& fields, const Json& root,
                        std::string& problem) {
  CheckpointMeta meta;
  meta.step = fields.integer("step");
  meta.updates = fields.integer("updates");
  meta.epoch = fields.integer("epoch");
  meta.dataPosition = fields.integer("data_position");
  meta.tokens = fields.integer("tokens");
  meta.seed = fields.unsignedInteger("seed");
  meta.options = fields.text("options");
  meta.mesh = fields.text("mesh");
  for (const Json& note : fields.array("notes")) {
    if (note.is_array() && note.size() == 2 && note[0].is_string() &&
        note[1].is_string())
      meta.notes.emplace_back(note[0].get<std::string>(),
                              note[1].get<std::string>());
    else
      fields.complain<int>("notes");
  }
  for (const Json& item : fields.array("sources")) {
    Fields entry(item, "an entry of sources", problem);
    CheckpointSource source = {.name = entry.text("name"),
                               .source = entry.text("source"),
                               .isTransposed = entry.flag("transposed")};
    if (entry.has("rows")) {
      std::vector<int64_t> rows = entry.integers("rows");
      if (rows.size() != 2 || rows[0] < 0 || rows[1] < rows[0])
        rows = {entry.complain<int64_t>("rows"), 0};
      source.rowBegin = rows[0];
      source.rowEnd = rows[1];
    }
    meta.sources.push_back(std::move(source));
  }
  return meta;
}

bool isPlainName(const std::string& name) {
  return !name.empty() && name[0] != '.' &&
         name.find_first_of(std::string_view("/\0", 2)) == std::string::npos;
}

PlacedTensor readTensor(const Json& item, const CheckpointLayout& layout,
                        std::string& problem) {
  Fields unnamed(item, "an entry of tensors", problem);
  PlacedTensor placed;
  placed.tensor.name = unnamed.text("name");
  Fields fields(item, "tensor " + placed.tensor.name, problem);
  std::string part = fields.text("part");
  placed.tensor.part =
      part == "model" ? CheckpointPart::Model : CheckpointPart::Optimizer;
  if (part != partName(placed.tensor.part))
    fields.complain<int>("part");
  std::string file = fields.text("file");
  placed.file = -1;
  for (size_t i = 0; i < layout.files.size(); ++i)
    if (layout.files[i].name == file)
      placed.file = static_cast<int>(i);
  if (placed.file < 0)
    fields.complain<int>("file");
  std::optional<SourceType> dtype = findSafetensorsType(fields.text("dtype"));
  if (dtype != SourceType::F32 && dtype != SourceType::BF16)
    fields.complain<int>("dtype");
  placed.tensor.dtype = dtype.value_or(SourceType::F32);
  placed.tensor.shape = fields.integers("shape");
  std::optional<int64_t> sizeBytes =
      sourceSizeBytes(placed.tensor.dtype, placed.tensor.shape);
  placed.sizeBytes = sizeBytes ? *sizeBytes : fields.complain<int64_t>("shape");
  for (const std::string& text : fields.texts("checksums")) {
    uint64_t value = 0;
    if (text.size() != 16 || !absl::SimpleHexAtoi(text, &value))
      fields.complain<int>("checksums");
    placed.checksums.push_back(value);
  }
  if (static_cast<int64_t>(placed.checksums.size()) != placed.numChunks())
    fields.complain<int>("checksums");
  return placed;
}

// Returns the text without its tail if the tail holds its checksum.
std::optional<absl::string_view> verifiedBody(absl::string_view text) {
  if (text.size() < kTailBytes)
    return std::nullopt;
  absl::string_view body = text.substr(0, text.size() - kTailBytes);
  std::string tail =
      absl::StrCat(kTailBegin, hexOf(checksumOf(body)), kTailEnd);
  if (!absl::EndsWith(text, tail))
    return std::nullopt;
  return body;
}

} // namespace

absl::Status checkpointCorrupt(absl::string_view path, absl::string_view what) {
  return makeError(ErrorCode::CheckpointCorrupt,
                   absl::StrCat("damaged checkpoint ", path, ": ", what),
                   "use an older checkpoint");
}

std::string encodeCheckpointJson(const CheckpointMeta& meta,
                                 const CheckpointLayout& layout) {
  OrderedJson root = {
      {"format", kFormatName},   {"version", kCheckpointVersion},
      {"step", meta.step},       {"updates", meta.updates},
      {"epoch", meta.epoch},     {"data_position", meta.dataPosition},
      {"tokens", meta.tokens},   {"seed", meta.seed},
      {"options", meta.options}, {"mesh", meta.mesh}};
  root["notes"] = OrderedJson::array();
  for (const auto& [key, value] : meta.notes)
    root["notes"].push_back(OrderedJson::array({key, value}));
  root["sources"] = OrderedJson::array();
  for (const CheckpointSource& source : meta.sources)
    root["sources"].push_back(jsonOf(source));
  root["files"] = OrderedJson::array();
  for (const CheckpointFile& file : layout.files)
    root["files"].push_back(
        {{"name", file.name}, {"size_bytes", file.sizeBytes}});
  root["checksum_bytes"] = kChecksumBytes;
  root["tensors"] = OrderedJson::array();
  for (const PlacedTensor& placed : layout.tensors)
    root["tensors"].push_back(jsonOf(placed, layout));
  std::string body =
      root.dump(1, ' ', false, nlohmann::json::error_handler_t::replace);
  body.resize(body.rfind('\n')); // the brace that closes the object
  return absl::StrCat(body, kTailBegin, hexOf(checksumOf(body)), kTailEnd);
}

absl::StatusOr<CheckpointDescription>
decodeCheckpointJson(absl::Span<const uint8_t> bytes, absl::string_view path) {
  std::optional<absl::string_view> body =
      verifiedBody({reinterpret_cast<const char*>(bytes.data()), bytes.size()});
  if (!body)
    return checkpointCorrupt(path, "cut short or changed (checksum)");
  Json root = Json::parse(absl::StrCat(*body, "}"), nullptr,
                          /*allow_exceptions=*/false);
  std::string problem;
  Fields fields(root, "it", problem);
  if (fields.text("format") != kFormatName)
    return checkpointCorrupt(path, "not a description of a checkpoint");
  int64_t version = fields.integer("version");
  if (version > kCheckpointVersion)
    return makeError(ErrorCode::CheckpointTooNew,
                     absl::StrCat("checkpoint ", path, " has format version ",
                                  version, ", this is for version ",
                                  kCheckpointVersion),
                     "use the version of llmrt that wrote it, or an older "
                     "checkpoint");
  if (fields.integer("checksum_bytes") != kChecksumBytes)
    fields.complain<int>("checksum_bytes");
  CheckpointDescription description;
  description.meta = readMeta(fields, root, problem);
  for (const Json& item : fields.array("files")) {
    Fields entry(item, "an entry of files", problem);
    CheckpointFile file = {.name = entry.text("name"),
                           .sizeBytes = entry.integer("size_bytes")};
    if (!isPlainName(file.name))
      entry.complain<int>("name");
    description.layout.files.push_back(std::move(file));
  }
  for (const Json& item : fields.array("tensors"))
    description.layout.tensors.push_back(
        readTensor(item, description.layout, problem));
  if (!problem.empty())
    return checkpointCorrupt(path, problem);
  return description;
}

} // namespace llmrt
