// SPDX-License-Identifier: Apache-2.0
// The ops of the `llm` dialect. Constraints carry labels (C1).. in the text, in the
// verifier's messages and in tests/dialects/llm/invalid.mlir.
#ifndef LLMC_DIALECTS_LLM_LLMOPS_TD
#define LLMC_DIALECTS_LLM_LLMOPS_TD

include "dialects/llm/LlmDialect.td"
include "mlir/IR/SymbolInterfaces.td"
include "mlir/Interfaces/InferTypeOpInterface.td"
include "mlir/Interfaces/SideEffectInterfaces.td"

class Llm_Op<string opMnemonic, list<Trait> traits = []>
    : Op<Llm_Dialect, opMnemonic, traits>;

// A pure op on tensors, with a sharding rule and a cost.
class Llm_ComputeOp<string opMnemonic, list<Trait> traits = []>
    : Llm_Op<opMnemonic, !listconcat([Pure,
        DeclareOpInterfaceMethods<Llm_ShardingRuleInterface>,
        DeclareOpInterfaceMethods<Llm_CostInterface, ["getFlops"]>], traits)>;

// An op of a model: it has a gradient.
class Llm_DifferentiableOp<string opMnemonic, list<Trait> traits = []>
    : Llm_ComputeOp<opMnemonic,
        !listconcat([DeclareOpInterfaceMethods<Llm_DifferentiableOpInterface>], traits)>;

def Llm_Activations : RankedTensorOf<[F32, BF16]>;
def Llm_Ids : RankedTensorOf<[I32]>;

//===-- parameters and caches ---------------------------------------------===//

def Llm_ParamOp : Llm_Op<"param", [Symbol]> {
  let summary = "declare a parameter";
  let description = [{
    A tensor of the model, in a weight set (`model`, `reference`, `draft`). `source` names
    the tensor of the checkpoint it comes from; `transposed` says that the checkpoint
    holds it as [in, out]. Weights stay in their files. `type` is the logical type of the
    whole tensor; after tensor split `local_type` is what one rank computes with and
    `slice` which part of the logical tensor that is. A tied parameter is one `param` with
    several `get_param`.

    (C1) the type is a static f32 or bf16 tensor of rank 1 or 2. (C2) the split dimension
    exists and is a whole number of units.

    Example: `llm.param @layers.0.q : tensor<576x576xf32> source "blk.0.attn_q.weight"
    split #llm.split<dim = 0, unit = 64> init #llm.init<normal, 0.02>`
  }];
  let arguments = (ins SymbolNameAttr:$sym_name, TypeAttrOf<Llm_Activations>:$type,
    OptionalAttr<StrAttr>:$source, UnitAttr:$transposed,
    OptionalAttr<Llm_SplitAttr>:$split, OptionalAttr<Llm_InitAttr>:$init,
    OptionalAttr<StrAttr>:$weight_set, OptionalAttr<StrAttr>:$storage,
    OptionalAttr<TypeAttrOf<Llm_Activations>>:$local_type,
    OptionalAttr<AnyAttr>:$slice, OptionalAttr<AnyAttr>:$shard);
  let assemblyFormat = [{
    $sym_name `:` $type (`source` $source^)? (`transposed` $transposed^)?
    (`split` $split^)? (`init` $init^)? (`weight_set` $weight_set^)?
    (`storage` $storage^)? (`local` $local_type^)? (`slice` $slice^)?
    (`shard` $shard^)? attr-dict
  }];
  let hasVerifier = 1;
  let extraClassDeclaration = [{
    /// What one rank computes with: local_type if set, else type.
    ::mlir::RankedTensorType getComputeType() {
      return ::llvm::cast<::mlir::RankedTensorType>(getLocalType().value_or(getType()));
    }
  }];
}

def Llm_GetParamOp : Llm_Op<"get_param", [Pure,
    DeclareOpInterfaceMethods<SymbolUserOpInterface>]> {
  let summary = "read a parameter";
  let description = [{
    (C1) the symbol is a `param`. (C2) the result is its `type`, its `local_type`, or
    the flat shard of it that ZeRO leaves on a rank.
    Example: `%w = llm.get_param @layers.0.q : tensor<576x576xf32>`
  }];
  let arguments = (ins FlatSymbolRefAttr:$param);
  let results = (outs Llm_Activations:$result);
  let assemblyFormat = "$param attr-dict `:` type($result)";
}

def Llm_CacheOp : Llm_Op<"cache", [Symbol]> {
  let summary = "declare a key or value cache";
  let description = [{
    Pages of a paged cache of one layer: `[pages, page tokens, KV, D]`, logical order
    (kernels lay a page out as they like). `split` says how tensor split cuts the heads.
    (C1) a static memref of rank 4.
    Example: `llm.cache @layers.0.key : memref<32x64x3x64xbf16> split
    #llm.split<dim = 2, group = 3>`
  }];
  let arguments = (ins SymbolNameAttr:$sym_name, TypeAttrOf<AnyMemRef>:$type,
    OptionalAttr<Llm_SplitAttr>:$split, UnitAttr:$values);
  let assemblyFormat = [{
    $sym_name `:` $type (`values` $values^)? (`split` $split^)? attr-dict
  }];
  let hasVerifier = 1;
}

def Llm_GetCacheOp : Llm_Op<"get_cache", [Pure,
    DeclareOpInterfaceMethods<SymbolUserOpInterface>]> {
  let summary = "refer to a cache";
  let description = [{(C1) the symbol is a `cache` of the result's type.}];
  let arguments = (ins FlatSymbolRefAttr:$cache);
  let results = (outs AnyMemRef:$result);
  let assemblyFormat = "$cache attr-dict `:` type($result)";
}

//===-- compute -------------------------------------------------------------===//

def Llm_EmbeddingOp : Llm_DifferentiableOp<"embedding"> {
  let summary = "look rows of a table up";
  let description = [{
    ids `[S, R]`, table `[V, C]`: result `[S*R, C]` in f32. An id outside the table gives
    zeros: after a split of V the table holds ids from `vocab_begin` on (one value for each
    coordinate), and the sum over ranks is the whole.

      ids [1 2], table rank 0 [a b], rank 1 (vocab_begin 2) [c]   ->   rank 0 [b 0], rank 1 [0 c]

    (C1) shapes agree.
    Example: `%x = llm.embedding %ids, %w : (tensor<?x?xi32>, tensor<512x64xf32>) -> tensor<?x64xf32>`
  }];
  let arguments = (ins Llm_Ids:$ids, Llm_Activations:$table,
                       OptionalAttr<AnyAttr>:$vocab_begin);
  let results = (outs Llm_Activations:$result);
  let assemblyFormat = "$ids `,` $table attr-dict `:` functional-type(operands, results)";
  let hasVerifier = 1;
}

def Llm_LinearOp : Llm_DifferentiableOp<"linear"> {
  let summary = "matrix product y = x * W^T";
  let description = [{
    x `[rows, K]`, weight `[N, K]`: result `[rows, N]` in f32; each element sums over k in
    ascending order. x is f32, or bf16 by `round`. A bias is an `add_bias`. (C1) shapes agree.
    Example: `%y = llm.linear %x, %w : (tensor<?x64xf32>, tensor<172x64xf32>) -> tensor<?x172xf32>`
  }];
  let arguments = (ins Llm_Activations:$x, Llm_Activations:$weight);
  let results = (outs Llm_Activations:$result);
  let assemblyFormat = "$x `,` $weight attr-dict `:` functional-type(operands, results)";
  let hasVerifier = 1;
}

def Llm_AddBiasOp : Llm_DifferentiableOp<"add_bias", [AllTypesMatch<["x", "result"]>]> {
  let summary = "add a vector to each row";
  let description = [{
    x `[rows, C]`, bias `[C]`. (C1) widths agree.
    Example: `%z = llm.add_bias %y, %b : tensor<?x64xf32>, tensor<64xf32>`
  }];
  let arguments = (ins Llm_Activations:$x, Llm_Activations:$bias);
  let results = (outs Llm_Activations:$result);
  let assemblyFormat = "$x `,` $bias attr-dict `:` type($x) `,` type($bias)";
  let hasVerifier = 1;
}

def Llm_RmsNormOp : Llm_DifferentiableOp<"rms_norm", [AllTypesMatch<["x", "result"]>]> {
  let summary = "root-mean-square norm of each row, or of each head of it";
  let description = [{
    y = x / sqrt(mean(x^2) + eps) * (weight + offset), over runs of C = width(weight):
    the whole row, or its heads (query/key norm). offset is 1 for Gemma, else 0.
    (C1) the row is a whole number of widths.
    Source: Zhang and Sennrich 2019.
    Example: `%y = llm.rms_norm %x, %w {eps = 1.0e-5 : f64} : tensor<?x64xf32>, tensor<64xf32>`
  }];
  let arguments = (ins Llm_Activations:$x, Llm_Activations:$weight, F64Attr:$eps,
                       DefaultValuedAttr<F64Attr, "0.0">:$offset);
  let results = (outs Llm_Activations:$result);
  let assemblyFormat = "$x `,` $weight attr-dict `:` type($x) `,` type($weight)";
  let hasVerifier = 1;
}

def Llm_LayerNormOp : Llm_DifferentiableOp<"layer_norm", [AllTypesMatch<["x", "result"]>]> {
  let summary = "layer norm of each row";
  let description = [{
    y = (x - mean) / sqrt(var + eps) * weight + bias; var is the mean of squared
    differences. (C1) widths agree. Source: Ba et al. 2016.
    Example: `%y = llm.layer_norm %x, %w, %b {eps = 1.0e-5 : f64} : tensor<?x64xf32>, tensor<64xf32>, tensor<64xf32>`
  }];
  let arguments = (ins Llm_Activations:$x, Llm_Activations:$weight,
                       Llm_Activations:$bias, F64Attr:$eps);
  let results = (outs Llm_Activations:$result);
  let assemblyFormat =
    "$x `,` $weight `,` $bias attr-dict `:` type($x) `,` type($weight)  `,` type($bias)";
  let hasVerifier = 1;
}

def Llm_RopeOp : Llm_DifferentiableOp<"rope", [AllTypesMatch<["x", "result"]>]> {
  let summary = "rotary position embedding of each head";
  let description = [{
    x `[rows, heads * head_dim]`, positions `[S, R]`, rows = S * R. `inverse` turns back, which
    is the gradient. (C1) the row is a whole number of heads. (C2) 0 < rotary <= head_dim, even.
    Source: Su et al. 2021.
    Example: `%y = llm.rope %x, %positions {head_dim = 16 : i64, params =
    #llm.rope_params<rotary = 16, theta = 1.0e+04>} : tensor<?x64xf32>, tensor<?x?xi32>`
  }];
  let arguments = (ins Llm_Activations:$x, Llm_Ids:$positions, I64Attr:$head_dim,
                       Llm_RopeAttr:$params, UnitAttr:$inverse);
  let results = (outs Llm_Activations:$result);
  let assemblyFormat = "$x `,` $positions attr-dict `:` type($x) `,` type($positions)";
  let hasVerifier = 1;
}

class Llm_ElementwiseUnary<string opMnemonic>
    : Llm_DifferentiableOp<opMnemonic, [AllTypesMatch<["x", "result"]>]> {
  let results = (outs Llm_Activations:$result);
  let assemblyFormat = "$x attr-dict `:` type($x)";
}

def Llm_ActivationOp : Llm_ElementwiseUnary<"activation"> {
  let summary = "activation function of each element";
  let description = [{
    silu(x) = x / (1 + exp(-x)); gelu(x) = x/2 (1 + erf(x/sqrt 2)); gelu_tanh: its tanh
    form (Hendrycks and Gimpel 2016); relu.
    Example: `%y = llm.activation %x {kind = #llm.activation<silu>} : tensor<?x172xf32>`
  }];
  let arguments = (ins Llm_Activations:$x, Llm_ActivationAttr:$kind);
}

def Llm_ScaleOp : Llm_ElementwiseUnary<"scale"> {
  let summary = "multiply each element by a constant";
  let description = [{
    The factor is rounded to f32 first.
    Example: `%y = llm.scale %x {factor = 8.0 : f64} : tensor<?x64xf32>`
  }];
  let arguments = (ins Llm_Activations:$x, F64Attr:$factor);
}

def Llm_SoftCapOp : Llm_ElementwiseUnary<"soft_cap"> {
  let summary = "cap * tanh(x / cap)";
  let description = [{
    Keeps logits inside (-cap, cap). Source: Gemma 2 report, 2024.
    Example: `%y = llm.soft_cap %x {cap = 30.0 : f64} : tensor<?x256xf32>`
  }];
  let arguments = (ins Llm_Activations:$x, F64Attr:$cap);
}

def Llm_RoundOp : Llm_ComputeOp<"round", [SameOperandsAndResultShape]> {
  let summary = "round each element to bf16, to the nearest, ties to even";
  let description = [{
    What several products with bf16 weights read is rounded once. In the phase `kernels` only.
    Example: `%y = llm.round %x : (tensor<128x64xf32>) -> tensor<128x64xbf16>`
  }];
  let arguments = (ins RankedTensorOf<[F32]>:$x);
  let results = (outs RankedTensorOf<[BF16]>:$result);
  let assemblyFormat = "$x attr-dict `:` functional-type(operands, results)";
}

class Llm_ElementwiseBinary<string opMnemonic>
    : Llm_DifferentiableOp<opMnemonic, [AllTypesMatch<["a", "b", "result"]>]> {
  let arguments = (ins Llm_Activations:$a, Llm_Activations:$b);
  let results = (outs Llm_Activations:$result);
  let assemblyFormat = "$a `,` $b attr-dict `:` type($a)";
}

def Llm_AddOp : Llm_ElementwiseBinary<"add"> {
  let summary = "a + b, element by element";
  let description = [{
    Residual connections. Example: `%y = llm.add %x, %r : tensor<?x64xf32>`
  }];
}

def Llm_MulOp : Llm_ElementwiseBinary<"mul"> {
  let summary = "a * b, element by element";
  let description = [{
    A gate that is not followed by an activation. Example: `%y = llm.mul %a, %b : tensor<?x64xf32>`
  }];
}

def Llm_GatedActivationOp : Llm_DifferentiableOp<"gated_activation",
    [AllTypesMatch<["gate", "up", "result"]>]> {
  let summary = "activation(gate) * up";
  let description = [{
    Source: Shazeer 2020 (GLU variants).
    Example: `%y = llm.gated_activation %gate, %up {kind = #llm.activation<silu>} : tensor<?x172xf32>`
  }];
  let arguments = (ins Llm_Activations:$gate, Llm_Activations:$up,
                       Llm_ActivationAttr:$kind);
  let results = (outs Llm_Activations:$result);
  let assemblyFormat = "$gate `,` $up attr-dict `:` type($gate)";
}

def Llm_AttentionOp : Llm_ComputeOp<"attention",
    [AllTypesMatch<["q", "result"]>, AllTypesMatch<["k", "v"]>]> {
  let summary = "causal grouped-query attention inside the given rows";
  let description = [{
    q `[rows, H*D]`, k and v `[rows, KV*D]`, positions `[S, R]`. A row at position p of a
    sequence sees the rows of the same sequence at positions max(0, p-window+1)..p
    (window 0: all up to p). score = scale * q.k, then softcap * tanh(score / softcap)
    unless softcap is 0. Lives in the model; a step replaces it by `kv_append` and
    `cached_attention`. (C1) widths are whole numbers of heads and H % KV = 0.
    Example: `%o = llm.attention %q, %k, %v, %positions {head_dim = 16 : i64, scale = 0.25 :
    f64} : tensor<?x64xf32>, tensor<?x32xf32>, tensor<?x?xi32>`
  }];
  let arguments = (ins Llm_Activations:$q, Llm_Activations:$k, Llm_Activations:$v,
    Llm_Ids:$positions, I64Attr:$head_dim, F64Attr:$scale,
    DefaultValuedAttr<I64Attr, "0">:$window, DefaultValuedAttr<F64Attr, "0.0">:$softcap);
  let results = (outs Llm_Activations:$result);
  let assemblyFormat = [{
    $q `,` $k `,` $v `,` $positions attr-dict `:` type($q) `,` type($k) `,` type($positions)
  }];
  let hasVerifier = 1;
  let extraClassDeclaration = [{
    int64_t getNumHeads() { return getQ().getType().getShape().back() / getHeadDim(); }
    int64_t getNumKvHeads() { return getK().getType().getShape().back() / getHeadDim(); }
  }];
}

def Llm_OutputRowsOp : Llm_ElementwiseUnary<"output_rows"> {
  let summary = "mark the rows that reach the output head";
  let description = [{
    Identity in the model. A step replaces it by `select_rows` (prefill and decode: the
    last row of each sequence) or drops it (scoring: all rows).
  }];
  let arguments = (ins Llm_Activations:$x);
}

//===-- steps over a cache ----------------------------------------------------===//

def Llm_KvAppendOp : Llm_Op<"kv_append",
    [DeclareOpInterfaceMethods<Llm_ShardingRuleInterface>]> {
  let summary = "write rows into a cache at their positions";
  let description = [{
    x `[rows, KV*D]`, positions `[S, R]`, block_table `[S, pages]`: position p of sequence s
    lies in page block_table[s, p / 64]. Position -1 writes nothing. Rounds once to
    the cache's element type. (C1) widths agree with the cache.

      positions [64 65 -1], block_table [2 0]   ->   page 0, tokens 0 and 1

    Example: `llm.kv_append %keys, %k, %positions, %table : memref<4x64x2x16xf32>, tensor<3x32xf32>, tensor<1x3xi32>, tensor<1x2xi32>`
  }];
  let arguments = (ins Arg<AnyMemRef, "cache", [MemWrite]>:$cache, Llm_Activations:$x,
                       Llm_Ids:$positions, Llm_Ids:$block_table);
  let assemblyFormat = [{
    $cache `,` $x `,` $positions `,` $block_table attr-dict `:` type(operands)
  }];
  let hasVerifier = 1;
}

def Llm_CachedAttentionOp : Llm_Op<"cached_attention", [AllTypesMatch<["q", "result"]>,
    DeclareOpInterfaceMethods<Llm_ShardingRuleInterface>,
    DeclareOpInterfaceMethods<Llm_CostInterface, ["getFlops"]>]> {
  let summary = "causal grouped-query attention over a cache";
  let description = [{
    As `attention`, with keys and values of the cache, which already holds these rows. Query
    head h reads key/value head (h + head_offset) / group; head_offset may differ by
    coordinate after a tensor split, and a padded head reads the last one. A row at
    position -1 sees nothing and gives zeros. (C1) widths are whole numbers of heads.

      9 query and 3 key/value heads on 2 ranks: rank 1 has query heads 5..8 and key/value
      heads 1 and 2, group 3, head_offset 2   ->   its heads read 0, 1, 1, 1 of its two
  }];
  let arguments = (ins Llm_Activations:$q, Arg<AnyMemRef, "keys", [MemRead]>:$keys,
    Arg<AnyMemRef, "values", [MemRead]>:$values, Llm_Ids:$positions,
    Llm_Ids:$block_table, I64Attr:$head_dim, I64Attr:$group, F64Attr:$scale,
    DefaultValuedAttr<I64Attr, "0">:$window, DefaultValuedAttr<F64Attr, "0.0">:$softcap,
    OptionalAttr<AnyAttr>:$head_offset);
  let results = (outs Llm_Activations:$result);
  let assemblyFormat = [{
    $q `,` $keys `,` $values `,` $positions `,` $block_table attr-dict `:` functional-type(operands, results)
  }];
  let hasVerifier = 1;
}

def Llm_SelectRowsOp : Llm_ComputeOp<"select_rows"> {
  let summary = "take the last valid row of each sequence";
  let description = [{
    x `[S*R, C]`, valid_rows `[S]`: result `[S, C]`, row s is x[s*R + max(1, valid_rows[s]) - 1].

      x [a b c  d e f], valid_rows [2 3]   ->   [b f]

    (C1) shapes agree.
    Example: `%y = llm.select_rows %x, %valid : (tensor<6x64xf32>, tensor<2xi32>) -> tensor<2x64xf32>`
  }];
  let arguments = (ins Llm_Activations:$x, Llm_Ids:$valid_rows);
  let results = (outs Llm_Activations:$result);
  let assemblyFormat = "$x `,` $valid_rows attr-dict `:` functional-type(operands, results)";
  let hasVerifier = 1;
}

def Llm_SampleOp : Llm_Op<"sample", [Pure,
    DeclareOpInterfaceMethods<Llm_ShardingRuleInterface>]> {
  let summary = "draw the next token of each sequence";
  let description = [{
    logits `[S, V]`; the other operands `[S]`: temperature (0: the lowest index of the largest
    logit), top_k (0: all), top_p (1: all), seed (i64), sequence (its index in the run),
    positions `[S]` of the last row. Philox4x32-10 keyed by seed, counter (sequence, position).
    (C1) shapes agree.
  }];
  let arguments = (ins Llm_Activations:$logits, RankedTensorOf<[F32]>:$temperature,
    Llm_Ids:$top_k, RankedTensorOf<[F32]>:$top_p, RankedTensorOf<[I64]>:$seed,
    Llm_Ids:$sequence, Llm_Ids:$positions);
  let results = (outs Llm_Ids:$result);
  let assemblyFormat = [{
    $logits `,` $temperature `,` $top_k `,` $top_p `,` $seed `,` $sequence `,` $positions
    attr-dict `:` functional-type(operands, results)
  }];
  let hasVerifier = 1;
}

include "dialects/llm/TrainingOps.td"

#endif
