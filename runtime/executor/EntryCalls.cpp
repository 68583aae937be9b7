// SPDX-License-Identifier: Apache-2.0
#include "runtime/executor/EntryCalls.h"

#include "runtime/base/Error.h"

namespace llmrt {

absl::Status EntryCalls::prepare(HostCopies* copies, bool usesGraphs) {
  copies_ = copies;
  entries_.resize(rank_.plan.entries()->size());
  for (const fb::Program* program : *rank_.stage.programs()) {
    Entry& entry = entries_[program->entry()];
    LLMRT_ASSIGN_OR_RETURN(
        entry.program,
        Program::create(*program, rank_.plan.entries()->Get(program->entry()),
                        rank_));
    entry.graphs = std::make_unique<CallGraphs>(
        rank_.device, obstacleTo(*entry.program, usesGraphs),
        entry.program->communicates());
  }
  return absl::OkStatus();
}

// Data replicas may have different numbers of valid rows, and so be at
// different calls of a kind.
const char* EntryCalls::obstacleTo(const Program& program,
                                   bool usesGraphs) const {
  const char* obstacle =
      obstacleToGraphs(rank_, usesGraphs, program.communicates());
  if (!obstacle && program.communicatesAmongReplicas())
    return "eager: data replicas may have different numbers of rows";
  return obstacle;
}

int64_t EntryCalls::enqueue(int entry, int64_t validRows) {
  Program& program = *entries_[entry].program;
  program.setRows(validRows);
  if (copies_)
    copies_->beginCall();
  auto enqueueAll = [&](bool isKept) {
    if (copies_)
      copies_->sendInputs(entry, /*all=*/isKept);
    program.enqueue(validRows);
    if (copies_)
      copies_->fetchOutputs(entry);
  };
  const CallGraphs::Call call = entries_[entry].graphs->enqueue(
      validRows, copies_ ? copies_->numFetched(entry) : 0, enqueueAll);
  if (copies_)
    copies_->setFetched(entry, call.numFetched);
  if (call.isEager)
    return program.numCommands();
  if (copies_)
    copies_->forgetSent(entry);
  rank_.computeRecorder.begin(
      {-1, "Graph", rank_.plan.entries()->Get(entry)->name()->c_str(), ""});
  rank_.computeRecorder.end();
  return program.numCommands();
}

void EntryCalls::forgetGraphs() {
  for (Entry& entry : entries_)
    if (entry.graphs)
      entry.graphs->forget();
}

} // namespace llmrt
