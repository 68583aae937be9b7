# SPDX-License-Identifier: Apache-2.0
# Finds every package the project uses. tools/install-deps installs them.
find_package(Threads REQUIRED)
find_package(absl REQUIRED)
find_package(nlohmann_json REQUIRED)
find_package(CLI11 REQUIRED)
find_package(PkgConfig REQUIRED)
pkg_check_modules(PCRE2 REQUIRED IMPORTED_TARGET libpcre2-8)
pkg_check_modules(SENTENCEPIECE REQUIRED IMPORTED_TARGET sentencepiece)
find_path(FLATBUFFERS_INCLUDE flatbuffers/flatbuffers.h REQUIRED)
find_program(FLATC flatc REQUIRED)
find_package(MPI REQUIRED COMPONENTS C)
if(LLMC_BUILD_COMPILER)
  # Version 22 is chosen by prefix: the package file is an exact match, so naming
  # the version in the call fails.
  list(PREPEND CMAKE_PREFIX_PATH /usr/lib/llvm-22)
  find_package(MLIR REQUIRED CONFIG)
  find_package(LLD REQUIRED CONFIG)
  list(APPEND CMAKE_MODULE_PATH ${MLIR_CMAKE_DIR} ${LLVM_CMAKE_DIR})
  include(TableGen)
  include(AddLLVM)
  include(AddMLIR)
endif()
if(LLMC_BUILD_TESTS)
  find_package(GTest REQUIRED)
  find_package(benchmark REQUIRED)
endif()
set(LLMC_TEST_DATA "${CMAKE_SOURCE_DIR}/../shared/data" CACHE PATH
  "Folder of real models and tokenizers; tests that need it skip without it")
