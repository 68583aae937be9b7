// SPDX-License-Identifier: Apache-2.0
// The `llm` dialect, its attributes and its interfaces. The ops are in LlmOps.td.
#ifndef LLMC_DIALECTS_LLM_LLMDIALECT_TD
#define LLMC_DIALECTS_LLM_LLMDIALECT_TD

include "mlir/IR/AttrTypeBase.td"
include "mlir/IR/EnumAttr.td"
include "mlir/IR/OpBase.td"

def Llm_Dialect : Dialect {
  let name = "llm";
  let cppNamespace = "::llmc::llm";
  let summary = "what a transformer computes";
  let description = [{
    Ops on builtin ranked tensors. Activations are row-major `[rows, C]`, weights
    `[out, in]`, `y = x * W^T`. Rows are dynamic in a model (`model` phase) and static in
    a step. Key/value caches are `memref`s, since a step changes them in place.

    A module carries the dictionary `llm.model`: `family`, `vocab_size`,
    `context_length`, `source` (checkpoint, relative to the file), `tokenizer`; one that
    has none gets the vocabulary of its logits when a step is built, and each gets `digest`,
    a number of the functions and parameters as written. After that it carries
    `llm.options`: every compile option, so that a dump compiles again
    without flags.
  }];
  let useDefaultAttributePrinterParser = 1;
  let extraClassDeclaration = [{
    static constexpr llvm::StringLiteral kModelAttr = "llm.model";
    static constexpr llvm::StringLiteral kOptionsAttr = "llm.options";
    static constexpr llvm::StringLiteral kEntryAttr = "llm.entry";
    static constexpr llvm::StringLiteral kBlockAttr = "llm.block";
  }];
  let discardableAttrs = (ins);
}

class Llm_Attr<string name, string attrMnemonic> : AttrDef<Llm_Dialect, name> {
  let mnemonic = attrMnemonic;
}

class Llm_Enum<string name, string summary, list<I32EnumCase> cases>
    : I32Enum<name, summary, cases> {
  let cppNamespace = "::llmc::llm";
}

def Llm_InitKind : Llm_Enum<"InitKind", "how a parameter starts", [
  I32EnumCase<"zeros", 0>, I32EnumCase<"ones", 1>, I32EnumCase<"normal", 2>]>;

def Llm_InitAttr : Llm_Attr<"Init", "init"> {
  let summary = "initialiser of a parameter";
  let description = [{
    `normal` draws from Philox keyed by the run's seed, the parameter's logical name and
    the element index, so that no mesh changes it. `std` is 0 for the other kinds.
    Example: `#llm.init<normal, 0.02>`.
  }];
  let parameters = (ins EnumParameter<Llm_InitKind>:$kind,
                        DefaultValuedParameter<"::llmc::llm::Real", "0.0">:$std);
  let assemblyFormat = "`<` $kind (`,` $std^)? `>`";
}

def Llm_SplitAttr : Llm_Attr<"Split", "split"> {
  let summary = "how tensor split may cut a parameter";
  let description = [{
    Dimension `dim` consists of units of `unit` elements (a head, or 1), which are never
    cut. `group` is 1, or for key/value heads the number of query heads that read one
    unit: a rank then holds the units that its own query heads read, so that units can
    be replicated.
    Example: `#llm.split<dim = 0, unit = 64, group = 3>`.
  }];
  let parameters = (ins "int64_t":$dim, DefaultValuedParameter<"int64_t", "1">:$unit,
                        DefaultValuedParameter<"int64_t", "1">:$group);
  let assemblyFormat = "`<` struct(params) `>`";
}

def Llm_RopeScalingKind : Llm_Enum<"RopeScalingKind", "rotary scaling", [
  I32EnumCase<"none", 0>, I32EnumCase<"linear", 1>, I32EnumCase<"llama3", 2>]>;

def Llm_RopeAttr : Llm_Attr<"Rope", "rope_params"> {
  let summary = "rotary embedding parameters";
  let description = [{
    The first `rotary` elements of each head turn by position * theta^(-2i/rotary).
    `interleaved` pairs (2i, 2i+1) instead of (i, i + rotary/2). Scaling `linear` divides
    positions by `factor`; `llama3` scales low frequencies (Llama 3.1 report).
    Example: `#llm.rope_params<rotary = 64, theta = 1.0e+04>`.
  }];
  let parameters = (ins
    "int64_t":$rotary, "::llmc::llm::Real":$theta,
    DefaultValuedParameter<"bool", "false">:$interleaved,
    DefaultValuedParameter<"::llmc::llm::RopeScalingKind", "::llmc::llm::RopeScalingKind::none">:$scaling,
    DefaultValuedParameter<"::llmc::llm::Real", "1.0">:$factor,
    DefaultValuedParameter<"::llmc::llm::Real", "1.0">:$lowFreqFactor,
    DefaultValuedParameter<"::llmc::llm::Real", "4.0">:$highFreqFactor,
    DefaultValuedParameter<"int64_t", "8192">:$originalContext);
  let assemblyFormat = "`<` struct(params) `>`";
}

def Llm_ActivationKind : Llm_Enum<"ActivationKind", "activation function", [
  I32EnumCase<"silu", 0>, I32EnumCase<"gelu", 1>, I32EnumCase<"gelu_tanh", 2>,
  I32EnumCase<"relu", 3>]>;
def Llm_ActivationAttr : EnumAttr<Llm_Dialect, Llm_ActivationKind, "activation"> {
  let assemblyFormat = "`<` $value `>`";
}

def Llm_PreferenceLossKind : Llm_Enum<"PreferenceLossKind", "loss of a pair of sequences", [
  I32EnumCase<"sigmoid", 0>, I32EnumCase<"hinge", 1>, I32EnumCase<"ipo", 2>]>;
def Llm_PreferenceLossAttr : EnumAttr<Llm_Dialect, Llm_PreferenceLossKind, "preference"> {
  let assemblyFormat = "$value";
}

def Llm_StateRole : Llm_Enum<"StateRole", "what a state is for", [
  I32EnumCase<"gradient", 0>, I32EnumCase<"moment1", 1>, I32EnumCase<"moment2", 2>,
  I32EnumCase<"master", 3>, I32EnumCase<"scalar", 4>]>;
def Llm_StateRoleAttr : EnumAttr<Llm_Dialect, Llm_StateRole, "role"> {
  let assemblyFormat = "$value";
}

// Interfaces.

def Llm_DifferentiableOpInterface : OpInterface<"DifferentiableOpInterface"> {
  let cppNamespace = "::llmc::llm";
  let description = [{
    Builds the ops that compute the gradients of an op's operands from those of its
    results. They may read the op's operands and results; which of these are saved and
    which computed again is decided later.
  }];
  let methods = [
    InterfaceMethod<"Builds gradients of the operands that are needed.",
      "void", "buildGradients", (ins "::llmc::llm::GradientRequest &":$request)>];
}

def Llm_ShardingRuleInterface : OpInterface<"ShardingRuleInterface"> {
  let cppNamespace = "::llmc::llm";
  let description = [{
    States which result dimension follows which operand dimension. Tensor split
    propagates and partitions by this rule alone; an op without it stops the split with
    an error.
  }];
  let methods = [
    InterfaceMethod<"Factors of every operand and result dimension.",
      "::llmc::llm::ShardingRule", "getShardingRule">];
}

def Llm_CostInterface : OpInterface<"CostInterface"> {
  let cppNamespace = "::llmc::llm";
  let description = [{Cost of one execution on static shapes.}];
  let methods = [
    InterfaceMethod<"Floating-point operations; a multiply-add counts two.",
      "int64_t", "getFlops">,
    InterfaceMethod<"Bytes of operands and results, each read or written once.",
      "int64_t", "getBytes", (ins), "", [{
        return ::llmc::llm::operandAndResultBytes($_op);
      }]>];
}

#endif
