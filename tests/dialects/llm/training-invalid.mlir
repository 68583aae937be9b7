// SPDX-License-Identifier: Apache-2.0
// One case for each labelled constraint of the ops of a training step.
// RUN: llmc-opt %s -split-input-file -verify-diagnostics

// state (C1): not static.
// expected-error @+1 {{(C1) expects a static tensor, got 'tensor<?x4xf32>'}}
llm.state @s : tensor<?x4xf32> role scalar

// -----

// state (C2): a gradient of nothing.
// expected-error @+1 {{(C2) expects a parameter for every role but scalar}}
llm.state @s : tensor<5x4xf32> role gradient

// -----

// state (C2): a scalar of a parameter.
llm.param @p : tensor<5x4xf32>
// expected-error @+1 {{(C2) expects a parameter for every role but scalar}}
llm.state @s : tensor<1xf32> role scalar of @p

// -----

// state (C3): a state is not a parameter.
llm.state @loss : tensor<1xf32> role scalar
// expected-error @+1 {{(C3) expects a parameter, got @loss}}
llm.state @s : tensor<1xf32> role moment1 of @loss

// -----

// read_state (C1): a parameter is not a state.
llm.param @p : tensor<5x4xf32>
func.func @f() {
  // expected-error @+1 {{(C1) expects a state, got @p}}
  %0 = llm.read_state @p : tensor<5x4xf32>
  return
}

// -----

// read_state (C1): another type.
llm.param @p : tensor<5x4xf32>
llm.state @s : tensor<5x4xf32> role gradient of @p
func.func @f() {
  // expected-error @+1 {{(C1) expects the type of @s, 'tensor<5x4xf32>', got 'tensor<4x5xf32>'}}
  %0 = llm.read_state @s : tensor<4x5xf32>
  return
}

// -----

// accumulate (C1): no state of that name.
func.func @f(%x: tensor<5x4xf32>) {
  // expected-error @+1 {{(C1) expects a state, got @t}}
  llm.accumulate %x into @t : tensor<5x4xf32>
  return
}

// -----

// accumulate (C1): another type.
llm.param @p : tensor<5x4xf32>
llm.state @s : tensor<5x4xf32> role gradient of @p
func.func @f(%x: tensor<20xf32>) {
  // expected-error @+1 {{(C1) expects the type of @s, 'tensor<5x4xf32>', got 'tensor<20xf32>'}}
  llm.accumulate %x into @s : tensor<20xf32>
  return
}

// -----

// zero_state (C1): a parameter is not a state.
llm.param @p : tensor<5x4xf32>
func.func @f() {
  // expected-error @+1 {{(C1) expects a state, got @p}}
  llm.zero_state @p
  return
}

// -----

// linear_input_gradient (C1): dy has 7 columns, the weight 5 rows.
func.func @f(%dy: tensor<3x7xf32>, %w: tensor<5x4xf32>) {
  // expected-error @+1 {{(C1) expects equal inner widths, got 7 and 5}}
  %0 = llm.linear_input_gradient %dy, %w : (tensor<3x7xf32>, tensor<5x4xf32>) -> tensor<3x4xf32>
  return
}

// -----

// linear_input_gradient (C1): rows.
func.func @f(%dy: tensor<3x5xf32>, %w: tensor<5x4xf32>) {
  // expected-error @+1 {{(C1) expects equal rows, got 3 and 2}}
  %0 = llm.linear_input_gradient %dy, %w : (tensor<3x5xf32>, tensor<5x4xf32>) -> tensor<2x4xf32>
  return
}

// -----

// linear_input_gradient (C1): a vector.
func.func @f(%dy: tensor<5xf32>, %w: tensor<5x4xf32>) {
  // expected-error @+1 {{(C1) expects a value of rank 2, got 'tensor<5xf32>'}}
  %0 = llm.linear_input_gradient %dy, %w : (tensor<5xf32>, tensor<5x4xf32>) -> tensor<1x4xf32>
  return
}

// -----

// linear_weight_gradient (C1): rows.
func.func @f(%dy: tensor<3x5xf32>, %x: tensor<2x4xf32>) {
  // expected-error @+1 {{(C1) expects equal rows, got 3 and 2}}
  %0 = llm.linear_weight_gradient %dy, %x : (tensor<3x5xf32>, tensor<2x4xf32>) -> tensor<5x4xf32>
  return
}

// -----

// linear_weight_gradient (C1): turned.
func.func @f(%dy: tensor<3x5xf32>, %x: tensor<3x4xf32>) {
  // expected-error @+1 {{(C1) expects equal outputs, got 5 and 4}}
  %0 = llm.linear_weight_gradient %dy, %x : (tensor<3x5xf32>, tensor<3x4xf32>) -> tensor<4x5xf32>
  return
}

// -----

// sum_rows (C1): 6 columns are not a whole number of 4.
func.func @f(%x: tensor<3x6xf32>) {
  // expected-error @+1 {{(C1) expects rows of whole widths of the result, got 6 and 4}}
  %0 = llm.sum_rows %x : (tensor<3x6xf32>) -> tensor<4xf32>
  return
}

// -----

// embedding_gradient (C1): widths.
func.func @f(%ids: tensor<2x3xi32>, %dy: tensor<6x4xf32>) {
  // expected-error @+1 {{(C1) expects equal widths, got 4 and 5}}
  %0 = llm.embedding_gradient %ids, %dy : (tensor<2x3xi32>, tensor<6x4xf32>) -> tensor<9x5xf32>
  return
}

// -----

// embedding_gradient (C1): five rows of six ids.
func.func @f(%ids: tensor<2x3xi32>, %dy: tensor<5x4xf32>) {
  // expected-error @+1 {{(C1) expects equal rows, got 5 and 6}}
  %0 = llm.embedding_gradient %ids, %dy : (tensor<2x3xi32>, tensor<5x4xf32>) -> tensor<9x4xf32>
  return
}

// -----

// rms_norm_gradient (C1): 6 columns are not a whole number of 4.
func.func @f(%x: tensor<3x6xf32>, %w: tensor<4xf32>) {
  // expected-error @+1 {{(C1) expects rows of whole widths of the weight, got 6 and 4}}
  %0:2 = llm.rms_norm_gradient %x, %x, %w {eps = 1.0e-5 : f64} : tensor<3x6xf32>, tensor<4xf32>
  return
}

// -----

// layer_norm_gradient (C1): widths.
func.func @f(%x: tensor<3x6xf32>, %w: tensor<3xf32>) {
  // expected-error @+1 {{(C1) expects equal widths, got 6 and 3}}
  %0:2 = llm.layer_norm_gradient %x, %x, %w {eps = 1.0e-5 : f64} : tensor<3x6xf32>, tensor<3xf32>
  return
}

// -----

// row_attention (C1): half a head.
func.func @f(%q: tensor<6x12xf32>, %k: tensor<6x7xf32>, %s: tensor<2x3xi32>) {
  // expected-error @+1 {{(C1) expects whole heads of width 3, got width 7}}
  %0:2 = llm.row_attention %q, %k, %k, %s {head_dim = 3 : i64, group = 2 : i64, scale = 0.25 : f64, key_dtype = f32} : (tensor<6x12xf32>, tensor<6x7xf32>, tensor<6x7xf32>, tensor<2x3xi32>) -> (tensor<6x12xf32>, tensor<6x4xf32>)
  return
}

// -----

// row_attention (C1): three query heads, sums of four.
func.func @f(%q: tensor<6x9xf32>, %k: tensor<6x3xf32>, %s: tensor<2x3xi32>) {
  // expected-error @+1 {{(C1) expects equal heads, got 3 and 4}}
  %0:2 = llm.row_attention %q, %k, %k, %s {head_dim = 3 : i64, group = 3 : i64, scale = 0.25 : f64, key_dtype = f32} : (tensor<6x9xf32>, tensor<6x3xf32>, tensor<6x3xf32>, tensor<2x3xi32>) -> (tensor<6x9xf32>, tensor<6x4xf32>)
  return
}

// -----

// row_attention (C1): six rows, starts of five.
func.func @f(%q: tensor<6x12xf32>, %k: tensor<6x6xf32>, %s: tensor<1x5xi32>) {
  // expected-error @+1 {{(C1) expects equal rows, got 6 and 5}}
  %0:2 = llm.row_attention %q, %k, %k, %s {head_dim = 3 : i64, group = 2 : i64, scale = 0.25 : f64, key_dtype = f32} : (tensor<6x12xf32>, tensor<6x6xf32>, tensor<6x6xf32>, tensor<1x5xi32>) -> (tensor<6x12xf32>, tensor<6x4xf32>)
  return
}

// -----

// row_attention (C1): no group.
func.func @f(%q: tensor<6x12xf32>, %k: tensor<6x6xf32>, %s: tensor<2x3xi32>) {
  // expected-error @+1 {{(C1) expects a group of at least one head, got 0}}
  %0:2 = llm.row_attention %q, %k, %k, %s {head_dim = 3 : i64, group = 0 : i64, scale = 0.25 : f64, key_dtype = f32} : (tensor<6x12xf32>, tensor<6x6xf32>, tensor<6x6xf32>, tensor<2x3xi32>) -> (tensor<6x12xf32>, tensor<6x4xf32>)
  return
}

// -----

// row_attention_gradient (C1): keys of another number of rows.
func.func @f(%q: tensor<6x12xf32>, %k: tensor<5x6xf32>, %s: tensor<2x3xi32>, %l: tensor<6x4xf32>) {
  // expected-error @+1 {{(C1) expects equal rows, got 5 and 6}}
  %0:3 = llm.row_attention_gradient %q, %q, %k, %k, %s, %q, %l {head_dim = 3 : i64, group = 2 : i64, scale = 0.25 : f64, key_dtype = f32} : (tensor<6x12xf32>, tensor<6x12xf32>, tensor<5x6xf32>, tensor<5x6xf32>, tensor<2x3xi32>, tensor<6x12xf32>, tensor<6x4xf32>) -> (tensor<6x12xf32>, tensor<5x6xf32>, tensor<5x6xf32>)
  return
}

// -----

// cross_entropy_statistics (C1): pairs.
func.func @f(%x: tensor<6x9xf32>, %l: tensor<2x3xi32>) {
  // expected-error @+1 {{(C1) expects equal triples, got 3 and 2}}
  %0 = llm.cross_entropy_statistics %x, %l : (tensor<6x9xf32>, tensor<2x3xi32>) -> tensor<1x6x2xf32>
  return
}

// -----

// cross_entropy_statistics (C1): six rows, four labels.
func.func @f(%x: tensor<6x9xf32>, %l: tensor<2x2xi32>) {
  // expected-error @+1 {{(C1) expects equal rows, got 6 and 4}}
  %0 = llm.cross_entropy_statistics %x, %l : (tensor<6x9xf32>, tensor<2x2xi32>) -> tensor<1x6x3xf32>
  return
}

// -----

// cross_entropy_statistics (C1): no part.
func.func @f(%x: tensor<6x9xf32>, %l: tensor<2x3xi32>) {
  // expected-error @+1 {{(C1) expects at least one part}}
  %0 = llm.cross_entropy_statistics %x, %l : (tensor<6x9xf32>, tensor<2x3xi32>) -> tensor<0x6x3xf32>
  return
}

// -----

// cross_entropy_loss (C1): sums of five rows.
func.func @f(%x: tensor<1x6x3xf32>, %l: tensor<2x3xi32>) {
  // expected-error @+1 {{(C1) expects a vector of width 6, got 'tensor<5xf32>'}}
  %0:2 = llm.cross_entropy_loss %x, %l : (tensor<1x6x3xf32>, tensor<2x3xi32>) -> (tensor<6xf32>, tensor<5xf32>)
  return
}

// -----

// cross_entropy_gradient (C1): five weights of six rows.
func.func @f(%x: tensor<6x9xf32>, %l: tensor<2x3xi32>, %s: tensor<6xf32>, %w: tensor<5xf32>) {
  // expected-error @+1 {{(C1) expects a vector of width 6, got 'tensor<5xf32>'}}
  %0 = llm.cross_entropy_gradient %x, %l, %s, %w : (tensor<6x9xf32>, tensor<2x3xi32>, tensor<6xf32>, tensor<5xf32>) -> tensor<6x9xf32>
  return
}

// -----

// count_labels (C1): two numbers.
func.func @f(%l: tensor<2x3xi32>) {
  // expected-error @+1 {{(C1) expects a vector of width 1, got 'tensor<2xf32>'}}
  %0 = llm.count_labels %l : (tensor<2x3xi32>) -> tensor<2xf32>
  return
}

// -----

// token_weights (C1): five weights of six labels.
func.func @f(%l: tensor<2x3xi32>, %n: tensor<1xf32>) {
  // expected-error @+1 {{(C1) expects equal rows, got 5 and 6}}
  %0 = llm.token_weights %l, %n : (tensor<2x3xi32>, tensor<1xf32>) -> tensor<5xf32>
  return
}

// -----

// weighted_sum (C1): five weights of six values.
func.func @f(%x: tensor<6xf32>, %w: tensor<5xf32>) {
  // expected-error @+1 {{(C1) expects a vector of width 6, got 'tensor<5xf32>'}}
  %0 = llm.weighted_sum %x, %w : (tensor<6xf32>, tensor<5xf32>) -> tensor<1xf32>
  return
}

// -----

// square_sum (C1): a state of four terms has no fifth.
llm.state @terms : tensor<4xf64> role scalar
func.func @f(%x: tensor<6xf32>) {
  // expected-error @+1 {{(C1) expects an f64 state with more than 4 elements, got 'tensor<4xf64>'}}
  llm.square_sum %x into @terms[4] : tensor<6xf32>
  return
}

// -----

// square_sum (C1): a state in f32.
llm.state @terms : tensor<4xf32> role scalar
func.func @f(%x: tensor<6xf32>) {
  // expected-error @+1 {{(C1) expects an f64 state with more than 3 elements, got 'tensor<4xf32>'}}
  llm.square_sum %x into @terms[3] : tensor<6xf32>
  return
}

// -----

// sum_terms (C1): two sums.
func.func @f(%x: tensor<6xf64>) {
  // expected-error @+1 {{(C1) expects a vector of width 1, got 'tensor<2xf64>'}}
  %0 = llm.sum_terms %x : (tensor<6xf64>) -> tensor<2xf64>
  return
}

// -----

// global_norm (C1): eight hyperparameters.
func.func @f(%x: tensor<1xf64>, %h: tensor<8xf32>) {
  // expected-error @+1 {{(C1) expects a vector of width 16, got 'tensor<8xf32>'}}
  %0 = llm.global_norm %x, %h : (tensor<1xf64>, tensor<8xf32>) -> tensor<4xf32>
  return
}

// -----

// adamw (C1): a state is not a parameter.
llm.param @p : tensor<5x4xf32>
llm.state @m : tensor<5x4xf32> role moment1 of @p
llm.state @v : tensor<5x4xf32> role moment2 of @p
func.func @f(%g: tensor<5x4xf32>, %n: tensor<4xf32>, %h: tensor<16xf32>) {
  // expected-error @+1 {{(C1) expects a parameter, got @m}}
  llm.adamw @m with %g, %n, %h moment1 @m moment2 @v : tensor<5x4xf32>, tensor<4xf32>, tensor<16xf32>
  return
}

// -----

// adamw (C1): a moment that is a parameter.
llm.param @p : tensor<5x4xf32>
llm.state @m : tensor<5x4xf32> role moment1 of @p
llm.param @v : tensor<5x4xf32>
func.func @f(%g: tensor<5x4xf32>, %n: tensor<4xf32>, %h: tensor<16xf32>) {
  // expected-error @+1 {{(C1) expects a state, got @v}}
  llm.adamw @p with %g, %n, %h moment1 @m moment2 @v : tensor<5x4xf32>, tensor<4xf32>, tensor<16xf32>
  return
}

// -----

// adamw (C1): a shard of the gradient, whole moments.
llm.param @p : tensor<5x4xf32>
llm.state @m : tensor<5x4xf32> role moment1 of @p
llm.state @v : tensor<5x4xf32> role moment2 of @p
func.func @f(%g: tensor<10xf32>, %n: tensor<4xf32>, %h: tensor<16xf32>) {
  // expected-error @+1 {{(C1) expects 10 elements in @m, got 'tensor<5x4xf32>'}}
  llm.adamw @p with %g, %n, %h moment1 @m moment2 @v : tensor<10xf32>, tensor<4xf32>, tensor<16xf32>
  return
}

// -----

// adamw (C2): a norm alone.
llm.param @p : tensor<5x4xf32>
llm.state @m : tensor<5x4xf32> role moment1 of @p
llm.state @v : tensor<5x4xf32> role moment2 of @p
func.func @f(%g: tensor<5x4xf32>, %n: tensor<1xf32>, %h: tensor<16xf32>) {
  // expected-error @+1 {{(C2) expects a vector of width 4, got 'tensor<1xf32>'}}
  llm.adamw @p with %g, %n, %h moment1 @m moment2 @v : tensor<5x4xf32>, tensor<1xf32>, tensor<16xf32>
  return
}

// -----

// count_labels (C1): units of four among six labels.
func.func @f(%l: tensor<2x3xi32>) {
  // expected-error @+1 {{(C1) expects whole units of 4 labels, got 6}}
  %0 = llm.count_labels %l {unit = 4} : (tensor<2x3xi32>) -> tensor<1xf32>
  return
}

// -----

// preference_loss (C1): three sequences.
func.func @f(%x: tensor<6xf32>, %l: tensor<3x2xi32>, %n: tensor<1xf32>, %h: tensor<16xf32>) {
  // expected-error @+1 {{(C1) expects pairs of sequences, got 'tensor<3x2xi32>'}}
  %w, %t = llm.preference_loss %x, %x, %l, %n, %h sigmoid : (tensor<6xf32>, tensor<6xf32>, tensor<3x2xi32>, tensor<1xf32>, tensor<16xf32>) -> (tensor<6xf32>, tensor<6xf32>)
  return
}
