// SPDX-License-Identifier: Apache-2.0
// The little of CUDA that communication needs, as a table of functions: so it
// builds without the toolkit, and tests bring a device of their own. Functions
// return CUDA's numbers (0: success) and may be called by any thread; they make
// `device` current themselves.
#pragma once

#include "runtime/comm/cuda/PeerSum.h"
#include "runtime/comm/cuda/SumLimits.h"
#include "runtime/kernels/KernelAbi.h"

#include "absl/status/statusor.h"

#include <cstdint>

namespace llmrt {

struct CudaTable {
  static constexpr int kNotReady = 600; // cudaErrorNotReady

  int device = 0;

  int (*streamCreate)(int device, void** stream) = nullptr;
  int (*streamDestroy)(int device, void* stream) = nullptr;
  /// Returns 0 when all that was enqueued has run, kNotReady before.
  int (*streamQuery)(int device, void* stream) = nullptr;
  /// Sets the number of the capture that the stream is part of; 0: none.
  int (*captureId)(int device, void* stream, uint64_t* id) = nullptr;
  int (*eventCreate)(int device, void** event) = nullptr;
  int (*eventDestroy)(int device, void* event) = nullptr;
  int (*eventRecord)(int device, void* event, void* stream) = nullptr;
  int (*streamWaitEvent)(int device, void* stream, void* event) = nullptr;
  /// Zeroed memory of the host that the device reaches under the same address.
  int (*allocatePinned)(int device, void** memory, int64_t sizeBytes) = nullptr;
  int (*freePinned)(int device, void* memory) = nullptr;
  /// Zeroed memory of the device.
  int (*allocateDevice)(int device, void** memory, int64_t sizeBytes) = nullptr;
  int (*freeDevice)(int device, void* memory) = nullptr;
  /// Enqueues a copy between any two memories.
  int (*copy)(int device, void* stream, void* to, const void* from,
              int64_t sizeBytes) = nullptr;
  /// Enqueues, also into a captured graph: adds 1 to *count (device memory) and
  /// stores (*count << 32) + number to *word (pinned), where the host sees it
  /// at once.
  int (*mark)(int device, void* stream, uint64_t* word, uint32_t* count,
              uint32_t number) = nullptr;
  /// Enqueues out[i] = (blocks[0][i] + blocks[1][i]) + ... in f32, as
  /// runtime/comm/RankOrderSum.h does, bit for bit: up to kMaxSummands blocks
  /// of F32 or BF16 in memory that the device reaches. `blocks` itself is read
  /// before it returns. `out` may be one of the blocks.
  int (*addInRankOrder)(int device, void* stream, void* out,
                        const void* const* blocks, int numBlocks,
                        int64_t numElements, DType dtype) = nullptr;

  /// What another rank needs to reach memory of this device.
  struct SharedMemory {
    uint8_t host[64];   // name of the host, and of its start
    int64_t process;    // its number
    int64_t device;     // of that process
    uint64_t address;   // in that process
    uint8_t handle[64]; // for other processes
  };

  /// Describes a whole allocation of allocateDevice().
  int (*shareMemory)(int device, void* memory, SharedMemory* shared) = nullptr;
  /// Makes memory that another rank described reachable for kernels of this
  /// device. Fails if its GPU is not of this host, or gives no peer access.
  int (*openShared)(int device, const SharedMemory* shared,
                    void** memory) = nullptr;
  int (*closeShared)(int device, void* memory) = nullptr;
  /// Enqueues a sum over peers (PeerSum.h), also into a captured graph.
  int (*sumOverPeers)(int device, void* stream,
                      const PeerSumCall& call) = nullptr;
  const char* (*errorText)(int code) = nullptr;

  /// The one translation of the table's results. `doing` is "waiting for ...".
  /// Errors  TransportFailed names the device.
  absl::Status toStatus(int code, const char* doing) const;
};

/// Returns the table over the CUDA runtime for one device.
/// Errors  DeviceUnsupported where this program was built without the toolkit,
///         or there is no such device.
absl::StatusOr<CudaTable> loadCudaTable(int device);

} // namespace llmrt
