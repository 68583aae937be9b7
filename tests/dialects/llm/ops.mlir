// SPDX-License-Identifier: Apache-2.0
// Every op of the llm dialect is printed as it was written, in both forms.
// RUN: llmc-opt %s | llmc-opt | %FileCheck %s
// RUN: llmc-opt %s --mlir-print-op-generic | llmc-opt | %FileCheck %s

// Parameters: with everything a model says, and with what partitioning adds.
// CHECK: llm.param @layers.0.q : tensor<54x18xf32> source "blk.0.attn_q.weight" transposed split <dim = 0, unit = 6, group = 3> init <normal, 2.000000e-02> weight_set "draft" storage "q8_0"
llm.param @layers.0.q : tensor<54x18xf32> source "blk.0.attn_q.weight" transposed
  split #llm.split<dim = 0, unit = 6, group = 3> init #llm.init<normal, 0.02>
  weight_set "draft" storage "q8_0"
// CHECK: llm.param @layers.0.o : tensor<7x5xf32> split <dim = 0> local tensor<4x5xf32> slice #dist.slice<axis = "tp", dim = 0, offsets = [0, 4], counts = [4, 3]> shard #dist.shard<["dp"], 64>
llm.param @layers.0.o : tensor<7x5xf32> split #llm.split<dim = 0> local tensor<4x5xf32>
  slice #dist.slice<axis = "tp", dim = 0, offsets = [0, 4], counts = [4, 3]>
  shard #dist.shard<["dp"], 64>
// CHECK: llm.param @norm : tensor<18xbf16> init <ones>
llm.param @norm : tensor<18xbf16> init #llm.init<ones>
// CHECK: llm.param @bias : tensor<18xf32> init <zeros>
llm.param @bias : tensor<18xf32> init #llm.init<zeros>

// CHECK: llm.cache @layers.0.keys : memref<3x64x3x6xbf16> split <dim = 2, group = 3>
llm.cache @layers.0.keys : memref<3x64x3x6xbf16> split #llm.split<dim = 2, group = 3>
// CHECK: llm.cache @layers.0.values : memref<3x64x3x6xbf16> values
llm.cache @layers.0.values : memref<3x64x3x6xbf16> values

// A parameter is read whole, as its local part, or as a shard of that.
// CHECK-LABEL: @parameters
func.func @parameters() {
  // CHECK: llm.get_param @layers.0.o : tensor<7x5xf32>
  %0 = llm.get_param @layers.0.o : tensor<7x5xf32>
  // CHECK: llm.get_param @layers.0.o : tensor<4x5xf32>
  %1 = llm.get_param @layers.0.o : tensor<4x5xf32>
  // CHECK: llm.get_param @layers.0.o : tensor<64xf32>
  %2 = llm.get_param @layers.0.o : tensor<64xf32>
  // CHECK: llm.get_cache @layers.0.keys : memref<3x64x3x6xbf16>
  %3 = llm.get_cache @layers.0.keys : memref<3x64x3x6xbf16>
  return
}

// Row ops on a number of rows that is not known.
// CHECK-LABEL: @rows
func.func @rows(%ids: tensor<?x?xi32>, %table: tensor<31x18xbf16>, %w: tensor<54x18xf32>,
                %vector: tensor<18xf32>, %head: tensor<6xf32>) {
  // CHECK: llm.embedding %{{.*}}, %{{.*}} : (tensor<?x?xi32>, tensor<31x18xbf16>) -> tensor<?x18xf32>
  %x = llm.embedding %ids, %table : (tensor<?x?xi32>, tensor<31x18xbf16>) -> tensor<?x18xf32>
  // CHECK: llm.embedding %{{.*}} {vocab_begin = #dist.by_coordinate<"tp", [0, 16]>}
  %e = llm.embedding %ids, %table {vocab_begin = #dist.by_coordinate<"tp", [0, 16]>} : (tensor<?x?xi32>, tensor<31x18xbf16>) -> tensor<?x18xf32>
  // CHECK: llm.linear %{{.*}}, %{{.*}} : (tensor<?x18xf32>, tensor<54x18xf32>) -> tensor<?x54xf32>
  %y = llm.linear %x, %w : (tensor<?x18xf32>, tensor<54x18xf32>) -> tensor<?x54xf32>
  // CHECK: llm.add_bias %{{.*}}, %{{.*}} : tensor<?x18xf32>, tensor<18xf32>
  %0 = llm.add_bias %x, %vector : tensor<?x18xf32>, tensor<18xf32>
  // CHECK: llm.rms_norm %{{.*}}, %{{.*}} {eps = 1.000000e-05 : f64} : tensor<?x18xf32>, tensor<18xf32>
  %1 = llm.rms_norm %x, %vector {eps = 1.0e-5 : f64} : tensor<?x18xf32>, tensor<18xf32>
  // CHECK: llm.rms_norm %{{.*}}, %{{.*}} {eps = 9.9999999999999995E-7 : f64, offset = 1.000000e+00 : f64} : tensor<?x18xf32>, tensor<6xf32>
  %2 = llm.rms_norm %x, %head {eps = 1.0e-6 : f64, offset = 1.0 : f64} : tensor<?x18xf32>, tensor<6xf32>
  // CHECK: llm.layer_norm %{{.*}}, %{{.*}}, %{{.*}} {eps = 1.000000e-05 : f64} : tensor<?x18xf32>, tensor<18xf32>, tensor<18xf32>
  %3 = llm.layer_norm %x, %vector, %vector {eps = 1.0e-5 : f64} : tensor<?x18xf32>, tensor<18xf32>, tensor<18xf32>
  // CHECK: llm.rope {{.*}}#llm.rope_params<rotary = 6, theta = 1.000000e+04>
  %4 = llm.rope %x, %ids {head_dim = 6 : i64, params = #llm.rope_params<rotary = 6, theta = 10000.0>} : tensor<?x18xf32>, tensor<?x?xi32>
  // CHECK: llm.rope {{.*}}#llm.rope_params<rotary = 4, theta = 5.000000e+05, interleaved = true, scaling = llama3, factor = 8.000000e+00, lowFreqFactor = 2.000000e+00, highFreqFactor = 5.000000e+00, originalContext = 1024>
  %5 = llm.rope %x, %ids {head_dim = 6 : i64, params = #llm.rope_params<rotary = 4, theta = 500000.0, interleaved = true, scaling = llama3, factor = 8.0, lowFreqFactor = 2.0, highFreqFactor = 5.0, originalContext = 1024>} : tensor<?x18xf32>, tensor<?x?xi32>
  // CHECK: llm.activation %{{.*}} {kind = #llm.activation<gelu_tanh>} : tensor<?x18xf32>
  %6 = llm.activation %x {kind = #llm.activation<gelu_tanh>} : tensor<?x18xf32>
  // CHECK: llm.scale %{{.*}} {factor = 4.2426406871192848 : f64} : tensor<?x18xf32>
  %7 = llm.scale %x {factor = 4.2426406871192848 : f64} : tensor<?x18xf32>
  // CHECK: llm.soft_cap %{{.*}} {cap = 3.000000e+01 : f64} : tensor<?x18xf32>
  %8 = llm.soft_cap %x {cap = 30.0 : f64} : tensor<?x18xf32>
  // CHECK: llm.add %{{.*}}, %{{.*}} : tensor<?x18xf32>
  %9 = llm.add %x, %8 : tensor<?x18xf32>
  // CHECK: llm.mul %{{.*}}, %{{.*}} : tensor<?x18xf32>
  %10 = llm.mul %x, %8 : tensor<?x18xf32>
  // CHECK: llm.gated_activation %{{.*}}, %{{.*}} {kind = #llm.activation<silu>} : tensor<?x18xf32>
  %11 = llm.gated_activation %x, %8 {kind = #llm.activation<silu>} : tensor<?x18xf32>
  // CHECK: llm.output_rows %{{.*}} : tensor<?x18xf32>
  %12 = llm.output_rows %x : tensor<?x18xf32>
  return
}

// Attention: inside the rows, over a cache, and over a cache that ranks hold apart.
// CHECK-LABEL: @attention
func.func @attention(%q: tensor<?x54xf32>, %kv: tensor<?x18xf32>, %p: tensor<?x?xi32>,
                     %q3: tensor<3x54xf32>, %kv3: tensor<3x18xf32>, %p3: tensor<3x1xi32>,
                     %bt: tensor<3x2xi32>, %cache: memref<6x64x3x6xf32>) {
  // CHECK: llm.attention %{{.*}} {head_dim = 6 : i64, scale = 2.500000e-01 : f64} : tensor<?x54xf32>, tensor<?x18xf32>, tensor<?x?xi32>
  %0 = llm.attention %q, %kv, %kv, %p {head_dim = 6 : i64, scale = 0.25 : f64} : tensor<?x54xf32>, tensor<?x18xf32>, tensor<?x?xi32>
  // CHECK: llm.attention %{{.*}} {head_dim = 6 : i64, scale = 2.500000e-01 : f64, softcap = 5.000000e+01 : f64, window = 19 : i64}
  %1 = llm.attention %q, %kv, %kv, %p {head_dim = 6 : i64, scale = 0.25 : f64, window = 19 : i64, softcap = 50.0 : f64} : tensor<?x54xf32>, tensor<?x18xf32>, tensor<?x?xi32>
  // CHECK: llm.kv_append %{{.*}}, %{{.*}}, %{{.*}}, %{{.*}} : memref<6x64x3x6xf32>, tensor<3x18xf32>, tensor<3x1xi32>, tensor<3x2xi32>
  llm.kv_append %cache, %kv3, %p3, %bt : memref<6x64x3x6xf32>, tensor<3x18xf32>, tensor<3x1xi32>, tensor<3x2xi32>
  // CHECK: llm.cached_attention %{{.*}} {group = 3 : i64, head_dim = 6 : i64, head_offset = #dist.by_coordinate<"tp", [0, 2]>, scale = 2.500000e-01 : f64}
  %2 = llm.cached_attention %q3, %cache, %cache, %p3, %bt {group = 3 : i64, head_dim = 6 : i64, scale = 0.25 : f64, head_offset = #dist.by_coordinate<"tp", [0, 2]>} : (tensor<3x54xf32>, memref<6x64x3x6xf32>, memref<6x64x3x6xf32>, tensor<3x1xi32>, tensor<3x2xi32>) -> tensor<3x54xf32>
  return
}

// The end of a step: the last row of each sequence, and the token drawn from it.
// CHECK-LABEL: @head
func.func @head(%x: tensor<6x18xf32>, %valid: tensor<3xi32>, %logits: tensor<3x31xf32>,
                %real: tensor<3xf32>, %ints: tensor<3xi32>, %seed: tensor<3xi64>) {
  // CHECK: llm.select_rows %{{.*}}, %{{.*}} : (tensor<6x18xf32>, tensor<3xi32>) -> tensor<3x18xf32>
  %0 = llm.select_rows %x, %valid : (tensor<6x18xf32>, tensor<3xi32>) -> tensor<3x18xf32>
  // CHECK: llm.sample %{{.*}} : (tensor<3x31xf32>, tensor<3xf32>, tensor<3xi32>, tensor<3xf32>, tensor<3xi64>, tensor<3xi32>, tensor<3xi32>) -> tensor<3xi32>
  %1 = llm.sample %logits, %real, %ints, %real, %seed, %ints, %ints : (tensor<3x31xf32>, tensor<3xf32>, tensor<3xi32>, tensor<3xf32>, tensor<3xi64>, tensor<3xi32>, tensor<3xi32>) -> tensor<3xi32>
  return
}
