// SPDX-License-Identifier: Apache-2.0
// See GeneratedKernels.h.
#include "tests/codegen/GeneratedKernels.h"

#include "compiler/codegen/CpuCodegen.h"
#include "compiler/codegen/LowerKernelToLinalg.h"
#include "compiler/codegen/LowerLinalgToVector.h"
#include "tests/codegen/ParsedKernels.h"

#include "mlir/IR/Verifier.h"
#include "llvm/Object/ELFObjectFile.h"
#include "llvm/Support/FileSystem.h"

#include <dlfcn.h>
#include <fstream>
#include <gtest/gtest.h>

using namespace mlir;

namespace llmc {
namespace {

/// Compiles the functions of a module in linalg form as elementwise kernels.
FailureOr<std::vector<CodeObject>> compileForms(ModuleOp forms,
                                                ArrayRef<int> levels) {
  OwningOpRef<ModuleOp> code = ModuleOp::create(forms.getLoc());
  OpBuilder builder = OpBuilder::atBlockEnd(code->getBody());
  for (auto form : forms.getOps<func::FuncOp>())
    if (failed(lowerLinalgToVector(form, /*isElementwise=*/true, builder)))
      return failure();
  return compileVectorCode(*code, levels);
}

} // namespace

GeneratedKernels::GeneratedKernels(const std::string& text,
                                   std::vector<int> levels) {
  ParsedKernels parsed(text);
  if (!parsed.module) {
    diagnostics_ = parsed.diagnostics;
    ADD_FAILURE() << "does not parse: " << diagnostics_ << text;
    return;
  }
  bool isForm = !parsed.module->getOps<func::FuncOp>().empty();
  auto objects =
      isForm ? compileForms(*parsed.module, levels)
             : generateCpuCode(*parsed.module, parsed.kernels(), levels);
  diagnostics_ = parsed.diagnostics;
  if (failed(objects))
    return;
  for (CodeObject& object : *objects)
    images_.push_back({object.level, std::move(object.image)});
  handles_.resize(images_.size());
}

GeneratedKernels::~GeneratedKernels() {
  for (void* handle : handles_)
    if (handle)
      dlclose(handle);
}

LlmrtKernelFn GeneratedKernels::function(const std::string& name, int level) {
  for (size_t i = 0; i < images_.size(); ++i) {
    if (images_[i].level != level)
      continue;
    if (!handles_[i]) {
      llvm::SmallString<128> path;
      if (llvm::sys::fs::createTemporaryFile("llmc-test", "so", path))
        return nullptr;
      std::ofstream(path.c_str(), std::ios::binary)
          .write(reinterpret_cast<const char*>(images_[i].bytes.data()),
                 images_[i].bytes.size());
      handles_[i] = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
      if (!handles_[i])
        ADD_FAILURE() << dlerror();
      llvm::sys::fs::remove(path);
    }
    return handles_[i] ? reinterpret_cast<LlmrtKernelFn>(
                             dlsym(handles_[i], name.c_str()))
                       : nullptr;
  }
  return nullptr;
}

std::vector<int> GeneratedKernels::runnableLevels() {
  std::vector<int> levels = {0};
  if (__builtin_cpu_supports("x86-64-v3"))
    levels.push_back(1);
  if (__builtin_cpu_supports("x86-64-v4"))
    levels.push_back(2);
  return levels;
}

std::string linalgFormOf(const std::string& text) {
  ParsedKernels parsed(text);
  if (!parsed.module)
    return parsed.diagnostics;
  OwningOpRef<ModuleOp> forms = ModuleOp::create(parsed.module->getLoc());
  OpBuilder builder = OpBuilder::atBlockEnd(forms->getBody());
  for (plan::KernelOp kernel : parsed.kernels())
    if (failed(lowerKernelToLinalg(kernel, builder)))
      return parsed.diagnostics;
  if (failed(verify(*forms)))
    return parsed.diagnostics;
  std::string result;
  llvm::raw_string_ostream stream(result);
  forms->print(stream);
  return result;
}

std::vector<std::string> undefinedSymbols(const std::vector<uint8_t>& image) {
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
  auto& elf = llvm::cast<llvm::object::ELFObjectFileBase>(**file);
  for (auto symbol : elf.getDynamicSymbolIterators()) {
    auto flags = symbol.getFlags();
    auto name = symbol.getName();
    if (flags && name && (*flags & llvm::object::SymbolRef::SF_Undefined))
      names.push_back(name->str());
    if (!flags)
      llvm::consumeError(flags.takeError());
    if (!name)
      llvm::consumeError(name.takeError());
  }
  return names;
}

} // namespace llmc
