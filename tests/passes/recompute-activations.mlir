// SPDX-License-Identifier: Apache-2.0
// RUN: llmc-opt %s -split-input-file --llmc-build-training-step --llmc-recompute-activations | %FileCheck %s

// none: the layer saves what its gradients read: sum, activation, its input, first norm.
// CHECK-LABEL: func.func private @layer.forward(
// CHECK: return %{{.*}}, %{{.*}}, %{{.*}}, %{{.*}}, %{{.*}} : tensor<4x6xf32>, tensor<4x6xf32>, tensor<4x8xf32>, tensor<4x8xf32>, tensor<4x6xf32>
// CHECK-LABEL: func.func private @layer.forward.backward(
// CHECK-NOT: llm.rms_norm %
// CHECK-SAME: llm.backward_of = @layer.forward, llm.block, llm.num_saved = 4 : i64
module attributes {llm.options = {batch = 1 : i64, seq = 4 : i64, microbatches = 1 : i64, dtype = "f32", recompute = "none"}} {
  llm.param @embed : tensor<12x6xf32>
  llm.param @norm : tensor<6xf32>
  llm.param @up : tensor<8x6xf32>
  llm.param @down : tensor<6x8xf32>
  func.func private @layer(%x: tensor<?x6xf32>, %n: tensor<6xf32>, %u: tensor<8x6xf32>, %d: tensor<6x8xf32>) -> tensor<?x6xf32> attributes {llm.block} {
    %0 = llm.rms_norm %x, %n {eps = 1.0e-5 : f64} : tensor<?x6xf32>, tensor<6xf32>
    %1 = llm.linear %0, %u : (tensor<?x6xf32>, tensor<8x6xf32>) -> tensor<?x8xf32>
    %2 = llm.activation %1 {kind = #llm.activation<silu>} : tensor<?x8xf32>
    %3 = llm.linear %2, %d : (tensor<?x8xf32>, tensor<6x8xf32>) -> tensor<?x6xf32>
    %4 = llm.add %x, %3 : tensor<?x6xf32>
    %5 = llm.rms_norm %4, %n {eps = 1.0e-5 : f64} : tensor<?x6xf32>, tensor<6xf32>
    return %5 : tensor<?x6xf32>
  }
  func.func @forward(%ids: tensor<?x?xi32>, %positions: tensor<?x?xi32>) -> tensor<?x12xf32> attributes {llm.entry = "forward"} {
    %e = llm.get_param @embed : tensor<12x6xf32>
    %x = llm.embedding %ids, %e : (tensor<?x?xi32>, tensor<12x6xf32>) -> tensor<?x6xf32>
    %n = llm.get_param @norm : tensor<6xf32>
    %u = llm.get_param @up : tensor<8x6xf32>
    %d = llm.get_param @down : tensor<6x8xf32>
    %y = call @layer(%x, %n, %u, %d) : (tensor<?x6xf32>, tensor<6xf32>, tensor<8x6xf32>, tensor<6x8xf32>) -> tensor<?x6xf32>
    %z = call @layer(%y, %n, %u, %d) : (tensor<?x6xf32>, tensor<6xf32>, tensor<8x6xf32>, tensor<6x8xf32>) -> tensor<?x6xf32>
    %m = llm.rms_norm %z, %n {eps = 1.0e-5 : f64} : tensor<?x6xf32>, tensor<6xf32>
    %o = llm.output_rows %m : tensor<?x6xf32>
    %l = llm.linear %o, %e : (tensor<?x6xf32>, tensor<12x6xf32>) -> tensor<?x12xf32>
    return %l : tensor<?x12xf32>
  }
}

// -----

// selective: the activation and the first norm read what is saved or an argument. The sum
// reads a product that nothing else needs: it stays saved, as does the product that the
// activation reads.
// CHECK-LABEL: func.func @step.forward(
// CHECK-SAME: tensor<4x8xf32> {llm.name = "saved.8"}) attributes
// CHECK: %[[X:.*]] = llm.embedding
// CHECK: %[[Y:.*]]:3 = call @layer.forward(%[[X]],
// CHECK: %[[Z:.*]]:3 = call @layer.forward(%[[Y]]#0,
// CHECK: %[[L:.*]] = llm.linear %{{.*}}, %{{.*}} : (tensor<4x6xf32>, tensor<12x6xf32>)
// CHECK: %{{.*}}, %[[LOGSUM:.*]] = llm.cross_entropy_loss
// CHECK: return %[[L]], %[[LOGSUM]], %[[Z]]#0, %[[Y]]#0, %[[Z]]#1, %[[Z]]#2, %[[X]], %[[Y]]#1, %[[Y]]#2
// CHECK-LABEL: func.func private @layer.forward(
// CHECK: %[[U:.*]] = llm.linear
// CHECK: %[[SUM:.*]] = llm.add
// CHECK: %[[R:.*]] = llm.rms_norm %[[SUM]]
// CHECK: return %[[R]], %[[SUM]], %[[U]]
// CHECK-LABEL: func.func private @layer.forward.backward(
// CHECK-SAME: %[[DY:[a-z0-9]+]]: tensor<4x6xf32>, %[[IN:[a-z0-9]+]]: tensor<4x6xf32>, %[[N:[a-z0-9]+]]: tensor<6xf32>,
// CHECK-SAME: %[[S:[a-z0-9]+]]: tensor<4x6xf32>, %[[H:[a-z0-9]+]]: tensor<4x8xf32>) ->
// CHECK-SAME: llm.num_saved = 2 : i64
// CHECK-NEXT: %[[A:.*]] = llm.activation %[[H]] {kind = #llm.activation<silu>}
// CHECK-NEXT: %[[M:.*]] = llm.rms_norm %[[IN]], %[[N]] {eps = 1.000000e-05 : f64}
// CHECK-NEXT: llm.rms_norm_gradient %[[DY]], %[[S]], %[[N]]
// CHECK: llm.linear_weight_gradient %{{.*}}, %[[A]]
// CHECK: llm.activation_gradient %{{.*}}, %[[H]]
// CHECK: llm.linear_weight_gradient %{{.*}}, %[[M]]

// The head's norm too. Reads of parameters come before the copies that use them.
// CHECK-LABEL: func.func @step.backward(
// CHECK-SAME: %[[TOP:[a-z0-9]+]]: tensor<4x6xf32> {llm.name = "saved.2"}
// CHECK-NEXT: %[[NORM:.*]] = llm.get_param @norm
// CHECK-NEXT: %[[HEAD:.*]] = llm.rms_norm %[[TOP]], %[[NORM]]
// CHECK: llm.linear_weight_gradient %{{.*}}, %[[HEAD]]
// CHECK: call @layer.forward.backward(
module attributes {llm.options = {batch = 1 : i64, seq = 4 : i64, microbatches = 1 : i64, dtype = "f32", recompute = "selective"}} {
  llm.param @embed : tensor<12x6xf32>
  llm.param @norm : tensor<6xf32>
  llm.param @up : tensor<8x6xf32>
  llm.param @down : tensor<6x8xf32>
  func.func private @layer(%x: tensor<?x6xf32>, %n: tensor<6xf32>, %u: tensor<8x6xf32>, %d: tensor<6x8xf32>) -> tensor<?x6xf32> attributes {llm.block} {
    %0 = llm.rms_norm %x, %n {eps = 1.0e-5 : f64} : tensor<?x6xf32>, tensor<6xf32>
    %1 = llm.linear %0, %u : (tensor<?x6xf32>, tensor<8x6xf32>) -> tensor<?x8xf32>
    %2 = llm.activation %1 {kind = #llm.activation<silu>} : tensor<?x8xf32>
    %3 = llm.linear %2, %d : (tensor<?x8xf32>, tensor<6x8xf32>) -> tensor<?x6xf32>
    %4 = llm.add %x, %3 : tensor<?x6xf32>
    %5 = llm.rms_norm %4, %n {eps = 1.0e-5 : f64} : tensor<?x6xf32>, tensor<6xf32>
    return %5 : tensor<?x6xf32>
  }
  func.func @forward(%ids: tensor<?x?xi32>, %positions: tensor<?x?xi32>) -> tensor<?x12xf32> attributes {llm.entry = "forward"} {
    %e = llm.get_param @embed : tensor<12x6xf32>
    %x = llm.embedding %ids, %e : (tensor<?x?xi32>, tensor<12x6xf32>) -> tensor<?x6xf32>
    %n = llm.get_param @norm : tensor<6xf32>
    %u = llm.get_param @up : tensor<8x6xf32>
    %d = llm.get_param @down : tensor<6x8xf32>
    %y = call @layer(%x, %n, %u, %d) : (tensor<?x6xf32>, tensor<6xf32>, tensor<8x6xf32>, tensor<6x8xf32>) -> tensor<?x6xf32>
    %z = call @layer(%y, %n, %u, %d) : (tensor<?x6xf32>, tensor<6xf32>, tensor<8x6xf32>, tensor<6x8xf32>) -> tensor<?x6xf32>
    %m = llm.rms_norm %z, %n {eps = 1.0e-5 : f64} : tensor<?x6xf32>, tensor<6xf32>
    %o = llm.output_rows %m : tensor<?x6xf32>
    %l = llm.linear %o, %e : (tensor<?x6xf32>, tensor<12x6xf32>) -> tensor<?x12xf32>
    return %l : tensor<?x12xf32>
  }
}

// -----

// full: a layer saves nothing but what it is called with.
// CHECK-LABEL: func.func @step.forward(
// CHECK-SAME: tensor<4x6xf32> {llm.name = "saved.4"}) attributes
// CHECK: %[[X:.*]] = llm.embedding
// CHECK: %[[Y:.*]] = call @layer.forward(%[[X]],
// CHECK: %[[Z:.*]] = call @layer.forward(%[[Y]],
// CHECK: return %{{.*}}, %{{.*}}, %[[Z]], %[[Y]], %[[X]] :
// CHECK-LABEL: func.func private @layer.forward.backward(
// CHECK-SAME: %[[DY:[a-z0-9]+]]: tensor<4x6xf32>, %[[IN:[a-z0-9]+]]: tensor<4x6xf32>, %[[N:[a-z0-9]+]]: tensor<6xf32>, %[[U:[a-z0-9]+]]: tensor<8x6xf32>, %[[D:[a-z0-9]+]]: tensor<6x8xf32>, %{{.*}}: tensor<1x4xi32>) ->
// CHECK-SAME: llm.num_saved = 0 : i64
// CHECK-NEXT: %[[M:.*]] = llm.rms_norm %[[IN]], %[[N]]
// CHECK-NEXT: %[[H:.*]] = llm.linear %[[M]], %[[U]]
// CHECK-NEXT: %[[A:.*]] = llm.activation %[[H]]
// CHECK-NEXT: %[[P:.*]] = llm.linear %[[A]], %[[D]]
// CHECK-NEXT: %[[S:.*]] = llm.add %[[IN]], %[[P]]
// CHECK-NEXT: llm.rms_norm_gradient %[[DY]], %[[S]], %[[N]]
module attributes {llm.options = {batch = 1 : i64, seq = 4 : i64, microbatches = 1 : i64, dtype = "f32", recompute = "full"}} {
  llm.param @embed : tensor<12x6xf32>
  llm.param @norm : tensor<6xf32>
  llm.param @up : tensor<8x6xf32>
  llm.param @down : tensor<6x8xf32>
  func.func private @layer(%x: tensor<?x6xf32>, %n: tensor<6xf32>, %u: tensor<8x6xf32>, %d: tensor<6x8xf32>) -> tensor<?x6xf32> attributes {llm.block} {
    %0 = llm.rms_norm %x, %n {eps = 1.0e-5 : f64} : tensor<?x6xf32>, tensor<6xf32>
    %1 = llm.linear %0, %u : (tensor<?x6xf32>, tensor<8x6xf32>) -> tensor<?x8xf32>
    %2 = llm.activation %1 {kind = #llm.activation<silu>} : tensor<?x8xf32>
    %3 = llm.linear %2, %d : (tensor<?x8xf32>, tensor<6x8xf32>) -> tensor<?x6xf32>
    %4 = llm.add %x, %3 : tensor<?x6xf32>
    %5 = llm.rms_norm %4, %n {eps = 1.0e-5 : f64} : tensor<?x6xf32>, tensor<6xf32>
    return %5 : tensor<?x6xf32>
  }
  func.func @forward(%ids: tensor<?x?xi32>, %positions: tensor<?x?xi32>) -> tensor<?x12xf32> attributes {llm.entry = "forward"} {
    %e = llm.get_param @embed : tensor<12x6xf32>
    %x = llm.embedding %ids, %e : (tensor<?x?xi32>, tensor<12x6xf32>) -> tensor<?x6xf32>
    %n = llm.get_param @norm : tensor<6xf32>
    %u = llm.get_param @up : tensor<8x6xf32>
    %d = llm.get_param @down : tensor<6x8xf32>
    %y = call @layer(%x, %n, %u, %d) : (tensor<?x6xf32>, tensor<6xf32>, tensor<8x6xf32>, tensor<6x8xf32>) -> tensor<?x6xf32>
    %z = call @layer(%y, %n, %u, %d) : (tensor<?x6xf32>, tensor<6xf32>, tensor<8x6xf32>, tensor<6x8xf32>) -> tensor<?x6xf32>
    %m = llm.rms_norm %z, %n {eps = 1.0e-5 : f64} : tensor<?x6xf32>, tensor<6xf32>
    %o = llm.output_rows %m : tensor<?x6xf32>
    %l = llm.linear %o, %e : (tensor<?x6xf32>, tensor<12x6xf32>) -> tensor<?x12xf32>
    return %l : tensor<?x12xf32>
  }
}
