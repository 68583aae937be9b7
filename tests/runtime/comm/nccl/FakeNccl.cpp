// SPDX-License-Identifier: Apache-2.0
// A NCCL for tests: libfakenccl.so has the functions of the C interface that
// llmrt uses, among threads of one process, over host memory and FakeStreams.
// It keeps NCCL's rules for non-blocking communicators and counts who breaks
// them. Members that call differently hang, as in NCCL; so do those that wait
// for a rank that does not come, until they are aborted. Sums are in rank
// order.
#include "runtime/comm/RankOrderSum.h"
#include "runtime/comm/nccl/NcclAbi.h"
#include "tests/runtime/comm/cuda/FakeStream.h"
#include "tests/runtime/comm/nccl/FakeNcclControl.h"

#include <chrono>
#include <condition_variable>
#include <cstring>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

using namespace llmrt;
using llmrt::testing::FakeNcclControl;
using llmrt::testing::FakeStream;

namespace {

using Bytes = std::vector<uint8_t>;

FakeNcclControl control;

enum class Op { AllGather, ReduceScatter, AllReduce, Broadcast, Send, Recv };

struct Call {
  Op op;
  const void* send;
  void* recv;
  size_t count;
  nccl::DataType type;
  int peer; // or root

  size_t elementBytes() const {
    return type == nccl::kFloat32 ? 4 : type == nccl::kBfloat16 ? 2 : 1;
  }

  size_t sizeBytes() const { return count * elementBytes(); }
};

/// What members show each other in one collective.
struct Meeting {
  std::vector<Bytes> shown;
  std::vector<std::pair<Op, size_t>> calls; // by rank, once it has come
  int numCome = 0;
  int numLeft = 0;
};

struct Message {
  Bytes data;
  bool isTaken = false;
};

/// All ranks of a communicator.
struct World {
  std::mutex mutex;
  std::condition_variable changed;
  int size = 0;
  int numJoined = 0;
  std::map<int64_t, Meeting> meetings; // by number of the collective
  std::map<std::pair<int, int>, std::deque<std::shared_ptr<Message>>> channels;
};

/// What a communicator shares with its work on streams.
struct State {
  std::shared_ptr<World> world;
  int rank = 0;
  bool isAborted = false; // guarded by the world
  int64_t numCollectives = 0;
};

std::mutex registryMutex;
std::map<std::string, std::shared_ptr<World>> registry;

} // namespace

namespace llmrt::nccl {

struct Comm {
  std::shared_ptr<State> state;
  Result result = kInProgress;
  bool isInitialising = true;
  int pollsLeft = 0;
  FakeStream* stream = nullptr; // of the calls that are not enqueued yet
  std::vector<Call> calls;
};

} // namespace llmrt::nccl

namespace {

thread_local int groupDepth = 0;
thread_local nccl::Comm* groupComm = nullptr;

nccl::Result misuse() {
  ++control.numMisuses;
  return nccl::kInvalidUsage;
}

/// Waits for `ready` under the world's lock; false after an abort.
bool waitFor(State& state, std::unique_lock<std::mutex>& lock,
             const std::function<bool()>& ready) {
  state.world->changed.wait(lock, [&] { return state.isAborted || ready(); });
  return !state.isAborted;
}

void hang(State& state) {
  std::unique_lock<std::mutex> lock(state.world->mutex);
  waitFor(state, lock, [] { return false; });
}

/// Does this rank's part when all have shown their data.
void deliver(const State& state, const Call& call, const Meeting& meeting) {
  int size = state.world->size;
  auto* recv = static_cast<uint8_t*>(call.recv);
  DType dtype = call.type == nccl::kBfloat16 ? DType::BF16 : DType::F32;
  std::vector<const void*> blocks;
  size_t offset =
      call.op == Op::ReduceScatter ? state.rank * call.sizeBytes() : 0;
  for (const Bytes& shown : meeting.shown)
    blocks.push_back(shown.data() + offset);
  switch (call.op) {
  case Op::AllGather:
    for (int r = 0; r < size; ++r)
      std::memcpy(recv + r * call.sizeBytes(), meeting.shown[r].data(),
                  call.sizeBytes());
    return;
  case Op::Broadcast:
    std::memcpy(recv, meeting.shown[call.peer].data(), call.sizeBytes());
    return;
  default:
    addInRankOrder(recv, blocks, call.count, dtype);
  }
}

bool runCollective(State& state, const Call& call) {
  World& world = *state.world;
  size_t shownBytes = call.sizeBytes();
  if (call.op == Op::ReduceScatter)
    shownBytes *= world.size;
  auto* send = static_cast<const uint8_t*>(call.send);
  Bytes shown(send, send + shownBytes);
  std::unique_lock<std::mutex> lock(world.mutex);
  int64_t number = state.numCollectives++;
  Meeting& meeting = world.meetings[number];
  meeting.shown.resize(world.size);
  meeting.calls.resize(world.size);
  meeting.shown[state.rank] = std::move(shown);
  meeting.calls[state.rank] = {call.op, call.sizeBytes()};
  ++meeting.numCome;
  world.changed.notify_all();
  bool areAllHere =
      waitFor(state, lock, [&] { return meeting.numCome == world.size; });
  if (!areAllHere)
    return false;
  for (const auto& other : meeting.calls)
    if (other != meeting.calls[state.rank])
      return waitFor(state, lock, [] { return false; });
  lock.unlock();
  deliver(state, call, meeting);
  lock.lock();
  if (++meeting.numLeft == world.size)
    world.meetings.erase(number);
  return true;
}

/// All sends and receives of a group: no order among them.
bool runExchanges(State& state, const std::vector<Call>& calls) {
  World& world = *state.world;
  std::vector<std::shared_ptr<Message>> sent;
  std::unique_lock<std::mutex> lock(world.mutex);
  for (const Call& call : calls) {
    if (call.op != Op::Send)
      continue;
    auto message = std::make_shared<Message>();
    auto* data = static_cast<const uint8_t*>(call.send);
    message->data.assign(data, data + call.sizeBytes());
    world.channels[{state.rank, call.peer}].push_back(message);
    sent.push_back(message);
  }
  world.changed.notify_all();
  for (const Call& call : calls) {
    if (call.op != Op::Recv)
      continue;
    auto& channel = world.channels[{call.peer, state.rank}];
    if (!waitFor(state, lock, [&] { return !channel.empty(); }))
      return false;
    if (channel.front()->data.size() != call.sizeBytes())
      return waitFor(state, lock, [] { return false; });
    std::memcpy(call.recv, channel.front()->data.data(), call.sizeBytes());
    channel.front()->isTaken = true;
    channel.pop_front();
    world.changed.notify_all();
  }
  for (const auto& message : sent)
    if (!waitFor(state, lock, [&] { return message->isTaken; }))
      return false;
  return true;
}

void runCalls(State& state, const std::vector<Call>& calls) {
  if (state.rank == control.delayRank)
    std::this_thread::sleep_for(
        std::chrono::milliseconds(control.delayMillis.load()));
  if (state.rank == control.asyncErrorRank)
    return hang(state);
  std::vector<Call> exchanges;
  for (const Call& call : calls) {
    if (call.op == Op::Send || call.op == Op::Recv)
      exchanges.push_back(call);
    else if (!runCollective(state, call))
      return;
  }
  runExchanges(state, exchanges);
}

/// Hands the calls to the stream, as NCCL's own thread does when it is ready.
void launch(nccl::Comm& comm) {
  if (comm.calls.empty())
    return;
  comm.stream->enqueue([state = comm.state, calls = std::move(comm.calls)] {
    runCalls(*state, calls);
  });
  comm.calls.clear();
}

nccl::Result add(nccl::Comm* comm, void* stream, const Call& call) {
  bool isMixed = groupComm && groupComm != comm;
  bool isBusy = comm->result == nccl::kInProgress;
  if (groupDepth == 0 || isMixed || isBusy || call.count == 0)
    return misuse();
  groupComm = comm;
  comm->stream = static_cast<FakeStream*>(stream);
  comm->calls.push_back(call);
  return nccl::kSuccess;
}

} // namespace

extern "C" {

FakeNcclControl* fakeNcclControl() { return &control; }

nccl::Result ncclGetVersion(int* version) {
  *version = control.version;
  return nccl::kSuccess;
}

const char* ncclGetErrorString(nccl::Result result) {
  return result == nccl::kRemoteError ? "remote process exited or there was a "
                                        "network error"
                                      : "another error";
}

const char* ncclGetLastError(nccl::Comm*) { return "fake detail"; }

nccl::Result ncclGetUniqueId(nccl::UniqueId* id) {
  static std::atomic<int> numMade{0};
  *id = {};
  std::string text = "fake " + std::to_string(++numMade);
  std::memcpy(id->internal, text.data(), text.size());
  return nccl::kSuccess;
}

nccl::Result ncclCommInitRankConfig(nccl::Comm** made, int numRanks,
                                    nccl::UniqueId id, int rank,
                                    nccl::Config* config) {
  bool isConfigured = config && config->magic == 0xcafebeef &&
                      config->size == sizeof(nccl::Config) &&
                      config->blocking == 0;
  if (!isConfigured || rank < 0 || rank >= numRanks)
    return nccl::kInvalidArgument;
  if (rank == control.failInitRank)
    return nccl::kSystemError;
  auto comm = std::make_unique<nccl::Comm>();
  comm->state = std::make_shared<State>();
  comm->state->rank = rank;
  {
    std::lock_guard<std::mutex> lock(registryMutex);
    std::shared_ptr<World>& world = registry[id.internal];
    if (!world) {
      world = std::make_shared<World>();
      world->size = numRanks;
    }
    comm->state->world = world;
    std::lock_guard<std::mutex> worldLock(world->mutex);
    if (rank != control.hangInitRank)
      ++world->numJoined;
  }
  ++control.numCreated;
  *made = comm.release();
  return nccl::kInProgress;
}

nccl::Result ncclCommGetAsyncError(nccl::Comm* comm, nccl::Result* result) {
  if (comm->isInitialising) {
    std::lock_guard<std::mutex> lock(comm->state->world->mutex);
    if (comm->state->world->numJoined == comm->state->world->size) {
      comm->isInitialising = false;
      comm->result = nccl::kSuccess;
    }
  } else if (comm->result == nccl::kInProgress && comm->pollsLeft-- <= 0) {
    comm->result = nccl::kSuccess;
    launch(*comm);
  }
  bool isFailing = comm->state->rank == control.asyncErrorRank;
  if (isFailing && comm->result == nccl::kSuccess)
    comm->result = static_cast<nccl::Result>(control.asyncError.load());
  *result = comm->result;
  return nccl::kSuccess;
}

nccl::Result ncclCommFinalize(nccl::Comm* comm) {
  if (comm->result != nccl::kSuccess)
    return misuse();
  comm->result = nccl::kInProgress;
  comm->pollsLeft = control.pollsToSettle;
  return nccl::kInProgress;
}

nccl::Result ncclCommDestroy(nccl::Comm* comm) {
  if (comm->result == nccl::kInProgress)
    misuse();
  ++control.numDestroyed;
  delete comm;
  return nccl::kSuccess;
}

nccl::Result ncclCommAbort(nccl::Comm* comm) {
  {
    std::lock_guard<std::mutex> lock(comm->state->world->mutex);
    comm->state->isAborted = true;
    comm->state->world->changed.notify_all();
  }
  ++control.numAborted;
  delete comm;
  return nccl::kSuccess;
}

nccl::Result ncclGroupStart() {
  ++groupDepth;
  return nccl::kSuccess;
}

nccl::Result ncclGroupEnd() {
  if (groupDepth == 0)
    return misuse();
  if (--groupDepth > 0 || !groupComm)
    return nccl::kSuccess;
  nccl::Comm* comm = groupComm;
  groupComm = nullptr;
  comm->result = nccl::kInProgress;
  comm->pollsLeft = control.pollsToSettle;
  return nccl::kInProgress;
}

nccl::Result ncclAllGather(const void* send, void* recv, size_t count,
                           nccl::DataType type, nccl::Comm* comm,
                           void* stream) {
  return add(comm, stream, {Op::AllGather, send, recv, count, type, -1});
}

nccl::Result ncclReduceScatter(const void* send, void* recv, size_t count,
                               nccl::DataType type, nccl::RedOp op,
                               nccl::Comm* comm, void* stream) {
  if (op != nccl::kSum || type == nccl::kUint8)
    return misuse();
  return add(comm, stream, {Op::ReduceScatter, send, recv, count, type, -1});
}

nccl::Result ncclAllReduce(const void* send, void* recv, size_t count,
                           nccl::DataType type, nccl::RedOp op,
                           nccl::Comm* comm, void* stream) {
  if (op != nccl::kSum || type == nccl::kUint8)
    return misuse();
  return add(comm, stream, {Op::AllReduce, send, recv, count, type, -1});
}

nccl::Result ncclBroadcast(const void* send, void* recv, size_t count,
                           nccl::DataType type, int root, nccl::Comm* comm,
                           void* stream) {
  return add(comm, stream, {Op::Broadcast, send, recv, count, type, root});
}

nccl::Result ncclSend(const void* data, size_t count, nccl::DataType type,
                      int peer, nccl::Comm* comm, void* stream) {
  return add(comm, stream, {Op::Send, data, nullptr, count, type, peer});
}

nccl::Result ncclRecv(void* data, size_t count, nccl::DataType type, int peer,
                      nccl::Comm* comm, void* stream) {
  return add(comm, stream, {Op::Recv, nullptr, data, count, type, peer});
}

} // extern "C"
