// SPDX-License-Identifier: Apache-2.0
// main() of tests that run on an emulation, or with --on-gpu on a GPU.
#include "tests/support/cuda/TestGpu.h"

int main(int argc, char** argv) {
  return llmrt::testing::runTests(argc, argv, /*alwaysOnGpu=*/false);
}
