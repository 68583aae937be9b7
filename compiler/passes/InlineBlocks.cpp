// SPDX-License-Identifier: Apache-2.0
// Inlines block functions into the entries, so that later passes see layers as
// neighbours. MLIR's inliner would do, but it needs a call graph and loses the
// call site in the location, which is what provenance is made of.
#include "compiler/passes/Passes.h"
#include "dialects/plan/Plan.h"

#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/IR/IRMapping.h"

using namespace mlir;

namespace llmc {
#define GEN_PASS_DEF_INLINEBLOCKS
#include "compiler/passes/Passes.h.inc"

namespace {

void inlineCall(func::CallOp call, func::FuncOp callee) {
  OpBuilder builder(call);
  IRMapping mapping;
  for (auto [arg, operand] :
       llvm::zip(callee.getArguments(), call.getOperands()))
    mapping.map(arg, operand);
  for (Operation& op : callee.getBody().front()) {
    if (auto ret = dyn_cast<func::ReturnOp>(op)) {
      for (auto [result, value] :
           llvm::zip(call.getResults(), ret.getOperands()))
        result.replaceAllUsesWith(mapping.lookup(value));
      continue;
    }
    Operation* copy = builder.clone(op, mapping);
    copy->setLoc(CallSiteLoc::get(op.getLoc(), call.getLoc()));
  }
  call.erase();
}

struct InlineBlocksPass : impl::InlineBlocksBase<InlineBlocksPass> {
  void runOnOperation() override {
    SymbolTable symbols(getOperation());
    SmallVector<func::CallOp> calls;
    getOperation().walk([&](func::CallOp call) { calls.push_back(call); });
    for (func::CallOp call : calls) {
      auto callee = symbols.lookup<func::FuncOp>(call.getCallee());
      if (!callee || callee.isDeclaration()) {
        call.emitOpError("expects a block function with a body, got @")
            << call.getCallee();
        return signalPassFailure();
      }
      inlineCall(call, callee);
    }
    for (auto func :
         llvm::make_early_inc_range(getOperation().getOps<func::FuncOp>()))
      if (func->hasAttr(llm::LlmDialect::kBlockAttr))
        func.erase();
  }
};

} // namespace
} // namespace llmc
