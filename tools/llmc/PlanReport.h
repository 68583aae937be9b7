// SPDX-License-Identifier: Apache-2.0
// What inspect, explain, diff and check share: a plan that stays open, names as
// people read them, and questions about single commands. It prints nothing and
// needs no MLIR.
#pragma once

#include "runtime/base/MappedFile.h"
#include "runtime/plan/Mesh.h"
#include "runtime/plan/PlanFile.h"

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

#include <cstdint>
#include <string>
#include <vector>

namespace llmc {

namespace fb = llmrt::fb;

/// A verified plan and the memory map that it lies in.
class OpenPlan {
public:
  /// Errors  FileNotReadable, and those of readPlan, with the path in front.
  static absl::StatusOr<OpenPlan> open(const std::string& path);

  const fb::Plan& plan() const { return *plan_; }

  int64_t sizeBytes() const {
    return static_cast<int64_t>(file_.bytes().size());
  }

  absl::Span<const uint8_t> bytes() const { return file_.bytes(); }

private:
  llmrt::MappedFile file_;
  const fb::Plan* plan_ = nullptr;
};

/// Elements of a FlatBuffers vector; none if it is absent.
template <typename T>
auto listOf(const ::flatbuffers::Vector<T>* vector) {
  using Element = typename ::flatbuffers::Vector<T>::return_type;
  return vector ? std::vector<Element>(vector->begin(), vector->end())
                : std::vector<Element>();
}

std::string textOf(const ::flatbuffers::String* text);

/// "GatheredParameters" as "gathered_parameters", "BF16" as "bf16".
std::string snakeCase(absl::string_view camelCase);
std::string nameOf(fb::MemoryClass memoryClass);
std::string nameOf(fb::CommandKind kind);
std::string nameOf(fb::ElementType dtype);
std::string nameOf(fb::WeightLayout layout);
std::string nameOf(fb::MemorySpace space);
std::string nameOf(fb::InitKind init);
/// "hand_tuned" or "generated".
std::string nameOf(fb::KernelKind kind);
/// "baseline", "avx2", "avx512".
/// "avx2", or "sm_90".
std::string nameOfCodeLevel(const fb::CodeObject& code);
/// "cpu avx2", "cuda sm_90" or "cuda-ptx sm_80".
std::string nameOfCode(const fb::CodeObject& code);
std::string nameOfEntry(const fb::Plan& plan, int entry);
std::string nameOfBuffer(const fb::Stage& stage, int buffer);

/// "1536 (1.5 KiB)"; below 1024 only the number.
std::string bytesText(int64_t bytes);
/// "1.5 KiB".
std::string shortBytes(int64_t bytes);
/// "[64, 128]".
std::string shapeText(const ::flatbuffers::Vector<int64_t>* shape);
/// "dp+tp".
std::string axesText(const fb::Plan& plan,
                     const ::flatbuffers::Vector<int32_t>* axes);
/// "dp=1, pp=2, tp=2".
std::string meshText(const fb::Plan& plan);
/// "0-3, 8".
std::string ranksText(const std::vector<int>& ranks);
/// "layers.12/layer.q" as "layers.*/layer.q": equal ops of all layers read
/// alike.
std::string groupName(absl::string_view name);

std::vector<int> ranksOfStage(const fb::Plan& plan, int stage);

/// One program of one stage; entry "" is the program that runs once.
struct StageProgram {
  int stage = 0;
  const fb::Stage* holder = nullptr;
  const fb::Program* program = nullptr;
  std::string entry;
};

std::vector<StageProgram> programsOf(const fb::Plan& plan);

bool isCollective(const fb::Command& command);

/// Who put a command there. Empty texts for a command without provenance.
struct Origin {
  std::string op, pass, subject;
};

Origin originOf(const fb::Plan& plan, const fb::Command& command);

/// Bytes that one rank sends in a collective, and the mesh axis they count for
/// (-1: none): a gather its part to each peer; a reduction a part to each peer,
/// and again when a gather follows. As compiler/plan/Counters.cpp counts.
struct Sent {
  int axis = -1;
  int64_t bytes = 0;
};

Sent sentBy(const fb::Plan& plan, const fb::Command& command);

/// An integer word of a hand-tuned launch by its name in Kernels.def; 0 if it
/// has none.
int64_t launchWord(const fb::Plan& plan, const fb::Command& command,
                   absl::string_view name);

/// FLOPs of a launch over full rows, as llmrt::kernelFlops counts them.
double flopsOf(const fb::Plan& plan, const fb::Program& program,
               const fb::Command& command);

/// Buffers that a command names: words, slots, send and receive.
std::vector<int> buffersOf(const fb::Command& command);

/// How a command of a program uses a buffer. A plan says which buffers a launch
/// takes, not which it changes: caches are changed by the kernels that append,
/// constants by the initialise program, and every other buffer by the first
/// launch of the program that names it (llmc writes each value once).
struct Access {
  int command = 0;
  bool isRead = false;
  bool isWrite = false;
};

/// Accesses of each buffer of the stage, in order.
std::vector<std::vector<Access>> accessesOf(const fb::Plan& plan,
                                            const StageProgram& program);

/// True if a buffer keeps its bytes between calls.
bool isPersistent(fb::MemoryClass memoryClass);

/// Writes to standard output (path "" or "-") or whole to a file. A reader of
/// standard output that has gone is no error.
absl::Status writeResult(const std::string& path, absl::string_view text);

} // namespace llmc
