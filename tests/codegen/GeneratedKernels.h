// SPDX-License-Identifier: Apache-2.0
// Code generation for tests: text in, callable functions out. Without MLIR
// headers, so that tests compile fast.
#pragma once

#include "runtime/kernels/KernelAbi.h"

#include <memory>
#include <string>
#include <vector>

namespace llmc {

/// Shared objects of one module's kernels, loaded into this process.
class GeneratedKernels {
public:
  struct Image {
    int level;
    std::vector<uint8_t> bytes;
  };

  /// Generates code for every `plan.kernel` of a module, in which `<silu>`
  /// stands for an activation attribute; or for every function of a module in
  /// linalg form, as elementwise kernels. Makes no image if that fails: see
  /// diagnostics().
  explicit GeneratedKernels(const std::string& text,
                            std::vector<int> levels = runnableLevels());
  ~GeneratedKernels();

  const std::vector<Image>& images() const { return images_; }

  const std::string& diagnostics() const { return diagnostics_; }

  /// Returns the function, or null.
  LlmrtKernelFn function(const std::string& name, int level);

  /// The levels that this machine can run.
  static std::vector<int> runnableLevels();

private:
  std::vector<Image> images_;
  std::vector<void*> handles_; // of images_, null until used
  std::string diagnostics_;
};

/// Returns the linalg form of every kernel of a module as text.
std::string linalgFormOf(const std::string& text);

/// Returns the undefined symbols of an ELF shared object, and fails the test if
/// it is none.
std::vector<std::string> undefinedSymbols(const std::vector<uint8_t>& image);

} // namespace llmc
