// SPDX-License-Identifier: Apache-2.0
// RUN: llmc-opt %s --llmc-fuse-many-row-products --mlir-print-local-scope | %FileCheck %s

module {
  dist.mesh @mesh ["dp", "pp", "tp"] [1, 1, 1]

  // Bias and gelu by tanh are one launch with the product.
  // CHECK-LABEL: func.func @gelu
  // CHECK-SAME: (%{{.*}}: tensor<1x20xi32>, %[[X:[a-z0-9]*]]: tensor<20x16xf32>, %[[W:[a-z0-9]*]]: tensor<24x16xbf16>, %[[B:[a-z0-9]*]]: tensor<24xf32>
  // CHECK-NEXT: %[[Y:.*]] = plan.launch @fused_linear(%[[X]], %[[W]], %[[B]]) inout() {columns = 24 : i64, inout_words = [], input_words = ["x", "w0", "bias0"], result_words = ["y"], rows = #plan.word<rows, value = 1>, scalars = {K = 16 : i64, N = 24 : i64, activation = 3 : i64, count = 1 : i64, dtype = 1 : i64, ldx = 16 : i64, ldy = 24 : i64}}
  // CHECK-NEXT: return %[[Y]]
  func.func @gelu(%ids: tensor<1x20xi32>, %x: tensor<20x16xf32>, %w: tensor<24x16xbf16>, %b: tensor<24xf32>) -> tensor<20x24xf32> attributes {llm.entry = "prefill"} {
    %0 = llm.linear %x, %w : (tensor<20x16xf32>, tensor<24x16xbf16>) -> tensor<20x24xf32>
    %1 = llm.add_bias %0, %b : tensor<20x24xf32>, tensor<24xf32>
    %2 = llm.activation %1 {kind = #llm.activation<gelu_tanh>} : tensor<20x24xf32>
    return %2 : tensor<20x24xf32>
  }

  // Bias and residual, which may come first in the sum; f32 weights.
  // CHECK-LABEL: func.func @residual
  // CHECK-SAME: %[[X:[a-z0-9]*]]: tensor<20x16xf32>, %[[W:[a-z0-9]*]]: tensor<24x16xf32>, %[[B:[a-z0-9]*]]: tensor<24xf32>, %[[R:[a-z0-9]*]]: tensor<20x24xf32>
  // CHECK-NEXT: %[[Y:.*]] = plan.launch @fused_linear(%[[X]], %[[W]], %[[B]], %[[R]]) {{.*}}input_words = ["x", "w0", "bias0", "residual"]{{.*}}dtype = 0 : i64, ldr = 24 : i64
  // CHECK-NEXT: return %[[Y]]
  func.func @residual(%ids: tensor<1x20xi32>, %x: tensor<20x16xf32>, %w: tensor<24x16xf32>, %b: tensor<24xf32>, %r: tensor<20x24xf32>) -> tensor<20x24xf32> attributes {llm.entry = "residual"} {
    %0 = llm.linear %x, %w : (tensor<20x16xf32>, tensor<24x16xf32>) -> tensor<20x24xf32>
    %1 = llm.add_bias %0, %b : tensor<20x24xf32>, tensor<24xf32>
    %2 = llm.add %r, %1 : tensor<20x24xf32>
    return %2 : tensor<20x24xf32>
  }

  // The library adds before it activates, knows no other activation, and makes one result.
  // CHECK-LABEL: func.func @not_of_the_library
  // CHECK-COUNT-2: plan.launch @fused_linear
  // CHECK: llm.activation {{.*}}silu
  // CHECK: llm.add
  // CHECK: llm.linear
  // CHECK: llm.add_bias
  // CHECK: return
  func.func @not_of_the_library(%ids: tensor<1x20xi32>, %x: tensor<20x16xf32>, %w: tensor<24x16xf32>, %b: tensor<24xf32>, %r: tensor<20x24xf32>, %v: tensor<24x24xf32>) -> (tensor<20x24xf32>, tensor<20x24xf32>, tensor<20x24xf32>) attributes {llm.entry = "other"} {
    %0 = llm.linear %x, %w : (tensor<20x16xf32>, tensor<24x16xf32>) -> tensor<20x24xf32>
    %1 = llm.activation %0 {kind = #llm.activation<gelu_tanh>} : tensor<20x24xf32>
    %2 = llm.linear %1, %v : (tensor<20x24xf32>, tensor<24x24xf32>) -> tensor<20x24xf32>
    %3 = llm.add_bias %2, %b : tensor<20x24xf32>, tensor<24xf32>
    %4 = llm.activation %3 {kind = #llm.activation<silu>} : tensor<20x24xf32>
    %5 = llm.add %4, %r : tensor<20x24xf32>
    %6 = llm.linear %5, %v : (tensor<20x24xf32>, tensor<24x24xf32>) -> tensor<20x24xf32>
    %7 = llm.add_bias %6, %b : tensor<20x24xf32>, tensor<24xf32>
    return %5, %6, %7 : tensor<20x24xf32>, tensor<20x24xf32>, tensor<20x24xf32>
  }

  // Few rows, products that others read the rows of, rows of 24 bytes: as they are.
  // CHECK-LABEL: func.func @kept
  // CHECK-NOT: plan.launch
  func.func @kept(%ids: tensor<1x20xi32>, %few: tensor<16x16xf32>, %x: tensor<20x16xf32>, %z: tensor<20x12xf32>, %w: tensor<24x16xf32>, %b: tensor<24xf32>, %v: tensor<24x12xbf16>) -> (tensor<16x24xf32>, tensor<20x24xf32>, tensor<20x24xf32>, tensor<20x24xf32>) attributes {llm.entry = "kept"} {
    %0 = llm.linear %few, %w : (tensor<16x16xf32>, tensor<24x16xf32>) -> tensor<16x24xf32>
    %1 = llm.add_bias %0, %b : tensor<16x24xf32>, tensor<24xf32>
    %2 = llm.linear %x, %w : (tensor<20x16xf32>, tensor<24x16xf32>) -> tensor<20x24xf32>
    %3 = llm.add_bias %2, %b : tensor<20x24xf32>, tensor<24xf32>
    %4 = llm.linear %x, %w : (tensor<20x16xf32>, tensor<24x16xf32>) -> tensor<20x24xf32>
    %5 = llm.add_bias %4, %b : tensor<20x24xf32>, tensor<24xf32>
    %6 = llm.linear %z, %v : (tensor<20x12xf32>, tensor<24x12xbf16>) -> tensor<20x24xf32>
    %7 = llm.add_bias %6, %b : tensor<20x24xf32>, tensor<24xf32>
    return %1, %3, %5, %7 : tensor<16x24xf32>, tensor<20x24xf32>, tensor<20x24xf32>, tensor<20x24xf32>
  }
}
