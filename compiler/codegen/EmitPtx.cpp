// SPDX-License-Identifier: Apache-2.0
// One target machine for each architecture, and ptxas in a process of its own
// with temporary files.
#include "compiler/codegen/EmitPtx.h"

#include "compiler/codegen/SimplifyVectorCode.h"

#include "llvm/ADT/ScopeExit.h"
#include "llvm/ADT/SmallString.h"
#include "llvm/Bitcode/BitcodeReader.h"
#include "llvm/IR/LegacyPassManager.h"
#include "llvm/IR/Module.h"
#include "llvm/MC/TargetRegistry.h"
#include "llvm/Support/FileSystem.h"
#include "llvm/Support/MemoryBuffer.h"
#include "llvm/Support/Path.h"
#include "llvm/Support/Program.h"
#include "llvm/Support/TargetSelect.h"
#include "llvm/Target/TargetMachine.h"
#include "llvm/Target/TargetOptions.h"
#include "llvm/TargetParser/Triple.h"

#include <cstdlib>
#include <mutex>

namespace llmc {
namespace {

constexpr const char* kTriple = "nvptx64-nvidia-cuda";
constexpr unsigned kAssemblerSeconds = 300;

llvm::Expected<std::unique_ptr<llvm::TargetMachine>>
createMachine(const CudaArchitecture& architecture) {
  static std::once_flag once;
  std::call_once(once, [] {
    LLVMInitializeNVPTXTargetInfo();
    LLVMInitializeNVPTXTarget();
    LLVMInitializeNVPTXTargetMC();
    LLVMInitializeNVPTXAsmPrinter();
  });
  std::string message;
  llvm::Triple triple(kTriple);
  const llvm::Target* target =
      llvm::TargetRegistry::lookupTarget(triple, message);
  if (!target)
    return llvm::createStringError(message);
  llvm::TargetOptions options;
  options.AllowFPOpFusion = llvm::FPOpFusion::Strict;
  // LLVM's default PTX version aborts the process for newer architectures.
  std::unique_ptr<llvm::TargetMachine> machine(target->createTargetMachine(
      triple, "sm_" + std::to_string(architecture.number),
      "+ptx" + std::to_string(architecture.ptxVersion), options,
      llvm::Reloc::PIC_, /*CM=*/std::nullopt,
      llvm::CodeGenOptLevel::Aggressive));
  if (!machine)
    return llvm::createStringError("no code generator for NVPTX");
  return machine;
}

/// A temporary file that is removed with this object.
class TemporaryFile {
public:
  static llvm::Expected<TemporaryFile> create(llvm::StringRef ending) {
    llvm::SmallString<128> path;
    if (std::error_code error =
            llvm::sys::fs::createTemporaryFile("llmc-kernels", ending, path))
      return llvm::createStringError(error, "cannot make a temporary file");
    return TemporaryFile(path.str().str());
  }

  TemporaryFile(TemporaryFile&& other)
      : path_(std::exchange(other.path_, std::string())) {}

  ~TemporaryFile() {
    if (!path_.empty())
      llvm::sys::fs::remove(path_);
  }

  const std::string& path() const { return path_; }

  llvm::Error write(llvm::StringRef bytes) const {
    std::error_code error;
    llvm::raw_fd_ostream stream(path_, error);
    stream << bytes;
    stream.close();
    if (stream.has_error())
      error = stream.error();
    stream.clear_error();
    return error
               ? llvm::createStringError(error, "cannot write a temporary file")
               : llvm::Error::success();
  }

  llvm::Expected<std::unique_ptr<llvm::MemoryBuffer>> read() const {
    auto buffer = llvm::MemoryBuffer::getFile(path_, /*IsText=*/false,
                                              /*RequiresNullTerminator=*/false);
    if (!buffer)
      return llvm::createStringError(buffer.getError(),
                                     "cannot read a temporary file");
    return std::move(*buffer);
  }

private:
  explicit TemporaryFile(std::string path) : path_(std::move(path)) {}

  std::string path_;
};

} // namespace

llvm::Error optimizeForCuda(llvm::Module& module) {
  auto machine = createMachine(cudaArchitectures().front());
  if (!machine)
    return machine.takeError();
  module.setTargetTriple(llvm::Triple(kTriple));
  module.setDataLayout((*machine)->createDataLayout());
  simplifyVectorCode(module, **machine);
  return llvm::Error::success();
}

llvm::Expected<std::string> emitPtx(llvm::StringRef bitcode,
                                    const CudaArchitecture& architecture) {
  auto machine = createMachine(architecture);
  if (!machine)
    return machine.takeError();
  llvm::LLVMContext context;
  auto module = llvm::parseBitcodeFile(
      llvm::MemoryBufferRef(bitcode, "kernels"), context);
  if (!module)
    return module.takeError();
  llvm::SmallString<0> text;
  llvm::raw_svector_ostream stream(text);
  llvm::legacy::PassManager passes;
  if ((*machine)->addPassesToEmitFile(passes, stream, nullptr,
                                      llvm::CodeGenFileType::AssemblyFile))
    return llvm::createStringError("no PTX from this LLVM");
  passes.run(**module);
  return text.str().str();
}

std::optional<std::string> findPtxas() {
  if (auto found = llvm::sys::findProgramByName("ptxas"))
    return *found;
  const char* home = std::getenv("CUDA_HOME");
  llvm::SmallString<128> path(home ? home : "/usr/local/cuda");
  llvm::sys::path::append(path, "bin", "ptxas");
  if (llvm::sys::fs::can_execute(path))
    return path.str().str();
  return std::nullopt;
}

llvm::Expected<std::vector<uint8_t>>
assemblePtx(llvm::StringRef ptxas, llvm::StringRef ptx,
            const CudaArchitecture& architecture) {
  auto input = TemporaryFile::create("ptx");
  if (!input)
    return input.takeError();
  auto output = TemporaryFile::create("cubin");
  if (!output)
    return output.takeError();
  auto messages = TemporaryFile::create("log");
  if (!messages)
    return messages.takeError();
  if (llvm::Error error = input->write(ptx))
    return error;
  std::string level = "-arch=sm_" + std::to_string(architecture.number);
  llvm::StringRef arguments[] = {ptxas, level,          "-O3",
                                 "-o",  output->path(), input->path()};
  std::optional<llvm::StringRef> redirects[] = {
      llvm::StringRef(), messages->path(), messages->path()};
  std::string failureText;
  int status = llvm::sys::ExecuteAndWait(ptxas, arguments, /*Env=*/std::nullopt,
                                         redirects, kAssemblerSeconds,
                                         /*MemoryLimit=*/0, &failureText);
  if (status != 0) {
    auto said = messages->read();
    if (!said)
      return said.takeError();
    llvm::StringRef first = (*said)->getBuffer().trim().split('\n').first;
    return llvm::createStringError(
        ptxas + " cannot make code for sm_" + llvm::Twine(architecture.number) +
        ": " + (first.empty() ? llvm::StringRef(failureText) : first));
  }
  auto image = output->read();
  if (!image)
    return image.takeError();
  llvm::StringRef bytes = (*image)->getBuffer();
  return std::vector<uint8_t>(bytes.bytes_begin(), bytes.bytes_end());
}

} // namespace llmc
