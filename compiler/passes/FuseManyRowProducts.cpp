// SPDX-License-Identifier: Apache-2.0
// One launch for a matrix product of many rows and what follows it, on cuda:
// what cuBLASLt has epilogues for (bias; gelu by tanh; an addend), and nothing
// else, because without the library a kernel of ours has to do the same. What
// is before a product stays outside: it is computed once for all products that
// read it. A product beside which others read the same rows is better merged
// with those (merge-linears).
#include "compiler/passes/Launches.h"
#include "compiler/passes/Passes.h"
#include "compiler/passes/ProductChains.h"
#include "compiler/passes/WeightStorage.h"

using namespace mlir;

namespace llmc {
#define GEN_PASS_DEF_FUSEMANYROWPRODUCTS
#include "compiler/passes/Passes.h.inc"

namespace {

/// More rows than those of fuse-few-row-products.
constexpr int64_t kFewestRows = 17;

bool isOnlyLinearOfItsRows(llm::LinearOp op) {
  return llvm::all_of(op.getX().getUsers(), [&](Operation* user) {
    return user == op || !isa<llm::LinearOp>(user);
  });
}

/// True for a product that the kernel takes: many rows, whole 16-byte accesses,
/// a weight that is not held in blocks (the library takes none).
bool isSuited(llm::LinearOp op) {
  return tensorType(op.getResult()).getRank() == 2 &&
         tensorType(op.getResult()).getDimSize(0) >= kFewestRows &&
         readsWholeAccesses(op) && !paramInBlocks(op.getWeight()) &&
         isOnlyLinearOfItsRows(op);
}

/// What follows a product, as far as nobody else reads what is between.
struct Epilogue {
  llm::AddBiasOp bias;
  llm::ActivationOp gelu; // then no add: the library adds before it
  llm::AddOp add;

  static Epilogue of(llm::LinearOp op) {
    Epilogue epilogue;
    Value v = op.getResult();
    auto bias = onlyReader<llm::AddBiasOp>(v);
    if (bias && bias.getX() == v && isReal32(bias.getBias())) {
      epilogue.bias = bias;
      v = bias.getResult();
    }
    auto gelu = onlyReader<llm::ActivationOp>(v);
    if (gelu && gelu.getKind() == llm::ActivationKind::gelu_tanh)
      epilogue.gelu = gelu;
    auto add = onlyReader<llm::AddOp>(v);
    if (add && add.getA().getType() == add.getB().getType())
      epilogue.add = add;
    return epilogue;
  }

  Operation* last() {
    if (gelu)
      return gelu;
    return add ? add.getOperation() : bias.getOperation();
  }
};

void fuse(func::FuncOp entry, llm::LinearOp op) {
  if (!isSuited(op))
    return;
  Epilogue epilogue = Epilogue::of(op);
  Operation* last = epilogue.last();
  if (!last)
    return;
  MLIRContext* context = entry.getContext();
  auto integer = [&](int64_t value) { return intScalar(context, value); };
  Value result = last->getResult(0);
  int64_t k = width(op.getX()), n = width(result);
  LaunchSpec spec;
  spec.kernel = "fused_linear";
  spec.inputs = {{"x", op.getX()}, {"w0", op.getWeight()}};
  spec.scalars = {
      {"ldx", integer(k)},
      {"K", integer(k)},
      {"dtype", integer(dtypeOf(tensorType(op.getWeight()).getElementType()))},
      {"count", integer(1)},
      {"N", integer(n)},
      {"ldy", integer(n)}};
  addFactorDtype(op.getX(), spec);
  SmallVector<Location> locations = {op.getLoc()};
  Value made = op.getResult();
  if (epilogue.bias) {
    spec.inputs.push_back({"bias0", epilogue.bias.getBias()});
    locations.push_back(epilogue.bias.getLoc());
    made = epilogue.bias.getResult();
  }
  if (epilogue.gelu) {
    spec.scalars.push_back(
        {"activation",
         integer(static_cast<int64_t>(epilogue.gelu.getKind()) + 1)});
    locations.push_back(epilogue.gelu.getLoc());
  }
  if (epilogue.add) {
    Value residual =
        epilogue.add.getA() == made ? epilogue.add.getB() : epilogue.add.getA();
    spec.inputs.push_back({"residual", residual});
    spec.scalars.push_back({"ldr", integer(width(residual))});
    locations.push_back(epilogue.add.getLoc());
  }
  spec.results = {{"y", result.getType()}};
  spec.columns = n;
  spec.rows = rowsWord(entry, tensorType(result).getDimSize(0));
  OpBuilder builder(last);
  auto launch = createLaunch(builder, FusedLoc::get(context, locations), spec);
  result.replaceAllUsesWith(launch.getResult(0));
  for (Operation* fused :
       {epilogue.add.getOperation(), epilogue.gelu.getOperation(),
        epilogue.bias.getOperation(), op.getOperation()})
    if (fused)
      fused->erase();
}

struct FuseManyRowProductsPass
    : impl::FuseManyRowProductsBase<FuseManyRowProductsPass> {
  void runOnOperation() override {
    for (auto entry : getOperation().getOps<func::FuncOp>()) {
      SmallVector<llm::LinearOp> products(entry.getOps<llm::LinearOp>());
      for (llm::LinearOp op : products)
        fuse(entry, op);
    }
  }
};

} // namespace
} // namespace llmc
