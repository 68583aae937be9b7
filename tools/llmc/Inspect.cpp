// SPDX-License-Identifier: Apache-2.0
#include "runtime/base/Error.h"
#include "tools/llmc/Commands.h"
namespace llmc {
int runInspect(const CommandLine&, mlir::MLIRContext&) { return 1; }
int runExplain(const CommandLine&) { return 1; }
int runDiff(const CommandLine&) { return 1; }
int runCheck(const CommandLine&) { return 1; }
} // namespace llmc
