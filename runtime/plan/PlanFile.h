// SPDX-License-Identifier: Apache-2.0
// The envelope of a plan file, and its reader. Executing a plan whose checksum
// holds means running its machine code: a plan is to be trusted like a program.
//
// Bytes 0-7 "LLMCPLAN"; 8-11 schema version; 12-15 zero; 16-23 payload length;
// 24-31 CRC-64/XZ of bytes 0-23 and of the payload; then the FlatBuffer. Little
// endian.
#pragma once

#include "runtime/base/Crc64.h"
#include "runtime/base/MappedFile.h"
#include "runtime/plan/plan_generated.h"

#include "absl/status/statusor.h"
#include "absl/types/span.h"

#include <string>
#include <vector>

namespace llmrt {

inline constexpr int kPlanSchemaVersion = 3;
inline constexpr int64_t kPlanEnvelopeBytes = 32;
/// Alignment of every buffer in an arena.
inline constexpr int64_t kBufferAlignment = 64;

/// Returns envelope and payload of a finished FlatBuffer.
std::vector<uint8_t> wrapPlan(absl::Span<const uint8_t> payload);

struct ReadPlanOptions {
  bool verifyChecksum = true; // off only for the fuzzer
};

/// Checks the envelope, then every table, index, offset, size and name of the
/// plan, so that the executor can follow it without a check: indices in range,
/// buffers inside arenas, words as Kernels.def declares, axes and coordinates
/// complete, shapes and byte counts consistent, events recorded before they are
/// waited for, and no stage waiting for ever for another. `file` begins at a
/// multiple of 8, as a memory map does.
///
/// Errors  PlanTruncated, PlanCorrupt, PlanTooNew, PlanInvalid (names the
///         field), KernelMissing.
absl::StatusOr<const fb::Plan*> readPlan(absl::Span<const uint8_t> file,
                                         const ReadPlanOptions& options = {});

/// Value of `value` at mesh coordinates (one per axis of the plan).
int64_t atCoordinates(const fb::ByCoordinate* value,
                      absl::Span<const int> coordinates, int64_t absent);

/// Coordinates of a rank, outermost axis first.
std::vector<int> coordinatesOfRank(const fb::Plan& plan, int rank);
int numRanks(const fb::Plan& plan);

} // namespace llmrt
