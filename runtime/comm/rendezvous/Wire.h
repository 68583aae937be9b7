// SPDX-License-Identifier: Apache-2.0
// What the ranks and the server of a rendezvous say to each other over TCP: one
// frame of a key and a value each way. Private to runtime/comm/rendezvous.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

namespace llmrt::rendezvous {

enum class FrameType : uint32_t {
  Hello,   // value: "rank size who"; answered by Ok or Refused
  Put,     // answered by Ok
  PutOnce, // answered by Ok with the value that stands
  Look,    // answered by Ok with the value, or Absent
  Bye,     // the connection may close now; no answer
  Ok,
  Absent,
  Refused // value: why
};

struct Frame {
  FrameType type = FrameType::Ok;
  std::string key;
  std::string value;
};

/// Larger frames are not of this protocol.
inline constexpr uint32_t kMaxFrameBytes = 1 << 16;

/// The key under which the reason of an abort stands.
inline constexpr char kAbortKey[] = "abort";
/// Virtual: the ranks that have not come, "1,3"; "" when all have.
inline constexpr char kAbsentKey[] = "absent";

/// Returns the bytes of a frame: magic, type, key size, value size (each u32 of
/// this machine's order), key, value.
std::string encodeFrame(const Frame& frame);

/// Takes one whole frame off the front of `bytes`; nullopt if there is none
/// yet. Sets `isCorrupt` if the bytes are no frame.
std::optional<Frame> takeFrame(std::string& bytes, bool& isCorrupt);

/// Sends all bytes; false if the connection ended or stood still for long.
bool sendAll(int socket, const std::string& bytes);

} // namespace llmrt::rendezvous
