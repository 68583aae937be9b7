// SPDX-License-Identifier: Apache-2.0
#include "runtime/training/ReferenceLosses.h"

#include "runtime/base/Crc64.h"
#include "runtime/base/Error.h"
#include "runtime/checkpoint/RankGroup.h"
#include "runtime/io/Safetensors.h"
#include "runtime/training/StepInputs.h"

#include <algorithm>
#include <cstring>
#include <optional>

namespace llmrt {
namespace {

constexpr const char* kTensor = "row_loss";
constexpr const char* kFingerprint = "fingerprint";
// Of the bytes of kTensor: CRC-64/XZ, little-endian.
constexpr const char* kChecksum = "checksum";

absl::Status notThere(const std::string& path, const char* why) {
  return absl::NotFoundError(absl::StrCat(path, ": ", why));
}

/// Rows of a step's sequences as the ranks send them to rank 0: the replica
/// (-1: this rank has none), then whether to stop, then f32 pairs in words.
class RowBlock {
public:
  RowBlock(const BatchPlace& place, int64_t numRows)
      : numValues_(place.batch / place.dataRanks * numRows),
        words_(2 + (numValues_ + 1) / 2) {}

  void fill(const Executor& executor, int64_t replica, bool wantsStop) {
    absl::Span<const uint8_t> rows = executor.stepOutput(kTensor);
    bool isHere = rows.size() == numValues_ * sizeof(float);
    words_[0] = isHere ? static_cast<uint64_t>(replica) : ~uint64_t{0};
    words_[1] = wantsStop;
    if (isHere)
      std::memcpy(&words_[2], rows.data(), rows.size());
  }

  absl::Span<const uint64_t> words() const { return words_; }

  /// Returns the values of a replica from the blocks of all ranks.
  absl::Span<const uint8_t> find(const std::vector<uint64_t>& blocks,
                                 int64_t replica) const {
    for (size_t at = 0; at < blocks.size(); at += words_.size())
      if (blocks[at] == static_cast<uint64_t>(replica))
        return {reinterpret_cast<const uint8_t*>(&blocks[at + 2]),
                numValues_ * sizeof(float)};
    return {};
  }

  bool isStopWanted(const std::vector<uint64_t>& blocks) const {
    for (size_t at = 0; at < blocks.size(); at += words_.size())
      if (blocks[at + 1])
        return true;
    return false;
  }

private:
  size_t numValues_;
  std::vector<uint64_t> words_;
};

} // namespace

absl::StatusOr<ReferenceLosses>
ReferenceLosses::open(const std::string& path, const std::string& fingerprint,
                      const BatchSource& data) {
  absl::StatusOr<MappedFile> file = MappedFile::open(path);
  if (!file.ok())
    return notThere(path, "is not there");
  LLMRT_ASSIGN_OR_RETURN(SafetensorsContents contents,
                         parseSafetensors(file->bytes(), path));
  const std::pair<std::string, std::string> made{kFingerprint, fingerprint};
  const std::vector<int64_t> shape = {data.numSequences(), data.numRows()};
  if (std::find(contents.metadata.begin(), contents.metadata.end(), made) ==
          contents.metadata.end() ||
      contents.tensors.size() != 2 || contents.tensors[0].name != kTensor ||
      contents.tensors[0].type != SourceType::F32 ||
      contents.tensors[0].shape != shape ||
      contents.tensors[1].name != kChecksum)
    return notThere(path, "was made of other data or weights");
  const uint64_t checksum = crc64(contents.tensors[0].bytes);
  absl::Span<const uint8_t> written = contents.tensors[1].bytes;
  if (written.size() != sizeof(checksum) ||
      std::memcmp(written.data(), &checksum, sizeof(checksum)) != 0)
    return notThere(path, "is damaged");
  ReferenceLosses losses;
  // Our own writer aligns the data.
  losses.values_ =
      reinterpret_cast<const float*>(contents.tensors[0].bytes.data());
  if (reinterpret_cast<uintptr_t>(losses.values_) % alignof(float) != 0)
    return notThere(path, "was written by something else");
  losses.file_ = *std::move(file);
  losses.numRows_ = data.numRows();
  return losses;
}

absl::Status computeReferenceLosses(const ReferencePass& pass) {
  RankGroup group(pass.all);
  const BatchSource& data = pass.data;
  LLMRT_ASSIGN_OR_RETURN(BatchPlace place,
                         placeOfRank(pass.plan, group.rank(), data.numRows()));
  std::optional<SafetensorsWriter> writer;
  auto createFile = [&]() -> absl::Status {
    if (group.rank() != 0)
      return absl::OkStatus();
    LLMRT_ASSIGN_OR_RETURN(
        writer,
        SafetensorsWriter::create(
            pass.path,
            {{kTensor, SourceType::F32, {data.numSequences(), data.numRows()}},
             {kChecksum, SourceType::U8, {sizeof(uint64_t)}}},
            {{kFingerprint, pass.fingerprint}}));
    return absl::OkStatus();
  };
  LLMRT_RETURN_IF_ERROR(group.agree(createFile(), "reference losses"));
  RowBlock block(place, data.numRows());
  int64_t bytesLeft = data.numSequences() * data.numRows() *
                      static_cast<int64_t>(sizeof(float));
  absl::Status written;
  uint64_t checksum = 0;
  int64_t numSteps = data.numSteps(place.batch);
  for (int64_t step = 0; step < numSteps; ++step) {
    place.position = step * place.batch;
    LLMRT_RETURN_IF_ERROR(fillStepInputs(data, nullptr, place, pass.executor));
    LLMRT_RETURN_IF_ERROR(pass.executor.executeEvaluation(nullptr));
    block.fill(pass.executor, place.dataRank, pass.isStopRequested());
    LLMRT_ASSIGN_OR_RETURN(std::vector<uint64_t> blocks,
                           group.allGather(block.words(), "reference losses"));
    if (block.isStopWanted(blocks))
      return absl::CancelledError("interrupted");
    for (int64_t replica = 0;
         writer && written.ok() && replica < place.dataRanks; ++replica) {
      absl::Span<const uint8_t> rows = block.find(blocks, replica);
      rows = rows.first(std::min<int64_t>(rows.size(), bytesLeft));
      bytesLeft -= static_cast<int64_t>(rows.size());
      checksum = crc64(rows, checksum);
      written = writer->append(rows);
    }
    if (group.rank() == 0 && pass.progress)
      pass.progress(std::min(place.position + place.batch, data.numSequences()),
                    data.numSequences());
  }
  if (writer && written.ok())
    written = writer->append(
        {reinterpret_cast<const uint8_t*>(&checksum), sizeof(checksum)});
  if (writer && written.ok())
    written = writer->finish();
  return group.agree(written, "reference losses");
}

} // namespace llmrt
