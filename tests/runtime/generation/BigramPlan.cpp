// SPDX-License-Identifier: Apache-2.0
#include "tests/runtime/generation/BigramPlan.h"

#include "runtime/kernels/KernelAbi.h"

#include "nlohmann/json.hpp"

namespace llmrt::test {
namespace {

constexpr int64_t V = kBigramVocab;
constexpr int64_t C = 16;
constexpr int64_t kPanel = kPanelBytes / 4;
using enum fb::ElementType;

std::vector<fb::WordT> words(std::initializer_list<fb::WordT> list) {
  std::vector<fb::WordT> all;
  for (const fb::WordT& word : list)
    all.push_back(fb::WordT(word));
  return all;
}

struct Buffers {
  int ids, positions, rows, table, temperature, topK, topP, seed, sequence,
      samplePositions, embed, head, x, last, logits, next;
};

Buffers addBuffers(PlanBuilder& b, int64_t S, int64_t R, int64_t P) {
  using enum fb::MemoryClass;
  int64_t numRows = std::max(S, R);
  Buffers buffers{};
  buffers.ids = b.buffer("ids", Inputs, numRows * 4);
  buffers.positions = b.buffer("positions", Inputs, numRows * 4);
  buffers.rows = b.buffer("valid_rows", Inputs, S * 4);
  buffers.table = b.buffer("block_table", Inputs, S * P * 4);
  buffers.temperature = b.buffer("temperature", Inputs, S * 4);
  buffers.topK = b.buffer("top_k", Inputs, S * 4);
  buffers.topP = b.buffer("top_p", Inputs, S * 4);
  buffers.seed = b.buffer("seed", Inputs, S * 8);
  buffers.sequence = b.buffer("sequence", Inputs, S * 4);
  buffers.samplePositions = b.buffer("sample_positions", Inputs, S * 4);
  buffers.embed = b.buffer("embed", Parameters, V * C * 4);
  buffers.head =
      b.buffer("head", Parameters, (V + kPanel - 1) / kPanel * kPanel * C * 4);
  buffers.x = b.buffer("x", Activations, numRows * C * 4);
  buffers.last = b.buffer("last", Activations, S * C * 4);
  buffers.logits = b.buffer("logits", Outputs, numRows * V * 4);
  buffers.next = b.buffer("next_ids", Outputs, S * 4);
  b.parameter("embed.weight", {V, C}, buffers.embed);
  b.parameter("head.weight", {V, C}, buffers.head).layout =
      fb::WeightLayout::Panel;
  return buffers;
}

void addInputs(PlanBuilder& b, const Buffers& at, int entry, int64_t S,
               int64_t R, int64_t P) {
  b.input(entry, "ids", at.ids, I32, {S, R});
  b.input(entry, "positions", at.positions, I32, {S, R});
  b.input(entry, "valid_rows", at.rows, I32, {S});
  b.input(entry, "block_table", at.table, I32, {S, P});
  b.input(entry, "temperature", at.temperature, F32, {S});
  b.input(entry, "top_k", at.topK, I32, {S});
  b.input(entry, "top_p", at.topP, F32, {S});
  b.input(entry, "seed", at.seed, I64, {S});
  b.input(entry, "sequence", at.sequence, I32, {S});
  b.input(entry, "sample_positions", at.samplePositions, I32, {S});
}

void addCommands(PlanBuilder& b, const Buffers& at, int entry, int64_t S,
                 int64_t R, bool isAllRows) {
  b.launch(entry, b.kernel("embedding", 1, 0),
           words({rows(), address(at.ids), address(at.embed), address(at.x),
                  integer(C), integer(0), integer(V), integer(0), integer(0)}),
           rows(), C);
  if (!isAllRows)
    b.launch(entry, b.kernel("select_rows", 1, 0),
             words({sequences(), address(at.x), address(at.rows),
                    address(at.last), integer(R), integer(C)}),
             sequences(), C);
  fb::WordT count = isAllRows ? rows() : sequences();
  std::vector<fb::WordT> linear =
      words({count, address(isAllRows ? at.x : at.last), integer(C), integer(C),
             integer(0), integer(1), integer(0), integer(1), address(at.head),
             address(at.logits), integer(V), integer(V)});
  while (linear.size() < 31)
    linear.push_back(integer(0));
  b.launch(entry, b.kernel("linear", 0, 64), std::move(linear),
           fb::WordT(count), V);
  b.output(entry, "logits", at.logits, F32, {isAllRows ? S * R : S, V});
  if (isAllRows)
    return;
  b.launch(entry, b.kernel("sample", 1, 0),
           words({sequences(), address(at.logits), address(at.temperature),
                  address(at.topK), address(at.topP), address(at.seed),
                  address(at.sequence), address(at.samplePositions),
                  address(at.next), integer(V)}),
           sequences(), 1);
  b.output(entry, "next_ids", at.next, I32, {S});
}

} // namespace

PlanBuilder bigramModel(const BigramShape& shape) {
  PlanBuilder b(shape.axes);
  int64_t P = (shape.cacheTokens + kPageTokens - 1) / kPageTokens;
  b.plan.mode = "infer";
  b.plan.batch = shape.batch;
  b.plan.cache_tokens = shape.cacheTokens;
  if (!b.plan.model)
    b.plan.model = std::make_unique<fb::ModelCardT>();
  b.plan.model->vocab_size = V;
  b.plan.model->context_length = shape.cacheTokens;
  b.plan.model->tokenizer = shape.tokenizer;
  b.plan.model->source = shape.source;
  int entries[] = {b.entry("prefill", 1, kBigramChunk),
                   b.entry("decode", shape.batch, 1),
                   b.entry("score", 1, kBigramChunk)};
  for (int entry : entries)
    b.plan.entries[entry]->pages_per_sequence = P;
  b.plan.entries[entries[2]]->all_rows = true;
  for (size_t stage = 0; stage < b.plan.stages.size(); ++stage) {
    b.select(static_cast<int>(stage));
    Buffers at = addBuffers(b, shape.batch, kBigramChunk, P);
    for (int entry : entries) {
      int64_t S = b.plan.entries[entry]->sequences;
      int64_t R = b.plan.entries[entry]->rows_per_sequence;
      addInputs(b, at, entry, S, R, P);
      addCommands(b, at, entry, S, R, entry == entries[2]);
    }
  }
  return b;
}

std::string byteTokenizerJson() {
  nlohmann::ordered_json vocabulary;
  // The alphabet of byte-level tokenizers: printable bytes stand for
  // themselves, the others for characters from U+0100 on.
  int extra = 0;
  for (int byte = 0; byte < 256; ++byte) {
    bool isPrintable = (byte >= '!' && byte <= '~') ||
                       (byte >= 0xA1 && byte <= 0xAC) || byte >= 0xAE;
    int point = isPrintable ? byte : 256 + extra++;
    std::string text;
    if (point < 0x80)
      text += static_cast<char>(point);
    else {
      text += static_cast<char>(0xC0 | point >> 6);
      text += static_cast<char>(0x80 | (point & 0x3F));
    }
    vocabulary[text] = byte;
  }
  nlohmann::ordered_json json;
  json["version"] = "1.0";
  json["added_tokens"] = {{{"id", 256},
                           {"content", "<|end|>"},
                           {"single_word", false},
                           {"lstrip", false},
                           {"rstrip", false},
                           {"normalized", false},
                           {"special", true}}};
  json["normalizer"] = nullptr;
  json["pre_tokenizer"] = {{"type", "ByteLevel"},
                           {"add_prefix_space", false},
                           {"trim_offsets", true},
                           {"use_regex", true}};
  json["post_processor"] = nullptr;
  json["decoder"] = {{"type", "ByteLevel"}};
  json["model"] = {{"type", "BPE"},
                   {"vocab", vocabulary},
                   {"merges", nlohmann::ordered_json::array()}};
  return json.dump();
}

} // namespace llmrt::test
