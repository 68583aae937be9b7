// SPDX-License-Identifier: Apache-2.0
#include "tests/runtime/generation/FakeExecutor.h"

#include "runtime/base/Error.h"
#include "runtime/plan/Mesh.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>

namespace llmrt {
namespace {

uint64_t mix(uint64_t hash, uint64_t value) {
  hash = (hash ^ value) * 0x9e3779b97f4a7c15ULL;
  return hash ^ (hash >> 29);
}

std::unique_ptr<fb::NamedBufferT> namedBuffer(const char* name,
                                              std::vector<int64_t> shape) {
  auto buffer = std::make_unique<fb::NamedBufferT>();
  buffer->name = name;
  buffer->shape = std::move(shape);
  return buffer;
}

} // namespace

std::vector<uint8_t> makeFakePlan(const FakePlanShape& shape) {
  fb::PlanT plan;
  plan.schema_version = kPlanSchemaVersion;
  plan.mode = "infer";
  plan.target = "cpu";
  plan.batch = shape.batch;
  plan.cache_tokens = shape.cacheTokens;
  plan.model = std::make_unique<fb::ModelCardT>();
  plan.model->vocab_size = shape.vocabSize;
  for (auto [name, size] : std::initializer_list<std::pair<const char*, int>>{
           {"dp", shape.dp}, {"pp", shape.pp}, {"tp", shape.tp}}) {
    plan.axes.push_back(std::make_unique<fb::AxisT>());
    plan.axes.back()->name = name;
    plan.axes.back()->size = size;
  }
  int64_t pages = (shape.cacheTokens + kPageTokens - 1) / kPageTokens;
  for (auto [name, S, R] :
       std::initializer_list<std::tuple<const char*, int64_t, int64_t>>{
           {"prefill", 1, shape.chunk},
           {"decode", shape.batch, 1},
           {"score", 1, shape.chunk}}) {
    auto& entry = plan.entries.emplace_back(std::make_unique<fb::EntryT>());
    entry->name = name;
    entry->sequences = S;
    entry->rows_per_sequence = R;
    entry->pages_per_sequence = pages;
    entry->all_rows = entry->name == "score";
  }
  for (int s = 0; s < shape.pp; ++s) {
    auto& stage = plan.stages.emplace_back(std::make_unique<fb::StageT>());
    stage->caches.push_back(std::make_unique<fb::CacheT>());
    stage->caches.back()->pages = pages * shape.batch;
    for (int e = 0; e < 3; ++e) {
      auto& outputs =
          stage->outputs.emplace_back(std::make_unique<fb::EntryBuffersT>());
      int64_t S = plan.entries[e]->sequences;
      int64_t R = plan.entries[e]->rows_per_sequence;
      outputs->entry = e;
      outputs->buffers.push_back(namedBuffer("next_ids", {S}));
      if (s == shape.pp - 1)
        outputs->buffers.push_back(
            namedBuffer("logits", {e == 2 ? S * R : S, shape.vocabSize}));
    }
  }
  ::flatbuffers::FlatBufferBuilder builder;
  builder.Finish(fb::Plan::Pack(builder, &plan), fb::PlanIdentifier());
  return {builder.GetBufferPointer(),
          builder.GetBufferPointer() + builder.GetSize()};
}

int32_t fakeNextToken(absl::Span<const int32_t> tokens, int64_t vocabSize) {
  uint64_t hash = 17;
  for (int32_t id : tokens)
    hash = mix(hash, id);
  return static_cast<int32_t>(hash % vocabSize);
}

int32_t fakeSampledToken(absl::Span<const int32_t> tokens,
                         absl::Span<const int32_t> keys, int64_t vocabSize) {
  std::vector<int32_t> all(tokens.begin(), tokens.end());
  all.insert(all.end(), keys.begin(), keys.end());
  return fakeNextToken(all, vocabSize);
}

std::vector<float> fakeLogits(absl::Span<const int32_t> tokens,
                              int64_t vocabSize) {
  std::vector<float> logits(vocabSize, 0.25F * tokens.size());
  logits[fakeNextToken(tokens, vocabSize)] += 1;
  return logits;
}

FakeExecutor::FakeExecutor(const fb::Plan& plan, Fabric& fabric)
    : plan_(plan), fabric_(fabric),
      coordinates_(coordinatesOfRank(plan, fabric.rank())),
      stage_(stageOfCoordinates(plan, coordinates_)) {
  std::vector<int> ranks(fabric.size());
  std::iota(ranks.begin(), ranks.end(), 0);
  all_ = *fabric.createCommunicator(ranks);
  cache_.assign(plan.stages()->Get(0)->caches()->Get(0)->pages() * kPageTokens,
                -7);
}

int FakeExecutor::findEntry(absl::string_view name) const {
  for (unsigned i = 0; i < plan_.entries()->size(); ++i)
    if (plan_.entries()->Get(i)->name()->str() == name)
      return i;
  return -1;
}

absl::Span<uint8_t> FakeExecutor::input(int entry, absl::string_view name) {
  const fb::Entry* shape = plan_.entries()->Get(entry);
  int64_t S = shape->sequences();
  int64_t sizeBytes = S * 4;
  if (name == "ids" || name == "positions")
    sizeBytes = S * shape->rows_per_sequence() * 4;
  if (name == "block_table")
    sizeBytes = S * shape->pages_per_sequence() * 4;
  if (name == "seed")
    sizeBytes = S * 8;
  auto& bytes = inputs_[{entry, std::string(name)}];
  bytes.resize(sizeBytes);
  return absl::MakeSpan(bytes);
}

absl::Span<const uint8_t> FakeExecutor::output(int entry,
                                               absl::string_view name) const {
  auto found = outputs_.find({entry, std::string(name)});
  return found == outputs_.end() ? absl::Span<const uint8_t>()
                                 : absl::MakeConstSpan(found->second);
}

std::vector<int32_t> FakeExecutor::readInts(int entry, absl::string_view name) {
  absl::Span<uint8_t> bytes = input(entry, name);
  std::vector<int32_t> values(bytes.size() / 4);
  std::memcpy(values.data(), bytes.data(), bytes.size());
  return values;
}

void FakeExecutor::runSequence(int entry, int64_t s, int64_t validRows) {
  const fb::Entry* shape = plan_.entries()->Get(entry);
  int64_t R = shape->rows_per_sequence();
  int64_t P = shape->pages_per_sequence();
  std::vector<int32_t> ids = readInts(entry, "ids");
  std::vector<int32_t> positions = readInts(entry, "positions");
  std::vector<int32_t> table = readInts(entry, "block_table");
  int64_t V = plan_.model()->vocab_size();
  auto place = [&](int64_t position) {
    return table[s * P + position / kPageTokens] * kPageTokens +
           position % kPageTokens;
  };
  auto* logits = reinterpret_cast<float*>(outputs_[{entry, "logits"}].data());
  auto* next = reinterpret_cast<int32_t*>(outputs_[{entry, "next_ids"}].data());
  for (int64_t row = s * R; row < std::min((s + 1) * R, validRows); ++row) {
    if (positions[row] < 0)
      continue;
    cache_[place(positions[row])] = ids[row];
    std::vector<int32_t> context;
    for (int64_t p = 0; p <= positions[row]; ++p)
      context.push_back(cache_[place(p)]);
    std::vector<float> values = fakeLogits(context, V);
    std::copy(values.begin(), values.end(),
              logits + (shape->all_rows() ? row : s) * V);
    next[s] = fakeNextToken(context, V);
    std::vector<int32_t> temperature = readInts(entry, "temperature");
    if (temperature[s] == 0)
      continue;
    bool isLastRow = row == s * R + readInts(entry, "valid_rows")[s] - 1;
    EXPECT_TRUE(!isLastRow ||
                readInts(entry, "sample_positions")[s] == positions[row]);
    next[s] = fakeSampledToken(context,
                               {readInts(entry, "seed")[2 * s],
                                readInts(entry, "sequence")[s],
                                readInts(entry, "top_k")[s]},
                               V);
  }
}

absl::Status FakeExecutor::execute(int entry, int64_t validRows,
                                   ExecuteStatistics*) {
  if (static_cast<int>(calls.size()) == failAtCall) {
    absl::Status status = absl::InternalError("the fake failed");
    fabric_.abort(status);
    return status;
  }
  calls.push_back({entry, validRows});
  std::vector<int> entries(all_->size());
  LLMRT_RETURN_IF_ERROR(
      all_->allGather(&entry, entries.data(), sizeof(int), {}));
  for (int other : entries)
    if (other != entry)
      return absl::InternalError("ranks run different entries");
  const fb::Entry* shape = plan_.entries()->Get(entry);
  int64_t S = shape->sequences();
  outputs_[{entry, "next_ids"}].assign(S * 4, 0xff);
  bool isLast = stage_ == static_cast<int>(plan_.stages()->size()) - 1;
  int64_t numLogits = shape->all_rows() ? S * shape->rows_per_sequence() : S;
  outputs_[{entry, "logits"}].assign(
      numLogits * plan_.model()->vocab_size() * 4, 0);
  for (int64_t s = 0; s < S; ++s)
    runSequence(entry, s, validRows);
  if (!isLast)
    outputs_.erase({entry, "logits"});
  return absl::OkStatus();
}

} // namespace llmrt
