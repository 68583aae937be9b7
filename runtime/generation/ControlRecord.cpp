// SPDX-License-Identifier: Apache-2.0
// Layout in 8-byte words: magic and action, entry, round, rows of logits
// wanted, then for each replica: valid rows; seed [S]; ids, positions [S*R],
// rows [S], block table [S*P], temperature, top-k, top-p, sequence [S] as
// 4-byte values, one after another.
#include "runtime/generation/ControlRecord.h"

#include "runtime/base/Error.h"

#include <algorithm>

namespace llmrt {
namespace {

constexpr int64_t kMagic = 0x4c4c4d43; // "LLMC"
constexpr int64_t kHeaderWords = 5;
constexpr int64_t kMaxRecordBytes = int64_t{1} << 30;

int64_t replicaWordsOf(const EntryShape& shape) {
  int64_t values =
      2 * shape.S * shape.R + shape.S + shape.S * shape.P + 4 * shape.S;
  return 1 + shape.S + (values + 1) / 2;
}

template <typename T>
absl::Span<T> take(int32_t*& at, int64_t count) {
  static_assert(sizeof(T) == sizeof(int32_t));
  absl::Span<T> span(reinterpret_cast<T*>(at), static_cast<size_t>(count));
  at += count;
  return span;
}

} // namespace

absl::StatusOr<ControlRecord>
ControlRecord::create(std::vector<EntryShape> entries, int64_t numReplicas) {
  ControlRecord record;
  record.numReplicas_ = numReplicas;
  for (const EntryShape& shape : entries)
    record.replicaWords_ =
        std::max(record.replicaWords_, replicaWordsOf(shape));
  record.entries_ = std::move(entries);
  int64_t numWords = kHeaderWords + numReplicas * record.replicaWords_;
  if (numWords * 8 > kMaxRecordBytes)
    return makeError(ErrorCode::EntryTooLarge,
                     absl::StrCat("the entries of the plan need a control "
                                  "record of ",
                                  numWords * 8, " bytes"),
                     "compile the plan with a smaller batch or chunk");
  record.words_.assign(numWords, 0);
  return record;
}

void ControlRecord::begin(ControlAction action, int entry, int64_t round) {
  words_[0] = kMagic;
  words_[1] = static_cast<int64_t>(action);
  words_[2] = entry;
  words_[3] = round;
  words_[4] = 0;
  if (action != ControlAction::Execute)
    return;
  std::fill(words_.begin() + kHeaderWords, words_.end(), 0);
  for (int64_t index = 0; index < numReplicas_; ++index) {
    ReplicaInputs inputs = replica(index);
    std::fill(inputs.positions.begin(), inputs.positions.end(), -1);
    std::fill(inputs.topP.begin(), inputs.topP.end(), 1.0F);
  }
}

absl::Status ControlRecord::check(int64_t round) const {
  auto mismatch = [](const std::string& what) {
    return makeError(ErrorCode::ControlRecordMismatch, what,
                     "run the same program and plan on every rank");
  };
  if (words_[0] != kMagic || words_[1] < 1 || words_[1] > 3)
    return mismatch("rank 0 sent something that is no control record");
  if (words_[3] != round)
    return mismatch(absl::StrCat("rank 0 is in round ", words_[3],
                                 ", this rank in round ", round));
  if (action() != ControlAction::Execute)
    return absl::OkStatus();
  if (words_[2] < 0 || words_[2] >= static_cast<int64_t>(entries_.size()))
    return mismatch(absl::StrCat("rank 0 asks for entry ", words_[2]));
  const EntryShape& shape = entries_[words_[2]];
  if (words_[4] < 0 || words_[4] > shape.S * shape.R)
    return mismatch(absl::StrCat("rank 0 asks for ", words_[4], " logits"));
  for (int64_t index = 0; index < numReplicas_; ++index) {
    int64_t rows = words_[kHeaderWords + index * replicaWords_];
    if (rows < 0 || rows > shape.S * shape.R)
      return mismatch(absl::StrCat("rank 0 asks for ", rows, " rows of ",
                                   shape.S * shape.R));
  }
  return absl::OkStatus();
}

ControlAction ControlRecord::action() const {
  return static_cast<ControlAction>(words_[1]);
}

int ControlRecord::entry() const { return static_cast<int>(words_[2]); }

ReplicaInputs ControlRecord::replica(int64_t index) {
  const EntryShape& shape = entries_[entry()];
  int64_t* word = words_.data() + kHeaderWords + index * replicaWords_;
  int64_t& validRows = word[0];
  absl::Span<int64_t> seed(word + 1, static_cast<size_t>(shape.S));
  auto* at = reinterpret_cast<int32_t*>(word + 1 + shape.S);
  int64_t numRows = shape.S * shape.R;
  // One at a time: a braced list is evaluated in order.
  return ReplicaInputs{validRows,
                       take<int32_t>(at, numRows),
                       take<int32_t>(at, numRows),
                       take<int32_t>(at, shape.S),
                       take<int32_t>(at, shape.S * shape.P),
                       take<float>(at, shape.S),
                       take<int32_t>(at, shape.S),
                       take<float>(at, shape.S),
                       seed,
                       take<int32_t>(at, shape.S)};
}

} // namespace llmrt
