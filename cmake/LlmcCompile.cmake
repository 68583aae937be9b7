# SPDX-License-Identifier: Apache-2.0
# Compile settings that hold for every target, and the two functions that make a
# library and a test. It finds no package: LlmcDependencies.cmake does.
set(CMAKE_CXX_STANDARD 20)
set(CMAKE_CXX_STANDARD_REQUIRED ON)
set(CMAKE_CXX_EXTENSIONS OFF)
set(CMAKE_POSITION_INDEPENDENT_CODE ON)
set(CMAKE_EXPORT_COMPILE_COMMANDS ON)
set(CMAKE_RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/bin)
if(NOT CMAKE_BUILD_TYPE)
  set(CMAKE_BUILD_TYPE Release)
endif()
find_program(LLMC_CCACHE ccache)
if(LLMC_CCACHE)
  # What a compilation depended on is read from the compiler's list, not found out by
  # preprocessing first; precompiled headers need the two indulgences.
  set(CMAKE_CXX_COMPILER_LAUNCHER ${CMAKE_COMMAND} -E env CCACHE_DEPEND=1
    CCACHE_SLOPPINESS=pch_defines,time_macros ${LLMC_CCACHE})
endif()
# The arithmetic contract (docs/design/architecture.md, section 8): the compiler
# contracts a multiply and an add only where the source says std::fma.
add_compile_options(-Wall -Wextra -Wno-unused-parameter -ffp-contract=off
  -fno-math-errno)
include_directories(${CMAKE_SOURCE_DIR} ${CMAKE_BINARY_DIR})

# llmc_library(name SOURCES ... DEPS ...): with the precompiled headers that the folder's
# LLMC_HEADERS names (LlmcHeaders.cmake).
function(llmc_library name)
  cmake_parse_arguments(A "" "" "SOURCES;DEPS" ${ARGN})
  add_library(${name} STATIC ${A_SOURCES})
  target_link_libraries(${name} PUBLIC ${A_DEPS})
  llmc_use_headers(${name} "${LLMC_HEADERS}")
endfunction()

# llmc_test(name LABEL fast|e2e|slow|gpu SOURCES ... DEPS ... ARGS ...): one GoogleTest program.
function(llmc_test name)
  cmake_parse_arguments(A "" "LABEL" "SOURCES;DEPS;ARGS" ${ARGN})
  add_executable(${name} ${A_SOURCES})
  target_link_libraries(${name} PRIVATE ${A_DEPS} GTest::gmock GTest::gtest_main)
  # What a test compares is computed in libraries; its own file compiles in two
  # thirds of the time.
  target_compile_options(${name} PRIVATE $<$<CONFIG:Release>:-O1>)
  llmc_use_headers(${name} "${LLMC_TEST_HEADERS}")
  llmc_add_test(${name} "${A_LABEL}" ${name} ${A_ARGS})
endfunction()

# llmc_add_test(name label program args...): one more run of a test program.
function(llmc_add_test name label program)
  add_test(NAME ${name} COMMAND ${program} ${ARGN})
  set_tests_properties(${name} PROPERTIES LABELS "${label}"
    ENVIRONMENT "LLMC_TEST_DATA=${LLMC_TEST_DATA};LLMC_SOURCE_DIR=${CMAKE_SOURCE_DIR};LLMC_BIN_DIR=${CMAKE_RUNTIME_OUTPUT_DIRECTORY}")
endfunction()
