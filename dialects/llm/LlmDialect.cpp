// SPDX-License-Identifier: Apache-2.0
// Registration of the `llm` dialect and its generated code. Verifiers are in
// LlmVerifiers.cpp, sharding rules and costs in LlmInterfaces.cpp.
#include "dialects/llm/Llm.h"

#include "mlir/IR/Builders.h"
#include "mlir/IR/DialectImplementation.h"
#include "llvm/ADT/TypeSwitch.h"

#include "dialects/llm/LlmDialect.cpp.inc"

#include "dialects/llm/LlmEnums.cpp.inc"

#define GET_ATTRDEF_CLASSES
#include "dialects/llm/LlmAttrs.cpp.inc"

#include "dialects/llm/LlmInterfaces.cpp.inc"

#define GET_OP_CLASSES
#include "dialects/llm/LlmOps.cpp.inc"

namespace llmc::llm {

void LlmDialect::initialize() {
  addAttributes<
#define GET_ATTRDEF_LIST
#include "dialects/llm/LlmAttrs.cpp.inc"
      >();
  addOperations<
#define GET_OP_LIST
#include "dialects/llm/LlmOps.cpp.inc"
      >();
}

} // namespace llmc::llm
