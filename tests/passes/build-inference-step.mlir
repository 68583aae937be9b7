// SPDX-License-Identifier: Apache-2.0
// RUN: llmc-opt %s -split-input-file --llmc-build-inference-step -verify-diagnostics | %FileCheck %s

// A model that says nothing of itself gets the vocabulary that its logits have.
// CHECK: module attributes {llm.model = {digest = {{-?[0-9]+}} : i64, vocab_size = 31 : i64},

// Matrices take the compute dtype, vectors stay f32. 70 tokens are two pages, for each of
// three sequences; 3 query heads read one key/value head.
// CHECK: llm.param @embed : tensor<31x18xbf16>
// CHECK: llm.param @norm : tensor<18xf32>
// CHECK: llm.cache @layers.0.keys : memref<6x64x1x6xbf16> split <dim = 2, group = 3>
// CHECK: llm.cache @layers.0.values : memref<6x64x1x6xbf16> values split <dim = 2, group = 3>
// CHECK: llm.cache @layers.1.keys : memref<6x64x1x6xbf16>
// CHECK: llm.cache @layers.1.values : memref<6x64x1x6xbf16> values

// One block function for each block of rows: the chunk, the batch, the chunk again.
// Attention becomes two appends and attention over the cache; the window stays.
// CHECK-LABEL: func.func private @layer.prefill
// CHECK-SAME: (%[[X:.*]]: tensor<5x18xf32>, %[[P:.*]]: tensor<1x5xi32>, %{{.*}}: tensor<6x18xbf16>, %[[T:.*]]: tensor<1x2xi32>, %[[KC:.*]]: memref<6x64x1x6xbf16>, %[[VC:.*]]: memref<6x64x1x6xbf16>)
// CHECK: %[[K:.*]] = llm.linear
// CHECK-NEXT: llm.kv_append %[[KC]], %[[K]], %[[P]], %[[T]]
// CHECK-NEXT: llm.kv_append %[[VC]], %[[K]], %[[P]], %[[T]]
// CHECK-NEXT: llm.cached_attention %[[X]], %[[KC]], %[[VC]], %[[P]], %[[T]] {group = 3 : i64, head_dim = 6 : i64, scale = 2.500000e-01 : f64, window = 7 : i64}
// CHECK-LABEL: func.func private @layer.decode(%{{.*}}: tensor<3x18xf32>, %{{.*}}: tensor<3x1xi32>
// CHECK-LABEL: func.func private @layer.score(%{{.*}}: tensor<5x18xf32>, %{{.*}}: tensor<1x5xi32>
// CHECK-NOT: @layer(

// Prefill: the last valid row of the chunk reaches the head, and a token is drawn.
// CHECK-LABEL: func.func @prefill
// CHECK-SAME: {llm.name = "ids"}{{.*}}{llm.name = "positions"}{{.*}}{llm.name = "valid_rows"}{{.*}}{llm.name = "block_table"}{{.*}}{llm.name = "temperature"}{{.*}}{llm.name = "top_k"}{{.*}}{llm.name = "top_p"}{{.*}}{llm.name = "seed"}{{.*}}{llm.name = "sequence"}{{.*}}{llm.name = "sample_positions"}
// CHECK-SAME: -> (tensor<1x31xf32> {llm.name = "logits"}, tensor<1xi32> {llm.name = "next_ids"}) attributes {llm.entry = "prefill"}
// CHECK: call @layer.prefill
// CHECK: %[[K1:.*]] = llm.get_cache @layers.1.keys
// CHECK: %[[V1:.*]] = llm.get_cache @layers.1.values
// CHECK: call @layer.prefill({{.*}}, %[[K1]], %[[V1]])
// CHECK: llm.select_rows {{.*}} -> tensor<1x18xf32>
// CHECK: %[[LOGITS:.*]] = llm.linear {{.*}} -> tensor<1x31xf32>
// CHECK: %[[NEXT:.*]] = llm.sample %[[LOGITS]]
// CHECK: return %[[LOGITS]], %[[NEXT]]

// Decode: one row for each sequence, so that none is selected.
// CHECK-LABEL: func.func @decode
// CHECK-NOT: llm.select_rows
// CHECK: llm.sample {{.*}} -> tensor<3xi32>

// Score: logits of all rows, and no token.
// CHECK-LABEL: func.func @score
// CHECK-SAME: -> (tensor<5x31xf32> {llm.name = "logits"})
// CHECK-NOT: llm.select_rows
// CHECK-NOT: llm.sample
// CHECK-NOT: @forward

module attributes {llm.options = {batch = 3 : i64, chunk = 5 : i64, dtype = "bf16", seq = 70 : i64}} {
  llm.param @embed : tensor<31x18xf32>
  llm.param @l0.k : tensor<6x18xf32>
  llm.param @l1.k : tensor<6x18xf32>
  llm.param @norm : tensor<18xf32>

  func.func private @layer(%x: tensor<?x18xf32>, %p: tensor<?x?xi32>, %w: tensor<6x18xf32>) -> tensor<?x18xf32> attributes {llm.block} {
    %k = llm.linear %x, %w : (tensor<?x18xf32>, tensor<6x18xf32>) -> tensor<?x6xf32>
    %o = llm.attention %x, %k, %k, %p {head_dim = 6 : i64, scale = 0.25 : f64, window = 7 : i64} : tensor<?x18xf32>, tensor<?x6xf32>, tensor<?x?xi32>
    return %o : tensor<?x18xf32>
  }
  func.func @forward(%ids: tensor<?x?xi32>, %p: tensor<?x?xi32>) -> tensor<?x31xf32> attributes {llm.entry = "forward"} {
    %e = llm.get_param @embed : tensor<31x18xf32>
    %x = llm.embedding %ids, %e : (tensor<?x?xi32>, tensor<31x18xf32>) -> tensor<?x18xf32>
    %w0 = llm.get_param @l0.k : tensor<6x18xf32>
    %0 = call @layer(%x, %p, %w0) : (tensor<?x18xf32>, tensor<?x?xi32>, tensor<6x18xf32>) -> tensor<?x18xf32> loc("layers.0")
    %w1 = llm.get_param @l1.k : tensor<6x18xf32>
    %1 = call @layer(%0, %p, %w1) : (tensor<?x18xf32>, tensor<?x?xi32>, tensor<6x18xf32>) -> tensor<?x18xf32> loc("layers.1")
    %2 = llm.output_rows %1 : tensor<?x18xf32>
    %n = llm.get_param @norm : tensor<18xf32>
    %3 = llm.rms_norm %2, %n {eps = 1.0e-5 : f64} : tensor<?x18xf32>, tensor<18xf32>
    %4 = llm.linear %3, %e : (tensor<?x18xf32>, tensor<31x18xf32>) -> tensor<?x31xf32>
    return %4 : tensor<?x31xf32>
  }
}

// -----

// A module without @forward is no model.
// expected-error @+1 {{expects a function @forward}}
module {
}

// -----

// @forward has one form.
module attributes {llm.options = {seq = 64 : i64}} {
  // expected-error @+1 {{expects an entry "forward" from ids and positions}}
  func.func @forward(%ids: tensor<?x?xi32>) -> tensor<?x?xi32> attributes {llm.entry = "forward"} {
    return %ids : tensor<?x?xi32>
  }
}

// -----

// What the plan says of the model is what @forward computes.
// expected-error @+1 {{expects a vocab_size of 18, the columns of the logits, got 19}}
module attributes {llm.options = {seq = 64 : i64}, llm.model = {vocab_size = 19 : i64, context_length = 64 : i64, hidden_size = 18 : i64, layers = 1 : i64, heads = 1 : i64, kv_heads = 1 : i64, head_dim = 18 : i64}} {
  func.func @forward(%ids: tensor<?x?xi32>, %p: tensor<?x?xi32>) -> tensor<?x18xf32> attributes {llm.entry = "forward"} {
    %w = llm.get_param @w : tensor<31x18xf32>
    %x = llm.embedding %ids, %w : (tensor<?x?xi32>, tensor<31x18xf32>) -> tensor<?x18xf32>
    return %x : tensor<?x18xf32>
  }
  llm.param @w : tensor<31x18xf32>
}

// -----

// Numbers of the model are positive.
// expected-error @+1 {{expects llm.model to have context_length from 1 to}}
module attributes {llm.options = {seq = 64 : i64}, llm.model = {vocab_size = 18 : i64, context_length = -1 : i64}} {
  func.func @forward(%ids: tensor<?x?xi32>, %p: tensor<?x?xi32>) -> tensor<?x18xf32> attributes {llm.entry = "forward"} {
    %w = llm.get_param @w : tensor<31x18xf32>
    %x = llm.embedding %ids, %w : (tensor<?x?xi32>, tensor<31x18xf32>) -> tensor<?x18xf32>
    return %x : tensor<?x18xf32>
  }
  llm.param @w : tensor<31x18xf32>
}

// -----

// Blocks do not call blocks.
module attributes {llm.options = {seq = 64 : i64}} {
  func.func private @inner(%x: tensor<?x18xf32>) -> tensor<?x18xf32> attributes {llm.block} {
    return %x : tensor<?x18xf32>
  }
  func.func private @outer(%x: tensor<?x18xf32>) -> tensor<?x18xf32> attributes {llm.block} {
    // expected-error @+1 {{expects no call inside a block function}}
    %0 = call @inner(%x) : (tensor<?x18xf32>) -> tensor<?x18xf32>
    return %0 : tensor<?x18xf32>
  }
  func.func @forward(%ids: tensor<?x?xi32>, %p: tensor<?x?xi32>) -> tensor<?x18xf32> attributes {llm.entry = "forward"} {
    %w = llm.get_param @w : tensor<31x18xf32>
    %x = llm.embedding %ids, %w : (tensor<?x?xi32>, tensor<31x18xf32>) -> tensor<?x18xf32>
    %0 = call @outer(%x) : (tensor<?x18xf32>) -> tensor<?x18xf32>
    return %0 : tensor<?x18xf32>
  }
  llm.param @w : tensor<31x18xf32>
}
