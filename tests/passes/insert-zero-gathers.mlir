// SPDX-License-Identifier: Apache-2.0
// RUN: llmc-opt %s -split-input-file --llmc-insert-zero-gathers | %FileCheck %s

// Three ranks. A panel is 32 outputs of f32: 70 outputs are three panels, one for each
// rank. Every reader gathers for itself; vectors stay whole.
// CHECK: llm.param @w : tensor<70x18xf32> shard #dist.shard<["dp"], 576>
// CHECK: llm.param @narrow : tensor<7x70xbf16> shard #dist.shard<["dp"], 4480>
// CHECK: llm.param @norm : tensor<18xf32>{{$}}
// CHECK-LABEL: @three_ranks
// CHECK: %[[S:.*]] = llm.get_param @w : tensor<576xf32>
// CHECK: llm.get_param @norm : tensor<18xf32>
// CHECK: %[[W0:.*]] = dist.zero_gather %[[S]] ["dp"] {pass = "insert-zero-gathers", subject = "w"} : (tensor<576xf32>) -> tensor<70x18xf32>
// CHECK: llm.embedding %{{.*}}, %[[W0]]
// CHECK: %[[W1:.*]] = dist.zero_gather %[[S]]
// CHECK: llm.linear %{{.*}}, %[[W1]]
// CHECK: %[[T:.*]] = llm.get_param @narrow : tensor<4480xbf16>
// CHECK: dist.zero_gather %[[T]] {{.*}} : (tensor<4480xbf16>) -> tensor<7x70xbf16>
module attributes {llm.options = {zero = 3 : i64}} {
  dist.mesh @mesh ["dp", "pp", "tp"] [3, 1, 1]
  llm.param @w : tensor<70x18xf32>
  llm.param @narrow : tensor<7x70xbf16>
  llm.param @norm : tensor<18xf32>
  func.func @three_ranks(%ids: tensor<2x1xi32>) -> tensor<2x7xf32> attributes {llm.entry = "decode"} {
    %w = llm.get_param @w : tensor<70x18xf32>
    %n = llm.get_param @norm : tensor<18xf32>
    %0 = llm.embedding %ids, %w : (tensor<2x1xi32>, tensor<70x18xf32>) -> tensor<2x18xf32>
    %1 = llm.rms_norm %0, %n {eps = 1.0e-5 : f64} : tensor<2x18xf32>, tensor<18xf32>
    %2 = llm.linear %1, %w : (tensor<2x18xf32>, tensor<70x18xf32>) -> tensor<2x70xf32>
    %t = llm.get_param @narrow : tensor<7x70xbf16>
    %3 = llm.linear %2, %t : (tensor<2x70xf32>, tensor<7x70xbf16>) -> tensor<2x7xf32>
    return %3 : tensor<2x7xf32>
  }
}

// -----

// What tensor split left of a parameter is sharded: 66 of 131 outputs are three panels, two
// for each of two ranks.
// CHECK: llm.param @w : {{.*}} local tensor<66x5xf32> {{.*}} shard #dist.shard<["dp"], 320>
// CHECK-LABEL: @after_tensor_split
// CHECK: llm.get_param @w : tensor<320xf32>
module attributes {llm.options = {zero = 3 : i64}} {
  dist.mesh @mesh ["dp", "pp", "tp"] [2, 1, 2]
  llm.param @w : tensor<131x5xf32> split #llm.split<dim = 0> local tensor<66x5xf32> slice #dist.slice<axis = "tp", dim = 0, offsets = [0, 66], counts = [66, 65]>
  func.func @after_tensor_split(%ids: tensor<2x1xi32>, %x: tensor<2x5xf32>) -> tensor<2x66xf32> attributes {llm.entry = "decode"} {
    %w = llm.get_param @w : tensor<66x5xf32>
    %0 = llm.linear %x, %w : (tensor<2x5xf32>, tensor<66x5xf32>) -> tensor<2x66xf32>
    return %0 : tensor<2x66xf32>
  }
}

// -----

// Without ZeRO every replica has the whole.
// CHECK-LABEL: @replicas
// CHECK-NOT: dist.zero_gather
module attributes {llm.options = {zero = 0 : i64}} {
  dist.mesh @mesh ["dp", "pp", "tp"] [3, 1, 1]
  llm.param @w : tensor<7x5xf32>
  func.func @replicas(%ids: tensor<2x1xi32>, %x: tensor<2x5xf32>) -> tensor<2x7xf32> attributes {llm.entry = "decode"} {
    %w = llm.get_param @w : tensor<7x5xf32>
    %0 = llm.linear %x, %w : (tensor<2x5xf32>, tensor<7x5xf32>) -> tensor<2x7xf32>
    return %0 : tensor<2x7xf32>
  }
}

// -----

// A budget of 1152 bytes on each rank keeps what the forward pass uses last: two runs of 64
// elements (@head, 512 bytes) and of 64 (@up, 512); @down, as large, is over it. The copy is
// marked where it is made, and read in the backward pass without a gather. A second use in
// the forward pass takes the same copy. What only the forward pass reads is not kept.
// CHECK-LABEL: @step.forward
// CHECK: dist.zero_gather %{{.*}} {pass = "insert-zero-gathers", subject = "table"}
// CHECK: dist.zero_gather %{{.*}} {pass = "insert-zero-gathers", subject = "down"}
// CHECK: %[[UP:.*]] = dist.zero_gather %{{.*}} {dist.kept, pass = "insert-zero-gathers", subject = "up"}
// CHECK: llm.linear %{{.*}}, %[[UP]]
// CHECK: %[[HEAD:.*]] = dist.zero_gather %{{.*}} {dist.kept, pass = "insert-zero-gathers", subject = "head"}
// CHECK: llm.linear %{{.*}}, %[[HEAD]]
// CHECK: llm.linear %{{.*}}, %[[UP]]
// CHECK-LABEL: @step.backward
// CHECK: %[[KEPT:.*]] = llm.get_param @head {dist.kept} : tensor<32x2xf32>
// CHECK: llm.linear_input_gradient %{{.*}}, %[[KEPT]]
// CHECK: llm.get_param @up {dist.kept} : tensor<2x2xf32>
// CHECK: dist.zero_gather %{{.*}} {pass = "insert-zero-gathers", subject = "down"}
module attributes {llm.options = {mode = "train", zero = 3 : i64, zero_live_bytes = 1152 : i64}} {
  dist.mesh @mesh ["dp", "pp", "tp"] [2, 1, 1]
  llm.param @table : tensor<7x2xf32>
  llm.param @down : tensor<2x2xf32>
  llm.param @up : tensor<2x2xf32>
  llm.param @head : tensor<32x2xf32>
  func.func @step.forward(%ids: tensor<2x1xi32>) -> tensor<2x2xf32> attributes {llm.entry = "forward"} {
    %t = llm.get_param @table : tensor<7x2xf32>
    %d = llm.get_param @down : tensor<2x2xf32>
    %u = llm.get_param @up : tensor<2x2xf32>
    %h = llm.get_param @head : tensor<32x2xf32>
    %0 = llm.embedding %ids, %t : (tensor<2x1xi32>, tensor<7x2xf32>) -> tensor<2x2xf32>
    %1 = llm.linear %0, %d : (tensor<2x2xf32>, tensor<2x2xf32>) -> tensor<2x2xf32>
    %2 = llm.linear %1, %u : (tensor<2x2xf32>, tensor<2x2xf32>) -> tensor<2x2xf32>
    %3 = llm.linear %2, %h : (tensor<2x2xf32>, tensor<32x2xf32>) -> tensor<2x32xf32>
    %4 = llm.linear %2, %u : (tensor<2x2xf32>, tensor<2x2xf32>) -> tensor<2x2xf32>
    return %4 : tensor<2x2xf32>
  }
  func.func @step.backward(%dy: tensor<2x32xf32>) -> tensor<2x2xf32> attributes {llm.entry = "backward"} {
    %d = llm.get_param @down : tensor<2x2xf32>
    %u = llm.get_param @up : tensor<2x2xf32>
    %h = llm.get_param @head : tensor<32x2xf32>
    %0 = llm.linear_input_gradient %dy, %h : (tensor<2x32xf32>, tensor<32x2xf32>) -> tensor<2x2xf32>
    %1 = llm.linear_input_gradient %0, %u : (tensor<2x2xf32>, tensor<2x2xf32>) -> tensor<2x2xf32>
    %2 = llm.linear_input_gradient %1, %d : (tensor<2x2xf32>, tensor<2x2xf32>) -> tensor<2x2xf32>
    return %2 : tensor<2x2xf32>
  }
}
