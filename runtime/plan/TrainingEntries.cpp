// SPDX-License-Identifier: Apache-2.0
#include "runtime/plan/TrainingEntries.h"

namespace llmrt {

bool isOfEvaluation(absl::string_view entry) {
  entry = entry.substr(0, entry.find('.'));
  for (absl::string_view name :
       {"prologue", "forward", "send_activation", "receive_activation", "loss"})
    if (entry == name)
      return true;
  return false;
}

} // namespace llmrt
