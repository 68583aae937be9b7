// SPDX-License-Identifier: Apache-2.0
// Memory for the check of a plan's lifetimes. Not for ordinary runs, which
// allocate from Device. Where the device can close pages an access to one is
// recorded instead of ending the process; elsewhere what it wrote is found by
// what closed memory holds (ComparedMemory.h).
#pragma once

#include "absl/status/status.h"

#include <cstdint>
#include <optional>

namespace llmrt {

enum class Stream : int8_t;

/// The first access to a closed page since the last takeFault().
struct AccessFault {
  int64_t offset; // of the byte, into the memory
  bool isWrite;
  bool isCommunication; // by the thread of the communication stream
  int64_t mark;         // that was set for that stream
};

class GuardedMemory {
public:
  /// A NaN as f32, as two bf16, and a negative index as i32.
  static constexpr uint32_t kPattern = 0xFFA5FFA5;
  static constexpr int64_t kMostReadBytes = int64_t{1} << 18;

  virtual ~GuardedMemory() = default;

  /// Address of byte 0, for commands. The host looks by read().
  virtual uint8_t* data() const = 0;
  virtual int64_t pageBytes() const = 0;

  /// True if an access to a closed page is recorded when it happens. If not,
  /// closed memory holds kPattern unless somebody wrote to it.
  virtual bool trapsAccesses() const = 0;

  /// Lets a range be read and written; it holds `pattern`. At first all is
  /// closed. Where accesses are trapped, all of the range's pages are opened
  /// and filled.
  virtual void open(int64_t offset, int64_t sizeBytes, uint32_t pattern) = 0;
  /// Drops the contents of a range. An access to one of its pages is recorded,
  /// if it is trapped, and opens that page, so that the command goes on.
  virtual void close(int64_t offset, int64_t sizeBytes) = 0;

  /// Returns a range of at most kMostReadBytes for the host, valid until the
  /// next call: what it holds when everything enqueued has run. Where accesses
  /// are trapped the range is open, and only the compute stream has run.
  virtual const uint8_t* read(int64_t offset, int64_t sizeBytes) = 0;

  /// Returns how many bytes from `offset` on there are to the end of the last
  /// part of the range that is known to be touched; 0: none. Where accesses are
  /// trapped: to the end of the last page that anything read or wrote since it
  /// was opened. Else to the last word that is not what it held then,
  /// `pattern`.
  virtual int64_t touchedBytes(int64_t offset, int64_t sizeBytes,
                               uint32_t pattern) = 0;

  /// Says what the stream does from now on. For the communication stream it is
  /// called by the stream's own thread.
  virtual void setMark(Stream stream, int64_t mark) {}

  virtual std::optional<AccessFault> takeFault() { return std::nullopt; }

  /// Returns the first error of the device that was met here. After it nothing
  /// is looked at any more.
  virtual absl::Status status() const { return absl::OkStatus(); }

  /// Returns the offset of the first byte of [begin, end) that is not what the
  /// pattern has there, or `end`.
  int64_t firstOther(int64_t begin, int64_t end, uint32_t pattern);
  /// Returns the end of the last such byte, or `begin`.
  int64_t endOfOther(int64_t begin, int64_t end, uint32_t pattern);
};

} // namespace llmrt
