// SPDX-License-Identifier: Apache-2.0
#include "tests/codegen/CudaKernels.h"

#include "compiler/codegen/EmitPtx.h"
#include "compiler/codegen/LowerLinalgToGpu.h"
#include "tests/codegen/ParsedKernels.h"

#include "llvm/Bitcode/BitcodeReader.h"
#include "llvm/ExecutionEngine/Orc/LLJIT.h"
#include "llvm/IR/Module.h"
#include "llvm/Object/ELFObjectFile.h"
#include "llvm/Support/FileSystem.h"
#include "llvm/Support/Program.h"
#include "llvm/Support/TargetSelect.h"

#include <fstream>
#include <gtest/gtest.h>
#include <mutex>
#include <sstream>

// Last: it defines words of CUDA.
#include "tests/support/cuda/CudaEmulation.h"

namespace llmc {
namespace {

int32_t emulatedThread() { return threadIdx.x; }

int32_t emulatedBlock() { return blockIdx.x; }

void emulatedBarrier(int32_t) { __syncthreads(); }

float emulatedShuffle(uint32_t mask, float value, int32_t distance,
                      int32_t clamp) {
  EXPECT_EQ(mask, ~0u);
  EXPECT_EQ(clamp, 31);
  return __shfl_xor_sync(mask, value, distance);
}

/// What the IR may call, by the name of LLVM's intrinsic.
struct Emulated {
  const char* intrinsic;
  void* function;
};

const Emulated kEmulated[] = {
    {"llvm.nvvm.read.ptx.sreg.tid.x", reinterpret_cast<void*>(&emulatedThread)},
    {"llvm.nvvm.read.ptx.sreg.ctaid.x",
     reinterpret_cast<void*>(&emulatedBlock)},
    {"llvm.nvvm.barrier.cta.sync.aligned.all",
     reinterpret_cast<void*>(&emulatedBarrier)},
    {"llvm.nvvm.shfl.sync.bfly.f32",
     reinterpret_cast<void*>(&emulatedShuffle)}};

std::string emulatedName(llvm::StringRef intrinsic) {
  std::string name = ("emulated" + intrinsic).str();
  std::replace(name.begin(), name.end(), '.', '_');
  return name;
}

/// Makes IR for NVPTX IR for the host.
void moveToHost(llvm::Module& module, const llvm::orc::LLJIT& jit) {
  module.setTargetTriple(jit.getTargetTriple());
  module.setDataLayout(jit.getDataLayout());
  for (llvm::Function& function : module) {
    function.setCallingConv(llvm::CallingConv::C);
    if (function.isDeclaration() && function.getName().starts_with("llvm.nvvm"))
      function.setName(emulatedName(function.getName()));
  }
}

FailureOr<std::string> bitcodeOf(ParsedKernels& parsed) {
  OwningOpRef<ModuleOp> outer = ModuleOp::create(parsed.module->getLoc());
  OpBuilder builder = OpBuilder::atBlockEnd(outer->getBody());
  FailureOr<gpu::GPUModuleOp> code =
      lowerKernelsToGpu(parsed.kernels(), builder);
  if (failed(code))
    return failure();
  return makeCudaBitcode(*code);
}

} // namespace

struct EmulatedKernels::Code {
  std::unique_ptr<llvm::orc::LLJIT> jit;

  explicit Code(ParsedKernels& parsed) {
    FailureOr<std::string> bitcode =
        parsed.module ? bitcodeOf(parsed) : FailureOr<std::string>(failure());
    if (failed(bitcode)) {
      ADD_FAILURE() << parsed.diagnostics;
      return;
    }
    llvm::InitializeNativeTarget();
    llvm::InitializeNativeTargetAsmPrinter();
    llvm::ExitOnError check;
    jit = check(llvm::orc::LLJITBuilder().create());
    auto context = std::make_unique<llvm::LLVMContext>();
    auto module = check(llvm::parseBitcodeFile(
        llvm::MemoryBufferRef(*bitcode, "kernels"), *context));
    moveToHost(*module, *jit);
    llvm::orc::SymbolMap symbols;
    for (const Emulated& emulated : kEmulated)
      symbols[jit->mangleAndIntern(emulatedName(emulated.intrinsic))] = {
          llvm::orc::ExecutorAddr::fromPtr(emulated.function),
          llvm::JITSymbolFlags::Exported};
    check(jit->getMainJITDylib().define(llvm::orc::absoluteSymbols(symbols)));
    check(jit->addIRModule(
        llvm::orc::ThreadSafeModule(std::move(module), std::move(context))));
  }
};

EmulatedKernels::EmulatedKernels(std::unique_ptr<Code> code)
    : code_(std::move(code)) {}

EmulatedKernels::EmulatedKernels(const std::string& text) {
  ParsedKernels parsed(text);
  code_ = std::make_unique<Code>(parsed);
}

EmulatedKernels EmulatedKernels::ofDump(const std::string& path) {
  ParsedKernels parsed(DumpedKernels{path});
  return EmulatedKernels(std::make_unique<Code>(parsed));
}

EmulatedKernels::EmulatedKernels(EmulatedKernels&&) = default;
EmulatedKernels::~EmulatedKernels() = default;

std::string EmulatedKernels::run(const std::string& name, const uint64_t* words,
                                 int64_t numBlocks) {
  if (!code_->jit)
    return "no code";
  auto address = code_->jit->lookup(name);
  if (!address)
    return llvm::toString(address.takeError());
  using Kernel =
      void(const uint64_t*, int64_t, int64_t, int64_t, int64_t, uint8_t*);
  auto* kernel = address->toPtr<Kernel*>();
  llmrt::emulation::Launch launch;
  launch.gridX = static_cast<unsigned>(numBlocks);
  launch.threads = kGeneratedThreads;
  // Shared memory of generated code is one place of the process.
  static std::mutex oneGrid;
  std::lock_guard<std::mutex> lock(oneGrid);
  // A generated kernel reads nothing of the grid but its block's number.
  std::string error = llmrt::emulation::runGrid(
      launch, [&] { kernel(words, -1, -1, -1, -1, nullptr); });
  return error.empty() ? "" : name + ": " + error;
}

void EmulatedKernels::launch(const std::string& name,
                             const std::vector<uint64_t>& words,
                             int64_t numBlocks) {
  std::string error = run(name, words.data(), numBlocks);
  ASSERT_EQ(error, "");
}

CudaKernels::CudaKernels(const std::string& text, const std::string& target) {
  ParsedKernels parsed(text);
  auto wanted = parseTarget(target);
  if (!parsed.module || !wanted.ok()) {
    diagnostics_ = parsed.diagnostics;
    ADD_FAILURE() << "does not parse: " << diagnostics_ << wanted.status()
                  << text;
    return;
  }
  auto objects = generateCudaCode(*parsed.module, parsed.kernels(), *wanted);
  diagnostics_ = parsed.diagnostics;
  if (failed(objects))
    return;
  for (CodeObject& object : *objects)
    images_.push_back({object.target, object.level, std::move(object.image)});
}

std::string whyNoCubin() {
  return findPtxas() ? "" : "ptxas of a CUDA toolkit was not found";
}

std::vector<std::string> cubinKernels(const std::vector<uint8_t>& image) {
  llvm::MemoryBufferRef buffer(
      llvm::StringRef(reinterpret_cast<const char*>(image.data()),
                      image.size()),
      "image");
  std::vector<std::string> names;
  auto file = llvm::object::ObjectFile::createELFObjectFile(buffer);
  if (!file) {
    ADD_FAILURE() << llvm::toString(file.takeError());
    return names;
  }
  for (const auto& symbol : (*file)->symbols()) {
    auto type = symbol.getType();
    auto name = symbol.getName();
    if (type && name && *type == llvm::object::SymbolRef::ST_Function)
      names.push_back(name->str());
    if (!type)
      llvm::consumeError(type.takeError());
    if (!name)
      llvm::consumeError(name.takeError());
  }
  return names;
}

std::string resourceReport(const std::string& ptx, int architecture) {
  auto path = [](const char* ending) {
    llvm::SmallString<128> made;
    EXPECT_FALSE(llvm::sys::fs::createTemporaryFile("llmc-test", ending, made));
    return made.str().str();
  };
  std::string input = path("ptx"), output = path("cubin"), log = path("log");
  std::ofstream(input) << ptx;
  std::string ptxas = *findPtxas();
  std::string level = "-arch=sm_" + std::to_string(architecture);
  llvm::StringRef arguments[] = {ptxas, level,  "-O3", "-v",
                                 "-o",  output, input};
  std::optional<llvm::StringRef> redirects[] = {
      llvm::StringRef(), llvm::StringRef(log), llvm::StringRef(log)};
  EXPECT_EQ(
      llvm::sys::ExecuteAndWait(ptxas, arguments, std::nullopt, redirects), 0);
  std::stringstream text;
  text << std::ifstream(log).rdbuf();
  for (const std::string& file : {input, output, log})
    llvm::sys::fs::remove(file);
  return text.str();
}

} // namespace llmc
