// SPDX-License-Identifier: Apache-2.0
// The names of the reasons for which a sequence ends.
#include "runtime/generation/Request.h"

namespace llmrt {

const char* finishReasonName(FinishReason reason) {
  switch (reason) {
  case FinishReason::Stop:
    return "stop";
  case FinishReason::Length:
    return "length";
  case FinishReason::Context:
    return "context";
  }
  return "";
}

} // namespace llmrt
