// SPDX-License-Identifier: Apache-2.0
// One target machine for each CPU level, and lld in this process.
#include "compiler/codegen/EmitObject.h"

#include "compiler/codegen/SimplifyVectorCode.h"

#include "lld/Common/CommonLinkerContext.h"
#include "lld/Common/Driver.h"
#include "llvm/Bitcode/BitcodeReader.h"
#include "llvm/IR/LegacyPassManager.h"
#include "llvm/IR/Module.h"
#include "llvm/MC/TargetRegistry.h"
#include "llvm/Support/FileSystem.h"
#include "llvm/Support/MemoryBuffer.h"
#include "llvm/Support/TargetSelect.h"
#include "llvm/Target/TargetMachine.h"
#include "llvm/Target/TargetOptions.h"
#include "llvm/TargetParser/Triple.h"

#include <mutex>
#include <sys/mman.h>
#include <unistd.h>

LLD_HAS_DRIVER(elf)

namespace llmc {
namespace {

constexpr const char* kTriple = "x86_64-unknown-linux-gnu";

llvm::Expected<std::unique_ptr<llvm::TargetMachine>> createMachine(int level) {
  static std::once_flag once;
  std::call_once(once, [] {
    LLVMInitializeX86TargetInfo();
    LLVMInitializeX86Target();
    LLVMInitializeX86TargetMC();
    LLVMInitializeX86AsmPrinter();
  });
  static constexpr const char* kCpus[] = {"x86-64", "x86-64-v3", "x86-64-v4"};
  if (level < 0 || level > 2)
    return llvm::createStringError("no CPU level %d", level);
  std::string message;
  llvm::Triple triple(kTriple);
  const llvm::Target* target =
      llvm::TargetRegistry::lookupTarget(triple, message);
  if (!target)
    return llvm::createStringError(message);
  llvm::TargetOptions options;
  options.AllowFPOpFusion = llvm::FPOpFusion::Strict;
  std::unique_ptr<llvm::TargetMachine> machine(target->createTargetMachine(
      triple, kCpus[level], /*Features=*/"", options, llvm::Reloc::PIC_,
      /*CM=*/std::nullopt, llvm::CodeGenOptLevel::Aggressive));
  if (!machine)
    return llvm::createStringError("no code generator for x86-64");
  return machine;
}

/// An anonymous file that holds `bytes`.
class MemoryFile {
public:
  static llvm::Expected<MemoryFile> create(llvm::ArrayRef<char> bytes) {
    MemoryFile file(memfd_create("object", MFD_CLOEXEC));
    size_t done = 0;
    while (file.descriptor_ >= 0 && done < bytes.size()) {
      ssize_t n =
          write(file.descriptor_, bytes.data() + done, bytes.size() - done);
      if (n < 0)
        break;
      done += n;
    }
    if (file.descriptor_ < 0 || done < bytes.size())
      return llvm::createStringError(
          std::error_code(errno, std::generic_category()),
          "cannot write an object into memory");
    return file;
  }

  MemoryFile(MemoryFile&& other)
      : descriptor_(std::exchange(other.descriptor_, -1)) {}

  ~MemoryFile() {
    if (descriptor_ >= 0)
      close(descriptor_);
  }

  std::string path() const {
    return "/proc/self/fd/" + std::to_string(descriptor_);
  }

private:
  explicit MemoryFile(int descriptor) : descriptor_(descriptor) {}

  int descriptor_;
};

} // namespace

llvm::Error optimizeForCpu(llvm::Module& module) {
  auto machine = createMachine(0);
  if (!machine)
    return machine.takeError();
  module.setTargetTriple(llvm::Triple(kTriple));
  module.setDataLayout((*machine)->createDataLayout());
  simplifyVectorCode(module, **machine);
  return llvm::Error::success();
}

llvm::Expected<llvm::SmallVector<char, 0>> emitObject(llvm::StringRef bitcode,
                                                      int level) {
  auto machine = createMachine(level);
  if (!machine)
    return machine.takeError();
  llvm::LLVMContext context;
  auto module = llvm::parseBitcodeFile(
      llvm::MemoryBufferRef(bitcode, "kernels"), context);
  if (!module)
    return module.takeError();
  llvm::SmallVector<char, 0> object;
  llvm::raw_svector_ostream stream(object);
  llvm::legacy::PassManager passes;
  if ((*machine)->addPassesToEmitFile(passes, stream, nullptr,
                                      llvm::CodeGenFileType::ObjectFile))
    return llvm::createStringError("no object files for x86-64");
  passes.run(**module);
  return object;
}

llvm::Expected<std::vector<uint8_t>>
linkSharedObject(llvm::ArrayRef<char> object) {
  auto input = MemoryFile::create(object);
  if (!input)
    return input.takeError();
  // lld writes no /proc/self/fd path, so the output is a temporary file.
  llvm::SmallString<128> output;
  if (std::error_code error =
          llvm::sys::fs::createTemporaryFile("llmc-kernels", "so", output))
    return llvm::createStringError(error, "cannot make a temporary file");
  std::string inputPath = input->path();
  const char* arguments[] = {
      "ld.lld",      "-shared", "--build-id=none", "-z",
      "now",         "-z",      "noexecstack",     "--no-undefined",
      "--threads=1", "-s",      inputPath.c_str(), "-o",
      output.c_str()};
  std::string messages;
  llvm::raw_string_ostream stream(messages);
  lld::Result result =
      lld::lldMain(arguments, stream, stream, {{lld::Gnu, &lld::elf::link}});
  auto image = llvm::MemoryBuffer::getFile(output, /*IsText=*/false,
                                           /*RequiresNullTerminator=*/false);
  llvm::sys::fs::remove(output);
  if (result.retCode != 0)
    return llvm::createStringError("cannot link: " + messages);
  if (!image)
    return llvm::createStringError(image.getError(), "cannot read %s",
                                   output.c_str());
  llvm::StringRef bytes = (*image)->getBuffer();
  return std::vector<uint8_t>(bytes.bytes_begin(), bytes.bytes_end());
}

} // namespace llmc
