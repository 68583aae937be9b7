// SPDX-License-Identifier: Apache-2.0
// Every op of a training step is printed as it was written, in both forms.
// RUN: llmc-opt %s | llmc-opt | %FileCheck %s
// RUN: llmc-opt %s --mlir-print-op-generic | llmc-opt | %FileCheck %s

llm.param @q : tensor<10x6xbf16>
llm.param @table : tensor<31x6xf32>

// States: of a parameter, a shard, scalars.
// CHECK: llm.state @q.gradient : tensor<10x6xf32> role gradient of @q
llm.state @q.gradient : tensor<10x6xf32> role gradient of @q
// CHECK: llm.state @q.moment1 : tensor<32xf32> role moment1 of @q shard #dist.shard<["dp"], 32>
llm.state @q.moment1 : tensor<32xf32> role moment1 of @q shard #dist.shard<["dp"], 32>
// CHECK: llm.state @q.moment2 : tensor<32xf32> role moment2 of @q
llm.state @q.moment2 : tensor<32xf32> role moment2 of @q
// CHECK: llm.state @q.master : tensor<32xf32> role master of @q
llm.state @q.master : tensor<32xf32> role master of @q
// CHECK: llm.state @loss : tensor<1xf32> role scalar
llm.state @loss : tensor<1xf32> role scalar
// CHECK: llm.state @norm_terms : tensor<9xf64> role scalar
llm.state @norm_terms : tensor<9xf64> role scalar

// CHECK-LABEL: @states
func.func @states(%dw: tensor<10x6xf32>) {
  // CHECK: llm.zero_state @q.gradient
  llm.zero_state @q.gradient
  // CHECK: llm.accumulate %{{.*}} into @q.gradient : tensor<10x6xf32>
  llm.accumulate %dw into @q.gradient : tensor<10x6xf32>
  // CHECK: llm.read_state @q.gradient : tensor<10x6xf32>
  %0 = llm.read_state @q.gradient : tensor<10x6xf32>
  return
}

// Gradients of row ops and products; a weight in bf16 has a gradient in f32.
// CHECK-LABEL: @gradients
func.func @gradients(%dy: tensor<4x10xf32>, %w: tensor<10x6xbf16>, %x: tensor<4x6xf32>,
                     %ids: tensor<2x2xi32>, %vector: tensor<6xf32>, %head: tensor<3xf32>) {
  // CHECK: llm.linear_input_gradient %{{.*}}, %{{.*}} : (tensor<4x10xf32>, tensor<10x6xbf16>) -> tensor<4x6xf32>
  %dx = llm.linear_input_gradient %dy, %w : (tensor<4x10xf32>, tensor<10x6xbf16>) -> tensor<4x6xf32>
  // CHECK: llm.linear_weight_gradient %{{.*}}, %{{.*}} : (tensor<4x10xf32>, tensor<4x6xf32>) -> tensor<10x6xf32>
  %dw = llm.linear_weight_gradient %dy, %x : (tensor<4x10xf32>, tensor<4x6xf32>) -> tensor<10x6xf32>
  // CHECK: llm.sum_rows %{{.*}} : (tensor<4x6xf32>) -> tensor<3xf32>
  %0 = llm.sum_rows %dx : (tensor<4x6xf32>) -> tensor<3xf32>
  // CHECK: llm.embedding_gradient %{{.*}}, %{{.*}} : (tensor<2x2xi32>, tensor<4x6xf32>) -> tensor<31x6xf32>
  %1 = llm.embedding_gradient %ids, %dx : (tensor<2x2xi32>, tensor<4x6xf32>) -> tensor<31x6xf32>
  // CHECK: llm.embedding_gradient %{{.*}}, %{{.*}} {param = @table, vocab_begin = #dist.by_coordinate<"tp", [0, 16]>, vocab_count = #dist.by_coordinate<"tp", [16, 15]>}
  %2 = llm.embedding_gradient %ids, %dx {param = @table, vocab_begin = #dist.by_coordinate<"tp", [0, 16]>, vocab_count = #dist.by_coordinate<"tp", [16, 15]>} : (tensor<2x2xi32>, tensor<4x6xf32>) -> tensor<16x6xf32>
  // CHECK: llm.rms_norm_gradient %{{.*}}, %{{.*}}, %{{.*}} {eps = 1.000000e-05 : f64, offset = 1.000000e+00 : f64} : tensor<4x6xf32>, tensor<3xf32>
  %3:2 = llm.rms_norm_gradient %dx, %x, %head {eps = 1.0e-5 : f64, offset = 1.0 : f64} : tensor<4x6xf32>, tensor<3xf32>
  // CHECK: llm.layer_norm_gradient %{{.*}}, %{{.*}}, %{{.*}} {eps = 1.000000e-05 : f64} : tensor<4x6xf32>, tensor<6xf32>
  %4:2 = llm.layer_norm_gradient %dx, %x, %vector {eps = 1.0e-5 : f64} : tensor<4x6xf32>, tensor<6xf32>
  // CHECK: llm.activation_gradient %{{.*}}, %{{.*}} {kind = #llm.activation<relu>} : tensor<4x6xf32>
  %5 = llm.activation_gradient %dx, %x {kind = #llm.activation<relu>} : tensor<4x6xf32>
  // CHECK: llm.gated_activation_gradient %{{.*}}, %{{.*}}, %{{.*}} {kind = #llm.activation<silu>} : tensor<4x6xf32>
  %6:2 = llm.gated_activation_gradient %dx, %x, %5 {kind = #llm.activation<silu>} : tensor<4x6xf32>
  // CHECK: llm.soft_cap_gradient %{{.*}}, %{{.*}} {cap = 3.000000e+01 : f64} : tensor<4x6xf32>
  %7 = llm.soft_cap_gradient %dx, %x {cap = 30.0 : f64} : tensor<4x6xf32>
  // CHECK: llm.rope %{{.*}}, %{{.*}} {head_dim = 6 : i64, inverse, params = #llm.rope_params<rotary = 6, theta = 1.000000e+04>} : tensor<4x6xf32>, tensor<2x2xi32>
  %8 = llm.rope %dx, %ids {head_dim = 6 : i64, inverse, params = #llm.rope_params<rotary = 6, theta = 10000.0>} : tensor<4x6xf32>, tensor<2x2xi32>
  return
}

// Attention on whole rows, plain and with all it can have, and its gradient.
// CHECK-LABEL: @attention
func.func @attention(%q: tensor<4x12xf32>, %k: tensor<4x6xf32>, %s: tensor<2x2xi32>) {
  // CHECK: llm.row_attention %{{.*}}, %{{.*}}, %{{.*}}, %{{.*}} {group = 2 : i64, head_dim = 3 : i64, key_dtype = f32, scale = 2.500000e-01 : f64} : (tensor<4x12xf32>, tensor<4x6xf32>, tensor<4x6xf32>, tensor<2x2xi32>) -> (tensor<4x12xf32>, tensor<4x4xf32>)
  %o, %l = llm.row_attention %q, %k, %k, %s {head_dim = 3 : i64, group = 2 : i64, scale = 0.25 : f64, key_dtype = f32} : (tensor<4x12xf32>, tensor<4x6xf32>, tensor<4x6xf32>, tensor<2x2xi32>) -> (tensor<4x12xf32>, tensor<4x4xf32>)
  // CHECK: llm.row_attention {{.*}} {group = 3 : i64, head_dim = 3 : i64, head_offset = #dist.by_coordinate<"tp", [0, 2]>, key_dtype = bf16, scale = 2.500000e-01 : f64, softcap = 5.000000e+01 : f64, window = 19 : i64}
  %o2, %l2 = llm.row_attention %q, %k, %k, %s {head_dim = 3 : i64, group = 3 : i64, scale = 0.25 : f64, key_dtype = bf16, window = 19 : i64, softcap = 50.0 : f64, head_offset = #dist.by_coordinate<"tp", [0, 2]>} : (tensor<4x12xf32>, tensor<4x6xf32>, tensor<4x6xf32>, tensor<2x2xi32>) -> (tensor<4x12xf32>, tensor<4x4xf32>)
  // CHECK: llm.row_attention_gradient %{{.*}}, %{{.*}}, %{{.*}}, %{{.*}}, %{{.*}}, %{{.*}}, %{{.*}} {group = 2 : i64, head_dim = 3 : i64, key_dtype = f32, scale = 2.500000e-01 : f64} : (tensor<4x12xf32>, tensor<4x12xf32>, tensor<4x6xf32>, tensor<4x6xf32>, tensor<2x2xi32>, tensor<4x12xf32>, tensor<4x4xf32>) -> (tensor<4x12xf32>, tensor<4x6xf32>, tensor<4x6xf32>)
  %0:3 = llm.row_attention_gradient %o, %q, %k, %k, %s, %o, %l {head_dim = 3 : i64, group = 2 : i64, scale = 0.25 : f64, key_dtype = f32} : (tensor<4x12xf32>, tensor<4x12xf32>, tensor<4x6xf32>, tensor<4x6xf32>, tensor<2x2xi32>, tensor<4x12xf32>, tensor<4x4xf32>) -> (tensor<4x12xf32>, tensor<4x6xf32>, tensor<4x6xf32>)
  return
}

// CHECK-LABEL: @cross_entropy
func.func @cross_entropy(%logits: tensor<4x31xf32>, %labels: tensor<2x2xi32>) {
  // CHECK: llm.cross_entropy_statistics %{{.*}}, %{{.*}} : (tensor<4x31xf32>, tensor<2x2xi32>) -> tensor<2x4x3xf32>
  %s = llm.cross_entropy_statistics %logits, %labels : (tensor<4x31xf32>, tensor<2x2xi32>) -> tensor<2x4x3xf32>
  // CHECK: llm.cross_entropy_statistics %{{.*}}, %{{.*}} {vocab_begin = 16 : i64, vocab_count = 15 : i64} : (tensor<4x31xf32>, tensor<2x2xi32>) -> tensor<1x4x3xf32>
  %s1 = llm.cross_entropy_statistics %logits, %labels {vocab_begin = 16 : i64, vocab_count = 15 : i64} : (tensor<4x31xf32>, tensor<2x2xi32>) -> tensor<1x4x3xf32>
  // CHECK: llm.cross_entropy_loss %{{.*}}, %{{.*}} : (tensor<2x4x3xf32>, tensor<2x2xi32>) -> (tensor<4xf32>, tensor<4xf32>)
  %loss, %l = llm.cross_entropy_loss %s, %labels : (tensor<2x4x3xf32>, tensor<2x2xi32>) -> (tensor<4xf32>, tensor<4xf32>)
  // CHECK: llm.count_labels %{{.*}} : (tensor<2x2xi32>) -> tensor<1xf32>
  %n = llm.count_labels %labels : (tensor<2x2xi32>) -> tensor<1xf32>
  // CHECK: llm.token_weights %{{.*}}, %{{.*}} : (tensor<2x2xi32>, tensor<1xf32>) -> tensor<4xf32>
  %w = llm.token_weights %labels, %n : (tensor<2x2xi32>, tensor<1xf32>) -> tensor<4xf32>
  // CHECK: llm.count_labels %{{.*}} {unit = 4 : i64} : (tensor<2x2xi32>) -> tensor<1xf32>
  %pairs = llm.count_labels %labels {unit = 4} : (tensor<2x2xi32>) -> tensor<1xf32>
  // CHECK: llm.weighted_sum %{{.*}}, %{{.*}} : (tensor<4xf32>, tensor<4xf32>) -> tensor<1xf32>
  %sum = llm.weighted_sum %loss, %w : (tensor<4xf32>, tensor<4xf32>) -> tensor<1xf32>
  // CHECK: llm.cross_entropy_gradient %{{.*}}, %{{.*}}, %{{.*}}, %{{.*}} {vocab_begin = 0 : i64} : (tensor<4x31xf32>, tensor<2x2xi32>, tensor<4xf32>, tensor<4xf32>) -> tensor<4x31xf32>
  %d = llm.cross_entropy_gradient %logits, %labels, %l, %w {vocab_begin = 0 : i64} : (tensor<4x31xf32>, tensor<2x2xi32>, tensor<4xf32>, tensor<4xf32>) -> tensor<4x31xf32>
  return
}

// CHECK-LABEL: @optimizer
func.func @optimizer(%g: tensor<10x6xf32>, %run: tensor<32xf32>, %hyper: tensor<16xf32>) {
  // CHECK: llm.square_sum %{{.*}} into @norm_terms[3] : tensor<10x6xf32>
  llm.square_sum %g into @norm_terms[3] : tensor<10x6xf32>
  // CHECK: llm.square_sum %{{.*}} into @norm_terms[8] {counted = [#dist.by_coordinate<"tp", [1, 0]>]} : tensor<32xf32>
  llm.square_sum %run into @norm_terms[8] {counted = [#dist.by_coordinate<"tp", [1, 0]>]} : tensor<32xf32>
  %terms = llm.read_state @norm_terms : tensor<9xf64>
  // CHECK: llm.sum_terms %{{.*}} : (tensor<9xf64>) -> tensor<1xf64>
  %s = llm.sum_terms %terms : (tensor<9xf64>) -> tensor<1xf64>
  // CHECK: llm.global_norm %{{.*}}, %{{.*}} : (tensor<1xf64>, tensor<16xf32>) -> tensor<4xf32>
  %n = llm.global_norm %s, %hyper : (tensor<1xf64>, tensor<16xf32>) -> tensor<4xf32>
  // CHECK: llm.adamw @q with %{{.*}}, %{{.*}}, %{{.*}} moment1 @q.moment1 moment2 @q.moment2 master @q.master decay : tensor<32xf32>, tensor<4xf32>, tensor<16xf32>
  llm.adamw @q with %run, %n, %hyper moment1 @q.moment1 moment2 @q.moment2 master @q.master decay : tensor<32xf32>, tensor<4xf32>, tensor<16xf32>
  // CHECK: llm.adamw @q with %{{.*}}, %{{.*}}, %{{.*}} moment1 @q.moment1 moment2 @q.moment2 : tensor<32xf32>, tensor<4xf32>, tensor<16xf32>
  llm.adamw @q with %run, %n, %hyper moment1 @q.moment1 moment2 @q.moment2 : tensor<32xf32>, tensor<4xf32>, tensor<16xf32>
  return
}

// CHECK-LABEL: func.func @preference
func.func @preference(%loss: tensor<6xf32>, %labels: tensor<2x3xi32>, %n: tensor<1xf32>, %h: tensor<16xf32>) -> tensor<6xf32> {
  // CHECK: llm.preference_loss %{{.*}}, %{{.*}}, %{{.*}}, %{{.*}}, %{{.*}} hinge : (tensor<6xf32>, tensor<6xf32>, tensor<2x3xi32>, tensor<1xf32>, tensor<16xf32>) -> (tensor<6xf32>, tensor<6xf32>)
  %w, %t = llm.preference_loss %loss, %loss, %labels, %n, %h hinge : (tensor<6xf32>, tensor<6xf32>, tensor<2x3xi32>, tensor<1xf32>, tensor<16xf32>) -> (tensor<6xf32>, tensor<6xf32>)
  return %w : tensor<6xf32>
}
