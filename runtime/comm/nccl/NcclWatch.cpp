// SPDX-License-Identifier: Apache-2.0
// The watcher of a rank. A few times a second it looks at the board (has a rank
// aborted?), at NCCL (asynchronous errors) and at the marks (is a call under
// way for long?). A rank that waits says so on the board, with the call it
// waits in and the rank it waits for: so a rank whose time is over can name the
// one that really did not come, and calls that do not fit together are noticed.
#include "runtime/comm/nccl/NcclRank.h"

#include "runtime/base/Error.h"
#include "runtime/comm/CollectiveErrors.h"

#include "absl/strings/numbers.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"

#include <algorithm>

namespace llmrt::nccl {
namespace {

/// What a waiting rank says: group|kind|count|operation|bytes|send peer|send
/// bytes|recv peer|recv bytes|the rank it waits for.
struct WaitRecord {
  std::string group;
  bool isExchange = false;
  uint32_t numCollectives = 0;
  std::string operation;
  int64_t sizeBytes = 0;
  int sendPeer = -1;
  int64_t sendBytes = 0;
  int recvPeer = -1;
  int64_t recvBytes = 0;
  int missing = -1;
};

std::string encode(const std::string& group,
                   const ProgressMarks::Position& position, int missing) {
  const CallSite& site = position.site;
  return absl::StrJoin(
      std::make_tuple(group, site.isExchange ? 1 : 0, position.numCollectives,
                      site.operation, site.sizeBytes, site.sendPeer,
                      site.sendBytes, site.recvPeer, site.recvBytes, missing),
      "|");
}

std::optional<WaitRecord> decode(const std::string& text) {
  std::vector<std::string> words = absl::StrSplit(text, '|');
  WaitRecord record;
  int isExchange = 0;
  if (words.size() != 10 || !absl::SimpleAtoi(words[1], &isExchange) ||
      !absl::SimpleAtoi(words[2], &record.numCollectives) ||
      !absl::SimpleAtoi(words[4], &record.sizeBytes) ||
      !absl::SimpleAtoi(words[5], &record.sendPeer) ||
      !absl::SimpleAtoi(words[6], &record.sendBytes) ||
      !absl::SimpleAtoi(words[7], &record.recvPeer) ||
      !absl::SimpleAtoi(words[8], &record.recvBytes) ||
      !absl::SimpleAtoi(words[9], &record.missing))
    return std::nullopt;
  record.group = words[0];
  record.operation = words[3];
  record.isExchange = isExchange != 0;
  return record;
}

/// What a suspected rank does before it is blamed.
constexpr int64_t kConfirmingLooks = 3;
constexpr double kSilenceSeconds = 2;

std::string askKey(int rank) { return absl::StrCat("ask/", rank); }

std::string countKey(int rank) { return absl::StrCat("looks/", rank); }

std::string waitKey(int rank) { return absl::StrCat("wait/", rank); }

std::optional<WaitRecord> lookAtRank(Rendezvous& board, int rank) {
  absl::StatusOr<std::optional<std::string>> text = board.look(waitKey(rank));
  if (!text.ok() || !*text || (*text)->empty())
    return std::nullopt;
  return decode(**text);
}

double secondsSince(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start)
      .count();
}

} // namespace

// Often enough for the time limit, seldom enough for thousands of ranks.
double NcclRank::tickSeconds() const {
  return std::clamp(timeoutSeconds_ / 8, 0.01, 0.05);
}

void NcclRank::watch() {
  auto tick = std::chrono::duration<double>(tickSeconds());
  std::unique_lock<std::mutex> lock(wakeMutex_);
  while (!isClosing_) {
    lock.unlock();
    if (!isAborted())
      lookForAbort();
    if (!isAborted())
      lookAtErrors();
    if (!isAborted())
      lookAtProgress();
    if (!isAborted())
      answerQuestions();
    if (isAborted() && !groupsAborted_)
      abortGroups();
    lock.lock();
    wake_.wait_for(lock, tick, [&] {
      return isClosing_ || (isAborted() && !groupsAborted_);
    });
  }
}

void NcclRank::lookForAbort() {
  absl::StatusOr<std::optional<std::string>> reason =
      board_->look(rendezvous::kAbortKey);
  if (!reason.ok())
    keepAbort(makeAbortedError(
        0, absl::UnavailableError("its process ended, or the connection to "
                                  "it")));
  else if (*reason)
    keepAbort(decodeStatus(**reason));
}

void NcclRank::lookAtErrors() {
  absl::Status found;
  {
    std::lock_guard<std::mutex> lock(callMutex_);
    for (const std::shared_ptr<Group>& group : groups_) {
      Result result = kSuccess;
      if (!group->comm ||
          table_.commGetAsyncError(group->comm, &result) != kSuccess)
        continue;
      found =
          table_.toStatus(result, group->comm, rank(),
                          describeCollective(group->marks->read().site.tag));
      if (!found.ok())
        break;
    }
  }
  if (!found.ok())
    abort(found);
}

void NcclRank::lookAtProgress() {
  std::vector<std::shared_ptr<Group>> groups;
  {
    std::lock_guard<std::mutex> lock(callMutex_);
    groups = groups_;
  }
  std::string record;
  std::map<std::string, Watched> watched;
  for (const std::shared_ptr<Group>& group : groups) {
    auto known = watched_.find(group->key);
    Watched& now = watched[group->key];
    if (known != watched_.end())
      now = known->second;
    lookAtGroup(*group, now, record);
  }
  watched_ = std::move(watched);
  if (record != published_ && !isAborted() &&
      board_->put(waitKey(rank()), record).ok())
    published_ = record;
}

void NcclRank::lookAtGroup(const Group& group, Watched& watched,
                           std::string& record) {
  ProgressMarks::Position now = group.marks->read();
  if (!now.isInside || !now.isSameCallAs(watched.last)) {
    watched = Watched();
    watched.last = now;
    watched.since = Clock::now();
    return;
  }
  int missing = findMissing(group, now);
  record = encode(group.key, now, missing);
  if (isAborted() || secondsSince(watched.since) < timeoutSeconds_)
    return;
  // A rank that waits itself is not to blame: follow the chain to its end.
  int culprit = missing;
  for (int hop = 0; hop < size() && culprit >= 0; ++hop) {
    std::optional<WaitRecord> other = lookAtRank(*board_, culprit);
    if (!other || other->missing < 0)
      break;
    culprit = other->missing == rank() ? missing : other->missing;
    if (culprit == missing)
      break;
  }
  if (culprit >= 0 && !isConfirmed(watched, culprit))
    return;
  abort(timeoutError(now.site, culprit));
}

// A record may be late where cores are scarce, so the suspect is asked to count
// its looks: after three it has had the time to say that it waits, too. One
// that does not count at all hangs, or its host does.
bool NcclRank::isConfirmed(Watched& watched, int suspect) {
  if (watched.suspect != suspect) {
    watched.suspect = suspect;
    watched.firstLook = -1;
    watched.suspectedSince = Clock::now();
    (void)board_->put(askKey(suspect), "1"); // a lost board is seen elsewhere
    return false;
  }
  int64_t look = -1;
  absl::StatusOr<std::optional<std::string>> text =
      board_->look(countKey(suspect));
  if (text.ok() && *text && absl::SimpleAtoi(**text, &look) &&
      watched.firstLook < 0)
    watched.firstLook = look;
  bool hasLooked =
      watched.firstLook >= 0 && look >= watched.firstLook + kConfirmingLooks;
  return hasLooked || secondsSince(watched.suspectedSince) > kSilenceSeconds;
}

void NcclRank::answerQuestions() {
  ++numLooks_;
  absl::StatusOr<std::optional<std::string>> asked =
      board_->look(askKey(rank()));
  if (asked.ok() && *asked)
    (void)board_->put(countKey(rank()), absl::StrCat(numLooks_));
}

int NcclRank::findMissing(const Group& group,
                          const ProgressMarks::Position& mine) {
  const CallSite& site = mine.site;
  int missing = -1;
  for (int member : group.worldRanks) {
    bool isPeer = member == site.recvPeer || member == site.sendPeer;
    if (member == rank() || (site.isExchange && !isPeer))
      continue;
    std::optional<WaitRecord> other = lookAtRank(*board_, member);
    bool isHere = other && other->group == group.key &&
                  other->isExchange == site.isExchange;
    std::string difference;
    if (isHere && site.isExchange) {
      isHere = other->sendPeer == rank() || other->recvPeer == rank();
      // The receiver speaks.
      if (member == site.recvPeer && other->sendPeer == rank() &&
          other->sendBytes != site.recvBytes)
        difference =
            absl::StrFormat("%d bytes expected here, %d bytes sent there",
                            site.recvBytes, other->sendBytes);
    } else if (isHere) {
      auto ahead =
          static_cast<int32_t>(other->numCollectives - mine.numCollectives);
      isHere = ahead >= 0;
      if (ahead == 0 && (other->operation != site.operation ||
                         other->sizeBytes != site.sizeBytes))
        difference = absl::StrFormat(
            "%s of %d bytes here, %s of %d bytes there", site.operation,
            site.sizeBytes, other->operation, other->sizeBytes);
    }
    if (!difference.empty()) {
      abort(makeMismatchError(rank(), member, site.tag, difference));
      return -1;
    }
    if (!isHere && missing < 0)
      missing = member;
  }
  return missing;
}

absl::Status NcclRank::timeoutError(const CallSite& site, int missing) {
  if (missing >= 0)
    return makeTimeoutError(missing, rank(), site.tag, timeoutSeconds_);
  return makeError(
      ErrorCode::CollectiveTimeout,
      absl::StrFormat("%s did not end within %g s on rank %d, although all "
                      "ranks had come to it",
                      describeCollective(site.tag), timeoutSeconds_, rank()),
      "look at the network of the hosts; NCCL_DEBUG=INFO says more");
}

// NCCL's kernels end, so streams go on and nobody waits for them any more.
void NcclRank::abortGroups() {
  std::lock_guard<std::mutex> lock(callMutex_);
  for (const std::shared_ptr<Group>& group : groups_) {
    if (group->peers)
      group->peers->abort();
    if (group->comm)
      table_.commAbort(group->comm);
    group->comm = nullptr;
  }
  groupsAborted_ = true;
}

std::string NcclRank::progress() const {
  std::vector<std::shared_ptr<Group>> groups;
  {
    std::lock_guard<std::mutex> lock(callMutex_);
    groups = groups_;
  }
  std::string text;
  for (const std::shared_ptr<Group>& group : groups) {
    ProgressMarks::Position position = group->marks->read();
    uint64_t numCalls =
        uint64_t{position.numCollectives} + position.numExchanges;
    if (numCalls == 0)
      continue;
    absl::StrAppendFormat(&text, "rank %d  group %s  call %d  %s %s\n", rank(),
                          group->key, numCalls,
                          position.isInside ? "inside" : "after",
                          describeCollective(position.site.tag));
  }
  return text;
}

} // namespace llmrt::nccl
