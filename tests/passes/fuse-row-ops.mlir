// SPDX-License-Identifier: Apache-2.0
// RUN: llmc-opt %s -split-input-file --llmc-fuse-row-ops | %FileCheck %s

module {
  // Residual, norm and scale walk the same rows; both values that others read come out.
  // CHECK-LABEL: func.func @norms
  // CHECK-SAME: (%{{.*}}: tensor<1x20xi32>, %[[X:.*]]: tensor<20x18xf32>, %[[R:.*]]: tensor<20x18xf32>, %[[W:.*]]: tensor<18xf32>)
  // CHECK: %[[F:.*]]:2 = plan.fused(%[[X]], %[[R]], %[[W]])
  // CHECK-NEXT: ^bb0(%[[A:.*]]: tensor<20x18xf32>, %[[B:.*]]: tensor<20x18xf32>, %[[C:.*]]: tensor<18xf32>):
  // CHECK-NEXT: %[[SUM:.*]] = llm.add %[[A]], %[[B]]
  // CHECK-NEXT: %[[NORM:.*]] = llm.rms_norm %[[SUM]], %[[C]]
  // CHECK-NEXT: %[[SCALED:.*]] = llm.scale %[[NORM]]
  // CHECK-NEXT: plan.yield %[[SUM]], %[[SCALED]]
  // CHECK: return %[[F]]#0, %[[F]]#1
  func.func @norms(%ids: tensor<1x20xi32>, %x: tensor<20x18xf32>, %r: tensor<20x18xf32>, %w: tensor<18xf32>) -> (tensor<20x18xf32>, tensor<20x18xf32>) {
    %0 = llm.add %x, %r : tensor<20x18xf32>
    %1 = llm.rms_norm %0, %w {eps = 1.0e-5 : f64} : tensor<20x18xf32>, tensor<18xf32>
    %2 = llm.scale %1 {factor = 2.0 : f64} : tensor<20x18xf32>
    return %0, %2 : tensor<20x18xf32>, tensor<20x18xf32>
  }

  // The product between reads what the first op computes: two regions.
  // CHECK-LABEL: func.func @between
  // CHECK: %[[A:.*]] = plan.fused
  // CHECK: llm.activation
  // CHECK: %[[Y:.*]] = llm.linear %[[A]]
  // CHECK: plan.fused(%[[A]], %[[Y]])
  // CHECK: llm.add
  func.func @between(%ids: tensor<1x20xi32>, %x: tensor<20x18xf32>, %w: tensor<18x18xf32>) -> tensor<20x18xf32> {
    %0 = llm.activation %x {kind = #llm.activation<relu>} : tensor<20x18xf32>
    %1 = llm.linear %0, %w : (tensor<20x18xf32>, tensor<18x18xf32>) -> tensor<20x18xf32>
    %2 = llm.add %0, %1 : tensor<20x18xf32>
    return %2 : tensor<20x18xf32>
  }

  // A norm of rows and a norm of heads walk memory differently: two regions.
  // CHECK-LABEL: func.func @two_norms
  // CHECK: %[[ROWS:.*]] = plan.fused
  // CHECK: plan.fused(%[[ROWS]]
  func.func @two_norms(%ids: tensor<1x20xi32>, %x: tensor<20x18xf32>, %w: tensor<18xf32>, %h: tensor<6xf32>) -> tensor<20x18xf32> {
    %0 = llm.rms_norm %x, %w {eps = 1.0e-5 : f64} : tensor<20x18xf32>, tensor<18xf32>
    %1 = llm.rms_norm %0, %h {eps = 1.0e-5 : f64} : tensor<20x18xf32>, tensor<6xf32>
    return %1 : tensor<20x18xf32>
  }

  // Few rows, add and norm between two products: the add is left for the product before,
  // the norm for the product after.
  // CHECK-LABEL: func.func @decode
  // CHECK: llm.linear
  // CHECK: %[[SUM:.*]] = plan.fused
  // CHECK-NEXT: ^bb0
  // CHECK-NEXT: llm.add
  // CHECK-NEXT: plan.yield
  // CHECK: plan.fused(%[[SUM]]
  // CHECK-NEXT: ^bb0
  // CHECK-NEXT: llm.rms_norm
  // CHECK-NEXT: plan.yield
  // CHECK: llm.linear
  func.func @decode(%ids: tensor<3x1xi32>, %x: tensor<3x18xf32>, %r: tensor<3x18xf32>, %n: tensor<18xf32>, %w: tensor<18x18xf32>) -> (tensor<3x18xf32>, tensor<3x18xf32>) {
    %y = llm.linear %x, %w : (tensor<3x18xf32>, tensor<18x18xf32>) -> tensor<3x18xf32>
    %0 = llm.add %r, %y : tensor<3x18xf32>
    %1 = llm.rms_norm %0, %n {eps = 1.0e-5 : f64} : tensor<3x18xf32>, tensor<18xf32>
    %2 = llm.linear %1, %w : (tensor<3x18xf32>, tensor<18x18xf32>) -> tensor<3x18xf32>
    return %0, %2 : tensor<3x18xf32>, tensor<3x18xf32>
  }

  // What nobody reads is not computed.
  // CHECK-LABEL: func.func @dead
  // CHECK-NEXT: return
  func.func @dead(%ids: tensor<1x20xi32>, %x: tensor<20x18xf32>) {
    %0 = llm.scale %x {factor = 2.0 : f64} : tensor<20x18xf32>
    %1 = llm.add %0, %0 : tensor<20x18xf32>
    return
  }

  // Different numbers of rows never share a kernel.
  // CHECK-LABEL: func.func @shapes
  // CHECK: plan.fused
  // CHECK: plan.fused
  func.func @shapes(%ids: tensor<1x20xi32>, %x: tensor<20x18xf32>, %y: tensor<2x18xf32>) -> (tensor<20x18xf32>, tensor<2x18xf32>) {
    %0 = llm.scale %x {factor = 2.0 : f64} : tensor<20x18xf32>
    %1 = llm.scale %y {factor = 2.0 : f64} : tensor<2x18xf32>
    return %0, %1 : tensor<20x18xf32>, tensor<2x18xf32>
  }
}

// -----

// There are no slots on cuda: the same pair is one kernel.
// CHECK-LABEL: module attributes {llm.options = {target = "cuda:ptx"}}
module attributes {llm.options = {target = "cuda:ptx"}} {
  // CHECK-LABEL: func.func @decode
  // CHECK: llm.linear
  // CHECK: plan.fused
  // CHECK-NEXT: ^bb0
  // CHECK-NEXT: llm.add
  // CHECK-NEXT: llm.rms_norm
  // CHECK-NEXT: plan.yield
  // CHECK: llm.linear
  func.func @decode(%ids: tensor<3x1xi32>, %x: tensor<3x18xf32>, %r: tensor<3x18xf32>, %n: tensor<18xf32>, %w: tensor<18x18xf32>) -> (tensor<3x18xf32>, tensor<3x18xf32>) {
    %y = llm.linear %x, %w : (tensor<3x18xf32>, tensor<18x18xf32>) -> tensor<3x18xf32>
    %0 = llm.add %r, %y : tensor<3x18xf32>
    %1 = llm.rms_norm %0, %n {eps = 1.0e-5 : f64} : tensor<3x18xf32>, tensor<18xf32>
    %2 = llm.linear %1, %w : (tensor<3x18xf32>, tensor<18x18xf32>) -> tensor<3x18xf32>
    return %0, %2 : tensor<3x18xf32>, tensor<3x18xf32>
  }
}
