// SPDX-License-Identifier: Apache-2.0
// Every gradient that DifferentiableOpInterface builds, against difference
// quotients of the op itself, both in the interpreter's double precision. The
// values of the ops are checked elsewhere (InterpreterFixtureTest.cpp).
#include "dialects/llm/Gradient.h"
#include "compiler/passes/Differentiate.h"
#include "runtime/base/Philox.h"
#include "tests/support/Interpreter.h"

#include "mlir/IR/Verifier.h"
#include "mlir/Parser/Parser.h"

#include <gtest/gtest.h>

#include <cmath>
#include <set>
#include <sstream>

namespace llmc {
namespace {

using namespace mlir;

// Five points: the quotient's error is kStep^4 (1e-14) of a fifth derivative
// plus 1e-16 / kStep (3e-13) of roundings, each times a few tens of terms.
constexpr double kStep = 3e-4;
constexpr double kBound = 1e-9;

struct Case {
  std::string name;
  std::string arguments; // of a function
  std::string op;        // its body; the first result counts
  std::map<unsigned, std::vector<double>> integers; // values of i32 arguments
};

void PrintTo(const Case& c, std::ostream* os) { *os << c.name; }

/// A seeded tensor: about N(0, 1).
Tensor randomTensor(Type type, uint64_t stream) {
  Tensor tensor(cast<RankedTensorType>(type).getShape().vec());
  for (int64_t i = 0; i < tensor.numElements(); ++i)
    tensor.values[i] = llmrt::normal(/*seed=*/11, stream, i);
  return tensor;
}

bool isFloat(Type type) {
  return isa<FloatType>(cast<RankedTensorType>(type).getElementType());
}

void nameArguments(func::FuncOp func) {
  OpBuilder builder(func->getContext());
  for (unsigned i = 0; i < func.getNumArguments(); ++i)
    func.setArgAttr(i, "llm.name",
                    builder.getStringAttr("arg" + std::to_string(i)));
}

void nameResults(func::FuncOp func, ArrayRef<unsigned> arguments) {
  OpBuilder builder(func->getContext());
  for (auto [i, argument] : llvm::enumerate(arguments))
    func.setResultAttr(i, "llm.name",
                       builder.getStringAttr("of" + std::to_string(argument)));
}

/// An entry `gradient` of the operands of `op` and the gradient of its first
/// result.
void buildGradient(Operation* op) {
  auto forward = op->getParentOfType<func::FuncOp>();
  OpBuilder builder(forward);
  auto func = func::FuncOp::create(builder, op->getLoc(), "gradient",
                                   builder.getFunctionType({}, {}));
  func->setAttr(llm::LlmDialect::kEntryAttr, builder.getStringAttr("gradient"));
  Block* body = new Block();
  func.getBody().push_back(body);
  IRMapping mapping;
  for (BlockArgument arg : forward.getArguments())
    mapping.map(arg, body->addArgument(arg.getType(), arg.getLoc()));
  Value dy = body->addArgument(op->getResult(0).getType(), op->getLoc());
  builder.setInsertionPointToEnd(body);
  Operation* copy = builder.clone(*op, mapping);
  llm::GradientRequest request{builder, {}, {}, {}};
  request.resultGradients.assign(copy->getNumResults(), Value());
  request.resultGradients[0] = dy;
  for (Value v : copy->getOperands())
    request.isNeeded.push_back(isFloat(v.getType()));
  request.operandGradients.resize(copy->getNumOperands());
  cast<llm::DifferentiableOpInterface>(copy).buildGradients(request);
  SmallVector<Value> results;
  SmallVector<unsigned> places;
  for (auto [i, gradient] : llvm::enumerate(request.operandGradients))
    if (request.isNeeded[i]) {
      ASSERT_TRUE(gradient) << "no gradient of operand " << i;
      EXPECT_EQ(gradient.getType(), copy->getOperand(i).getType());
      results.push_back(gradient);
      places.push_back(i);
    }
  func::ReturnOp::create(builder, op->getLoc(), results);
  func.setFunctionType(builder.getFunctionType(
      body->getArgumentTypes(),
      SmallVector<Type>(ValueRange(results).getTypes())));
  nameArguments(func);
  nameResults(func, places);
}

/// Compares entry `gradient` with entry `forward`, whose arguments are its
/// first and whose result 0 is multiplied by random numbers and summed.
void compareWithQuotients(
    ModuleOp module, const std::map<unsigned, std::vector<double>>& integers) {
  ASSERT_TRUE(succeeded(verify(module)));
  auto forward = SymbolTable(module).lookup<func::FuncOp>("forward");
  NamedTensors inputs;
  for (BlockArgument arg : forward.getArguments()) {
    unsigned i = arg.getArgNumber();
    Tensor& input = inputs["arg" + std::to_string(i)] =
        randomTensor(arg.getType(), i);
    if (auto found = integers.find(i); found != integers.end())
      input.values = found->second;
  }
  Tensor dy = randomTensor(forward.getResultTypes()[0], 99);
  Interpreter interpreter(module, {});
  auto functional = [&]() -> double {
    auto results = interpreter.run("forward", {inputs});
    if (failed(results))
      return NAN;
    const Tensor& y = results->front().at("result");
    double sum = 0;
    for (int64_t i = 0; i < y.numElements(); ++i)
      sum += dy.values[i] * y.values[i];
    return sum;
  };
  NamedTensors withDy = inputs;
  withDy["arg" + std::to_string(forward.getNumArguments())] = dy;
  auto gradients = interpreter.run("gradient", {withDy});
  ASSERT_TRUE(succeeded(gradients));
  for (const auto& [name, gradient] : gradients->front()) {
    Tensor& x = inputs.at("arg" + name.substr(2));
    double worst = 0, largest = 0;
    for (int64_t i = 0; i < x.numElements(); ++i) {
      double at = x.values[i];
      auto valueAt = [&](double distance) {
        x.values[i] = at + distance * kStep;
        return functional();
      };
      double quotient =
          (8 * (valueAt(1) - valueAt(-1)) - valueAt(2) + valueAt(-2)) /
          (12 * kStep);
      x.values[i] = at;
      double error = std::abs(quotient - gradient.values[i]);
      worst = std::isfinite(error) ? std::max(worst, error) : INFINITY;
      largest = std::max(largest, std::abs(quotient));
    }
    EXPECT_GT(largest, 1e-3) << "argument " << name << " does not matter";
    EXPECT_LT(worst / largest, kBound) << "argument " << name;
  }
}

class GradientTest : public testing::Test {
protected:
  GradientTest() {
    context_.disableMultithreading();
    context_
        .loadDialect<func::FuncDialect, llm::LlmDialect, dist::DistDialect>();
  }

  /// The case as a module with an entry `forward`.
  OwningOpRef<ModuleOp> parse(const Case& c) {
    auto module = parseSourceString<ModuleOp>(
        "func.func @forward(" + c.arguments +
            ") attributes {llm.entry = \"forward\"} {\n" + c.op + "\nreturn\n}",
        &context_);
    EXPECT_TRUE(module) << c.name;
    if (!module)
      return module;
    auto func = *module->getOps<func::FuncOp>().begin();
    Block& body = func.getBody().front();
    Value y = body.getTerminator()->getPrevNode()->getResult(0);
    body.getTerminator()->setOperands(y);
    func.setFunctionType(
        FunctionType::get(&context_, body.getArgumentTypes(), {y.getType()}));
    nameArguments(func);
    return module;
  }

  MLIRContext context_;
};

class Gradients : public GradientTest,
                  public testing::WithParamInterface<Case> {};

TEST_P(Gradients, AreDifferenceQuotients) {
  OwningOpRef<ModuleOp> module = parse(GetParam());
  ASSERT_TRUE(module);
  auto forward = *module->getOps<func::FuncOp>().begin();
  buildGradient(&forward.getBody().front().front());
  compareWithQuotients(*module, GetParam().integers);
}

/// Elementwise ops of one and of two operands, and one attribute.
Case unary(const std::string& name, const std::string& op,
           const std::string& attr = "") {
  return {name,
          "%x: tensor<3x5xf32>",
          "%y = llm." + op + " %x " + attr + " : tensor<3x5xf32>",
          {}};
}

Case binary(const std::string& name, const std::string& op,
            const std::string& attr = "") {
  return {name,
          "%a: tensor<3x5xf32>, %b: tensor<3x5xf32>",
          "%y = llm." + op + " %a, %b " + attr + " : tensor<3x5xf32>",
          {}};
}

Case rope(const std::string& name, const std::string& params,
          const std::string& more = "") {
  return {"rope_" + name,
          "%x: tensor<6x12xf32>, %p: tensor<2x3xi32>",
          "%y = llm.rope %x, %p {head_dim = 6 : i64, params = "
          "#llm.rope_params<" +
              params + ">" + more + "} : tensor<6x12xf32>, tensor<2x3xi32>",
          {{1, {0, 1, 2, 7, 8, 40}}}};
}

/// Two sequences of five rows, heads of width 4; the second is two documents
/// and a bit.
Case attention(const std::string& name, int64_t heads, int64_t keyHeads,
               const std::string& more) {
  std::string q = "tensor<10x" + std::to_string(4 * heads) + "xf32>";
  std::string k = "tensor<10x" + std::to_string(4 * keyHeads) + "xf32>";
  std::string starts = "tensor<2x5xi32>";
  bool hasGroup = more.find("group") != std::string::npos;
  return {"row_attention_" + name,
          "%q: " + q + ", %k: " + k + ", %v: " + k + ", %s: " + starts,
          "%y:2 = llm.row_attention %q, %k, %v, %s {head_dim = 4 : i64, " +
              (hasGroup ? ""
                        : "group = " + std::to_string(heads / keyHeads) +
                              " : i64, ") +
              "scale = 0.6 : f64, key_dtype = f32" + more + "} : (" + q + ", " +
              k + ", " + k + ", " + starts + ") -> (" + q + ", tensor<10x" +
              std::to_string(heads) + "xf32>)",
          {{3, {0, 0, 0, 0, 0, 0, 0, 2, 2, 4}}}};
}

std::vector<Case> cases() {
  std::vector<Case> all = {
      // A repeated id; one before and one beyond the table.
      {"embedding",
       "%ids: tensor<2x3xi32>, %t: tensor<5x4xf32>",
       "%y = llm.embedding %ids, %t : (tensor<2x3xi32>, tensor<5x4xf32>) -> "
       "tensor<6x4xf32>",
       {{0, {3, 1, 3, -1, 0, 5}}}},
      {"embedding_part",
       "%ids: tensor<2x3xi32>, %t: tensor<5x4xf32>",
       "%y = llm.embedding %ids, %t {vocab_begin = 4 : i64} : "
       "(tensor<2x3xi32>, tensor<5x4xf32>) -> tensor<6x4xf32>",
       {{0, {3, 4, 8, 8, 0, 9}}}},
      {"linear",
       "%x: tensor<7x5xf32>, %w: tensor<3x5xf32>",
       "%y = llm.linear %x, %w : (tensor<7x5xf32>, tensor<3x5xf32>) -> "
       "tensor<7x3xf32>",
       {}},
      {"add_bias",
       "%x: tensor<7x5xf32>, %b: tensor<5xf32>",
       "%y = llm.add_bias %x, %b : tensor<7x5xf32>, tensor<5xf32>",
       {}},
      {"rms_norm",
       "%x: tensor<3x7xf32>, %w: tensor<7xf32>",
       "%y = llm.rms_norm %x, %w {eps = 1.0e-2 : f64} : tensor<3x7xf32>, "
       "tensor<7xf32>",
       {}},
      {"rms_norm_of_heads",
       "%x: tensor<3x15xf32>, %w: tensor<5xf32>",
       "%y = llm.rms_norm %x, %w {eps = 1.0e-2 : f64, offset = 1.0 : f64} : "
       "tensor<3x15xf32>, tensor<5xf32>",
       {}},
      {"layer_norm",
       "%x: tensor<3x7xf32>, %w: tensor<7xf32>, %b: tensor<7xf32>",
       "%y = llm.layer_norm %x, %w, %b {eps = 1.0e-2 : f64} : "
       "tensor<3x7xf32>, tensor<7xf32>, tensor<7xf32>",
       {}},
      rope("halves", "rotary = 6, theta = 100.0"),
      rope("interleaved", "rotary = 6, theta = 100.0, interleaved = true"),
      rope("partial", "rotary = 4, theta = 100.0"),
      rope("linear",
           "rotary = 6, theta = 100.0, scaling = linear, factor = 4.0"),
      rope("llama3",
           "rotary = 6, theta = 100.0, scaling = llama3, factor = 8.0, "
           "lowFreqFactor = 1.0, highFreqFactor = 4.0, originalContext = 64"),
      rope("inverse", "rotary = 6, theta = 100.0", ", inverse"),
      unary("scale", "scale", "{factor = 1.7 : f64}"),
      unary("soft_cap", "soft_cap", "{cap = 1.5 : f64}"),
      unary("output_rows", "output_rows"),
      binary("add", "add"),
      binary("mul", "mul"),
      attention("plain", 2, 2, ""),
      attention("grouped", 6, 2, ""),
      attention("window", 2, 1, ", window = 2 : i64"),
      attention("softcap", 2, 1, ", softcap = 1.5 : f64"),
      // The last query head is padding: it reads the last key head.
      attention("head_offset", 5, 2,
                ", group = 3 : i64, head_offset = 2 : i64"),
      attention("all", 4, 2,
                ", window = 3 : i64, softcap = 2.0 : f64, head_offset = 1 : "
                "i64, group = 3 : i64"),
  };
  for (std::string kind : {"silu", "gelu", "gelu_tanh", "relu"}) {
    std::string attr = "{kind = #llm.activation<" + kind + ">}";
    all.push_back(unary("activation_" + kind, "activation", attr));
    all.push_back(binary("gated_" + kind, "gated_activation", attr));
  }
  return all;
}

INSTANTIATE_TEST_SUITE_P(Ops, Gradients, testing::ValuesIn(cases()),
                         [](const auto& info) { return info.param.name; });

TEST_F(GradientTest, EveryDifferentiableOpHasACase) {
  std::set<std::string> tested;
  for (const Case& c : cases())
    if (OwningOpRef<ModuleOp> module = parse(c))
      module->walk([&](llm::DifferentiableOpInterface op) {
        tested.insert(op->getName().getStringRef().str());
      });
  int64_t numOps = 0;
  for (RegisteredOperationName name : context_.getRegisteredOperations()) {
    if (!name.hasInterface<llm::DifferentiableOpInterface>())
      continue;
    ++numOps;
    EXPECT_TRUE(tested.count(name.getStringRef().str()))
        << name.getStringRef().str() << " has no case";
  }
  EXPECT_GE(numOps, 14);
}

/// Every activation kind that the dialect has is among the cases.
TEST_F(GradientTest, EveryActivationKindHasACase) {
  std::set<llm::ActivationKind> plain, gated;
  for (const Case& c : cases())
    if (OwningOpRef<ModuleOp> module = parse(c))
      module->walk([&](Operation* op) {
        if (auto activation = dyn_cast<llm::ActivationOp>(op))
          plain.insert(activation.getKind());
        if (auto activation = dyn_cast<llm::GatedActivationOp>(op))
          gated.insert(activation.getKind());
      });
  size_t numKinds = llm::getMaxEnumValForActivationKind() + 1;
  EXPECT_EQ(plain.size(), numKinds);
  EXPECT_EQ(gated.size(), numKinds);
}

/// A value that several ops, or one op twice, read gets the sum.
TEST_F(GradientTest, OfABlockAddUpOverUses) {
  OwningOpRef<ModuleOp> module = parse(
      {"block",
       "%x: tensor<3x5xf32>, %w: tensor<5x5xf32>, %n: tensor<5xf32>",
       R"(%0 = llm.rms_norm %x, %n {eps = 0.01 : f64} : tensor<3x5xf32>, tensor<5xf32>
          %1 = llm.linear %0, %w : (tensor<3x5xf32>, tensor<5x5xf32>) -> tensor<3x5xf32>
          %2 = llm.mul %1, %1 : tensor<3x5xf32>
          %3 = llm.activation %2 {kind = #llm.activation<silu>} : tensor<3x5xf32>
          %4 = llm.linear %3, %w : (tensor<3x5xf32>, tensor<5x5xf32>) -> tensor<3x5xf32>
          %5 = llm.add %4, %x : tensor<3x5xf32>
          %6 = llm.rms_norm %5, %n {eps = 0.01 : f64} : tensor<3x5xf32>, tensor<5xf32>)",
       {}});
  ASSERT_TRUE(module);
  auto forward = *module->getOps<func::FuncOp>().begin();
  auto copy = cast<func::FuncOp>(forward->clone());
  copy.setName("block");
  copy->removeAttr(llm::LlmDialect::kEntryAttr);
  copy.setPrivate();
  module->push_back(copy);
  Differentiation differentiation(*module);
  auto split = differentiation.splitBlock(copy, [](unsigned) { return true; });
  ASSERT_TRUE(succeeded(split));
  EXPECT_EQ((*split)->gradientOf.size(), 3u);
  // forward, then backward, in one entry.
  OpBuilder builder(forward);
  auto func = func::FuncOp::create(builder, forward.getLoc(), "gradient",
                                   builder.getFunctionType({}, {}));
  func->setAttr(llm::LlmDialect::kEntryAttr, builder.getStringAttr("gradient"));
  Block* body = new Block();
  func.getBody().push_back(body);
  for (Type type : forward.getArgumentTypes())
    body->addArgument(type, forward.getLoc());
  SmallVector<Value> arguments(body->args_begin(), body->args_end());
  Value dy = body->addArgument(forward.getResultTypes()[0], forward.getLoc());
  builder.setInsertionPointToEnd(body);
  auto first = func::CallOp::create(builder, forward.getLoc(),
                                    (*split)->forward, arguments);
  SmallVector<Value> operands = {dy};
  llvm::append_range(operands, arguments);
  llvm::append_range(operands, first.getResults().drop_front(1));
  auto second = func::CallOp::create(builder, forward.getLoc(),
                                     (*split)->backward, operands);
  func::ReturnOp::create(builder, forward.getLoc(), second.getResults());
  func.setFunctionType(builder.getFunctionType(
      body->getArgumentTypes(), SmallVector<Type>(second.getResultTypes())));
  nameArguments(func);
  nameResults(func, {0, 1, 2});
  compareWithQuotients(*module, {});
}

} // namespace
} // namespace llmc
