# SPDX-License-Identifier: Apache-2.0
# The tests that are text: tests/dialects and tests/passes. CMake writes the site
# configuration, which says where the tools are; see tests/support/Lit.cmake.
import os

import lit.formats

config.name = "llmc"
config.test_format = lit.formats.ShTest(execute_external=False)
config.suffixes = [".mlir"]
config.excludes = ["inputs"]
config.test_source_root = os.path.dirname(__file__)
config.test_exec_root = os.path.join(config.llmc_build_dir, "tests")
config.environment["PATH"] = os.pathsep.join(
    [config.llmc_bin_dir, config.environment.get("PATH", "")])
config.substitutions += [
    ("%FileCheck", config.filecheck),
    ("%not", config.not_tool),
]
