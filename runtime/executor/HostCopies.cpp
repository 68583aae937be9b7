// SPDX-License-Identifier: Apache-2.0
#include "runtime/executor/HostCopies.h"

#include "runtime/base/Error.h"

#include <algorithm>
#include <cstring>
#include <set>

namespace llmrt {
namespace {

/// Where the next buffer may begin in an arena: what lies before it is
/// nobody's.
int64_t alignUp(int64_t offset) {
  return (offset + kBufferAlignment - 1) / kBufferAlignment * kBufferAlignment;
}

} // namespace

HostCopies::~HostCopies() {
  for (const Piece& piece : pieces_)
    rank_.device.release(piece.host);
  for (const auto& [buffer, output] : outputs_)
    rank_.device.release(output.host);
}

absl::Status HostCopies::prepare() {
  if (!rank_.stage.inputs())
    return absl::OkStatus();
  std::map<int, std::set<int>> entriesOf; // by buffer
  for (const fb::EntryBuffers* entry : *rank_.stage.inputs())
    if (entry->buffers())
      for (const fb::NamedBuffer* named : *entry->buffers())
        entriesOf[named->buffer()].insert(entry->entry());
  std::vector<int> order;
  for (const auto& [buffer, entries] : entriesOf)
    order.push_back(buffer);
  std::sort(order.begin(), order.end(),
            [&](int a, int b) { return rank_.address(a) < rank_.address(b); });
  std::vector<int> neighbours;
  for (size_t i = 0; i < order.size(); ++i) {
    neighbours.push_back(order[i]);
    const bool isLast = i + 1 == order.size();
    if (!isLast && entriesOf[order[i]] == entriesOf[order[i + 1]] &&
        rank_.address(order[i]) + alignUp(rank_.sizeBytes(order[i])) ==
            rank_.address(order[i + 1]))
      continue;
    LLMRT_RETURN_IF_ERROR(addPiece(neighbours));
    for (int entry : entriesOf[order[i]])
      byEntry_[entry].push_back(static_cast<int>(pieces_.size()) - 1);
    neighbours.clear();
  }
  return absl::OkStatus();
}

absl::Status HostCopies::addPiece(const std::vector<int>& buffers) {
  uint8_t* begin = rank_.address(buffers.front());
  uint8_t* end =
      rank_.address(buffers.back()) + rank_.sizeBytes(buffers.back());
  LLMRT_ASSIGN_OR_RETURN(
      void* memory, rank_.device.allocate(MemorySpace::PinnedHost,
                                          MemoryClass::Inputs, end - begin));
  auto* host = static_cast<uint8_t*>(memory);
  pieces_.push_back({host, begin, end - begin, {}});
  for (int buffer : buffers)
    inputs_[buffer] = host + (rank_.address(buffer) - begin);
  return absl::OkStatus();
}

void HostCopies::sendInputs(int entry, bool all) {
  for (int number : byEntry_[entry])
    send(pieces_[number], all);
}

void HostCopies::sendStepInputs(bool all) {
  for (Piece& piece : pieces_)
    send(piece, all);
}

void HostCopies::send(Piece& piece, bool all) {
  if (!all && !piece.sent.empty() &&
      std::memcmp(piece.sent.data(), piece.host, piece.sizeBytes) == 0)
    return;
  piece.sent.assign(piece.host, piece.host + piece.sizeBytes);
  rank_.device.copy(Stream::Compute, piece.device, piece.host, piece.sizeBytes);
}

void HostCopies::forgetSent(int entry) {
  for (int number : byEntry_[entry])
    pieces_[number].sent.clear();
}

void HostCopies::forgetSentOfStep() {
  for (Piece& piece : pieces_)
    piece.sent.clear();
}

void HostCopies::enqueueFetch(int buffer, const Output& output) {
  rank_.device.copy(Stream::Compute, output.host, rank_.address(buffer),
                    rank_.sizeBytes(buffer));
}

void HostCopies::fetchOutputs(int entry) {
  for (int buffer : outputsByEntry_[entry])
    enqueueFetch(buffer, outputs_.at(buffer));
}

void HostCopies::beginCall() {
  for (auto& [buffer, output] : outputs_)
    output.isThere = false;
}

void HostCopies::setFetched(int entry, int64_t count) {
  for (int64_t i = 0; i < count; ++i)
    outputs_.at(outputsByEntry_[entry][i]).isThere = true;
}

absl::StatusOr<const uint8_t*> HostCopies::output(int entry, int buffer) {
  auto found = outputs_.find(buffer);
  if (found == outputs_.end()) {
    LLMRT_ASSIGN_OR_RETURN(void* host,
                           rank_.device.allocate(MemorySpace::PinnedHost,
                                                 MemoryClass::Outputs,
                                                 rank_.sizeBytes(buffer)));
    found = outputs_.emplace(buffer, Output{static_cast<uint8_t*>(host)}).first;
  }
  std::vector<int>& asked = outputsByEntry_[entry];
  if (std::find(asked.begin(), asked.end(), buffer) == asked.end())
    asked.push_back(buffer);
  Output& output = found->second;
  if (!output.isThere) {
    enqueueFetch(buffer, output);
    LLMRT_RETURN_IF_ERROR(rank_.device.synchronize());
    output.isThere = true;
  }
  return output.host;
}

} // namespace llmrt
