// SPDX-License-Identifier: Apache-2.0
// The ops that only a training step has: gradients of the ops of a model, the loss,
// and the optimizer. Conventions as in LlmOps.td; the whole is described in
// docs/design/training.md.
#ifndef LLMC_DIALECTS_LLM_TRAININGOPS_TD
#define LLMC_DIALECTS_LLM_TRAININGOPS_TD

//===-- states ------------------------------------------------------------------===//

def Llm_StateOp : Llm_Op<"state", [Symbol,
    DeclareOpInterfaceMethods<SymbolUserOpInterface>]> {
  let summary = "declare memory that outlives a step";
  let description = [{
    `role` is gradient, moment1, moment2, master (f32 weights under bf16 compute) or
    scalar. `param` names the parameter that the first four belong to; their layout is that
    of the f32 parameter. `shard` as on `param`: one run of the flattened tensor is held.
    (C1) a static tensor. (C2) only a scalar belongs to no parameter. (C3) that is
    a `param`.
    Example: `llm.state @layers.0.q.gradient : tensor<576x576xf32> role gradient of @layers.0.q`
  }];
  let arguments = (ins SymbolNameAttr:$sym_name, TypeAttrOf<AnyRankedTensor>:$type,
    Llm_StateRoleAttr:$role, OptionalAttr<FlatSymbolRefAttr>:$param,
    OptionalAttr<AnyAttr>:$shard);
  let assemblyFormat = [{
    $sym_name `:` $type `role` $role (`of` $param^)? (`shard` $shard^)? attr-dict
  }];
  let hasVerifier = 1;
}

class Llm_StateUserOp<string opMnemonic, list<Trait> traits = []>
    : Llm_Op<opMnemonic, !listconcat([DeclareOpInterfaceMethods<SymbolUserOpInterface>], traits)>;

def Llm_ReadStateOp : Llm_StateUserOp<"read_state", [MemoryEffects<[MemRead]>]> {
  let summary = "the value of a state";
  let description = [{
    Names the memory, copies nothing: a collective whose only operand user it is works in
    place. (C1) the symbol is a `state` of the result's type.
    Example: `%g = llm.read_state @layers.0.q.gradient : tensor<576x576xf32>`
  }];
  let arguments = (ins FlatSymbolRefAttr:$state);
  let results = (outs AnyRankedTensor:$result);
  let assemblyFormat = "$state attr-dict `:` type($result)";
}

def Llm_AccumulateOp : Llm_StateUserOp<"accumulate", [MemoryEffects<[MemRead, MemWrite]>]> {
  let summary = "add a value to a state";
  let description = [{
    Sums of micro-batches, in their order. (C1) the symbol is a `state` of the operand's type.
    Example: `llm.accumulate %dw into @layers.0.q.gradient : tensor<576x576xf32>`
  }];
  let arguments = (ins AnyRankedTensor:$x, FlatSymbolRefAttr:$state);
  let assemblyFormat = "$x `into` $state attr-dict `:` type($x)";
}

def Llm_ZeroStateOp : Llm_StateUserOp<"zero_state", [MemoryEffects<[MemWrite]>]> {
  let summary = "set a state to zero";
  let description = [{
    (C1) the symbol is a `state`. Example: `llm.zero_state @layers.0.q.gradient`
  }];
  let arguments = (ins FlatSymbolRefAttr:$state);
  let assemblyFormat = "$state attr-dict";
}

//===-- gradients -----------------------------------------------------------------===//

def Llm_LinearInputGradientOp : Llm_ComputeOp<"linear_input_gradient"> {
  let summary = "dx = dy * W";
  let description = [{
    dy `[rows, N]`, weight `[N, K]`: result `[rows, K]`; each element sums over n in
    ascending order. (C1) shapes agree.
    Example: `%dx = llm.linear_input_gradient %dy, %w : (tensor<6x172xf32>, tensor<172x64xf32>) -> tensor<6x64xf32>`
  }];
  let arguments = (ins Llm_Activations:$dy, Llm_Activations:$weight);
  let results = (outs Llm_Activations:$result);
  let assemblyFormat = "$dy `,` $weight attr-dict `:` functional-type(operands, results)";
  let hasVerifier = 1;
}

def Llm_LinearWeightGradientOp : Llm_ComputeOp<"linear_weight_gradient"> {
  let summary = "dW = dy^T * x";
  let description = [{
    dy `[rows, N]`, x `[rows, K]`: result `[N, K]` in f32; each element sums over rows in
    ascending order. (C1) shapes agree.
    Example: `%dw = llm.linear_weight_gradient %dy, %x : (tensor<6x172xf32>, tensor<6x64xf32>) -> tensor<172x64xf32>`
  }];
  let arguments = (ins Llm_Activations:$dy, Llm_Activations:$x);
  let results = (outs Llm_Activations:$result);
  let assemblyFormat = "$dy `,` $x attr-dict `:` functional-type(operands, results)";
  let hasVerifier = 1;
}

def Llm_SumRowsOp : Llm_ComputeOp<"sum_rows"> {
  let summary = "sum of all rows, or of all heads of all rows";
  let description = [{
    x `[rows, C]`: result `[W]`; rows in ascending order, inside a row its C / W runs.
    Gradients of biases and norm weights. (C1) C is a whole number of W.

      x [1 2 3 4], [5 6 7 8] to width 2   ->   [16 20]

    Example: `%db = llm.sum_rows %dy : (tensor<6x64xf32>) -> tensor<64xf32>`
  }];
  let arguments = (ins Llm_Activations:$x);
  let results = (outs Llm_Activations:$result);
  let assemblyFormat = "$x attr-dict `:` functional-type(operands, results)";
  let hasVerifier = 1;
}

def Llm_EmbeddingGradientOp : Llm_ComputeOp<"embedding_gradient"> {
  let summary = "add rows at the ids that they were looked up for";
  let description = [{
    ids `[S, R]`, dy `[S*R, C]`: result `[V, C]` in f32, rows in ascending order; ids outside the
    table are ignored (`vocab_begin` as in `embedding`). `param` is the table, for its split.
    (C1) widths agree, rows are those of ids.
    Example: `%dt = llm.embedding_gradient %ids, %dy : (tensor<2x3xi32>, tensor<6x64xf32>) -> tensor<512x64xf32>`
  }];
  let arguments = (ins Llm_Ids:$ids, Llm_Activations:$dy, OptionalAttr<FlatSymbolRefAttr>:$param,
                       OptionalAttr<AnyAttr>:$vocab_begin, OptionalAttr<AnyAttr>:$vocab_count);
  let results = (outs Llm_Activations:$result);
  let assemblyFormat = "$ids `,` $dy attr-dict `:` functional-type(operands, results)";
  let hasVerifier = 1;
}

def Llm_RmsNormGradientOp : Llm_ComputeOp<"rms_norm_gradient",
    [AllTypesMatch<["dy", "x", "dx", "scaled"]>]> {
  let summary = "gradient of rms_norm";
  let description = [{
    With r = 1 / sqrt(mean(x^2) + eps) and g = dy * (weight + offset) over runs of the
    weight's width: dx = r * (g - x * r^2 * mean(g * x)); scaled = dy * x * r, whose sum
    over rows is the weight's gradient. (C1) rows are whole widths of the weight.
    Example: `%dx, %s = llm.rms_norm_gradient %dy, %x, %w {eps = 1.0e-5 : f64} : tensor<6x64xf32>, tensor<64xf32>`
  }];
  let arguments = (ins Llm_Activations:$dy, Llm_Activations:$x, Llm_Activations:$weight,
                       F64Attr:$eps, DefaultValuedAttr<F64Attr, "0.0">:$offset);
  let results = (outs Llm_Activations:$dx, Llm_Activations:$scaled);
  let assemblyFormat = "$dy `,` $x `,` $weight attr-dict `:` type($dy) `,` type($weight)";
  let hasVerifier = 1;
}

def Llm_LayerNormGradientOp : Llm_ComputeOp<"layer_norm_gradient",
    [AllTypesMatch<["dy", "x", "dx", "scaled"]>]> {
  let summary = "gradient of layer_norm";
  let description = [{
    With h = (x - mean) * r, r = 1 / sqrt(var + eps) and g = dy * weight:
    dx = r * (g - mean(g) - h * mean(g * h)); scaled = dy * h, whose sum over rows is the
    weight's gradient (the bias's is the sum of dy). (C1) widths agree.
    Example: `%dx, %s = llm.layer_norm_gradient %dy, %x, %w {eps = 1.0e-5 : f64} : tensor<6x64xf32>, tensor<64xf32>`
  }];
  let arguments = (ins Llm_Activations:$dy, Llm_Activations:$x, Llm_Activations:$weight,
                       F64Attr:$eps);
  let results = (outs Llm_Activations:$dx, Llm_Activations:$scaled);
  let assemblyFormat = "$dy `,` $x `,` $weight attr-dict `:` type($dy) `,` type($weight)";
  let hasVerifier = 1;
}

def Llm_ActivationGradientOp : Llm_ComputeOp<"activation_gradient",
    [AllTypesMatch<["dy", "x", "result"]>]> {
  let summary = "dy * activation'(x)";
  let description = [{
    Example: `%dx = llm.activation_gradient %dy, %x {kind = #llm.activation<silu>} : tensor<6x172xf32>`
  }];
  let arguments = (ins Llm_Activations:$dy, Llm_Activations:$x, Llm_ActivationAttr:$kind);
  let results = (outs Llm_Activations:$result);
  let assemblyFormat = "$dy `,` $x attr-dict `:` type($dy)";
}

def Llm_GatedActivationGradientOp : Llm_ComputeOp<"gated_activation_gradient",
    [AllTypesMatch<["dy", "gate", "up", "dgate", "dup"]>]> {
  let summary = "gradient of gated_activation";
  let description = [{
    dgate = dy * up * activation'(gate), dup = dy * activation(gate).
    Example: `%dg, %du = llm.gated_activation_gradient %dy, %gate, %up {kind = #llm.activation<silu>} : tensor<6x172xf32>`
  }];
  let arguments = (ins Llm_Activations:$dy, Llm_Activations:$gate, Llm_Activations:$up,
                       Llm_ActivationAttr:$kind);
  let results = (outs Llm_Activations:$dgate, Llm_Activations:$dup);
  let assemblyFormat = "$dy `,` $gate `,` $up attr-dict `:` type($dy)";
}

def Llm_SoftCapGradientOp : Llm_ComputeOp<"soft_cap_gradient",
    [AllTypesMatch<["dy", "x", "result"]>]> {
  let summary = "dy * (1 - tanh(x / cap)^2)";
  let description = [{
    Example: `%dx = llm.soft_cap_gradient %dy, %x {cap = 30.0 : f64} : tensor<6x256xf32>`
  }];
  let arguments = (ins Llm_Activations:$dy, Llm_Activations:$x, F64Attr:$cap);
  let results = (outs Llm_Activations:$result);
  let assemblyFormat = "$dy `,` $x attr-dict `:` type($dy)";
}

//===-- attention on whole rows ---------------------------------------------------===//

def Llm_RowAttentionOp : Llm_DifferentiableOp<"row_attention",
    [AllTypesMatch<["q", "result"]>, AllTypesMatch<["k", "v"]>]> {
  let summary = "causal grouped-query attention inside the given rows, for training";
  let description = [{
    As `attention`; row i of a sequence sees rows max(starts[i], i - window + 1)..i, so that
    several documents share a sequence. Query head h reads key/value head
    min((h + head_offset) / group, KV - 1). `key_dtype`: what keys and values are rounded to,
    as a cache would. `log_sum` `[rows, H]` is the logarithm of the sum of exp(score).

      starts [0 0 2 2]   ->   row 1 sees 0..1, row 3 sees 2..3

    (C1) widths are whole numbers of heads, rows are those of starts.
    Example: `%o, %l = llm.row_attention %q, %k, %v, %starts {head_dim = 16 : i64, group = 2 : i64,
    scale = 0.25 : f64, key_dtype = f32} : (tensor<6x64xf32>, tensor<6x32xf32>, tensor<6x32xf32>,
    tensor<2x3xi32>) -> (tensor<6x64xf32>, tensor<6x4xf32>)`
  }];
  let arguments = (ins Llm_Activations:$q, Llm_Activations:$k, Llm_Activations:$v,
    Llm_Ids:$starts, I64Attr:$head_dim, I64Attr:$group, F64Attr:$scale,
    DefaultValuedAttr<I64Attr, "0">:$window, DefaultValuedAttr<F64Attr, "0.0">:$softcap,
    TypeAttr:$key_dtype, OptionalAttr<AnyAttr>:$head_offset);
  let results = (outs Llm_Activations:$result, Llm_Activations:$log_sum);
  let assemblyFormat = [{
    $q `,` $k `,` $v `,` $starts attr-dict `:` functional-type(operands, results)
  }];
  let hasVerifier = 1;
}

def Llm_RowAttentionGradientOp : Llm_ComputeOp<"row_attention_gradient",
    [AllTypesMatch<["dy", "q", "out", "dq"]>, AllTypesMatch<["k", "v", "dk", "dv"]>]> {
  let summary = "gradient of row_attention";
  let description = [{
    p = exp(score - log_sum), dv = p^T dy, dp = dy v^T, ds = p * (dp - rowsum(dy * out)),
    dq = scale * ds k, dk = scale * ds^T q. Heads that several ranks hold (tensor split)
    get the part of this rank's query heads. (C1) as `row_attention`. Source: Dao et al. 2022.
  }];
  let arguments = (ins Llm_Activations:$dy, Llm_Activations:$q, Llm_Activations:$k,
    Llm_Activations:$v, Llm_Ids:$starts, Llm_Activations:$out, Llm_Activations:$log_sum,
    I64Attr:$head_dim, I64Attr:$group, F64Attr:$scale,
    DefaultValuedAttr<I64Attr, "0">:$window, DefaultValuedAttr<F64Attr, "0.0">:$softcap,
    TypeAttr:$key_dtype, OptionalAttr<AnyAttr>:$head_offset);
  let results = (outs Llm_Activations:$dq, Llm_Activations:$dk, Llm_Activations:$dv);
  let assemblyFormat = [{
    $dy `,` $q `,` $k `,` $v `,` $starts `,` $out `,` $log_sum attr-dict `:`
    functional-type(operands, results)
  }];
  let hasVerifier = 1;
}

//===-- loss ------------------------------------------------------------------------===//

def Llm_CrossEntropyStatisticsOp : Llm_ComputeOp<"cross_entropy_statistics"> {
  let summary = "largest logit, sum of exponentials and logit of the label of each row";
  let description = [{
    logits `[rows, V]`, labels `[S, R]`: result `[parts, rows, 3]`. The columns are cut into
    `parts` equal runs (the last ones shorter); a triple is (largest logit m, sum of
    exp(logit - m), logit of the label or 0 if it lies outside). After a split of V a rank
    has one run, from `vocab_begin` on. (C1) shapes agree.
    Example: `%s = llm.cross_entropy_statistics %logits, %labels : (tensor<6x512xf32>, tensor<2x3xi32>) -> tensor<1x6x3xf32>`
  }];
  let arguments = (ins Llm_Activations:$logits, Llm_Ids:$labels,
    OptionalAttr<AnyAttr>:$vocab_begin, OptionalAttr<AnyAttr>:$vocab_count);
  let results = (outs Llm_Activations:$result);
  let assemblyFormat = "$logits `,` $labels attr-dict `:` functional-type(operands, results)";
  let hasVerifier = 1;
}

def Llm_CrossEntropyLossOp : Llm_ComputeOp<"cross_entropy_loss"> {
  let summary = "-log p(label) of each row";
  let description = [{
    statistics `[parts, rows, 3]`, combined in order: loss `[rows]` (0 where the label is
    negative) and log_sum `[rows]`, the logarithm of the sum of exp(logit). (C1) shapes agree.
    Example: `%loss, %l = llm.cross_entropy_loss %s, %labels : (tensor<1x6x3xf32>, tensor<2x3xi32>) -> (tensor<6xf32>, tensor<6xf32>)`
  }];
  let arguments = (ins Llm_Activations:$statistics, Llm_Ids:$labels);
  let results = (outs Llm_Activations:$loss, Llm_Activations:$log_sum);
  let assemblyFormat = "$statistics `,` $labels attr-dict `:` functional-type(operands, results)";
  let hasVerifier = 1;
}

def Llm_CrossEntropyGradientOp : Llm_ComputeOp<"cross_entropy_gradient",
    [AllTypesMatch<["logits", "result"]>]> {
  let summary = "weight * (softmax - onehot(label)) of each row";
  let description = [{
    logits `[rows, V]`, labels `[S, R]`, log_sum and weights `[rows]`; columns of padding get 0.
    (C1) shapes agree.
    Example: `%d = llm.cross_entropy_gradient %logits, %labels, %l, %weights : (tensor<6x512xf32>, tensor<2x3xi32>, tensor<6xf32>, tensor<6xf32>) -> tensor<6x512xf32>`
  }];
  let arguments = (ins Llm_Activations:$logits, Llm_Ids:$labels, Llm_Activations:$log_sum,
    Llm_Activations:$weights, OptionalAttr<AnyAttr>:$vocab_begin, OptionalAttr<AnyAttr>:$vocab_count);
  let results = (outs Llm_Activations:$result);
  let assemblyFormat = [{
    $logits `,` $labels `,` $log_sum `,` $weights attr-dict `:` functional-type(operands, results)
  }];
  let hasVerifier = 1;
}

def Llm_CountLabelsOp : Llm_ComputeOp<"count_labels"> {
  let summary = "number of units with a label that counts";
  let description = [{
    Runs of `unit` labels of which one at least is not negative, as f32 (exact up to 2^24): 1 counts
    tokens, two sequences count pairs. (C1) one number, whole units.
    Example: `%n = llm.count_labels %labels {unit = 6} : (tensor<4x3xi32>) -> tensor<1xf32>`
  }];
  let arguments = (ins Llm_Ids:$labels, DefaultValuedAttr<I64Attr, "1">:$unit);
  let results = (outs Llm_Activations:$result);
  let assemblyFormat = "$labels attr-dict `:` functional-type(operands, results)";
  let hasVerifier = 1;
}

def Llm_TokenWeightsOp : Llm_ComputeOp<"token_weights"> {
  let summary = "1 / count for rows that count, else 0";
  let description = [{
    (C1) shapes agree.
    Example: `%w = llm.token_weights %labels, %n : (tensor<2x3xi32>, tensor<1xf32>) -> tensor<6xf32>`
  }];
  let arguments = (ins Llm_Ids:$labels, Llm_Activations:$count);
  let results = (outs Llm_Activations:$result);
  let assemblyFormat = "$labels `,` $count attr-dict `:` functional-type(operands, results)";
  let hasVerifier = 1;
}

def Llm_PreferenceLossOp : Llm_ComputeOp<"preference_loss"> {
  let summary = "loss of pairs of sequences (DPO), and the weight of each row's gradient";
  let description = [{
    Sequences 2i (chosen) and 2i + 1 (rejected) of labels `[S, R]` are a pair; loss and reference
    `[S * R]` are -log p of each row under the model and under the reference; count: pairs of the step;
    hyper: docs/design/training.md. weights `[S * R]`: derivative of the loss by a row's loss;
    terms: loss / count, then sums over pairs of chosen reward, rejected reward, margin, accuracy, pairs.
    A pair without counted labels has no loss. (C1) shapes agree, S is even.
    Source: Rafailov et al. 2023 (DPO), Liu et al. 2023 (hinge), Azar et al. 2023 (IPO).
    Example: `%w, %t = llm.preference_loss %loss, %reference, %labels, %n, %hyper sigmoid : (tensor<6xf32>, tensor<6xf32>, tensor<2x3xi32>, tensor<1xf32>, tensor<16xf32>) -> (tensor<6xf32>, tensor<6xf32>)`
  }];
  let arguments = (ins Llm_Activations:$loss, Llm_Activations:$reference, Llm_Ids:$labels,
    Llm_Activations:$count, Llm_Activations:$hyper, Llm_PreferenceLossAttr:$kind);
  let results = (outs Llm_Activations:$weights, Llm_Activations:$terms);
  let assemblyFormat = [{
    $loss `,` $reference `,` $labels `,` $count `,` $hyper $kind attr-dict `:` functional-type(operands, results)
  }];
  let hasVerifier = 1;
}

def Llm_WeightedSumOp : Llm_ComputeOp<"weighted_sum"> {
  let summary = "sum of x * weights, in double";
  let description = [{
    (C1) shapes agree.
    Example: `%s = llm.weighted_sum %loss, %w : (tensor<6xf32>, tensor<6xf32>) -> tensor<1xf32>`
  }];
  let arguments = (ins Llm_Activations:$x, Llm_Activations:$weights);
  let results = (outs Llm_Activations:$result);
  let assemblyFormat = "$x `,` $weights attr-dict `:` functional-type(operands, results)";
  let hasVerifier = 1;
}

//===-- optimizer -------------------------------------------------------------------===//

def Llm_SquareSumOp : Llm_StateUserOp<"square_sum", [MemoryEffects<[MemWrite]>]> {
  let summary = "sum of squares of a gradient, into one element of a state";
  let description = [{
    In double, in a fixed order: inside blocks of one panel, then over blocks by a tree.
    `counted` (by coordinate, 1 or 0) names the ranks that count the tensor, one table for
    each axis that replicates it. (C1) the symbol is a `state` of f64 with more than `index` elements.
    Example: `llm.square_sum %g into @norm_terms[3] : tensor<576x576xf32>`
  }];
  let arguments = (ins AnyRankedTensor:$x, FlatSymbolRefAttr:$state, I64Attr:$index,
                       OptionalAttr<ArrayAttr>:$counted);
  let assemblyFormat = "$x `into` $state `[` $index `]` attr-dict `:` type($x)";
}

def Llm_SumTermsOp : Llm_Op<"sum_terms", [Pure]> {
  let summary = "sum in double, by a fixed tree";
  let description = [{
    (C1) one number.
    Example: `%s = llm.sum_terms %t : (tensor<9xf64>) -> tensor<1xf64>`
  }];
  let arguments = (ins RankedTensorOf<[F64]>:$x);
  let results = (outs RankedTensorOf<[F64]>:$result);
  let assemblyFormat = "$x attr-dict `:` functional-type(operands, results)";
  let hasVerifier = 1;
}

def Llm_GlobalNormOp : Llm_Op<"global_norm", [Pure]> {
  let summary = "gradient norm and clipping factor";
  let description = [{
    terms: sums of squares, one for each rank. hyper `[16]` as docs/design/training.md says.
    Result `[4]`: norm, min(1, clip / (norm + 1e-6)), 1 if the norm is finite, 0.
    (C1) these widths.
    Source: Pascanu et al. 2013; the 1e-6 is PyTorch's.
    Example: `%n = llm.global_norm %s, %hyper : (tensor<1xf64>, tensor<16xf32>) -> tensor<4xf32>`
  }];
  let arguments = (ins RankedTensorOf<[F64]>:$terms, RankedTensorOf<[F32]>:$hyper);
  let results = (outs RankedTensorOf<[F32]>:$result);
  let assemblyFormat = "$terms `,` $hyper attr-dict `:` functional-type(operands, results)";
  let hasVerifier = 1;
}

def Llm_AdamwOp : Llm_StateUserOp<"adamw", [MemoryEffects<[MemRead, MemWrite]>]> {
  let summary = "update a parameter and its moments";
  let description = [{
    The formula is in docs/design/training.md. `master`: f32 weights that are updated and then
    rounded to the parameter. If gradient and moments are a ZeRO shard, so is what is
    updated: run i of a whole parameter, or the shard that the rank holds. A norm that is not
    finite leaves everything as it is. Source: Loshchilov and Hutter 2019.
    (C1) the symbols are a `param` and `state`s of one size with the gradient. (C2) norm
    and hyper are those of `global_norm`.
    Example: `llm.adamw @q with %g, %norm, %hyper moment1 @q.moment1 moment2 @q.moment2 decay : tensor<576x576xf32>`
  }];
  let arguments = (ins FlatSymbolRefAttr:$param, AnyRankedTensor:$gradient,
    RankedTensorOf<[F32]>:$norm, RankedTensorOf<[F32]>:$hyper, FlatSymbolRefAttr:$moment1,
    FlatSymbolRefAttr:$moment2, OptionalAttr<FlatSymbolRefAttr>:$master, UnitAttr:$decay);
  let assemblyFormat = [{
    $param `with` $gradient `,` $norm `,` $hyper `moment1` $moment1 `moment2` $moment2
    (`master` $master^)? (`decay` $decay^)? attr-dict `:` type($gradient) `,` type($norm) `,` type($hyper)
  }];
}

#endif
