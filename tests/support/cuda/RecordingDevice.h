// SPDX-License-Identifier: Apache-2.0
// A cuda device without a GPU: it keeps what was enqueued, and runs it at
// synchronize(), hand-tuned kernels by emulation and generated ones by a
// function of the test's. Its memory is closed to the host but for the time of
// a command, so that an access which a real GPU would not survive ends the
// test. What one stream does beside another runs in the order that is least
// expected. Captured commands run when their graph is replayed and its turn
// comes; what CUDA forbids in a capture is an error, and so is an event that
// crosses its border.
#pragma once

#include "runtime/device/Device.h"
#include "runtime/kernels/cuda/CudaKernelRegistry.h"

#include <functional>
#include <memory>
#include <string>
#include <vector>

namespace llmrt::test {

enum class CommandKind {
  Copy,
  Fill,
  Launch,
  Call,
  Record,
  Wait,
  BeginCapture,
  EndCapture,
  Replay,
  Synchronize
};

/// Where an address lies.
enum class Place { Device, Pinned, Host };

/// One command, in the order in which they were enqueued.
struct RecordedCommand {
  CommandKind kind;
  Stream stream = Stream::Compute;
  bool isCaptured = false; // kept for a graph, and not run now
  // Copy, Fill
  Place to = Place::Host;
  Place from = Place::Host;
  int64_t sizeBytes = 0;
  const void* target = nullptr; // of a copy
  // Launch
  std::string kernel = {};
  std::string form = {}; // of a hand-tuned kernel: its symbol
  const uint64_t* arguments = nullptr;
  int64_t rows = 0;
  int64_t blocks = 0;
  int parts = 0;
  int threads = 0;
  bool isByLibrary = false; // cuBLASLt multiplies
  // Record, Wait
  int event = -1;
};

/// Runs blocks 0 .. numBlocks - 1 of a generated kernel; returns an empty text,
/// or what went wrong.
using GeneratedCode = std::function<std::string(
    const std::string& symbol, const uint64_t* words, int64_t numBlocks)>;

/// Bytes of the first block of device memory: the arena of a plan.
struct ArenaBytes {
  int64_t begin;
  int64_t sizeBytes;
};

struct RecordingOptions {
  Stream first = Stream::Communication; // runs as far ahead as events let it
  GeneratedCode generated = {}; // none: generated kernels are recorded only
  // NaN whenever launches begin to run.
  std::vector<ArenaBytes> poisoned = {};
  CudaFeatures features = {}; // of the GPU that it stands for
  bool hasCublasLt = false;   // a fake one: see FakeCublasLt.h
  std::string tuningCache = {};
  // Called with every command as it is enqueued or captured.
  std::function<void(const RecordedCommand&)> observe = {};
  // What a capture refuses is the next launch, as if the driver did.
  bool failsInCapture = false;
  // Memory is open, and calls are run by the host in their turn: for
  // communicators of host memory.
  bool sharesHostMemory = false;
};

class RecordingDevice : public Device {
public:
  /// Returns all commands since the last call.
  virtual std::vector<RecordedCommand> takeCommands() = 0;
};

std::unique_ptr<RecordingDevice>
createRecordingDevice(const RecordingOptions& options = {});

} // namespace llmrt::test
