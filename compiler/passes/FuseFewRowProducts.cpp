// SPDX-License-Identifier: Apache-2.0
// One launch for a matrix product of a few rows and what surrounds it, on cuda.
// The CPU calls generated kernels from slots of the product; a GPU has no
// slots, and a launch costs as much as a megabyte of weights. So the chains
// that transformers have (norm, product, bias, activation, residual; and the
// way of queries, keys and values to the cache) are looked for as such, and
// what fits no chain keeps its own kernel. Works on `llm` ops: what they mean
// decides, not the bodies of generated kernels.
#include "compiler/passes/Launches.h"
#include "compiler/passes/Passes.h"
#include "compiler/passes/ProductChains.h"
#include "compiler/passes/RopeTables.h"
#include "compiler/passes/WeightStorage.h"
#include "runtime/kernels/KernelAbi.h"

using namespace mlir;

namespace llmc {
#define GEN_PASS_DEF_FUSEFEWROWPRODUCTS
#include "compiler/passes/Passes.h.inc"

namespace {

/// What the kernels take: runtime/kernels/Kernels.def.
constexpr int64_t kMostRows = 16;
constexpr int64_t kRootMeanSquare = 1, kLayer = 2;

/// True for a product that the kernels take: few rows, whole 16-byte accesses.
bool isSuited(llm::LinearOp op) {
  return tensorType(op.getResult()).getDimSize(0) <= kMostRows &&
         readsWholeAccesses(op);
}

/// A product and the bias behind it.
struct Product {
  llm::LinearOp linear;
  llm::AddBiasOp bias; // or null

  Value result() { return bias ? bias.getResult() : linear.getResult(); }

  /// The product that made `v`, which no other op reads; a null linear if
  /// there is none that suits.
  static Product of(Value v) {
    Product product;
    if (!v.hasOneUse())
      return product;
    product.bias = v.getDefiningOp<llm::AddBiasOp>();
    if (product.bias) {
      v = product.bias.getX();
      if (!v.hasOneUse() || !isReal32(product.bias.getBias()))
        return product;
    }
    product.linear = v.getDefiningOp<llm::LinearOp>();
    if (product.linear && !isSuited(product.linear))
      product.linear = {};
    return product;
  }
};

/// Collects the words of a launch and the ops that it replaces.
class Fusion {
public:
  Fusion(func::FuncOp entry, StringRef kernel) : entry_(entry) {
    spec_.kernel = kernel;
  }

  void input(StringRef word, Value value) {
    spec_.inputs.push_back({word, value});
  }

  void inout(StringRef word, Value value) {
    spec_.inouts.push_back({word, value});
  }

  void integer(StringRef word, int64_t value) {
    spec_.scalars.push_back({word, intScalar(entry_.getContext(), value)});
  }

  void real(StringRef word, const APFloat& value) {
    spec_.scalars.push_back(
        {word, realScalar(entry_.getContext(), value.convertToDouble())});
  }

  /// Ops whose results only this launch's ops read, first readers last.
  void replaced(Operation* op) {
    if (op)
      ops_.push_back(op);
  }

  /// x, K and dtype of a product, and the norm before it if only products read
  /// it: each may then norm the row again. The norm goes with its last reader.
  void rows(llm::LinearOp linear) {
    Value x = linear.getX();
    Operation* norm = x.getDefiningOp();
    bool isOfProducts = llvm::all_of(
        x.getUsers(), [](Operation* user) { return isa<llm::LinearOp>(user); });
    auto rms = dyn_cast_or_null<llm::RmsNormOp>(norm);
    auto layer = dyn_cast_or_null<llm::LayerNormOp>(norm);
    if (rms && isOfProducts && width(rms.getWeight()) == width(x) &&
        isReal32(rms.getWeight())) {
      x = rms.getX();
      integer("norm", kRootMeanSquare);
      input("normWeight", rms.getWeight());
      real("eps", rms.getEps());
      real("offset", rms.getOffset());
      locations_.push_back(rms.getLoc());
    } else if (layer && isOfProducts && isReal32(layer.getWeight()) &&
               isReal32(layer.getBias())) {
      x = layer.getX();
      integer("norm", kLayer);
      input("normWeight", layer.getWeight());
      input("normBias", layer.getBias());
      real("eps", layer.getEps());
      locations_.push_back(layer.getLoc());
    }
    input("x", x);
    integer("ldx", width(x));
    integer("K", width(x));
    integer("dtype", weightFormatOf(linear.getWeight()));
    isNormed_ = x != linear.getX();
    rows_ = tensorType(x).getDimSize(0);
  }

  bool isNormed() const { return isNormed_; }

  void product(Product product, StringRef weightWord, StringRef biasWord) {
    input(weightWord, product.linear.getWeight());
    replaced(product.linear);
    if (product.bias)
      input(biasWord, product.bias.getBias());
    replaced(product.bias);
  }

  /// Creates the launch before `place`; `result` gives its value to the launch.
  void finish(Operation* place, StringRef resultWord, Value result,
              int64_t columns) {
    spec_.results = {{resultWord, result.getType()}};
    spec_.columns = columns;
    spec_.rows = rowsWord(entry_, rows_);
    for (Operation* op : ops_)
      locations_.push_back(op->getLoc());
    OpBuilder builder(place);
    auto launch = createLaunch(
        builder, FusedLoc::get(entry_.getContext(), locations_), spec_);
    result.replaceAllUsesWith(launch.getResult(0));
    for (Operation* op : llvm::reverse(ops_))
      op->erase();
  }

private:
  func::FuncOp entry_;
  LaunchSpec spec_;
  SmallVector<Operation*> ops_;
  SmallVector<Location> locations_;
  int64_t rows_ = 0;
  bool isNormed_ = false;
};

// ---- queries, keys and values ----

/// A head's way from its product to the attention.
struct HeadPath {
  llm::RopeOp rope;    // or null
  llm::RmsNormOp norm; // or null
  Product product;

  static HeadPath of(Value v, int64_t headDim) {
    HeadPath path;
    if (auto rope = v.getDefiningOp<llm::RopeOp>())
      if (v.hasOneUse() && !rope.getInverse()) {
        path.rope = rope;
        v = rope.getX();
      }
    if (auto norm = v.getDefiningOp<llm::RmsNormOp>())
      if (v.hasOneUse() && width(norm.getWeight()) == headDim &&
          isReal32(norm.getWeight())) {
        path.norm = norm;
        v = norm.getX();
      }
    path.product = Product::of(v);
    return path;
  }
};

llm::KvAppendOp appendBefore(Value cache, Operation* reader) {
  llm::KvAppendOp found;
  for (Operation* user : cache.getUsers())
    if (auto append = dyn_cast<llm::KvAppendOp>(user))
      if (append->getBlock() == reader->getBlock() &&
          append->isBeforeInBlock(reader))
        found = append;
  return found;
}

/// True if q and k are turned and normed alike, and all three are products of
/// the same rows.
bool belongTogether(llm::CachedAttentionOp attention, HeadPath& q, HeadPath& k,
                    Product& v) {
  if (!q.product.linear || !k.product.linear || !v.linear ||
      q.product.linear.getX() != k.product.linear.getX() ||
      q.product.linear.getX() != v.linear.getX() ||
      bool(q.rope) != bool(k.rope) || bool(q.norm) != bool(k.norm))
    return false;
  const int64_t format = weightFormatOf(v.linear.getWeight());
  for (llm::LinearOp linear : {q.product.linear, k.product.linear})
    if (weightFormatOf(linear.getWeight()) != format)
      return false;
  if (q.rope && (q.rope.getParams() != k.rope.getParams() ||
                 q.rope.getPositions() != attention.getPositions() ||
                 k.rope.getPositions() != attention.getPositions()))
    return false;
  return !q.norm || (q.norm.getEps() == k.norm.getEps() &&
                     q.norm.getOffset() == k.norm.getOffset());
}

void fuseHeads(func::FuncOp entry, llm::CachedAttentionOp attention) {
  int64_t headDim = attention.getHeadDim();
  auto keys = appendBefore(attention.getKeys(), attention);
  auto values = appendBefore(attention.getValues(), attention);
  if (!keys || !values || headDim % 2 != 0)
    return;
  HeadPath q = HeadPath::of(attention.getQ(), headDim);
  HeadPath k = HeadPath::of(keys.getX(), headDim);
  Product v = Product::of(values.getX());
  if (!belongTogether(attention, q, k, v))
    return;
  auto cache = cast<MemRefType>(attention.getKeys().getType());
  int64_t pages = width(attention.getBlockTable());
  int64_t heads = width(attention.getQ()) / headDim;
  Fusion fusion(entry, "linear_rope_append");
  fusion.rows(q.product.linear);
  fusion.product(q.product, "w0", "bias0");
  fusion.product(k.product, "w1", "bias1");
  fusion.product(v, "w2", "bias2");
  if (q.norm) {
    fusion.input("headNormQ", q.norm.getWeight());
    fusion.input("headNormK", k.norm.getWeight());
    fusion.real("headEps", q.norm.getEps());
    fusion.real("headOffset", q.norm.getOffset());
    fusion.replaced(q.norm);
    fusion.replaced(k.norm);
  }
  OpBuilder builder(attention);
  if (q.rope) {
    fusion.input("table", createRopeTable(builder, q.rope, pages));
    fusion.integer("rotary", q.rope.getParams().getRotary());
    fusion.integer("style", q.rope.getParams().getInterleaved());
    fusion.replaced(q.rope);
    fusion.replaced(k.rope);
  }
  fusion.replaced(keys);
  fusion.replaced(values);
  fusion.input("positions", attention.getPositions());
  fusion.input("blockTable", attention.getBlockTable());
  fusion.inout("keyCache", attention.getKeys());
  fusion.inout("valueCache", attention.getValues());
  fusion.integer("ldo", width(attention.getQ()));
  fusion.integer("R", width(attention.getPositions()));
  fusion.integer("H", heads);
  fusion.integer("KV", cache.getDimSize(2));
  fusion.integer("D", headDim);
  fusion.integer("pages", pages);
  fusion.integer("cacheDtype", dtypeOf(cache.getElementType()));
  fusion.finish(attention, "qOut", attention.getQ(),
                heads + 2 * cache.getDimSize(2));
}

// ---- other products ----

/// What follows a product, up to its last op.
struct Epilogue {
  Value end; // what the launch makes
  llm::SoftCapOp softCap;
  llm::RmsNormOp norm;
  llm::AddOp add;

  /// Follows `v` as far as nobody else reads what is between.
  static Epilogue of(Value v) {
    Epilogue epilogue;
    if ((epilogue.softCap = onlyReader<llm::SoftCapOp>(v)))
      v = epilogue.softCap.getResult();
    // A norm that is not added to anything begins the next product.
    auto norm = onlyReader<llm::RmsNormOp>(v);
    if (norm && norm.getX() == v && width(norm.getWeight()) == width(v) &&
        isReal32(norm.getWeight()) &&
        onlyReader<llm::AddOp>(norm.getResult())) {
      epilogue.norm = norm;
      v = norm.getResult();
    }
    if (auto add = onlyReader<llm::AddOp>(v)) {
      epilogue.add = add;
      v = add.getResult();
    }
    epilogue.end = v;
    return epilogue;
  }
};

void addEpilogue(Fusion& fusion, Value made) {
  Epilogue epilogue = Epilogue::of(made);
  if (epilogue.softCap) {
    fusion.real("softcap", epilogue.softCap.getCap());
    fusion.replaced(epilogue.softCap);
    made = epilogue.softCap.getResult();
  }
  if (epilogue.norm) {
    fusion.input("postWeight", epilogue.norm.getWeight());
    fusion.real("postEps", epilogue.norm.getEps());
    fusion.real("postOffset", epilogue.norm.getOffset());
    fusion.replaced(epilogue.norm);
    made = epilogue.norm.getResult();
  }
  if (epilogue.add) {
    Value residual =
        epilogue.add.getA() == made ? epilogue.add.getB() : epilogue.add.getA();
    fusion.input("residual", residual);
    fusion.integer("ldr", width(residual));
    fusion.replaced(epilogue.add);
  }
  int64_t columns = width(epilogue.end);
  fusion.integer("N", columns);
  fusion.integer("ldy", columns);
  Operation* place = epilogue.end.getDefiningOp();
  fusion.finish(place, "y", epilogue.end, columns);
}

/// activation(gate) * up.
void fuseGate(func::FuncOp entry, llm::GatedActivationOp op) {
  Product gate = Product::of(op.getGate()), up = Product::of(op.getUp());
  if (!gate.linear || !up.linear || gate.linear == up.linear ||
      gate.linear.getX() != up.linear.getX() ||
      gate.linear.getWeight().getType() != up.linear.getWeight().getType() ||
      weightFormatOf(gate.linear.getWeight()) !=
          weightFormatOf(up.linear.getWeight()))
    return;
  Fusion fusion(entry, "fused_linear");
  fusion.rows(gate.linear);
  fusion.integer("count", 2);
  fusion.product(gate, "w0", "bias0");
  fusion.product(up, "w1", "bias1");
  fusion.integer("activation", static_cast<int64_t>(op.getKind()) + 1);
  fusion.replaced(op);
  addEpilogue(fusion, op.getResult());
}

/// A product with whatever is before and behind it. One with neither, and
/// beside which others read the same rows, is better merged with those (but
/// products of blocks are not merged).
void fuseProduct(func::FuncOp entry, llm::LinearOp op) {
  if (!isSuited(op))
    return;
  Product product{op, onlyReader<llm::AddBiasOp>(op.getResult())};
  if (product.bias && !isReal32(product.bias.getBias()))
    product.bias = {};
  Value made = product.result();
  auto activation = onlyReader<llm::ActivationOp>(made);
  Fusion fusion(entry, "fused_linear");
  fusion.rows(op);
  bool isAlone = !fusion.isNormed() && !op.getX().hasOneUse() &&
                 !product.bias && !activation &&
                 Epilogue::of(made).end == made &&
                 !paramInBlocks(op.getWeight());
  if (isAlone)
    return;
  fusion.integer("count", 1);
  fusion.product(product, "w0", "bias0");
  if (activation) {
    fusion.integer("activation",
                   static_cast<int64_t>(activation.getKind()) + 1);
    fusion.replaced(activation);
    made = activation.getResult();
  }
  addEpilogue(fusion, made);
}

template <typename Op>
void fuseEach(func::FuncOp entry, void (*fuse)(func::FuncOp, Op)) {
  SmallVector<Op> ops(entry.getOps<Op>());
  for (Op op : ops)
    fuse(entry, op);
}

struct FuseFewRowProductsPass
    : impl::FuseFewRowProductsBase<FuseFewRowProductsPass> {
  void runOnOperation() override {
    for (auto entry : getOperation().getOps<func::FuncOp>()) {
      fuseEach<llm::CachedAttentionOp>(entry, fuseHeads);
      fuseEach<llm::GatedActivationOp>(entry, fuseGate);
      fuseEach<llm::LinearOp>(entry, fuseProduct);
      SmallVector<Operation*> norms;
      for (Operation& op : entry.getBody().front())
        if (isa<llm::RmsNormOp, llm::LayerNormOp>(op) && op.use_empty())
          norms.push_back(&op);
      for (Operation* norm : norms)
        norm->erase();
    }
  }
};

} // namespace
} // namespace llmc
