// SPDX-License-Identifier: Apache-2.0
// In builds that link nothing but the C library.
#include "runtime/io/tokenizer/SentencePieceEncoder.h"

namespace llmrt {

bool SentencePieceEncoder::isAvailable() { return false; }

std::unique_ptr<SentencePieceEncoder>
SentencePieceEncoder::load(std::string_view, std::string& why) {
  why = "this build has no libsentencepiece";
  return nullptr;
}

} // namespace llmrt
