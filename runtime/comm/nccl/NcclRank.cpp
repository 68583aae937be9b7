// SPDX-License-Identifier: Apache-2.0
// NCCL's communicators are non-blocking: a function may return before it has
// enqueued anything, so the calling thread asks until it has, and meanwhile
// looks at aborts. No thread ever waits inside NCCL. Time limits are the
// watcher's (NcclWatch.cpp), but for those that concern the host alone.
#include "runtime/comm/nccl/NcclRank.h"

#include "runtime/base/Error.h"
#include "runtime/comm/CollectiveErrors.h"

#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"

#include <algorithm>
#include <cstring>
#include <sched.h>

namespace llmrt::nccl {
namespace {

constexpr auto kPollPause = std::chrono::milliseconds(1);
constexpr auto kBoardPause = std::chrono::milliseconds(5);
/// A poll gives the core away this often before it sleeps.
constexpr int kTurnsBeforeSleep = 2000;
/// Connections take seconds, however short the limit of a collective is.
constexpr double kMinCreateSeconds = 2;
/// Limits what ends in NCCL at the end of a run, or of the stream of an aborted
/// one.
constexpr double kCloseSeconds = 5;

void pauseInTurn(int turn) {
  if (turn < kTurnsBeforeSleep)
    sched_yield();
  else
    std::this_thread::sleep_for(kPollPause);
}

} // namespace

NcclRank::NcclRank(NcclFabricParts parts, const FabricOptions& options)
    : table_(parts.nccl), cuda_(parts.cuda),
      board_(std::move(parts.rendezvous)),
      timeoutSeconds_(options.timeoutSeconds),
      createSeconds_(std::max(options.timeoutSeconds, kMinCreateSeconds)) {}

absl::StatusOr<std::shared_ptr<NcclRank>>
NcclRank::create(NcclFabricParts parts, const FabricOptions& options) {
  std::shared_ptr<NcclRank> rank(new NcclRank(std::move(parts), options));
  const CudaTable& cuda = rank->cuda_;
  LLMRT_RETURN_IF_ERROR(
      cuda.toStatus(cuda.streamCreate(cuda.device, &rank->ownStream_),
                    "creating a stream for communication"));
  LLMRT_RETURN_IF_ERROR(
      cuda.toStatus(cuda.eventCreate(cuda.device, &rank->orderEvent_),
                    "creating an event for communication"));
  rank->watcher_ = std::thread([raw = rank.get()] { raw->watch(); });
  return rank;
}

NcclRank::~NcclRank() {
  {
    std::lock_guard<std::mutex> lock(wakeMutex_);
    isClosing_ = true;
  }
  wake_.notify_all();
  if (watcher_.joinable())
    watcher_.join();
  const auto start = Clock::now();
  auto goOn = [&](int) -> absl::Status {
    if (Clock::now() - start < std::chrono::duration<double>(kCloseSeconds))
      return absl::OkStatus();
    return absl::DeadlineExceededError("");
  };
  for (LeftPeers& left : leftPeers_)
    left.peers->awaitOthers(
        {*board_, left.group, left.worldRanks, left.rank, goOn});
  leftPeers_.clear();
  if (orderEvent_)
    cuda_.eventDestroy(cuda_.device, orderEvent_);
  if (ownStream_)
    cuda_.streamDestroy(cuda_.device, ownStream_);
}

absl::StatusOr<std::shared_ptr<Group>>
NcclRank::createGroup(absl::Span<const int> worldRanks) {
  LLMRT_RETURN_IF_ERROR(abortStatus());
  auto group = std::make_shared<Group>();
  group->worldRanks.assign(worldRanks.begin(), worldRanks.end());
  group->key = absl::StrFormat("%s#%d", absl::StrJoin(worldRanks, ","),
                               numMade_[group->worldRanks]++);
  group->rank = std::find(worldRanks.begin(), worldRanks.end(), rank()) -
                worldRanks.begin();
  LLMRT_ASSIGN_OR_RETURN(group->marks, ProgressMarks::create(cuda_));
  UniqueId id;
  absl::Status status = fetchUniqueId(*group, id);
  if (status.ok())
    status = initialise(*group, id);
  if (status.ok())
    status = joinPeers(*group);
  if (status.ok()) {
    std::lock_guard<std::mutex> lock(callMutex_);
    groups_.push_back(group);
    return group;
  }
  // So that the members that have come do not wait for their own limit.
  abort(status);
  return abortStatus();
}

// The first rank of the group makes the id; the others find it on the board.
absl::Status NcclRank::fetchUniqueId(Group& group, UniqueId& id) {
  const CollectiveTag tag{-1, "create_group", group.key.c_str(), "nccl"};
  LLMRT_RETURN_IF_ERROR(
      board_->put(absl::StrFormat("here/%s/%d", group.key, rank()), ""));
  std::string key = "id/" + group.key;
  if (group.rank == 0) {
    Result result = table_.getUniqueId(&id);
    LLMRT_RETURN_IF_ERROR(
        table_.toStatus(result, nullptr, rank(), describeCollective(tag)));
    return board_->put(key, std::string(id.internal, sizeof(id.internal)));
  }
  auto start = Clock::now();
  while (true) {
    LLMRT_ASSIGN_OR_RETURN(std::optional<std::string> value, board_->look(key));
    if (value && value->size() == sizeof(id.internal)) {
      std::memcpy(id.internal, value->data(), sizeof(id.internal));
      return absl::OkStatus();
    }
    LLMRT_RETURN_IF_ERROR(abortStatus());
    if (Clock::now() - start > std::chrono::duration<double>(createSeconds_))
      return groupTimeout(group, tag);
    std::this_thread::sleep_for(kBoardPause);
  }
}

absl::Status NcclRank::initialise(Group& group, const UniqueId& id) {
  const CollectiveTag tag{-1, "create_group", group.key.c_str(), "nccl"};
  Config config;
  config.blocking = 0;
  auto start = Clock::now();
  Result result = table_.commInitRankConfig(
      &group.comm, group.worldRanks.size(), id, group.rank, &config);
  absl::Status status;
  while (result == kInProgress && status.ok()) {
    std::this_thread::sleep_for(kPollPause);
    if (table_.commGetAsyncError(group.comm, &result) != kSuccess)
      result = kInternalError;
    status = abortStatus();
    if (Clock::now() - start > std::chrono::duration<double>(createSeconds_))
      status = groupTimeout(group, tag);
  }
  if (status.ok())
    status =
        table_.toStatus(result, group.comm, rank(), describeCollective(tag));
  if (status.ok())
    return status;
  if (group.comm)
    table_.commAbort(group.comm);
  group.comm = nullptr;
  return status;
}

absl::Status NcclRank::joinPeers(Group& group) {
  const CollectiveTag tag{-1, "create_group", group.key.c_str(), "nccl"};
  const auto start = Clock::now();
  auto goOn = [&](int missing) -> absl::Status {
    LLMRT_RETURN_IF_ERROR(abortStatus());
    if (Clock::now() - start > std::chrono::duration<double>(createSeconds_))
      return makeTimeoutError(missing, rank(), tag, createSeconds_);
    return absl::OkStatus();
  };
  auto peers = PeerGroup::create(
      cuda_, {*board_, group.key, group.worldRanks, group.rank, goOn});
  if (peers.ok()) {
    group.peers = *std::move(peers);
    return absl::OkStatus();
  }
  table_.commAbort(group.comm);
  group.comm = nullptr;
  return peers.status();
}

// Others may still read what this rank has shown them: it stays until all
// groups of all ranks are gone.
void NcclRank::leavePeers(Group& group) {
  if (!group.peers)
    return;
  if (group.peerStream)
    (void)complete(group.peerStream);
  auto goOn = [](int) { return absl::OkStatus(); };
  group.peers->close({*board_, group.key, group.worldRanks, group.rank, goOn});
  std::lock_guard<std::mutex> lock(callMutex_);
  leftPeers_.push_back(
      {group.key, group.worldRanks, group.rank, std::move(group.peers)});
}

absl::Status NcclRank::groupTimeout(const Group& group,
                                    const CollectiveTag& tag) {
  for (int member : group.worldRanks) {
    LLMRT_ASSIGN_OR_RETURN(
        std::optional<std::string> here,
        board_->look(absl::StrFormat("here/%s/%d", group.key, member)));
    if (!here)
      return makeTimeoutError(member, rank(), tag, createSeconds_);
  }
  return makeError(ErrorCode::CollectiveTimeout,
                   absl::StrFormat("NCCL did not finish within %g s in %s on "
                                   "rank %d, to which all ranks had come",
                                   createSeconds_, describeCollective(tag),
                                   rank()),
                   "look at the network of the hosts; NCCL_DEBUG=INFO says "
                   "which connection is missing");
}

void NcclRank::closeGroup(Group& group) {
  leavePeers(group);
  auto start = Clock::now();
  Result result = kInProgress;
  {
    std::lock_guard<std::mutex> lock(callMutex_);
    std::erase_if(groups_, [&](const auto& g) { return g.get() == &group; });
    if (!group.comm)
      return;
    result = isAborted() ? kInternalError : table_.commFinalize(group.comm);
  }
  for (int turn = 0; result == kInProgress; ++turn) {
    if (isAborted() ||
        Clock::now() - start > std::chrono::duration<double>(kCloseSeconds))
      break;
    pauseInTurn(turn);
    if (table_.commGetAsyncError(group.comm, &result) != kSuccess)
      result = kInternalError;
  }
  if (result == kSuccess)
    table_.commDestroy(group.comm);
  else
    table_.commAbort(group.comm);
  group.comm = nullptr;
}

// The calls of a rank run one at a time, on whichever streams. Between a
// captured stream and one that is not there can be no event: whoever launches
// the graph orders it.
absl::Status NcclRank::orderBehindLast(void* stream) {
  uint64_t capture = 0;
  LLMRT_RETURN_IF_ERROR(
      cuda_.toStatus(cuda_.captureId(cuda_.device, stream, &capture),
                     "asking for the capture of a stream"));
  if (lastStream_ && lastStream_ != stream && lastCapture_ == capture) {
    LLMRT_RETURN_IF_ERROR(cuda_.toStatus(
        cuda_.eventRecord(cuda_.device, orderEvent_, lastStream_),
        "ordering communication"));
    LLMRT_RETURN_IF_ERROR(
        cuda_.toStatus(cuda_.streamWaitEvent(cuda_.device, stream, orderEvent_),
                       "ordering communication"));
  }
  lastStream_ = stream;
  lastCapture_ = capture;
  return absl::OkStatus();
}

absl::Status NcclRank::issue(Group& group, const CallSite& site, void* stream,
                             Work work) {
  absl::Status status = enqueue(group, site, stream, work);
  if (status.ok())
    return status;
  abort(status);
  return abortStatus();
}

absl::Status NcclRank::enqueue(Group& group, const CallSite& site, void* stream,
                               Work work) {
  LLMRT_RETURN_IF_ERROR(orderBehindLast(stream));
  uint32_t number = group.marks->numberOf(site);
  LLMRT_RETURN_IF_ERROR(group.marks->begin(stream, number, site.isExchange));
  {
    std::lock_guard<std::mutex> lock(callMutex_);
    if (!group.comm)
      return abortStatus();
    Result result = table_.groupStart();
    if (result == kSuccess) {
      result = work(group.comm, stream);
      Result ended = table_.groupEnd();
      if (result == kSuccess || result == kInProgress)
        result = ended;
    }
    if (absl::Status status = table_.toStatus(result, group.comm, rank(),
                                              describeCollective(site.tag));
        !status.ok())
      return status;
  }
  LLMRT_RETURN_IF_ERROR(settle(group, site.tag));
  return group.marks->end(stream, number, site.isExchange);
}

absl::Status NcclRank::issueSum(Group& group, const CallSite& site, void* data,
                                int64_t numElements, DType dtype) {
  LLMRT_RETURN_IF_ERROR(abortStatus());
  absl::Status status = orderBehindLast(site.tag.stream);
  if (status.ok()) {
    group.peerStream = site.tag.stream;
    status = group.peers->allReduce(site.tag.stream, data, numElements, dtype,
                                    *group.marks, group.marks->numberOf(site));
  }
  if (status.ok())
    return status;
  abort(status);
  return abortStatus();
}

absl::Status NcclRank::settle(Group& group, const CollectiveTag& tag) {
  auto start = Clock::now();
  for (int turn = 0;; ++turn) {
    {
      std::lock_guard<std::mutex> lock(callMutex_);
      if (!group.comm)
        return abortStatus();
      Result result = kSuccess;
      if (table_.commGetAsyncError(group.comm, &result) != kSuccess)
        result = kInternalError;
      if (result != kInProgress)
        return table_.toStatus(result, group.comm, rank(),
                               describeCollective(tag));
    }
    LLMRT_RETURN_IF_ERROR(abortStatus());
    // The watcher is earlier but during a capture, when no mark is written.
    if (Clock::now() - start >
        std::chrono::duration<double>(2 * timeoutSeconds_))
      return timeoutError({tag}, -1);
    pauseInTurn(turn);
  }
}

absl::Status NcclRank::complete(void* stream) {
  Clock::time_point abortedSince = Clock::now();
  for (int turn = 0;; ++turn) {
    int code = cuda_.streamQuery(cuda_.device, stream);
    if (code == 0)
      return abortStatus();
    if (code != CudaTable::kNotReady)
      return cuda_.toStatus(code, "waiting for communication");
    auto now = Clock::now();
    if (!isAborted())
      abortedSince = now;
    // NCCL's kernels end at an abort; a device that is lost does not.
    else if (now - abortedSince > std::chrono::duration<double>(kCloseSeconds))
      return abortStatus();
    pauseInTurn(turn);
  }
}

void NcclRank::keepAbort(const absl::Status& status) {
  {
    std::lock_guard<std::mutex> lock(statusMutex_);
    if (isAborted())
      return;
    abortStatus_ = status;
    isAborted_.store(true, std::memory_order_release);
  }
  wake_.notify_all();
}

void NcclRank::abort(const absl::Status& reason) {
  if (isAborted())
    return;
  absl::Status mine = makeAbortedError(rank(), reason);
  absl::StatusOr<std::string> stands =
      board_->putOnce(rendezvous::kAbortKey, encodeStatus(mine));
  keepAbort(stands.ok() ? decodeStatus(*stands) : mine);
}

absl::Status NcclRank::abortStatus() const {
  if (!isAborted())
    return absl::OkStatus();
  std::lock_guard<std::mutex> lock(statusMutex_);
  return abortStatus_;
}

} // namespace llmrt::nccl
