// SPDX-License-Identifier: Apache-2.0
// CUDA code generation for tests: text in, images out; and the same LLVM IR as
// host code whose threads are fibers, so that values are tested without a GPU.
// Without MLIR headers, so that tests compile fast.
#pragma once

#include "tests/codegen/KernelRun.h"

#include <memory>
#include <string>
#include <vector>

namespace llmc {

/// Images of one module's kernels. Makes none if that fails: see diagnostics().
class CudaKernels {
public:
  struct Image {
    std::string target; // cuda or cuda-ptx
    int level;
    std::vector<uint8_t> bytes;
  };

  /// `target` as --target takes it.
  CudaKernels(const std::string& text, const std::string& target);

  const std::vector<Image>& images() const { return images_; }

  const std::string& diagnostics() const { return diagnostics_; }

private:
  std::vector<Image> images_;
  std::string diagnostics_;
};

/// Why no cubin can be made here; empty if one can.
std::string whyNoCubin();

/// Names of the functions of a cubin.
std::vector<std::string> cubinKernels(const std::vector<uint8_t>& image);

/// Assembles PTX as generateCudaCode does, and returns what ptxas -v
/// says of its registers, stacks and spills.
std::string resourceReport(const std::string& ptx, int architecture);

/// The kernels of a module on the host, in the emulation of hand-tuned ones
/// (tests/support/cuda/CudaEmulation.h). A thread that waits in vain fails the
/// test.
class EmulatedKernels {
public:
  explicit EmulatedKernels(const std::string& text);
  /// Those of a file that llmc wrote (--compile-to=kernels).
  static EmulatedKernels ofDump(const std::string& path);
  EmulatedKernels(EmulatedKernels&&);
  ~EmulatedKernels();

  /// Runs a kernel of the CUDA ABI on blocks 0 .. numBlocks - 1.
  void launch(const std::string& name, const std::vector<uint64_t>& words,
              int64_t numBlocks);
  /// The same; returns an empty text, or what went wrong. Any thread may call
  /// it.
  std::string run(const std::string& name, const uint64_t* words,
                  int64_t numBlocks);

private:
  struct Code;
  explicit EmulatedKernels(std::unique_ptr<Code> code);
  std::unique_ptr<Code> code_;
};

} // namespace llmc
