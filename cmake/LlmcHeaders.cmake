# SPDX-License-Identifier: Apache-2.0
# Headers of others that most files include are parsed once for all of them: a file with
# MLIR's headers then compiles in half the time. Only in Release builds; the other
# build types show that each file includes what it uses.
set(release OFF)
if(CMAKE_BUILD_TYPE STREQUAL Release AND CMAKE_CXX_COMPILER_ID STREQUAL GNU)
  set(release ON)
endif()
option(LLMC_PRECOMPILE_HEADERS "Parse widely used headers once" ${release})

# llmc_headers(name [PROGRAM] HEADERS ... DEPS ... OPTIONS ...): headers for targets that
# compile with the same options; PROGRAM for those that are executables.
function(llmc_headers name)
  cmake_parse_arguments(A "PROGRAM" "" "HEADERS;DEPS;OPTIONS" ${ARGN})
  if(NOT LLMC_PRECOMPILE_HEADERS)
    return()
  endif()
  file(CONFIGURE OUTPUT ${name}.cpp CONTENT "// Holds precompiled headers.\n")
  add_library(${name} OBJECT ${CMAKE_CURRENT_BINARY_DIR}/${name}.cpp)
  target_link_libraries(${name} PRIVATE ${A_DEPS})
  target_compile_options(${name} PRIVATE -fpch-preprocess ${A_OPTIONS})
  if(A_PROGRAM)
    set_target_properties(${name} PROPERTIES POSITION_INDEPENDENT_CODE OFF)
    target_compile_options(${name} PRIVATE -fPIE)
  endif()
  target_precompile_headers(${name} PRIVATE ${A_HEADERS})
endfunction()

# llmc_use_headers(target name): what the directory's variable names; "" for none.
function(llmc_use_headers target name)
  if(LLMC_PRECOMPILE_HEADERS AND name)
    target_compile_options(${target} PRIVATE -fpch-preprocess)
    target_precompile_headers(${target} REUSE_FROM ${name})
  endif()
endfunction()

llmc_headers(llmrt_headers
  HEADERS <absl/status/statusor.h> <absl/strings/str_cat.h> <absl/strings/str_format.h>
    <absl/types/span.h> <algorithm> <cmath> <cstring> <filesystem> <functional> <map>
    <memory> <optional> <set> <string> <vector>
  DEPS absl::status absl::statusor absl::strings absl::str_format absl::span)
if(LLMC_BUILD_TESTS)
  llmc_headers(llmc_test_headers PROGRAM
    HEADERS <absl/status/statusor.h> <absl/strings/str_cat.h> <absl/strings/str_format.h>
      <absl/types/span.h> <gmock/gmock.h> <gtest/gtest.h> <algorithm> <cmath> <cstring>
      <filesystem> <fstream> <functional> <map> <memory> <optional> <set> <string> <thread>
      <vector>
    DEPS absl::status absl::statusor absl::strings absl::str_format absl::span GTest::gmock
      GTest::gtest
    OPTIONS $<$<CONFIG:Release>:-O1>)
endif()
