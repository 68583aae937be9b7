// SPDX-License-Identifier: Apache-2.0
// A small model of known values, saved by one or more ranks that are threads.
#pragma once

#include "runtime/checkpoint/Checkpoint.h"
#include "runtime/checkpoint/CheckpointWriter.h"

#include <functional>

namespace llmrt::testing {

/// Parameters of f32 and bf16, moments, a scalar and an empty tensor.
std::vector<CheckpointTensor> smallTensors();

CheckpointRequest smallRequest(const std::string& folder, int64_t step);

/// The value of an element at a step; exact in bf16 where the tensor is.
float valueOf(const CheckpointTensor& tensor, int64_t element, int64_t step);

/// Runs `body` on `numRanks` threads and returns every rank's status. One rank
/// gets no communicator.
std::vector<absl::Status>
runOnRanks(int numRanks,
           const std::function<absl::Status(Communicator*)>& body);

/// Writes this rank's part of all tensors: runs of 3 elements of vectors in
/// turn, and boxes of matrices cut by columns.
void writeOwnPart(CheckpointWriter& writer, const CheckpointRequest& request,
                  int rank, int numRanks);

/// Saves; returns the status of every rank.
std::vector<absl::Status> save(const CheckpointRequest& request, int numRanks);

/// Says what differs from the values of `step`; empty if nothing does.
std::string compareWithValues(const std::string& path, int64_t step);

} // namespace llmrt::testing
