// SPDX-License-Identifier: Apache-2.0
// Which allocation of operator new an address lies in: a program that links
// this replaces operator new, so that a kernel whose arguments are addresses of
// the test's vectors can be given copies of just those vectors in the memory of
// a device.
#pragma once

#include <cstddef>
#include <cstdint>

namespace llmrt::testing {

struct HostBlock {
  uint8_t* begin = nullptr; // null: the address is of no such allocation
  size_t sizeBytes = 0;
};

HostBlock hostBlockOf(const void* address);

} // namespace llmrt::testing
