// SPDX-License-Identifier: Apache-2.0
#include "runtime/io/tokenizer/SentencePieceProto.h"

#include "runtime/base/Error.h"

#include <cstring>

namespace llmrt {
namespace {

// One field of a protobuf message.
struct Field {
  uint32_t number = 0;
  uint64_t varint = 0;    // of wire type 0
  float fixed32 = 0;      // of wire type 5
  std::string_view bytes; // of wire type 2
  uint32_t wireType = 0;
};

// Walks the fields of a message.
class FieldReader {
public:
  explicit FieldReader(std::string_view message) : rest_(message) {}

  bool isCorrupt() const { return isCorrupt_; }

  // Returns false at the end, and when the message is corrupt.
  bool next(Field& field) {
    if (rest_.empty())
      return false;
    uint64_t tag = 0;
    if (!readVarint(tag) || tag >> 3 == 0 || tag >> 3 > UINT32_MAX)
      return fail();
    field = {};
    field.number = static_cast<uint32_t>(tag >> 3);
    field.wireType = tag & 7;
    switch (field.wireType) {
    case 0:
      return readVarint(field.varint) || fail();
    case 1:
      return take(8, field.bytes) || fail();
    case 2: {
      uint64_t sizeBytes = 0;
      return (readVarint(sizeBytes) && take(sizeBytes, field.bytes)) || fail();
    }
    case 5: {
      std::string_view four;
      if (!take(4, four))
        return fail();
      std::memcpy(&field.fixed32, four.data(), 4);
      return true;
    }
    default:
      return fail();
    }
  }

private:
  bool fail() {
    isCorrupt_ = true;
    return false;
  }

  bool take(uint64_t sizeBytes, std::string_view& out) {
    if (sizeBytes > rest_.size())
      return false;
    out = rest_.substr(0, sizeBytes);
    rest_.remove_prefix(sizeBytes);
    return true;
  }

  bool readVarint(uint64_t& value) {
    value = 0;
    for (int shift = 0; shift < 64 && !rest_.empty(); shift += 7) {
      auto byte = static_cast<uint8_t>(rest_[0]);
      rest_.remove_prefix(1);
      value |= static_cast<uint64_t>(byte & 0x7F) << shift;
      if (byte < 0x80)
        return true;
    }
    return false;
  }

  std::string_view rest_;
  bool isCorrupt_ = false;
};

// What the trainer and normalizer specifications say, with the format's
// defaults.
struct ModelSettings {
  uint64_t modelType = 1;
  bool suffixesSpaces = false;
  bool escapesSpaces = true;
  bool hasCharacterMap = false;
  bool removesExtraSpaces = true;
};

constexpr uint64_t kBpeModelType = 2;

absl::Status corrupt(absl::string_view what) {
  return makeError(ErrorCode::TokenizerCorrupt,
                   absl::StrCat("tokenizer.model is corrupt: ", what),
                   "get the tokenizer file again");
}

absl::Status unsupported(absl::string_view what) {
  return makeError(ErrorCode::TokenizerUnsupported,
                   absl::StrCat("tokenizer.model is not supported: ", what),
                   "put the model's tokenizer.json beside it");
}

absl::Status readPiece(std::string_view message, SentencePieceSpec& spec) {
  FieldReader reader(message);
  SentencePieceSpec::Piece piece;
  Field field;
  uint64_t type = 1;
  while (reader.next(field)) {
    if (field.number == 1 && field.wireType == 2)
      piece.text = field.bytes;
    else if (field.number == 2 && field.wireType == 5)
      piece.score = field.fixed32;
    else if (field.number == 3 && field.wireType == 0)
      type = field.varint;
  }
  if (reader.isCorrupt() || piece.text.empty())
    return corrupt(absl::StrCat("piece ", spec.pieces.size()));
  if (type < 1 || type > static_cast<uint64_t>(TokenKind::Byte))
    return corrupt(
        absl::StrCat("piece ", spec.pieces.size(), " has type ", type));
  piece.kind = static_cast<TokenKind>(type);
  spec.pieces.push_back(piece);
  return absl::OkStatus();
}

absl::Status readTrainerSpec(std::string_view message,
                             SentencePieceProto& proto,
                             ModelSettings& settings) {
  FieldReader reader(message);
  Field field;
  while (reader.next(field)) {
    if (field.wireType != 0)
      continue;
    // Negative ids, for "none", are 64-bit varints.
    auto id = static_cast<int64_t>(field.varint);
    switch (field.number) {
    case 3:
      settings.modelType = field.varint;
      break;
    case 24:
      settings.suffixesSpaces = field.varint != 0;
      break;
    case 35:
      proto.spec.byteFallback = field.varint != 0;
      break;
    case 41:
      proto.bosId = id;
      break;
    case 42:
      proto.eosId = id;
      break;
    default:
      break;
    }
  }
  return reader.isCorrupt() ? corrupt("trainer specification")
                            : absl::OkStatus();
}

absl::Status readNormalizerSpec(std::string_view message,
                                SentencePieceSpec& spec,
                                ModelSettings& settings) {
  FieldReader reader(message);
  Field field;
  while (reader.next(field)) {
    if (field.number == 2 && field.wireType == 2)
      settings.hasCharacterMap = !field.bytes.empty();
    if (field.wireType != 0)
      continue;
    if (field.number == 3)
      spec.addsDummyPrefix = field.varint != 0;
    else if (field.number == 4)
      settings.removesExtraSpaces = field.varint != 0;
    else if (field.number == 5)
      settings.escapesSpaces = field.varint != 0;
  }
  return reader.isCorrupt() ? corrupt("normalizer specification")
                            : absl::OkStatus();
}

} // namespace

absl::StatusOr<SentencePieceProto>
readSentencePieceProto(std::string_view bytes) {
  SentencePieceProto proto;
  SentencePieceSpec& spec = proto.spec;
  ModelSettings settings;
  FieldReader reader(bytes);
  Field field;
  while (reader.next(field)) {
    if (field.wireType != 2)
      continue;
    if (field.number == 1)
      LLMRT_RETURN_IF_ERROR(readPiece(field.bytes, spec));
    else if (field.number == 2)
      LLMRT_RETURN_IF_ERROR(readTrainerSpec(field.bytes, proto, settings));
    else if (field.number == 3)
      LLMRT_RETURN_IF_ERROR(readNormalizerSpec(field.bytes, spec, settings));
  }
  if (reader.isCorrupt())
    return corrupt("it ends inside a field, or is no SentencePiece model");
  if (spec.pieces.empty())
    return corrupt("it has no pieces");
  if (settings.modelType != kBpeModelType)
    return unsupported("its model type is not BPE");
  if (settings.hasCharacterMap)
    return unsupported("it normalises text by a character map");
  if (settings.removesExtraSpaces)
    return unsupported("it removes extra spaces");
  if (!settings.escapesSpaces || settings.suffixesSpaces)
    return unsupported("it does not mark spaces before words");
  for (size_t i = 0; i < spec.pieces.size(); ++i)
    if (spec.pieces[i].kind == TokenKind::Unknown)
      spec.unknownId = static_cast<int32_t>(i);
  return proto;
}

} // namespace llmrt
