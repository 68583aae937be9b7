// SPDX-License-Identifier: Apache-2.0
#include "runtime/io/tokenizer/SentencePieceEncoder.h"

#include <sentencepiece_processor.h>

// Exported by the library, but in none of the headers that Debian packages.
namespace sentencepiece::logging {
void SetMinLogLevel(int level);
}

namespace llmrt {
namespace {

class LibraryEncoder : public SentencePieceEncoder {
public:
  std::string encode(std::string_view text,
                     std::vector<int32_t>& ids) const override {
    std::vector<int> encoded;
    sentencepiece::util::Status status = processor.Encode(text, &encoded);
    if (!status.ok())
      return status.ToString();
    ids.insert(ids.end(), encoded.begin(), encoded.end());
    return "";
  }

  sentencepiece::SentencePieceProcessor processor;
};

} // namespace

bool SentencePieceEncoder::isAvailable() { return true; }

std::unique_ptr<SentencePieceEncoder>
SentencePieceEncoder::load(std::string_view model, std::string& why) {
  // Its messages come back as statuses; 3 is "fatal only".
  sentencepiece::logging::SetMinLogLevel(3);
  auto encoder = std::make_unique<LibraryEncoder>();
  sentencepiece::util::Status status =
      encoder->processor.LoadFromSerializedProto(model);
  if (status.ok())
    return encoder;
  why = status.ToString();
  return nullptr;
}

} // namespace llmrt
