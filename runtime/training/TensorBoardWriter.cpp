// SPDX-License-Identifier: Apache-2.0
#include "runtime/training/TensorBoardWriter.h"

#include "runtime/base/Error.h"

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

#include <array>
#include <atomic>
#include <bit>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <fcntl.h>
#include <filesystem>
#include <unistd.h>

namespace llmrt {
namespace {

constexpr uint32_t kPolynomial = 0x82F63B78; // Castagnoli, reflected

constexpr std::array<uint32_t, 256> makeTable() {
  std::array<uint32_t, 256> table{};
  for (uint32_t byte = 0; byte < 256; ++byte) {
    uint32_t crc = byte;
    for (int bit = 0; bit < 8; ++bit)
      crc = (crc >> 1) ^ (crc & 1 ? kPolynomial : 0);
    table[byte] = crc;
  }
  return table;
}

constexpr std::array<uint32_t, 256> kTable = makeTable();

uint32_t maskedCrc(absl::string_view bytes) {
  return std::rotr(crc32c(bytes), 15) + 0xa282ead8u;
}

template <typename T>
std::string littleEndian(T value) {
  return std::string(reinterpret_cast<const char*>(&value), sizeof(value));
}

// Wire format of protocol buffers: a key (field * 8 + wire type), then a varint
// (type 0), 8 bytes (1), length and bytes (2) or 4 bytes (5).
std::string varint(uint64_t value) {
  std::string bytes;
  for (; value >= 0x80; value >>= 7)
    bytes += static_cast<char>(value | 0x80);
  return bytes += static_cast<char>(value);
}

std::string varintField(int field, int64_t value) {
  return absl::StrCat(varint(field << 3), varint(static_cast<uint64_t>(value)));
}

std::string doubleField(int field, double value) {
  return absl::StrCat(varint(field << 3 | 1), littleEndian(value));
}

std::string bytesField(int field, absl::string_view bytes) {
  return absl::StrCat(varint(field << 3 | 2), varint(bytes.size()), bytes);
}

std::string floatField(int field, float value) {
  return absl::StrCat(varint(field << 3 | 5), littleEndian(value));
}

double wallSeconds() {
  return std::chrono::duration<double>(
             std::chrono::system_clock::now().time_since_epoch())
      .count();
}

std::string hostName() {
  char name[256] = "";
  return gethostname(name, sizeof(name) - 1) == 0 && name[0] ? name : "host";
}

} // namespace

uint32_t crc32c(absl::string_view bytes) {
  uint32_t crc = ~0u;
  for (unsigned char byte : bytes)
    crc = (crc >> 8) ^ kTable[(crc ^ byte) & 0xFF];
  return ~crc;
}

std::string tfRecord(absl::string_view data) {
  std::string length = littleEndian(static_cast<uint64_t>(data.size()));
  return absl::StrCat(length, littleEndian(maskedCrc(length)), data,
                      littleEndian(maskedCrc(data)));
}

std::string scalarEvent(double wallSeconds, int64_t step,
                        absl::Span<const Scalar> scalars) {
  std::string summary;
  for (const auto& [tag, value] : scalars)
    absl::StrAppend(
        &summary,
        bytesField(1, absl::StrCat(bytesField(1, tag),
                                   floatField(2, static_cast<float>(value)))));
  return absl::StrCat(doubleField(1, wallSeconds), varintField(2, step),
                      bytesField(5, summary));
}

absl::StatusOr<TensorBoardWriter>
TensorBoardWriter::create(const std::string& folder,
                          std::optional<int64_t> resumedStep) {
  static std::atomic<int> counter = 0;
  std::error_code error;
  std::filesystem::create_directories(folder, error);
  if (error)
    return makeSystemError(ErrorCode::FileNotWritable, error.value(),
                           "cannot create folder", folder);
  double now = wallSeconds();
  TensorBoardWriter writer;
  writer.path_ = absl::StrFormat("%s/events.out.tfevents.%010d.%s.%d.%d",
                                 folder, static_cast<int64_t>(now), hostName(),
                                 getpid(), counter++);
  writer.fd_ = open(writer.path_.c_str(),
                    O_WRONLY | O_CREAT | O_EXCL | O_APPEND | O_CLOEXEC, 0666);
  if (writer.fd_ < 0)
    return makeSystemError(ErrorCode::FileNotWritable, errno, "cannot create",
                           writer.path_);
  LLMRT_RETURN_IF_ERROR(writer.append(
      absl::StrCat(doubleField(1, now), bytesField(3, "brain.Event:2"))));
  if (resumedStep)
    LLMRT_RETURN_IF_ERROR(writer.append(
        absl::StrCat(doubleField(1, now), varintField(2, *resumedStep + 1),
                     bytesField(7, varintField(1, /*START*/ 1)))));
  return writer;
}

TensorBoardWriter::TensorBoardWriter(TensorBoardWriter&& other) noexcept {
  *this = std::move(other);
}

TensorBoardWriter&
TensorBoardWriter::operator=(TensorBoardWriter&& other) noexcept {
  std::swap(fd_, other.fd_);
  std::swap(path_, other.path_);
  return *this;
}

TensorBoardWriter::~TensorBoardWriter() {
  if (fd_ >= 0)
    close(fd_);
}

absl::Status TensorBoardWriter::write(int64_t step,
                                      absl::Span<const Scalar> scalars) {
  return append(scalarEvent(wallSeconds(), step, scalars));
}

// One write() for a record, so that a killed run leaves whole records.
absl::Status TensorBoardWriter::append(absl::string_view event) {
  std::string record = tfRecord(event);
  for (size_t done = 0; done < record.size();) {
    ssize_t written = ::write(fd_, record.data() + done, record.size() - done);
    if (written < 0 && errno == EINTR)
      continue;
    if (written <= 0)
      return makeSystemError(ErrorCode::FileNotWritable,
                             written < 0 ? errno : ENOSPC, "cannot write",
                             path_);
    done += static_cast<size_t>(written);
  }
  return absl::OkStatus();
}

} // namespace llmrt
