// SPDX-License-Identifier: Apache-2.0
#include "runtime/comm/nccl/PeerGroup.h"

#include "runtime/base/Error.h"

#include <atomic>
#include <cstdlib>
#include <cstring>
#include <thread>

namespace llmrt::nccl {
namespace {

constexpr auto kBoardPause = std::chrono::milliseconds(2);
constexpr const char* kVariable = "LLMRT_PEER_SUMS";
/// Whole pages of the GPU: a smaller piece would show others its neighbours.
constexpr int64_t kPageBytes = int64_t{2} << 20;
constexpr int64_t kMemoryBytes =
    (static_cast<int64_t>(sizeof(PeerMemory)) + kPageBytes - 1) / kPageBytes *
    kPageBytes;

bool isSwitchedOff() {
  const char* value = std::getenv(kVariable);
  return value && std::string(value) == "off";
}

std::string keyOf(const char* what, const PeerBoard& board, int rank) {
  return absl::StrCat(what, "/", board.group, "/", board.worldRanks[rank]);
}

/// Every rank's value, by rank.
absl::StatusOr<std::vector<std::string>>
tellAll(const PeerBoard& board, const char* what, const std::string& mine) {
  LLMRT_RETURN_IF_ERROR(board.board.put(keyOf(what, board, board.rank), mine));
  std::vector<std::string> values;
  for (size_t r = 0; r < board.worldRanks.size();) {
    LLMRT_ASSIGN_OR_RETURN(
        std::optional<std::string> value,
        board.board.look(keyOf(what, board, static_cast<int>(r))));
    if (value) {
      values.push_back(*value);
      ++r;
      continue;
    }
    LLMRT_RETURN_IF_ERROR(board.goOn(board.worldRanks[r]));
    std::this_thread::sleep_for(kBoardPause);
  }
  return values;
}

} // namespace

// First every rank shows its memory, or nothing; then it says whether it
// reached that of all others. What fails on the way is no error: NCCL adds.
absl::StatusOr<std::unique_ptr<PeerGroup>>
PeerGroup::create(const CudaTable& cuda, const PeerBoard& board) {
  const size_t numRanks = board.worldRanks.size();
  if (numRanks < 2 || numRanks > kMaxPeers)
    return nullptr;
  std::unique_ptr<PeerGroup> group(new PeerGroup(cuda));
  group->rank_ = board.rank;
  group->peers_.resize(numRanks);
  const bool offers = !isSwitchedOff() && group->offer().ok();
  std::string mine;
  if (offers)
    mine.assign(reinterpret_cast<const char*>(&group->mine_),
                sizeof(group->mine_));
  LLMRT_ASSIGN_OR_RETURN(std::vector<std::string> offered,
                         tellAll(board, "peer", mine));
  bool hasAll = true;
  for (size_t r = 0; r < numRanks; ++r)
    hasAll = hasAll && group->open(offered[r], static_cast<int>(r));
  LLMRT_ASSIGN_OR_RETURN(std::vector<std::string> reached,
                         tellAll(board, "reached", hasAll ? "1" : "0"));
  for (const std::string& has : reached)
    hasAll = hasAll && has == "1";
  if (hasAll)
    return group;
  group->close(board);
  group->awaitOthers(board);
  return nullptr;
}

PeerGroup::~PeerGroup() {
  if (isClosed_ || peers_.empty())
    giveBack();
}

absl::Status PeerGroup::offer() {
  void* memory = nullptr;
  LLMRT_RETURN_IF_ERROR(
      cuda_.toStatus(cuda_.allocateDevice(cuda_.device, &memory, kMemoryBytes),
                     "allocating memory for sums over peers"));
  peers_[rank_] = static_cast<PeerMemory*>(memory);
  void* word = nullptr;
  LLMRT_RETURN_IF_ERROR(cuda_.toStatus(
      cuda_.allocatePinned(cuda_.device, &word, sizeof(uint32_t)),
      "allocating a word for sums over peers"));
  isAborted_ = static_cast<uint32_t*>(word);
  return cuda_.toStatus(cuda_.shareMemory(cuda_.device, memory, &mine_),
                        "sharing memory with peers");
}

bool PeerGroup::open(const std::string& offer, int rank) {
  if (offer.size() != sizeof(CudaTable::SharedMemory) || !isAborted_)
    return false;
  if (rank == rank_)
    return true;
  CudaTable::SharedMemory shared;
  std::memcpy(&shared, offer.data(), sizeof(shared));
  void* memory = nullptr;
  if (cuda_.openShared(cuda_.device, &shared, &memory) != 0)
    return false;
  peers_[rank] = static_cast<PeerMemory*>(memory);
  return true;
}

bool PeerGroup::takes(int64_t numElements, DType dtype) {
  return numElements > 0 && numElements * dtypeBytes(dtype) <= kMaxPeerSumBytes;
}

absl::Status PeerGroup::allReduce(void* stream, void* data, int64_t numElements,
                                  DType dtype, const ProgressMarks& marks,
                                  uint32_t number) const {
  PeerSumCall call = {};
  call.data = data;
  call.numElements = numElements;
  call.isBf16 = dtype == DType::BF16;
  call.rank = rank_;
  call.numRanks = static_cast<int>(peers_.size());
  std::copy(peers_.begin(), peers_.end(), call.peers);
  call.isAborted = isAborted_;
  call.number = number;
  marks.describe(call);
  return cuda_.toStatus(cuda_.sumOverPeers(cuda_.device, stream, call),
                        "adding over peers");
}

void PeerGroup::abort() {
  if (isAborted_)
    std::atomic_ref<uint32_t>(*isAborted_).store(1, std::memory_order_release);
}

void PeerGroup::close(const PeerBoard& board) {
  for (size_t r = 0; r < peers_.size(); ++r)
    if (static_cast<int>(r) != rank_ && peers_[r]) {
      cuda_.closeShared(cuda_.device, peers_[r]);
      peers_[r] = nullptr;
    }
  // If the board is lost, the others keep their memory.
  (void)board.board.put(keyOf("closed", board, rank_), "");
}

void PeerGroup::awaitOthers(const PeerBoard& board) {
  isClosed_ = tellAll(board, "closed", "").ok();
}

// Memory that somebody may still read stays until the process ends.
void PeerGroup::giveBack() {
  if (!peers_.empty() && peers_[rank_])
    cuda_.freeDevice(cuda_.device, peers_[rank_]);
  if (isAborted_)
    cuda_.freePinned(cuda_.device, isAborted_);
}

int64_t PeerGroup::reservedBytes() {
  return kMemoryBytes + static_cast<int64_t>(sizeof(uint32_t));
}

} // namespace llmrt::nccl
