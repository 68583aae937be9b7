// SPDX-License-Identifier: Apache-2.0
// Runs the programs of a plan on one rank: prepare (communicators, memory,
// code), initialise (weights), execute. It decides nothing: every command,
// address and size is in the plan. Which entries run, and with which inputs, is
// the caller's.
#pragma once

#include "runtime/comm/Communicator.h"
#include "runtime/device/Device.h"
#include "runtime/executor/MemoryReport.h"
#include "runtime/executor/Timeline.h"
#include "runtime/plan/PlanFile.h"

#include "absl/status/statusor.h"
#include "absl/types/span.h"

#include <map>
#include <memory>
#include <string>

namespace llmrt {

/// Where the weights of a set come from: a path (HF directory, safetensors,
/// GGUF), or "random:SEED" for the initialisers of the model.
struct WeightLocation {
  std::string set = "model";
  std::string path;
};

struct ExecutorOptions {
  int numThreads = 1; // of this rank
  int gpu = 0;        // of a cuda plan: which one this rank takes
  std::vector<WeightLocation> weights;
  // Checks that commands use memory as the plan says (LLMC-E0806 if not), and
  // measures what they touch; slower, and needs more memory. See
  // docs/howto/check-memory.md.
  bool checkMemory = false;
  bool keepTimeline = false; // for timeline(); a little slower
  // Calls are captured as graphs where the device and the ranks' connection
  // allow it (see CallGraphs.h).
  bool usesGraphs = true;
  std::string tuningCache = {}; // CudaDeviceOptions::tuningCache
};

/// Time and counters of one execute() or executeStep(). The share of
/// communication that computation hides is 1 - waitSeconds /
/// communicationSeconds.
struct ExecuteStatistics {
  double seconds = 0;
  double waitSeconds = 0;          // of the compute stream for communication
  double communicationSeconds = 0; // in collectives, those of both streams
  int64_t commands = 0;
};

class Executor {
public:
  /// Prepares: makes the device of the plan's target, checks that the plan fits
  /// the fabric's size and the device, makes the communicators, allocates the
  /// arena, loads the code. The plan and the fabric outlive the executor.
  ///
  /// Errors  MeshMismatch, DeviceUnsupported, CpuTooOld, KernelMissing,
  ///         CodeNotLoadable, OutOfMemory, DeviceFailed.
  static absl::StatusOr<std::unique_ptr<Executor>>
  create(const fb::Plan& plan, Fabric& fabric, const ExecutorOptions& options);

  /// The same on a device that the caller made.
  static absl::StatusOr<std::unique_ptr<Executor>>
  create(const fb::Plan& plan, Fabric& fabric, const ExecutorOptions& options,
         std::unique_ptr<Device> device);

  virtual ~Executor() = default;

  /// Loads this rank's own bytes of the weights and runs the initialise
  /// program.
  virtual absl::Status initialise() = 0;

  /// Number of an entry by name, or -1.
  virtual int findEntry(absl::string_view name) const = 0;

  /// Buffer of an input of an entry on this rank's stage, to be written before
  /// execute(); empty if this stage does not read it. Names: ids i32[S,R],
  /// positions i32[S,R], valid_rows i32[S], block_table i32[S,P], temperature
  /// f32[S], top_k i32[S], top_p f32[S], seed i64[S], sequence i32[S],
  /// sample_positions i32[S] (position of the last valid row of each sequence).
  virtual absl::Span<uint8_t> input(int entry, absl::string_view name) = 0;

  /// Buffer of an output (next_ids i32[S]; logits f32[S or S*R, V]), valid
  /// until the next execute(); empty if this stage does not have it. Of a
  /// device that shares no memory with the host it is copied by this call;
  /// empty then too if that fails, which the next execute() reports.
  virtual absl::Span<const uint8_t> output(int entry,
                                           absl::string_view name) const = 0;

  /// Runs the entry's program of this rank's stage. valid rows = word 0 of the
  /// kernels: valid_rows[0] if S is 1, else S * R (0 for a rank whose replica
  /// has no work). Every rank of the mesh calls it with the same entry (see
  /// Generation.h).
  virtual absl::Status execute(int entry, int64_t validRows,
                               ExecuteStatistics* statistics) = 0;

  /// Runs the schedule of one training step of this rank's stage. Its inputs
  /// lie in stepInput(). Every rank of the mesh calls it. Errors  Unsupported
  /// if the plan is for inference.
  virtual absl::Status executeStep(ExecuteStatistics* statistics) = 0;

  /// Runs what a training step runs up to its loss, without gradients and
  /// update: the entries prologue, forward, those that move activations, and
  /// loss. States other than parameters and optimizer states are spoilt. Errors
  /// Unsupported for a plan for inference; EvaluationUnavailable for a plan
  /// without the entry loss (made by an older version).
  virtual absl::Status executeEvaluation(ExecuteStatistics* statistics) = 0;

  /// Loads parameters again, from other places. Errors as initialise().
  virtual absl::Status
  reloadWeights(const std::vector<WeightLocation>& weights) = 0;

  /// Buffer of an input of a training step, to be written before executeStep():
  /// ids, positions, starts, labels i32[micro-batches, S, R]; hyper f32[16];
  /// reference_loss f32[micro-batches, S, R] (see docs/design/training.md).
  /// Empty if this stage does not read it.
  virtual absl::Span<uint8_t> stepInput(absl::string_view name) = 0;

  /// Memory of a state (count, loss: f32[1], ...), or of an output of a
  /// training step (norm f32[4]; row_loss f32[micro-batches, S, R]), valid
  /// until the next executeStep(); empty if this stage does not have it. Copied
  /// and failing as output().
  virtual absl::Span<const uint8_t>
  stepOutput(absl::string_view name) const = 0;

  /// Memory of a parameter, or of the state of that role that belongs to it, as
  /// the plan lays it out; empty if this stage does not hold it. For
  /// checkpoints.
  virtual absl::Span<uint8_t> parameterMemory(int parameter) = 0;
  virtual absl::Span<uint8_t> stateMemory(int state) = 0;

  /// Whether the host may use these two spans as its own memory. If not, they
  /// are places for readMemory() and writeMemory() only.
  virtual bool sharesHostMemory() const { return true; }

  /// Copies such a span to the host, or back. The executor is idle.
  /// Errors  DeviceFailed; Unimplemented where the host shares the memory.
  virtual absl::Status readMemory(absl::Span<const uint8_t>, uint8_t*) {
    return absl::UnimplementedError("the memory is the host's");
  }

  virtual absl::Status writeMemory(const uint8_t*, absl::Span<uint8_t>) {
    return absl::UnimplementedError("the memory is the host's");
  }

  virtual int stage() const = 0;
  virtual absl::Span<const int> coordinates() const = 0;
  /// Text of the flight recorder.
  virtual std::string recorderDump() const = 0;

  /// Returns what this rank did so far; null unless the options ask for it. The
  /// executor must be idle.
  virtual std::unique_ptr<Timeline> takeTimeline() { return nullptr; }

  /// Returns the bytes of this rank by class.
  virtual MemoryReport memory() const { return {}; }
};

} // namespace llmrt
