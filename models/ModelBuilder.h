// SPDX-License-Identifier: Apache-2.0
// Writes the `model` phase of one model: parameters, block functions, forward
// function. A family's file calls it line by line, as its paper would be read.
// Each parameter is declared where it is first used; a repeated layer becomes
// one function, its parameters become operands. It reads no file and knows no
// family.
#pragma once

#include "models/ModelConfig.h"

#include "mlir/IR/BuiltinOps.h"
#include "mlir/IR/OwningOpRef.h"
#include "mlir/IR/Value.h"

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>

namespace llmc {

/// How tensor split may cut a weight [out, in] and its bias [out].
enum class Split {
  None,
  Columns,       // outputs, one by one
  Rows,          // inputs, one by one
  QueryHeads,    // outputs, a query head at a time
  KeyValueHeads, // outputs, a key/value head at a time
  HeadInputs,    // inputs, a query head at a time
};

struct LinearOptions {
  int64_t outputs = 0;
  Split split = Split::None;
  bool hasBias = false;
  bool isTransposed = false; // the checkpoint holds [in, out]
  double initStd = 0;        // 0: the model's
  /// A fused tensor of the checkpoint and the first of its rows that this one
  /// takes.
  std::optional<std::pair<std::string, int64_t>> fused = std::nullopt;
};

/// Where the checkpoint keeps a parameter, by logical name; the same name if
/// there is nothing to say.
using SourceNames = std::function<std::string(const std::string&)>;

class ModelBuilder {
public:
  /// Starts a module in `context`. Without `sourceNames` no parameter has a
  /// source.
  ModelBuilder(mlir::MLIRContext& context, const ModelConfig& config,
               SourceNames sourceNames);
  ~ModelBuilder();

  /// Names are those of parameters without ".weight", relative to the block's
  /// prefix inside a block. Values are activations [rows, width].

  /// Rows of a table [V, C] for the input ids.
  mlir::Value embedding(const std::string& name);
  /// Rows of a table [context, C] for the positions.
  mlir::Value positionEmbedding(const std::string& name);
  mlir::Value rmsNorm(const std::string& name, mlir::Value x,
                      double offset = 0);
  /// Over each head of `x`.
  mlir::Value headNorm(const std::string& name, mlir::Value x,
                       double offset = 0);
  mlir::Value layerNorm(const std::string& name, mlir::Value x);
  mlir::Value linear(const std::string& name, mlir::Value x,
                     const LinearOptions& options);
  mlir::Value rope(mlir::Value x, const RopeConfig& rope);
  /// `window` 0: none.
  mlir::Value attention(mlir::Value q, mlir::Value k, mlir::Value v,
                        int64_t window);
  mlir::Value gatedActivation(mlir::Value gate, mlir::Value up);
  mlir::Value activation(mlir::Value x);
  mlir::Value add(mlir::Value a, mlir::Value b);
  mlir::Value scale(mlir::Value x, double factor);

  /// Calls the block function `function` for layer `layer`, whose parameters
  /// begin with `prefix`. The first call of each function builds it with
  /// `body`.
  mlir::Value block(const std::string& function, int64_t layer,
                    const std::string& prefix, mlir::Value x,
                    const std::function<mlir::Value(mlir::Value x)>& body);

  /// Marks the rows that reach the head. Before the final norm.
  mlir::Value outputRows(mlir::Value x);
  /// Ends the forward function with the logits; tied to `embedding` if the
  /// config says so, else `name`.
  void head(const std::string& name, const std::string& embedding,
            mlir::Value x);

  /// Hands the module over.
  mlir::OwningOpRef<mlir::ModuleOp> take();

private:
  struct State;
  std::unique_ptr<State> state_;
};

} // namespace llmc
