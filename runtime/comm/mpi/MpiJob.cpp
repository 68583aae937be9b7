// SPDX-License-Identifier: Apache-2.0
// Nothing here blocks inside MPI: requests are tested in a loop that also looks
// at the clock, at aborts and at questions. After an abort MPI_Finalize is left
// out, because it waits for all ranks; the launcher then ends the job.
#include "runtime/comm/mpi/MpiJob.h"

#include "runtime/base/Error.h"
#include "runtime/comm/CollectiveErrors.h"

#include "absl/strings/str_format.h"

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <sched.h>
#include <thread>

namespace llmrt::mpi {
namespace {

using Clock = std::chrono::steady_clock;

constexpr int64_t kMaxMessageBytes = int64_t{1} << 30;
constexpr int kTestsPerLook = 32;
constexpr double kAskAfterSeconds = 200e-6;
constexpr double kSleepAfterSeconds = 50e-3;
constexpr double kAnswerSeconds = 0.3;
constexpr double kAbortSendSeconds = 0.5;

double secondsSince(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

std::string errorText(int code) {
  char text[MPI_MAX_ERROR_STRING] = {};
  int length = 0;
  MPI_Error_string(code, text, &length);
  return std::string(text, length);
}

} // namespace

absl::StatusOr<MpiJob*> MpiJob::join() {
  static std::mutex joinMutex;
  static MpiJob* job = nullptr; // lives until the process ends
  std::lock_guard<std::mutex> lock(joinMutex);
  if (job)
    return job;
  auto made = std::make_unique<MpiJob>();
  LLMRT_RETURN_IF_ERROR(made->initialise());
  job = made.release();
  on_exit([](int exitCode, void*) { job->finalise(exitCode); }, nullptr);
  return job;
}

absl::Status MpiJob::initialise() {
  auto unavailable = [](const std::string& what) {
    return makeError(ErrorCode::MpiUnavailable, what,
                     "start with the mpirun of the MPI that llmrt is linked "
                     "with; llmrt env names it");
  };
  int isInitialised = 0;
  int isFinalised = 0;
  int level = MPI_THREAD_SINGLE;
  // Open MPI sends messages above this size between processes of one host in
  // two trips; its default of 4 KiB triples the time of a decode step's 8 KiB
  // sums. A value that the user set stays.
  setenv("OMPI_MCA_btl_vader_eager_limit", "33000", /*overwrite=*/0);
  MPI_Initialized(&isInitialised);
  MPI_Finalized(&isFinalised);
  if (isFinalised)
    return unavailable("MPI is already finalised in this process");
  int code = isInitialised ? MPI_Query_thread(&level)
                           : MPI_Init_thread(nullptr, nullptr,
                                             MPI_THREAD_SERIALIZED, &level);
  if (code != MPI_SUCCESS)
    return unavailable("MPI_Init_thread failed: " + errorText(code));
  if (level < MPI_THREAD_SERIALIZED)
    return unavailable("MPI was built without thread support");
  for (MPI_Comm* comm : {&data_, &control_}) {
    code = MPI_Comm_dup(MPI_COMM_WORLD, comm);
    if (code != MPI_SUCCESS)
      return unavailable("MPI_Comm_dup failed: " + errorText(code));
    MPI_Comm_set_errhandler(*comm, MPI_ERRORS_RETURN);
  }
  MPI_Comm_rank(data_, &rank_);
  MPI_Comm_size(data_, &size_);
  return absl::OkStatus();
}

void MpiJob::finalise(int exitCode) {
  // A rank that failed and forgot to say so must not leave its peers waiting.
  if (exitCode != 0)
    abort(absl::InternalError(
        absl::StrFormat("it ended with exit code %d", exitCode)));
  if (!isAborted()) {
    MPI_Finalize();
    return;
  }
  auto start = Clock::now();
  bool isSent = false;
  while (!isSent && secondsSince(start) < kAbortSendSeconds) {
    isSent = true;
    for (auto& outgoing : outgoing_) {
      int isDone = 0;
      MPI_Test(&outgoing->request, &isDone, MPI_STATUS_IGNORE);
      isSent = isSent && isDone;
    }
  }
}

int MpiJob::tagOfGroup(const std::vector<int>& worldRanks) {
  std::lock_guard<std::mutex> lock(groupsMutex_);
  uint64_t hash = 0xcbf29ce484222325; // FNV-1a: the same on every host
  auto mix = [&](uint32_t value) {
    for (int byte = 0; byte < 4; ++byte)
      hash = (hash ^ ((value >> (8 * byte)) & 0xff)) * 0x100000001b3;
  };
  for (int rank : worldRanks)
    mix(rank);
  mix(numMade_[worldRanks]++);
  constexpr int kMinTagUpperBound = 32767; // that MPI promises
  int* upperBound = nullptr;
  int isSet = 0;
  std::lock_guard<std::mutex> mpiLock(mpiMutex_);
  MPI_Comm_get_attr(data_, MPI_TAG_UB, &upperBound, &isSet);
  return static_cast<int>(hash % (isSet ? *upperBound : kMinTagUpperBound));
}

void MpiJob::postReceive(Transfers& transfers, void* data, int64_t sizeBytes,
                         int peer, int tag) {
  std::lock_guard<std::mutex> lock(mpiMutex_);
  auto* bytes = static_cast<uint8_t*>(data);
  do {
    int64_t pieceBytes = std::min(sizeBytes, kMaxMessageBytes);
    MPI_Request request = MPI_REQUEST_NULL;
    MPI_Irecv(bytes, static_cast<int>(pieceBytes), MPI_BYTE, peer, tag, data_,
              &request);
    transfers.requests.push_back(request);
    transfers.peers.push_back(peer);
    transfers.receiveBytes.push_back(static_cast<int>(pieceBytes));
    bytes += pieceBytes;
    sizeBytes -= pieceBytes;
  } while (sizeBytes > 0);
}

void MpiJob::postSend(Transfers& transfers, const void* data, int64_t sizeBytes,
                      int peer, int tag) {
  std::lock_guard<std::mutex> lock(mpiMutex_);
  const auto* bytes = static_cast<const uint8_t*>(data);
  do {
    int64_t pieceBytes = std::min(sizeBytes, kMaxMessageBytes);
    MPI_Request request = MPI_REQUEST_NULL;
    MPI_Isend(bytes, static_cast<int>(pieceBytes), MPI_BYTE, peer, tag, data_,
              &request);
    transfers.requests.push_back(request);
    transfers.peers.push_back(peer);
    transfers.receiveBytes.push_back(-1);
    bytes += pieceBytes;
    sizeBytes -= pieceBytes;
  } while (sizeBytes > 0);
}

absl::Status MpiJob::transportError(int code, int peer,
                                    const CollectiveTag& tag) {
  int errorClass = 0;
  MPI_Error_class(code, &errorClass);
  if (errorClass == MPI_ERR_TRUNCATE)
    return makeMismatchError(rank_, peer, tag,
                             "more bytes came than expected here");
  return makeError(ErrorCode::TransportFailed,
                   absl::StrFormat("transfer between ranks %d and %d failed in "
                                   "%s: %s",
                                   rank_, peer, describeCollective(tag),
                                   errorText(code)),
                   "look at the messages of the MPI launcher");
}

bool MpiJob::testAll(Transfers& transfers, absl::Status& status,
                     const CollectiveTag& tag) {
  int count = static_cast<int>(transfers.requests.size());
  transfers.statuses.resize(count);
  int isDone = 0;
  int code = MPI_Testall(count, transfers.requests.data(), &isDone,
                         transfers.statuses.data());
  if (code != MPI_SUCCESS) {
    for (int i = 0; i < count; ++i) {
      int error =
          code == MPI_ERR_IN_STATUS ? transfers.statuses[i].MPI_ERROR : code;
      if (error != MPI_SUCCESS && error != MPI_ERR_PENDING) {
        status = transportError(error, transfers.peers[i], tag);
        return true;
      }
    }
  }
  for (int i = 0; isDone && i < count; ++i) {
    int receivedBytes = 0;
    if (transfers.receiveBytes[i] <= 0)
      continue;
    MPI_Get_count(&transfers.statuses[i], MPI_BYTE, &receivedBytes);
    if (receivedBytes != transfers.receiveBytes[i])
      status = makeMismatchError(
          rank_, transfers.peers[i], tag,
          absl::StrFormat("%d bytes expected here, %d bytes sent there",
                          transfers.receiveBytes[i], receivedBytes));
  }
  return isDone != 0;
}

absl::Status MpiJob::complete(Transfers& transfers, double timeoutSeconds,
                              const CollectiveTag& tag) {
  if (transfers.requests.empty())
    return absl::OkStatus();
  absl::Status status;
  Clock::time_point start;
  for (int64_t round = 0; status.ok(); ++round) {
    {
      std::lock_guard<std::mutex> lock(mpiMutex_);
      for (int i = 0; i < kTestsPerLook; ++i) {
        if (!testAll(transfers, status, tag))
          continue;
        if (status.ok())
          return status;
        break;
      }
    }
    if (!status.ok())
      break;
    if (round == 0)
      start = Clock::now();
    double waited = secondsSince(start);
    if (waited > kAskAfterSeconds && !isAborted()) {
      std::lock_guard<std::mutex> lock(mpiMutex_);
      pollControl(firstMissing(transfers));
    }
    // The peer may be waiting for this very core.
    if (waited > kSleepAfterSeconds)
      std::this_thread::sleep_for(std::chrono::microseconds(100));
    else
      sched_yield();
    if (isAborted())
      status = abortStatus();
    else if (waited > timeoutSeconds)
      status = timeOut(transfers, timeoutSeconds, tag);
  }
  // A peer that gave up explains a failure here.
  absl::Status known = checkAbort();
  if (known.ok())
    abort(status);
  cancel(transfers);
  return abortStatus();
}

int MpiJob::firstMissing(Transfers& transfers) {
  int missing = -1;
  for (size_t i = 0; i < transfers.requests.size(); ++i) {
    bool isReceive = transfers.receiveBytes[i] >= 0;
    if (missing >= 0 && !isReceive)
      continue;
    int isDone = 0;
    MPI_Request_get_status(transfers.requests[i], &isDone, MPI_STATUS_IGNORE);
    if (isDone)
      continue;
    missing = transfers.peers[i];
    if (isReceive)
      return missing;
  }
  return missing;
}

absl::Status MpiJob::timeOut(Transfers& transfers, double timeoutSeconds,
                             const CollectiveTag& tag) {
  std::lock_guard<std::mutex> lock(mpiMutex_);
  int mine = firstMissing(transfers);
  int culprit = mine;
  // A rank that answers waits itself: the culprit is the one that does not.
  for (int hop = 0; hop < size_ && culprit != rank_ && culprit >= 0; ++hop) {
    ControlMessage question;
    question.type = WhoDoYouWaitFor;
    question.rank = rank_;
    sendControl(question, culprit);
    auto asked = Clock::now();
    int answer = -1;
    while (answer < 0 && !isAborted() && secondsSince(asked) < kAnswerSeconds)
      answer = pollControl(mine);
    if (answer < 0)
      break;
    culprit = answer;
  }
  if (isAborted())
    return abortStatus();
  if (culprit < 0 || culprit == rank_)
    culprit = mine;
  return makeTimeoutError(culprit, rank_, tag, timeoutSeconds);
}

void MpiJob::cancel(Transfers& transfers) {
  std::lock_guard<std::mutex> lock(mpiMutex_);
  for (size_t i = 0; i < transfers.requests.size(); ++i) {
    MPI_Request& request = transfers.requests[i];
    if (request == MPI_REQUEST_NULL)
      continue;
    if (transfers.receiveBytes[i] >= 0)
      MPI_Cancel(&request);
    MPI_Request_free(&request);
  }
}

void MpiJob::sendControl(const ControlMessage& message, int peer) {
  std::erase_if(outgoing_, [](auto& outgoing) {
    int isDone = 0;
    MPI_Test(&outgoing->request, &isDone, MPI_STATUS_IGNORE);
    return isDone != 0;
  });
  auto outgoing = std::make_unique<Outgoing>();
  outgoing->message = message;
  MPI_Isend(&outgoing->message, sizeof(ControlMessage), MPI_BYTE, peer, 0,
            control_, &outgoing->request);
  outgoing_.push_back(std::move(outgoing));
}

int MpiJob::pollControl(int waitsFor) {
  int answer = -1;
  while (true) {
    int hasMessage = 0;
    MPI_Status status;
    MPI_Iprobe(MPI_ANY_SOURCE, 0, control_, &hasMessage, &status);
    if (!hasMessage)
      return answer;
    ControlMessage message;
    MPI_Recv(&message, sizeof(message), MPI_BYTE, status.MPI_SOURCE, 0,
             control_, MPI_STATUS_IGNORE);
    if (message.type == Abort)
      keepAbort(absl::Status(static_cast<absl::StatusCode>(message.statusCode),
                             message.text));
    if (message.type == IWaitFor)
      answer = message.rank;
    if (message.type == WhoDoYouWaitFor && waitsFor >= 0) {
      ControlMessage reply;
      reply.type = IWaitFor;
      reply.rank = waitsFor;
      sendControl(reply, message.rank);
    }
  }
}

void MpiJob::keepAbort(const absl::Status& status) {
  std::lock_guard<std::mutex> lock(statusMutex_);
  if (isAborted_)
    return;
  abortStatus_ = status;
  isAborted_.store(true, std::memory_order_release);
}

void MpiJob::abort(const absl::Status& reason) {
  if (isAborted())
    return;
  absl::Status status = makeAbortedError(rank_, reason);
  keepAbort(status); // also makes a rank that waits let go of MPI
  ControlMessage message;
  message.type = Abort;
  message.rank = rank_;
  message.statusCode = static_cast<int32_t>(status.code());
  status.message().copy(message.text, sizeof(message.text) - 1);
  std::lock_guard<std::mutex> lock(mpiMutex_);
  for (int peer = 0; peer < size_; ++peer) {
    if (peer != rank_)
      sendControl(message, peer);
  }
}

absl::Status MpiJob::checkAbort() {
  if (!isAborted()) {
    std::lock_guard<std::mutex> lock(mpiMutex_);
    pollControl(/*waitsFor=*/-1);
  }
  return abortStatus();
}

absl::Status MpiJob::abortStatus() const {
  if (!isAborted())
    return absl::OkStatus();
  std::lock_guard<std::mutex> lock(statusMutex_);
  return abortStatus_;
}

} // namespace llmrt::mpi
