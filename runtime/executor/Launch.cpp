// SPDX-License-Identifier: Apache-2.0
// Command: run a kernel. Its argument block, slots and grid are in the
// program's words.
#include "runtime/executor/Program.h"

#include <algorithm>

namespace llmrt {
namespace {

class LaunchCommand final : public Command {
public:
  LaunchCommand(Rank& rank, const DeviceLaunch& launch,
                const uint64_t* gridRows, const CollectiveTag& tag)
      : rank_(rank), launch_(launch), gridRows_(gridRows), tag_(tag) {}

  void enqueue() override {
    launch_.rows = static_cast<int64_t>(*gridRows_);
    if (launch_.rows <= 0 || launch_.cols <= 0)
      return;
    auto begin = rank_.timeline ? std::chrono::steady_clock::now()
                                : std::chrono::steady_clock::time_point();
    rank_.computeRecorder.begin(tag_);
    rank_.device.launch(launch_);
    rank_.computeRecorder.end();
    if (rank_.timeline)
      rank_.timeline->add({TimelineRow::Compute, /*isWait=*/false, tag_.kind,
                           tag_.subject, tag_.pass, tag_.command, begin,
                           std::chrono::steady_clock::now()});
  }

private:
  Rank& rank_;
  DeviceLaunch launch_;
  const uint64_t* gridRows_;
  CollectiveTag tag_;
};

} // namespace

CommandPtr prepareLaunch(const fb::Command& command, PrepareContext& context) {
  Rank& rank = context.rank;
  Program& program = context.program;
  const fb::Kernel* kernel = rank.plan.kernels()->Get(command.kernel());
  std::vector<int64_t> slotWords;
  for (unsigned s = 0; command.slots() && s < command.slots()->size(); ++s) {
    const fb::Slot* slot = command.slots()->Get(s);
    slotWords.push_back(program.takeWords(slot->words()->size()));
    for (unsigned i = 0; i < slot->words()->size(); ++i)
      program.setWord(slotWords.back() + i, *slot->words()->Get(i), command,
                      {});
  }
  int64_t numWords = command.words()->size();
  int64_t first = program.takeWords(numWords + 1);
  for (int64_t i = 0; i < numWords; ++i)
    program.setWord(first + i, *command.words()->Get(i), command, slotWords);
  program.setWord(first + numWords, *command.grid_rows(), command, {});

  DeviceLaunch launch;
  launch.kernel = rank.kernels[command.kernel()];
  launch.arguments =
      reinterpret_cast<const uint64_t*>(program.deviceAddress(first));
  launch.hostArguments = program.hostWord(first);
  launch.rows = 0;
  launch.cols = command.grid_cols();
  launch.rowTile = kernel->row_tile();
  launch.colTile = kernel->col_tile();
  launch.scratchBytes = std::max(
      kernel->scratch_bytes(),
      rank.device.scratchBytes(launch.kernel, program.hostWord(first)));
  CollectiveTag tag = tagOf(command, context);
  tag.kind = kernel->name()->c_str();
  program.needScratch(launch.scratchBytes);
  return std::make_unique<LaunchCommand>(
      rank, launch, program.hostWord(first + numWords), tag);
}

} // namespace llmrt
