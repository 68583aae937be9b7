# SPDX-License-Identifier: Apache-2.0
# Targets and functions for code that includes MLIR headers. One interface target
# carries the include paths and links MLIR and LLVM as shared libraries.
add_library(LlmcMlir INTERFACE)
target_include_directories(LlmcMlir SYSTEM INTERFACE ${MLIR_INCLUDE_DIRS} ${LLVM_INCLUDE_DIRS})
separate_arguments(LLMC_LLVM_DEFINITIONS UNIX_COMMAND "${LLVM_DEFINITIONS}")
target_compile_definitions(LlmcMlir INTERFACE ${LLMC_LLVM_DEFINITIONS})
target_compile_options(LlmcMlir INTERFACE -Wno-comment)
target_link_libraries(LlmcMlir INTERFACE MLIR LLVM)
include_directories(SYSTEM ${MLIR_INCLUDE_DIRS} ${LLVM_INCLUDE_DIRS})

llmc_headers(llmc_mlir_headers HEADERS <mlir/IR/Builders.h> <mlir/IR/BuiltinOps.h>
  <mlir/IR/IRMapping.h> <mlir/IR/PatternMatch.h> <mlir/Pass/Pass.h> <absl/status/statusor.h>
  DEPS LlmcMlir absl::statusor)

function(llmc_tablegen source output)
  set(LLVM_TARGET_DEFINITIONS ${source})
  mlir_tablegen(${output} ${ARGN} EXTRA_INCLUDES ${CMAKE_SOURCE_DIR})
  set(LLMC_TABLEGEN_OUTPUTS ${LLMC_TABLEGEN_OUTPUTS} ${CMAKE_CURRENT_BINARY_DIR}/${output} PARENT_SCOPE)
endfunction()

# llmc_dialect(Name mnemonic): generated code of NameDialect.td and NameOps.td, target
# Llmc<Name>IncGen.
function(llmc_dialect name mnemonic)
  set(LLMC_TABLEGEN_OUTPUTS)
  llmc_tablegen(${name}Ops.td ${name}Ops.h.inc -gen-op-decls -dialect=${mnemonic})
  llmc_tablegen(${name}Ops.td ${name}Ops.cpp.inc -gen-op-defs -dialect=${mnemonic})
  llmc_tablegen(${name}Dialect.td ${name}Dialect.h.inc -gen-dialect-decls -dialect=${mnemonic})
  llmc_tablegen(${name}Dialect.td ${name}Dialect.cpp.inc -gen-dialect-defs -dialect=${mnemonic})
  llmc_tablegen(${name}Dialect.td ${name}Attrs.h.inc -gen-attrdef-decls -attrdefs-dialect=${mnemonic})
  llmc_tablegen(${name}Dialect.td ${name}Attrs.cpp.inc -gen-attrdef-defs -attrdefs-dialect=${mnemonic})
  llmc_tablegen(${name}Dialect.td ${name}Types.h.inc -gen-typedef-decls -typedefs-dialect=${mnemonic})
  llmc_tablegen(${name}Dialect.td ${name}Types.cpp.inc -gen-typedef-defs -typedefs-dialect=${mnemonic})
  llmc_tablegen(${name}Dialect.td ${name}Enums.h.inc -gen-enum-decls)
  llmc_tablegen(${name}Dialect.td ${name}Enums.cpp.inc -gen-enum-defs)
  llmc_tablegen(${name}Dialect.td ${name}Interfaces.h.inc -gen-op-interface-decls)
  llmc_tablegen(${name}Dialect.td ${name}Interfaces.cpp.inc -gen-op-interface-defs)
  add_custom_target(Llmc${name}IncGen DEPENDS ${LLMC_TABLEGEN_OUTPUTS})
endfunction()
