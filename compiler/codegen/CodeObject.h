// SPDX-License-Identifier: Apache-2.0
// Machine code of all generated kernels of a plan, for one kind of device.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace llmc {

/// As the table of this name in plan.fbs.
struct CodeObject {
  std::string target; // cpu, cuda (a cubin) or cuda-ptx (PTX text)
  int level;          // llmrt::CpuLevel; or of the architecture: 90 for sm_90
  std::vector<uint8_t> image;
};

} // namespace llmc
