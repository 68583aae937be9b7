// SPDX-License-Identifier: Apache-2.0
#include "tools/llmrt/Interrupt.h"

#include <csignal>
#include <initializer_list>

namespace llmrt {
namespace {

volatile std::sig_atomic_t isRequested = 0;

void onSignal(int number) {
  isRequested = 1;
  std::signal(number, SIG_DFL);
}

} // namespace

void watchForInterrupt() {
  for (int number : {SIGINT, SIGTERM}) {
    struct sigaction action = {};
    action.sa_handler = onSignal;
    sigemptyset(&action.sa_mask);
    action.sa_flags = SA_RESTART;
    sigaction(number, &action, nullptr);
  }
}

bool isInterruptRequested() { return isRequested != 0; }

} // namespace llmrt
