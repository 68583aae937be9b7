// SPDX-License-Identifier: Apache-2.0
#include "tools/llmrt/Progress.h"

#include "runtime/base/ClockText.h"
#include "runtime/base/Logging.h"

#include "absl/strings/str_format.h"

#include <cstdio>
#include <string>

namespace llmrt {
namespace {

constexpr double kTerminalSeconds = 0.2;
constexpr double kLineSeconds = 10;
constexpr int kBarWidth = 24;

} // namespace

Progress::Progress(int64_t numPrompts, int64_t numDone, bool isQuiet)
    : numPrompts_(numPrompts), numDoneBefore_(numDone), numDone_(numDone),
      isQuiet_(isQuiet), isTerminal_(isProgressTerminal()),
      begin_(Clock::now()), lastPrint_(begin_) {
  if (numDone > 0 && !isQuiet)
    logMessage("llmrt", absl::StrFormat("continuing: %d of %d prompts are done",
                                        numDone, numPrompts));
}

void Progress::addTokens(int64_t count) {
  numTokens_ += count;
  printIfDue();
}

void Progress::addPrompt() {
  ++numDone_;
  printIfDue();
}

void Progress::printIfDue() {
  std::chrono::duration<double> since = Clock::now() - lastPrint_;
  if (!isQuiet_ &&
      since.count() >= (isTerminal_ ? kTerminalSeconds : kLineSeconds))
    print();
}

void Progress::print() {
  lastPrint_ = Clock::now();
  double seconds = std::chrono::duration<double>(lastPrint_ - begin_).count();
  std::string text =
      absl::StrFormat("%d of %d prompts, %.1f tokens/s", numDone_, numPrompts_,
                      seconds > 0 ? numTokens_ / seconds : 0.0);
  if (numDone_ > numDoneBefore_ && numDone_ < numPrompts_)
    text += ", " +
            clockText(seconds / (numDone_ - numDoneBefore_) *
                      (numPrompts_ - numDone_)) +
            " left";
  if (!isTerminal_)
    return logMessage("llmrt", text);
  int filled = numPrompts_ > 0
                   ? static_cast<int>(kBarWidth * numDone_ / numPrompts_)
                   : kBarWidth;
  std::string bar = "\r[" + std::string(filled, '#') +
                    std::string(kBarWidth - filled, '.') + "] " + text +
                    "\x1b[K";
  std::fwrite(bar.data(), 1, bar.size(), stderr);
}

void Progress::finish() {
  if (isQuiet_)
    return;
  print();
  if (isTerminal_)
    std::fputc('\n', stderr);
}

} // namespace llmrt
