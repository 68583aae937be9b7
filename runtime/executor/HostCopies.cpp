// SPDX-License-Identifier: Apache-2.0
#include "runtime/executor/HostCopies.h"

#include "runtime/base/Error.h"

#include <cstring>

namespace llmrt {

HostCopies::~HostCopies() {
  for (auto& [buffer, input] : inputs_)
    rank_.device.release(input.host);
  for (auto& [buffer, host] : outputs_)
    rank_.device.release(host);
}

absl::Status HostCopies::prepare() {
  if (!rank_.stage.inputs())
    return absl::OkStatus();
  for (const fb::EntryBuffers* entry : *rank_.stage.inputs()) {
    if (!entry->buffers())
      continue;
    for (const fb::NamedBuffer* named : *entry->buffers()) {
      const int buffer = named->buffer();
      byEntry_[entry->entry()].push_back(buffer);
      if (inputs_.count(buffer) > 0)
        continue; // entries share it
      LLMRT_ASSIGN_OR_RETURN(void* host,
                             rank_.device.allocate(MemorySpace::PinnedHost,
                                                   MemoryClass::Inputs,
                                                   rank_.sizeBytes(buffer)));
      inputs_[buffer] = {static_cast<uint8_t*>(host), {}};
    }
  }
  return absl::OkStatus();
}

void HostCopies::sendInputs(int entry) {
  for (int buffer : byEntry_[entry])
    send(buffer);
}

void HostCopies::sendAllInputs() {
  for (const auto& [buffer, input] : inputs_)
    send(buffer);
}

void HostCopies::send(int buffer) {
  Input& input = inputs_.at(buffer);
  const size_t sizeBytes = rank_.sizeBytes(buffer);
  if (input.sent.size() == sizeBytes &&
      std::memcmp(input.sent.data(), input.host, sizeBytes) == 0)
    return;
  input.sent.assign(input.host, input.host + sizeBytes);
  rank_.device.copy(Stream::Compute, rank_.address(buffer), input.host,
                    sizeBytes);
}

absl::StatusOr<const uint8_t*> HostCopies::fetchOutput(int buffer) {
  auto found = outputs_.find(buffer);
  if (found == outputs_.end()) {
    LLMRT_ASSIGN_OR_RETURN(void* host,
                           rank_.device.allocate(MemorySpace::PinnedHost,
                                                 MemoryClass::Outputs,
                                                 rank_.sizeBytes(buffer)));
    found = outputs_.emplace(buffer, static_cast<uint8_t*>(host)).first;
  }
  rank_.device.copy(Stream::Compute, found->second, rank_.address(buffer),
                    rank_.sizeBytes(buffer));
  LLMRT_RETURN_IF_ERROR(rank_.device.synchronize());
  return found->second;
}

} // namespace llmrt
