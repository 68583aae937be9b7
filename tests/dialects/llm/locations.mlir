// SPDX-License-Identifier: Apache-2.0
// Locations are names, never paths, and printing and parsing keep them.
// RUN: llmc-opt %s --mlir-print-debuginfo | llmc-opt --mlir-print-debuginfo | %FileCheck %s

// CHECK-LABEL: @f
// CHECK-SAME: loc("x")
func.func @f(%x: tensor<5x18xf32> loc("x")) -> tensor<5x18xf32> {
  // CHECK: llm.scale {{.*}} loc([[CALL:#.*]])
  %0 = llm.scale %x {factor = 2.0 : f64} : tensor<5x18xf32> loc(callsite("layer.scale" at "layers.3"))
  return %0 : tensor<5x18xf32>
}
// CHECK-DAG: [[NAME:#.*]] = loc("layer.scale")
// CHECK-DAG: [[LAYER:#.*]] = loc("layers.3")
// CHECK-DAG: [[CALL]] = loc(callsite([[NAME]] at [[LAYER]]))
