// SPDX-License-Identifier: Apache-2.0
// Decoding, of which there is one way: id by id. Byte-level vocabularies
// replace each maximal part that is no UTF-8 by one U+FFFD; vocabularies with
// <0x..> tokens replace each such byte by one, as sentencepiece does.
#include "runtime/base/Error.h"
#include "runtime/io/tokenizer/ByteAlphabet.h"
#include "runtime/io/tokenizer/Tokenizer.h"
#include "runtime/io/tokenizer/TokenizerParts.h"
#include "runtime/io/tokenizer/Utf8.h"

namespace llmrt {

StreamingDecoder::StreamingDecoder(const Tokenizer& tokenizer,
                                   const DecodeOptions& options)
    : parts_(*tokenizer.parts_), options_(options) {
  finish();
}

std::string StreamingDecoder::push(int32_t id) {
  std::string out;
  const Vocabulary& vocabulary = parts_.vocabulary;
  TokenKind kind = vocabulary.kind(id);
  bool isSpecial = kind == TokenKind::Control || kind == TokenKind::Unknown;
  if (kind == TokenKind::Absent || (isSpecial && options_.skipSpecial))
    return out;
  std::string_view text = vocabulary.text(id);
  if (parts_.decoder.isByteLevel) {
    appendBytes(text, out);
  } else if (kind == TokenKind::Byte && parts_.decoder.hasByteTokens) {
    pending_ += static_cast<char>(byteOfToken(text));
    flushByteTokens(false, out);
  } else {
    flushByteTokens(true, out);
    appendPiece(text, out);
  }
  isFirstToken_ = false;
  stripLeading(out);
  return out;
}

std::string StreamingDecoder::finish() {
  std::string out;
  if (parts_.decoder.isByteLevel) {
    if (!pending_.empty())
      out += kReplacementCharacter;
    pending_.clear();
  } else {
    flushByteTokens(true, out);
  }
  stripLeading(out);
  spacesToStrip_ = options_.isContinuation ? 0 : parts_.decoder.leadingSpaces;
  isFirstToken_ = !options_.isContinuation;
  return out;
}

void StreamingDecoder::appendBytes(std::string_view bytes, std::string& out) {
  std::string joined;
  if (!pending_.empty()) {
    joined = pending_;
    joined += bytes;
    bytes = joined;
    pending_.clear();
  }
  while (!bytes.empty()) {
    Utf8Step step = readUtf8(bytes);
    if (step.kind == Utf8Step::Incomplete) {
      pending_ = std::string(bytes);
      return;
    }
    out += step.kind == Utf8Step::Character ? bytes.substr(0, step.sizeBytes)
                                            : kReplacementCharacter;
    bytes.remove_prefix(step.sizeBytes);
  }
}

void StreamingDecoder::flushByteTokens(bool isRunOver, std::string& out) {
  std::string_view bytes = pending_;
  while (!bytes.empty()) {
    Utf8Step step = readUtf8(bytes);
    if (step.kind == Utf8Step::Incomplete && !isRunOver)
      break;
    bool isCharacter = step.kind == Utf8Step::Character;
    size_t sizeBytes = isCharacter ? step.sizeBytes : 1;
    out += isCharacter ? bytes.substr(0, sizeBytes) : kReplacementCharacter;
    bytes.remove_prefix(sizeBytes);
  }
  pending_ = std::string(bytes);
}

void StreamingDecoder::appendPiece(std::string_view piece, std::string& out) {
  std::string text(piece);
  if (isFirstToken_ && parts_.decoder.dropsFirstMarkers)
    for (size_t at; (at = text.find(kSpaceMarker)) != std::string::npos;)
      text.erase(at, kSpaceMarker.size());
  for (const auto& [from, to] : parts_.decoder.replacements) {
    for (size_t at = 0; (at = text.find(from, at)) != std::string::npos;) {
      text.replace(at, from.size(), to);
      at += to.size();
    }
  }
  // A file may hold a token that is no UTF-8; it never joins its neighbours.
  appendBytes(text, out);
  if (!pending_.empty())
    out += kReplacementCharacter;
  pending_.clear();
}

void StreamingDecoder::stripLeading(std::string& out) {
  size_t stripped = 0;
  while (stripped < out.size() && stripped < spacesToStrip_ &&
         out[stripped] == ' ')
    ++stripped;
  spacesToStrip_ = stripped < out.size()
                       ? 0
                       : spacesToStrip_ - static_cast<uint32_t>(stripped);
  out.erase(0, stripped);
}

} // namespace llmrt
