// SPDX-License-Identifier: Apache-2.0
// Small valid plans, made by hand with the FlatBuffers object API, for tests of
// the reader and of the executor. The compiler's emitter is not used.
#pragma once

#include "runtime/plan/PlanFile.h"

#include <memory>
#include <string>
#include <utility>
#include <vector>

namespace llmrt::test {

/// Bytes of a plan at an address that FlatBuffers can read, as a memory map has
/// it.
using PlanBytes = std::vector<uint8_t>;

PlanBytes finishPlan(const fb::PlanT& plan);

fb::WordT integer(int64_t value);
fb::WordT real(double value);
fb::WordT address(int buffer, int64_t offset = 0);
fb::WordT rows(int64_t factor = 1);
fb::WordT sequences(int64_t factor = 1);
fb::WordT rowsShard(int axis, int64_t factor = 1);
fb::WordT byCoordinate(int axis, std::vector<int64_t> values);
std::unique_ptr<fb::ByCoordinateT> values(int axis, std::vector<int64_t> v);

/// Builds a stage by stage plan. Every function returns a number of the plan.
class PlanBuilder {
public:
  /// axes: {{"dp", 2}, ...}; one stage for each coordinate of "pp".
  explicit PlanBuilder(std::vector<std::pair<std::string, int>> axes = {
                           {"tp", 1}});

  int entry(const std::string& name, int64_t sequences, int64_t rows);
  /// A kernel of Kernels.def, in its newest version.
  int kernel(const std::string& name, int64_t rowTile, int64_t colTile);

  /// The stage that the following functions add to.
  void select(int stage) { stage_ = stage; }

  int buffer(const std::string& name, fb::MemoryClass memoryClass,
             int64_t sizeBytes);
  /// A parameter that every rank holds whole.
  fb::ParameterT& parameter(const std::string& name, std::vector<int64_t> shape,
                            int buffer,
                            fb::ElementType dtype = fb::ElementType::F32);
  void input(int entry, const std::string& name, int buffer,
             fb::ElementType dtype, std::vector<int64_t> shape);
  void output(int entry, const std::string& name, int buffer,
              fb::ElementType dtype, std::vector<int64_t> shape);

  fb::CommandT& launch(int entry, int kernel, std::vector<fb::WordT> words,
                       fb::WordT gridRows, int64_t gridCols);
  fb::CommandT& collective(int entry, fb::CommandKind kind,
                           std::vector<int> axes, int send, int recv,
                           int64_t bytes, int stream = 0);
  fb::CommandT& copy(int entry, int from, int to, int64_t bytes,
                     int stream = 0);
  void record(int entry, int event, int stream);
  void wait(int entry, int event, int stream);

  /// Entry -1: the initialise program.
  fb::ProgramT& program(int entry);

  fb::StageT& stage() { return *plan.stages[stage_]; }

  fb::PlanT plan;

private:
  fb::CommandT& add(int entry, fb::CommandKind kind, int stream);
  static fb::EntryBuffersT&
  buffersOf(std::vector<std::unique_ptr<fb::EntryBuffersT>>& all, int entry);
  int stage_ = 0;
};

/// Two entries on one rank: logits = embedding(ids) * w^T through `linear`.
/// Vocabulary 7, width 5, one sequence of 3 rows or one of 1.
PlanBuilder tinyModel();

} // namespace llmrt::test
