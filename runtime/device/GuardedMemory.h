// SPDX-License-Identifier: Apache-2.0
// Memory for the check of a plan's lifetimes: pages that can be closed, after
// which an access is recorded instead of ending the process. Not for ordinary
// runs, which allocate from Device.
#pragma once

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
  virtual ~GuardedMemory() = default;

  virtual uint8_t* data() const = 0;
  virtual int64_t pageBytes() const = 0;

  /// Lets whole pages be read and written. At first all are closed.
  virtual void open(int64_t offset, int64_t sizeBytes) = 0;
  /// Drops the contents of whole pages. An access to one of them is recorded
  /// and opens that page, so that the command goes on.
  virtual void close(int64_t offset, int64_t sizeBytes) = 0;
  /// Returns how many bytes from `offset` on there are to the end of the last
  /// page of the range that anything read or wrote while it was open; 0: none.
  /// Pages that were closed count from then on.
  virtual int64_t touchedBytes(int64_t offset, int64_t sizeBytes) const = 0;

  /// Says what the stream does from now on. For the communication stream it is
  /// called by the stream's own thread.
  virtual void setMark(Stream stream, int64_t mark) = 0;
  virtual std::optional<AccessFault> takeFault() = 0;
};

} // namespace llmrt
