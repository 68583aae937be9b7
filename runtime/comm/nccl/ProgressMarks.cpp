// SPDX-License-Identifier: Apache-2.0
#include "runtime/comm/nccl/ProgressMarks.h"

#include "runtime/base/Error.h"

#include <atomic>

namespace llmrt {

absl::StatusOr<std::unique_ptr<ProgressMarks>>
ProgressMarks::create(const CudaTable& cuda) {
  std::unique_ptr<ProgressMarks> marks(new ProgressMarks(cuda));
  void* words = nullptr;
  void* counts = nullptr;
  LLMRT_RETURN_IF_ERROR(cuda.toStatus(
      cuda.allocatePinned(cuda.device, &words, kNumLines * sizeof(uint64_t)),
      "allocating the marks of a group"));
  marks->words_ = static_cast<uint64_t*>(words);
  LLMRT_RETURN_IF_ERROR(cuda.toStatus(
      cuda.allocateDevice(cuda.device, &counts, kNumLines * sizeof(uint32_t)),
      "allocating the counters of a group"));
  marks->counts_ = static_cast<uint32_t*>(counts);
  return marks;
}

ProgressMarks::~ProgressMarks() {
  if (words_)
    cuda_.freePinned(cuda_.device, words_);
  if (counts_)
    cuda_.freeDevice(cuda_.device, counts_);
}

int64_t ProgressMarks::reservedBytes() {
  return kNumLines * static_cast<int64_t>(sizeof(uint64_t) + sizeof(uint32_t));
}

uint32_t ProgressMarks::numberOf(const CallSite& site) {
  std::lock_guard<std::mutex> lock(mutex_);
  if (!site.tag.stream) {
    sites_[0] = site;
    return 0;
  }
  SiteKey key = {site.tag.command, site.tag.kind,  site.tag.subject,
                 site.tag.pass,    site.operation, site.sizeBytes,
                 site.sendPeer,    site.sendBytes, site.recvPeer,
                 site.recvBytes};
  auto [place, isNew] =
      numbers_.try_emplace(key, static_cast<uint32_t>(sites_.size()));
  if (isNew)
    sites_.push_back(site);
  return place->second;
}

absl::Status ProgressMarks::begin(void* stream, uint32_t number,
                                  bool isExchange) {
  return mark(stream, number, isExchange ? BegunExchange : BegunCollective,
              "marking the begin of a call");
}

absl::Status ProgressMarks::end(void* stream, uint32_t number,
                                bool isExchange) {
  return mark(stream, number, isExchange ? EndedExchange : EndedCollective,
              "marking the end of a call");
}

void ProgressMarks::describe(PeerSumCall& call) const {
  call.beginWord = words_ + BegunCollective;
  call.beginCount = counts_ + BegunCollective;
  call.endWord = words_ + EndedCollective;
  call.endCount = counts_ + EndedCollective;
}

absl::Status ProgressMarks::mark(void* stream, uint32_t number, Line line,
                                 const char* doing) {
  return cuda_.toStatus(
      cuda_.mark(cuda_.device, stream, words_ + line, counts_ + line, number),
      doing);
}

// The ends are read first: what begins meanwhile then looks as if it were
// inside, which the next look corrects.
ProgressMarks::Position ProgressMarks::read() const {
  auto load = [&](Line line) {
    return std::atomic_ref<uint64_t>(words_[line])
        .load(std::memory_order_acquire);
  };
  uint64_t endedCollective = load(EndedCollective);
  uint64_t endedExchange = load(EndedExchange);
  uint64_t collective = load(BegunCollective);
  uint64_t exchange = load(BegunExchange);
  Position position;
  position.numCollectives = static_cast<uint32_t>(collective >> 32);
  position.numExchanges = static_cast<uint32_t>(exchange >> 32);
  bool isInExchange = exchange >> 32 != endedExchange >> 32;
  position.isInside = isInExchange || collective >> 32 != endedCollective >> 32;
  bool isExchange = isInExchange || position.numCollectives == 0;
  std::lock_guard<std::mutex> lock(mutex_);
  position.site =
      sites_[static_cast<uint32_t>(isExchange ? exchange : collective)];
  return position;
}

} // namespace llmrt
