// SPDX-License-Identifier: Apache-2.0
#include "runtime/comm/rendezvous/Wire.h"

#include <cerrno>
#include <cstring>
#include <sys/socket.h>

namespace llmrt::rendezvous {
namespace {

constexpr uint32_t kMagic = 0x3152564c; // "LVR1"

struct Header {
  uint32_t magic;
  uint32_t type;
  uint32_t keyBytes;
  uint32_t valueBytes;
};

} // namespace

std::string encodeFrame(const Frame& frame) {
  Header header = {kMagic, static_cast<uint32_t>(frame.type),
                   static_cast<uint32_t>(frame.key.size()),
                   static_cast<uint32_t>(frame.value.size())};
  std::string bytes(reinterpret_cast<const char*>(&header), sizeof(header));
  return bytes + frame.key + frame.value;
}

std::optional<Frame> takeFrame(std::string& bytes, bool& isCorrupt) {
  Header header;
  if (bytes.size() < sizeof(header))
    return std::nullopt;
  std::memcpy(&header, bytes.data(), sizeof(header));
  isCorrupt = header.magic != kMagic ||
              header.type > static_cast<uint32_t>(FrameType::Refused) ||
              header.keyBytes > kMaxFrameBytes ||
              header.valueBytes > kMaxFrameBytes;
  size_t sizeBytes = sizeof(header) + header.keyBytes + header.valueBytes;
  if (isCorrupt || bytes.size() < sizeBytes)
    return std::nullopt;
  Frame frame;
  frame.type = static_cast<FrameType>(header.type);
  frame.key = bytes.substr(sizeof(header), header.keyBytes);
  frame.value =
      bytes.substr(sizeof(header) + header.keyBytes, header.valueBytes);
  bytes.erase(0, sizeBytes);
  return frame;
}

bool sendAll(int socket, const std::string& bytes) {
  size_t sent = 0;
  while (sent < bytes.size()) {
    ssize_t count =
        ::send(socket, bytes.data() + sent, bytes.size() - sent, MSG_NOSIGNAL);
    if (count < 0 && errno == EINTR)
      continue;
    if (count <= 0)
      return false;
    sent += count;
  }
  return true;
}

} // namespace llmrt::rendezvous
