// SPDX-License-Identifier: Apache-2.0
// A stream of the fake device: work that runs in order on a thread of its own,
// as late as the machine likes. Seen by the tests' CudaTable and by the fake
// NCCL library, which are different modules: so it is an interface.
#pragma once

#include <functional>

namespace llmrt::testing {

class FakeStream {
public:
  virtual ~FakeStream() = default;
  virtual void enqueue(std::function<void()> work) = 0;
};

} // namespace llmrt::testing
