// SPDX-License-Identifier: Apache-2.0
#include "tests/runtime/comm/FailureCases.h"

#include "runtime/base/Error.h"

#include <chrono>
#include <functional>
#include <map>
#include <numeric>
#include <thread>

namespace llmrt::testing {
namespace {

using Call = std::function<absl::Status(Communicator&)>;

constexpr int kLargeElements = 1 << 20;

CollectiveTag tagOf(const char* kind) {
  return {17, kind, "layers.3.mlp.down", "lower-collectives"};
}

void sleepMillis(int millis) {
  std::this_thread::sleep_for(std::chrono::milliseconds(millis));
}

std::vector<float>& buffer() {
  thread_local std::vector<float> data(4 * kLargeElements, 1.0f);
  return data;
}

absl::Status allReduce(Communicator& comm, int numElements) {
  return comm.allReduce(buffer().data(), numElements, DType::F32,
                        tagOf("all_reduce"));
}

/// The collectives in which every rank waits for the last one.
const std::map<std::string, Call>& waitingCalls() {
  static const auto* kCalls = new std::map<std::string, Call>{
      {"all_reduce", [](Communicator& c) { return allReduce(c, 2048); }},
      {"all_reduce_large",
       [](Communicator& c) { return allReduce(c, kLargeElements); }},
      {"all_gather",
       [](Communicator& c) {
         return c.allGather(buffer().data() + c.rank() * 100, buffer().data(),
                            400, tagOf("all_gather"));
       }},
      {"reduce_scatter",
       [](Communicator& c) {
         return c.reduceScatter(buffer().data(), buffer().data() + 4096, 1000,
                                DType::F32, tagOf("reduce_scatter"));
       }},
      {"all_to_all",
       [](Communicator& c) {
         return c.allToAll(buffer().data(), buffer().data() + kLargeElements,
                           4000, tagOf("all_to_all"));
       }},
      {"broadcast",
       [](Communicator& c) {
         return c.broadcast(buffer().data(), 400, 2, tagOf("broadcast"));
       }},
      {"barrier", [](Communicator& c) { return c.barrier(tagOf("barrier")); }},
  };
  return *kCalls;
}

/// Comes to a collective only after another rank aborted.
absl::Status stayAway(Fabric& fabric, Communicator& comm) {
  for (int i = 0; i < 1000 && fabric.abortStatus().ok(); ++i)
    sleepMillis(10);
  return comm.barrier(tagOf("barrier"));
}

absl::Status playAbort(Fabric& fabric, Communicator& comm) {
  absl::Status reason =
      makeError(ErrorCode::DiskFull, "cannot write out.jsonl", "free space");
  if (fabric.rank() == 1) {
    sleepMillis(100);
    fabric.abort(reason);
    fabric.abort(absl::InternalError("a second reason, which nobody sees"));
  }
  return allReduce(comm, 2048);
}

/// One thread of rank 1 waits in a collective while another aborts.
absl::Status playAbortFromThread(Fabric& fabric, Communicator& comm) {
  if (fabric.rank() == 0)
    return stayAway(fabric, comm);
  std::thread aborter;
  if (fabric.rank() == 1)
    aborter = std::thread([&] {
      sleepMillis(200);
      fabric.abort(absl::CancelledError("interrupted by the user"));
    });
  absl::Status status = allReduce(comm, kLargeElements);
  if (aborter.joinable())
    aborter.join();
  return status;
}

/// Rank 0 waits for rank 1, which waits for rank 2, which does not come: rank
/// 0's time ends first, and yet rank 2 is to blame.
absl::Status playChain(Fabric& fabric, Communicator& comm) {
  float value = 0;
  if (fabric.rank() == 2)
    return stayAway(fabric, comm);
  if (fabric.rank() == 0)
    return comm.recv(&value, 4, 1, tagOf("recv"));
  sleepMillis(100);
  return comm.recv(&value, 4, 2, tagOf("recv"));
}

absl::Status playMismatch(Fabric& fabric, Communicator& comm) {
  absl::Status status =
      fabric.rank() == 0 ? comm.send(buffer().data(), 4000, 1, tagOf("send"))
                         : comm.recv(buffer().data(), 3996, 0, tagOf("recv"));
  return status.ok() ? allReduce(comm, 2048) : status;
}

} // namespace

const std::vector<FailureCase>& failureCases() {
  static const auto* kCases = new std::vector<FailureCase>{
      {"abort", 3,
       "rank 1 stopped the run: LLMC-E0105: cannot write out.jsonl"},
      {"abort_from_thread", 3,
       "rank 1 stopped the run: interrupted by the user"},
      {"chain", 3,
       "LLMC-E0701: rank 2 did not come within 0.4 s to recv of "
       "layers.3.mlp.down (command 17, put there by lower-collectives)"},
      {"mismatch", 2, "LLMC-E0706: ranks 1 and 0 disagree about recv"},
      {"all_reduce", 3, "rank 2 did not come within 0.4 s to all_reduce of"},
      {"all_reduce_large", 3,
       "rank 2 did not come within 0.4 s to all_reduce of"},
      {"all_gather", 4, "rank 3 did not come within 0.4 s to all_gather of"},
      {"reduce_scatter", 3,
       "rank 2 did not come within 0.4 s to reduce_scatter of"},
      {"all_to_all", 3, "rank 2 did not come within 0.4 s to all_to_all of"},
      {"broadcast", 3, "rank 2 did not come within 0.4 s to broadcast of"},
      {"barrier", 2, "rank 1 did not come within 0.4 s to barrier of"},
  };
  return *kCases;
}

absl::Status playFailureCase(Fabric& fabric, const std::string& name) {
  std::vector<int> all(fabric.size());
  std::iota(all.begin(), all.end(), 0);
  auto comm = fabric.createCommunicator(all);
  if (!comm.ok())
    return comm.status();
  // The time limits count from here, on all ranks.
  LLMRT_RETURN_IF_ERROR((*comm)->barrier(tagOf("barrier")));
  if (name == "abort")
    return playAbort(fabric, **comm);
  if (name == "abort_from_thread")
    return playAbortFromThread(fabric, **comm);
  if (name == "chain")
    return playChain(fabric, **comm);
  if (name == "mismatch")
    return playMismatch(fabric, **comm);
  auto call = waitingCalls().find(name);
  if (call == waitingCalls().end())
    return absl::NotFoundError(name);
  return fabric.rank() == fabric.size() - 1 ? stayAway(fabric, **comm)
                                            : call->second(**comm);
}

} // namespace llmrt::testing
