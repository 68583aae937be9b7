# SPDX-License-Identifier: Apache-2.0
# Tests that are text: lit runs the RUN lines of .mlir files, FileCheck reads what comes
# out. One ctest entry for each folder.
find_program(LLMC_LIT NAMES lit-22 lit REQUIRED)
find_program(LLMC_FILECHECK NAMES FileCheck-22 FileCheck
  HINTS ${LLVM_TOOLS_BINARY_DIR} REQUIRED)
find_program(LLMC_NOT NAMES not-22 not HINTS ${LLVM_TOOLS_BINARY_DIR} REQUIRED)
configure_file(${CMAKE_SOURCE_DIR}/tests/lit.site.cfg.py.in
  ${CMAKE_BINARY_DIR}/tests/lit.site.cfg.py @ONLY)

# llmc_lit_test(FOLDER): the .mlir files under tests/FOLDER.
function(llmc_lit_test folder)
  add_test(NAME lit-${folder}
    COMMAND ${LLMC_LIT} -v ${CMAKE_BINARY_DIR}/tests/${folder})
  set_tests_properties(lit-${folder} PROPERTIES LABELS fast)
endfunction()
