// SPDX-License-Identifier: Apache-2.0
#include "tests/runtime/tokenizer/SentencePieceOracle.h"

#include <sentencepiece_processor.h>

namespace llmrt {
namespace {

class LibraryOracle : public SentencePieceOracle {
public:
  int sizePieces() const override { return processor.GetPieceSize(); }

  std::vector<int> encode(const std::string& text) const override {
    return processor.EncodeAsIds(text);
  }

  std::string decode(const std::vector<int>& ids) const override {
    return processor.DecodeIds(ids);
  }

  sentencepiece::SentencePieceProcessor processor;
};

} // namespace

std::unique_ptr<SentencePieceOracle>
SentencePieceOracle::load(const std::string& model) {
  auto oracle = std::make_unique<LibraryOracle>();
  if (!oracle->processor.LoadFromSerializedProto(model).ok())
    return nullptr;
  return oracle;
}

} // namespace llmrt
