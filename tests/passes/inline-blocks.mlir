// SPDX-License-Identifier: Apache-2.0
// RUN: llmc-opt %s -split-input-file --llmc-inline-blocks -verify-diagnostics --mlir-print-debuginfo --mlir-print-local-scope | %FileCheck %s

// Each call becomes a copy of the body; the location of an op says which layer it is in.
// The block function is gone.
// CHECK-NOT: @layer(
// CHECK-LABEL: func.func @two_layers
// CHECK-SAME: (%[[X:.*]]: tensor<2x6xf32>
// CHECK: %[[S0:.*]] = llm.scale %[[X]] {{.*}} loc(callsite("layer.scale" at "layers.0"))
// CHECK: %[[A0:.*]] = llm.add %[[S0]], %[[X]] : {{.*}} loc(callsite("layer.add" at "layers.0"))
// CHECK: %[[S1:.*]] = llm.scale %[[A0]] {{.*}} loc(callsite("layer.scale" at "layers.1"))
// CHECK: %[[A1:.*]] = llm.add %[[S1]], %[[A0]] : {{.*}} loc(callsite("layer.add" at "layers.1"))
// CHECK: return %[[A1]]
module {
  func.func private @layer(%x: tensor<2x6xf32>) -> tensor<2x6xf32> attributes {llm.block} {
    %0 = llm.scale %x {factor = 2.0 : f64} : tensor<2x6xf32> loc("layer.scale")
    %1 = llm.add %0, %x : tensor<2x6xf32> loc("layer.add")
    return %1 : tensor<2x6xf32>
  }
  func.func @two_layers(%x: tensor<2x6xf32>) -> tensor<2x6xf32> attributes {llm.entry = "decode"} {
    %0 = call @layer(%x) : (tensor<2x6xf32>) -> tensor<2x6xf32> loc("layers.0")
    %1 = call @layer(%0) : (tensor<2x6xf32>) -> tensor<2x6xf32> loc("layers.1")
    return %1 : tensor<2x6xf32>
  }
}

// -----

// A function without a body cannot be inlined.
module {
  func.func private @layer(%x: tensor<2x6xf32>) -> tensor<2x6xf32>
  func.func @declaration(%x: tensor<2x6xf32>) -> tensor<2x6xf32> attributes {llm.entry = "decode"} {
    // expected-error @+1 {{expects a block function with a body, got @layer}}
    %0 = call @layer(%x) : (tensor<2x6xf32>) -> tensor<2x6xf32>
    return %0 : tensor<2x6xf32>
  }
}
