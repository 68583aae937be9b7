// SPDX-License-Identifier: Apache-2.0
// Fuzz target of the tokenizer's readers and of what they make: every format,
// the small files beside it, encoding, decoding and chat templates. The first
// byte of an input says which reader gets the rest.
#include "runtime/io/tokenizer/ChatTemplate.h"
#include "runtime/io/tokenizer/GgufTokenizer.h"
#include "runtime/io/tokenizer/TokenizerReaders.h"

#include "tests/fuzz/FuzzDriver.h"
#include "tests/support/GgufWriter.h"

#include <cstdlib>

namespace llmrt {
namespace {

using MaybeTokenizer = absl::StatusOr<std::unique_ptr<Tokenizer>>;

// The text every tokenizer has to encode or refuse: words, digits, spaces,
// special tokens, marks out of order, four-byte characters and, at the end, a
// NUL.
constexpr char kText[] = "Hello  wörld <s>\n e\u0301\u0323 123 <|x|>▁🚀 don't\t";

void use(const Tokenizer& tokenizer, std::string_view more) {
  for (bool parseSpecial : {true, false}) {
    for (std::string_view part :
         {std::string_view(kText, sizeof(kText)), more.substr(0, 64)}) {
      auto ids = tokenizer.encode(part, {.parseSpecial = parseSpecial});
      if (!ids.ok())
        continue;
      std::string decoded = tokenizer.decode(*ids);
      StreamingDecoder decoder(tokenizer);
      std::string streamed;
      for (int32_t id : *ids)
        streamed += decoder.push(id);
      streamed += decoder.finish();
      // Joined, the pieces are the whole, and the whole is UTF-8.
      if (streamed != decoded)
        std::abort();
      nlohmann::json(decoded).dump();
    }
  }
  std::vector<int32_t> ids = {-1, tokenizer.vocabSize(), INT32_MAX};
  for (int32_t id = 0; id < std::min(tokenizer.vocabSize(), 64); ++id)
    ids.push_back(id);
  nlohmann::json(tokenizer.decode(ids, {.skipSpecial = true})).dump();
  tokenizer.findSpecial("<s>");
  ChatTemplate::recognise(tokenizer.chatTemplateText()).ok();
}

MaybeTokenizer finish(absl::StatusOr<std::unique_ptr<TokenizerParts>> parts) {
  if (!parts.ok())
    return parts.status();
  return Tokenizer::create(std::move(*parts));
}

MaybeTokenizer read(char kind, std::string_view bytes) {
  switch (kind) {
  case 'J': {
    auto document = readTokenizerDocument(bytes);
    return document.ok() ? finish(readTokenizerJson(*document, {}))
                         : document.status();
  }
  case 'E': {
    size_t end = std::min(bytes.find('\0'), bytes.size());
    auto encoder = readTokenizerDocument(bytes.substr(0, end));
    return encoder.ok()
               ? finish(readEncoderAndMerges(
                     *encoder, bytes.substr(std::min(end + 1, bytes.size())),
                     {}))
               : encoder.status();
  }
  case 'S':
    return finish(readSentencePieceModel(bytes, {}));
  case 'T':
    return finish(readTiktokenModel(bytes, {}));
  case 'G': {
    auto file = GgufFile::parse(
        {reinterpret_cast<const uint8_t*>(bytes.data()), bytes.size()}, "fuzz");
    return file.ok() ? loadTokenizerFromGguf(*file) : file.status();
  }
  case 'C': {
    TokenizerConfig config;
    auto fields =
        nlohmann::json::parse(bytes.begin(), bytes.end(), nullptr, false);
    absl::Status status = readTokenizerConfigFields(fields, config);
    if (!status.ok())
      return status;
    auto document = readTokenizerDocument(R"({"a":0,"b":1,"ab":2})");
    return finish(readEncoderAndMerges(*document, "a b\n", config));
  }
  default:
    ChatTemplate::recognise(bytes).ok();
    return absl::NotFoundError("not a tokenizer");
  }
}

} // namespace
} // namespace llmrt

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t sizeBytes) {
  if (sizeBytes == 0)
    return 0;
  // A buffer of exactly the input's size, so that reading past it is caught.
  std::string_view bytes(reinterpret_cast<const char*>(data) + 1,
                         sizeBytes - 1);
  auto tokenizer = llmrt::read(static_cast<char>(data[0]), bytes);
  if (tokenizer.ok() && *tokenizer)
    llmrt::use(**tokenizer, bytes);
  return 0;
}

namespace {

// A field of a protobuf message: bytes, or a varint.
std::string protoBytes(int number, const std::string& bytes) {
  std::string out;
  out += static_cast<char>(number << 3 | 2);
  out += static_cast<char>(bytes.size());
  out += bytes;
  return out;
}

std::string protoVarint(int number, int value) {
  std::string out;
  for (unsigned tag = number << 3;; tag >>= 7) {
    out += static_cast<char>((tag & 0x7F) | (tag > 0x7F ? 0x80 : 0));
    if (tag <= 0x7F)
      break;
  }
  return out + static_cast<char>(value);
}

std::string sentencePieceSeed() {
  std::string model;
  int index = 0;
  for (const auto& [text, type] :
       std::vector<std::pair<std::string, int>>{{"<unk>", 2},
                                                {"<s>", 3},
                                                {"</s>", 3},
                                                {"<0x0A>", 6},
                                                {"<0xC3>", 6},
                                                {"<usr>", 4},
                                                {"▁H", 1},
                                                {"el", 1},
                                                {"ell", 1},
                                                {"▁", 1},
                                                {"H", 1},
                                                {"e", 1},
                                                {"l", 1},
                                                {"o", 1},
                                                {"▁▁", 1},
                                                {"x", 5}}) {
    float score = static_cast<float>(-index++);
    std::string piece = protoBytes(1, text);
    piece += '\x15';
    piece.append(reinterpret_cast<const char*>(&score), 4);
    piece += protoVarint(3, type);
    model += protoBytes(1, piece);
  }
  std::string trainer;
  for (const auto& [number, value] : std::vector<std::pair<int, int>>{
           {3, 2}, {35, 1}, {40, 0}, {41, 1}, {42, 2}})
    trainer += protoVarint(number, value);
  model += protoBytes(2, trainer);
  std::string normalizer = protoVarint(3, 1);
  normalizer += protoVarint(4, 0);
  model += protoBytes(3, normalizer);
  return model;
}

std::string ggufSeed(const std::string& model) {
  llmrt::testing::GgufWriter writer;
  writer.addText("tokenizer.ggml.model", model);
  writer.addText("tokenizer.ggml.pre", "smollm");
  writer.addTexts("tokenizer.ggml.tokens",
                  {"<s>", "H", "e", "l", "el", "<0x0A>", "▁", "Ġ", "ĠH"});
  writer.addTexts("tokenizer.ggml.merges", {"e l", "Ġ H"});
  writer.addI32s("tokenizer.ggml.token_type", {3, 1, 1, 1, 1, 6, 4, 1, 1});
  writer.addF32s("tokenizer.ggml.scores", {0, -1, -2, -3, 0, -5, -6, -7, -8});
  writer.addU32("tokenizer.ggml.bos_token_id", 0);
  return writer.serialize();
}

std::string seed(char kind, std::string_view bytes) {
  std::string out(1, kind);
  out += bytes;
  return out;
}

} // namespace

std::vector<std::string> fuzzSeeds() {
  std::string byteLevel =
      R"({"version":"1.0","added_tokens":[{"id":9,"content":"<s>","special":true,"lstrip":true,"rstrip":true},)"
      R"({"id":10,"content":"don","special":false,"normalized":true,"single_word":true}],)"
      R"("normalizer":{"type":"Sequence","normalizers":[{"type":"NFC"},{"type":"Replace","pattern":{"Regex":"\\s+"},"content":" "}]},)"
      R"("pre_tokenizer":{"type":"Sequence","pretokenizers":[{"type":"Split","pattern":{"Regex":"\\p{L}+|\\p{N}"},"behavior":"MergedWithNext","invert":false},)"
      R"({"type":"Digits","individual_digits":true},{"type":"ByteLevel","add_prefix_space":true,"use_regex":true}]},)"
      R"("post_processor":{"type":"TemplateProcessing","single":[{"SpecialToken":{"id":"<s>"}},{"Sequence":{"id":"A"}}],)"
      R"("special_tokens":{"<s>":{"id":"<s>","ids":[9]}}},"decoder":{"type":"ByteLevel"},)"
      R"("model":{"type":"BPE","unk_token":"H","ignore_merges":true,"vocab":{"H":0,"e":1,"l":2,"o":3,"Ġ":4,"el":5,"ell":6,"ĠH":7,"ĠĠ":8},)"
      R"("merges":["e l","el l",["x","y"]]}})";
  std::string pieces =
      R"({"added_tokens":[{"id":0,"content":"<unk>","special":true}],"normalizer":{"type":"Prepend","prepend":"▁"},)"
      R"("pre_tokenizer":{"type":"Metaspace","replacement":"▁","prepend_scheme":"first","split":true},)"
      R"("decoder":{"type":"Sequence","decoders":[{"type":"Replace","pattern":{"String":"▁"},"content":" "},{"type":"ByteFallback"},)"
      R"({"type":"Fuse"},{"type":"Strip","content":" ","start":1,"stop":0}]},)"
      R"("model":{"type":"BPE","unk_token":"<unk>","fuse_unk":true,"byte_fallback":true,)"
      R"("vocab":{"<unk>":0,"<0x0A>":1,"<0xC3>":2,"▁":3,"H":4,"▁H":5,"e":6,"l":7,"el":8},"merges":[["▁","H"],["e","l"]]}})";
  std::string valid = byteLevel;
  valid.replace(valid.find(R"(,["x","y"])"), 10, "");
  std::string encoder = R"({"H":0,"e":1,"l":2,"el":3,"<|endoftext|>":4})";
  encoder += '\0';
  encoder += "#version: 0.2\ne l\n";
  return {
      seed('J', byteLevel),
      seed('J', valid),
      seed('J', pieces),
      seed('E', encoder),
      seed('S', sentencePieceSeed()),
      seed('T', "IQ== 0\nIg== 1\nIw== 2\n"),
      seed('G', ggufSeed("gpt2")),
      seed('G', ggufSeed("llama")),
      seed('C', R"({"bos_token":{"content":"a"},"eos_token":"b",)"
                R"("add_bos_token":true,"tokenizer_class":"GPT2Tokenizer",)"
                R"("added_tokens_decoder":{"3":{"content":"<s>",)"
                R"("special":true}},"chat_template":[{"name":"default",)"
                R"("template":"{{ x }}"}]})"),
      seed('X', "{% for message in messages %}{{'<|im_start|>' + "
                "message['role'] + '\\n' + message['content'] + "
                "'<|im_end|>' + '\\n'}}{% endfor %}"
                "{% if add_generation_prompt %}"
                "{{ '<|im_start|>assistant\\n' }}{% endif %}"),
      seed('X', "{%- if messages[0]['role'] == 'system' %}\n"
                "  {{- \"a\" -}} {# c #}\n{%- endif %}"),
  };
}
