// SPDX-License-Identifier: Apache-2.0
// The envelope of a plan. What is inside is verified by VerifyPlan.cpp and
// VerifyPrograms.cpp.
#include "runtime/plan/PlanFile.h"

#include "runtime/base/Error.h"
#include "runtime/plan/VerifyPlan.h"

#include <cstring>

namespace llmrt {
namespace {

constexpr char kMagic[9] = "LLMCPLAN";
constexpr int64_t kChecksummedHeaderBytes = 24;
constexpr char kAdvice[] = "compile the plan again, or copy it again";

template <typename T>
T load(const uint8_t* p) {
  T value;
  std::memcpy(&value, p, sizeof(T));
  return value;
}

uint64_t checksumOf(absl::Span<const uint8_t> file) {
  return crc64(file.subspan(kPlanEnvelopeBytes),
               crc64(file.subspan(0, kChecksummedHeaderBytes)));
}

absl::Status checkEnvelope(absl::Span<const uint8_t> file,
                           const ReadPlanOptions& options) {
  int64_t fileBytes = file.size();
  if (fileBytes >= 8 && std::memcmp(file.data(), kMagic, 8) != 0)
    return makeError(ErrorCode::PlanCorrupt, "this is not a plan file",
                     "give a file written by llmc compile");
  if (fileBytes < kPlanEnvelopeBytes)
    return makeError(ErrorCode::PlanTruncated,
                     absl::StrCat("a plan has at least ", kPlanEnvelopeBytes,
                                  " bytes, this file has ", fileBytes),
                     kAdvice);
  uint64_t payloadBytes = load<uint64_t>(file.data() + 16);
  uint64_t presentBytes = fileBytes - kPlanEnvelopeBytes;
  if (presentBytes < payloadBytes)
    return makeError(ErrorCode::PlanTruncated,
                     absl::StrCat("the plan says it has ", payloadBytes,
                                  " bytes after its header, the file has ",
                                  presentBytes),
                     kAdvice);
  if (presentBytes > payloadBytes)
    return makeError(ErrorCode::PlanCorrupt,
                     absl::StrCat(presentBytes - payloadBytes,
                                  " bytes follow the end of the plan"),
                     kAdvice);
  if (options.verifyChecksum &&
      checksumOf(file) != load<uint64_t>(file.data() + 24))
    return makeError(ErrorCode::PlanCorrupt,
                     "the checksum of the plan does not hold", kAdvice);
  // The envelope is the same in every version, so a newer plan has a good
  // checksum.
  uint32_t version = load<uint32_t>(file.data() + 8);
  if (version > kPlanSchemaVersion)
    return makeError(ErrorCode::PlanTooNew,
                     absl::StrCat("the plan has schema version ", version,
                                  ", this program reads up to ",
                                  kPlanSchemaVersion),
                     "use a newer llmrt, or compile with this version's llmc");
  if (version != kPlanSchemaVersion || load<uint32_t>(file.data() + 12) != 0)
    return makeError(
        ErrorCode::PlanCorrupt,
        version != kPlanSchemaVersion
            ? absl::StrCat("the plan has schema version ", version,
                           " of an older llmc, this program reads ",
                           kPlanSchemaVersion)
            : "the header of the plan has reserved bytes set",
        kAdvice);
  return absl::OkStatus();
}

} // namespace

std::vector<uint8_t> wrapPlan(absl::Span<const uint8_t> payload) {
  std::vector<uint8_t> file(kPlanEnvelopeBytes + payload.size());
  uint32_t version = kPlanSchemaVersion;
  uint64_t payloadBytes = payload.size();
  std::memcpy(file.data(), kMagic, 8);
  std::memcpy(file.data() + 8, &version, 4);
  std::memcpy(file.data() + 16, &payloadBytes, 8);
  if (!payload.empty())
    std::memcpy(file.data() + kPlanEnvelopeBytes, payload.data(),
                payload.size());
  uint64_t checksum = checksumOf(file);
  std::memcpy(file.data() + 24, &checksum, 8);
  return file;
}

absl::StatusOr<const fb::Plan*> readPlan(absl::Span<const uint8_t> file,
                                         const ReadPlanOptions& options) {
  LLMRT_RETURN_IF_ERROR(checkEnvelope(file, options));
  absl::Span<const uint8_t> payload = file.subspan(kPlanEnvelopeBytes);
  // FlatBuffers reads scalars where they lie.
  if (reinterpret_cast<uintptr_t>(payload.data()) % 8 != 0)
    return absl::InternalError("a plan must be read at an address that is a "
                               "multiple of 8");
  // A table takes at least 4 bytes in the file unless tables share bytes, which
  // no writer of ours does: this bounds the time that a hostile file takes.
  constexpr unsigned kMaxDepth = 16;
  unsigned maxTables = static_cast<unsigned>(payload.size() / 4 + 1);
  ::flatbuffers::Verifier verifier(payload.data(), payload.size(), kMaxDepth,
                                   maxTables);
  if (payload.size() >= (uint64_t{1} << 31) || payload.size() < 8 ||
      !fb::PlanBufferHasIdentifier(payload.data()) ||
      !fb::VerifyPlanBuffer(verifier))
    return makeError(ErrorCode::PlanCorrupt,
                     "the tables of the plan are damaged", kAdvice);
  const fb::Plan* plan = fb::GetPlan(payload.data());
  LLMRT_RETURN_IF_ERROR(verifyPlan(*plan));
  return plan;
}

} // namespace llmrt
