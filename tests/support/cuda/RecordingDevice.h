// SPDX-License-Identifier: Apache-2.0
// A cuda device without a GPU: it keeps what was enqueued, and runs it at
// synchronize(), hand-tuned kernels by emulation. Its memory is closed to the
// host but for the time of a command, so that an access which a real GPU would
// not survive ends the test. What one stream does beside another runs in the
// order that is least expected.
#pragma once

#include "runtime/device/Device.h"

#include <memory>
#include <string>
#include <vector>

namespace llmrt::test {

enum class CommandKind { Copy, Fill, Launch, Call, Record, Wait, Synchronize };

/// Where an address lies.
enum class Place { Device, Pinned, Host };

/// One command, in the order in which they were enqueued.
struct RecordedCommand {
  CommandKind kind;
  Stream stream = Stream::Compute;
  // Copy, Fill
  Place to = Place::Host;
  Place from = Place::Host;
  int64_t sizeBytes = 0;
  const void* target = nullptr; // of a copy
  // Launch
  std::string kernel;
  std::string form; // of a hand-tuned kernel: its symbol
  const uint64_t* arguments = nullptr;
  int64_t rows = 0;
  int64_t blocks = 0;
  int parts = 0;
  int threads = 0;
  // Record, Wait
  int event = -1;
};

struct RecordingOptions {
  Stream first = Stream::Communication; // runs as far ahead as events let it
};

class RecordingDevice : public Device {
public:
  /// Returns all commands since the last call.
  virtual std::vector<RecordedCommand> takeCommands() = 0;
};

std::unique_ptr<RecordingDevice>
createRecordingDevice(const RecordingOptions& options = {});

} // namespace llmrt::test
