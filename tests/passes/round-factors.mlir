// SPDX-License-Identifier: Apache-2.0
// RUN: llmc-opt %s --llmc-round-factors --mlir-print-local-scope | %FileCheck %s

module attributes {llm.options = {mode = "train", dtype = "bf16", target = "cuda"}} {
  dist.mesh @mesh ["dp", "pp", "tp"] [1, 1, 2]
  llm.param @model.up : tensor<24x16xbf16>
  llm.param @model.even : tensor<48x16xbf16> split #llm.split<dim = 0> local tensor<24x16xbf16> slice #dist.slice<axis = "tp", dim = 0, offsets = [0, 24], counts = [24, 24]>
  llm.param @model.uneven : tensor<44x16xbf16> split #llm.split<dim = 0> local tensor<24x16xbf16> slice #dist.slice<axis = "tp", dim = 0, offsets = [0, 24], counts = [24, 20]>
  llm.state @model.up.gradient : tensor<24x16xf32> role gradient of @model.up
  llm.state @model.even.gradient : tensor<24x16xf32> role gradient of @model.even
  llm.state @model.uneven.gradient : tensor<24x16xf32> role gradient of @model.uneven

  // One rounding behind what makes a value, for all products that read it; saved in bf16 if the
  // backward pass reads it in products alone.
  // CHECK-LABEL: func.func @forward
  // CHECK-SAME: -> (tensor<20x16xbf16> {llm.name = "saved.0"}, tensor<20x16xf32> {llm.name = "saved.1"}, tensor<20x24xf32> {llm.name = "saved.2"})
  // CHECK: %[[N:.*]] = llm.rms_norm
  // CHECK-NEXT: %[[R:.*]] = llm.round %[[N]] : (tensor<20x16xf32>) -> tensor<20x16xbf16>
  // CHECK-NEXT: llm.linear %[[R]], %{{.*}} : (tensor<20x16xbf16>, tensor<24x16xbf16>) -> tensor<20x24xf32>
  // CHECK-NEXT: llm.linear %[[R]]
  // CHECK-NEXT: llm.linear %{{.*}} : (tensor<20x16xf32>, tensor<24x16xf32>) -> tensor<20x24xf32>
  // CHECK: return %[[R]], %{{.*}} : tensor<20x16xbf16>
  func.func @forward(%x: tensor<20x16xf32> {llm.name = "x"}, %g: tensor<16xf32>, %w: tensor<24x16xbf16>, %wide: tensor<24x16xf32>) -> (tensor<20x16xf32> {llm.name = "saved.0"}, tensor<20x16xf32> {llm.name = "saved.1"}, tensor<20x24xf32> {llm.name = "saved.2"}) attributes {llm.entry = "forward"} {
    %0 = llm.rms_norm %x, %g {eps = 1.0e-5 : f64} : tensor<20x16xf32>, tensor<16xf32>
    %1 = llm.linear %0, %w : (tensor<20x16xf32>, tensor<24x16xbf16>) -> tensor<20x24xf32>
    %2 = llm.linear %0, %w : (tensor<20x16xf32>, tensor<24x16xbf16>) -> tensor<20x24xf32>
    %3 = llm.linear %x, %wide : (tensor<20x16xf32>, tensor<24x16xf32>) -> tensor<20x24xf32>
    %4 = llm.add %1, %2 : tensor<20x24xf32>
    %5 = llm.add %4, %3 : tensor<20x24xf32>
    return %0, %x, %5 : tensor<20x16xf32>, tensor<20x16xf32>, tensor<20x24xf32>
  }

  // Gradients once for both products; of an uneven share, whose padding products leave out, the
  // factors of the weight gradient stay. A saved value that something else reads stays, too.
  // CHECK-LABEL: func.func @backward
  // CHECK-SAME: (%[[DY:.*]]: tensor<20x24xf32> {{{.*}}}, %[[S0:.*]]: tensor<20x16xbf16> {llm.name = "saved.0"}, %[[S1:.*]]: tensor<20x16xf32> {llm.name = "saved.1"}, %[[W:.*]]: tensor<24x16xbf16>)
  // CHECK-NEXT: %[[D:.*]] = llm.round %[[DY]]
  // CHECK-NEXT: %[[DX:.*]] = llm.linear_input_gradient %[[D]], %[[W]] : (tensor<20x24xbf16>, tensor<24x16xbf16>) -> tensor<20x16xf32>
  // CHECK-NEXT: llm.linear_weight_gradient %[[D]], %[[S0]] {{.*}}: (tensor<20x24xbf16>, tensor<20x16xbf16>) -> tensor<24x16xf32>
  // CHECK-NEXT: llm.accumulate
  // CHECK-NEXT: %[[R1:.*]] = llm.round %[[S1]]
  // CHECK-NEXT: llm.linear_weight_gradient %[[D]], %[[R1]]
  // CHECK-NEXT: llm.accumulate
  // CHECK-NEXT: llm.linear_weight_gradient %[[DY]], %[[S1]] {{.*}}: (tensor<20x24xf32>, tensor<20x16xf32>)
  // CHECK: llm.add %[[DX]], %[[S1]]
  func.func @backward(%dy: tensor<20x24xf32> {llm.name = "dy"}, %s0: tensor<20x16xf32> {llm.name = "saved.0"}, %s1: tensor<20x16xf32> {llm.name = "saved.1"}, %w: tensor<24x16xbf16>) -> tensor<20x16xf32> attributes {llm.entry = "backward"} {
    %0 = llm.linear_input_gradient %dy, %w : (tensor<20x24xf32>, tensor<24x16xbf16>) -> tensor<20x16xf32>
    %1 = llm.linear_weight_gradient %dy, %s0 : (tensor<20x24xf32>, tensor<20x16xf32>) -> tensor<24x16xf32>
    llm.accumulate %1 into @model.up.gradient : tensor<24x16xf32>
    %2 = llm.linear_weight_gradient %dy, %s1 : (tensor<20x24xf32>, tensor<20x16xf32>) -> tensor<24x16xf32>
    llm.accumulate %2 into @model.even.gradient : tensor<24x16xf32>
    %3 = llm.linear_weight_gradient %dy, %s1 : (tensor<20x24xf32>, tensor<20x16xf32>) -> tensor<24x16xf32>
    llm.accumulate %3 into @model.uneven.gradient : tensor<24x16xf32>
    %4 = llm.add %0, %s1 : tensor<20x16xf32>
    return %4 : tensor<20x16xf32>
  }

  // Few rows are not rounded by products, and rows of 20 or 12 elements are no whole 16 bytes.
  // CHECK-LABEL: func.func @others
  // CHECK-NOT: llm.round
  // CHECK: return
  func.func @others(%x: tensor<16x16xf32>, %w: tensor<24x16xbf16>, %y: tensor<20x20xf32>, %v: tensor<12x20xbf16>, %dy: tensor<20x12xf32>) -> (tensor<16x24xf32>, tensor<20x12xf32>, tensor<20x20xf32>) attributes {llm.entry = "other"} {
    %0 = llm.linear %x, %w : (tensor<16x16xf32>, tensor<24x16xbf16>) -> tensor<16x24xf32>
    %1 = llm.linear %y, %v : (tensor<20x20xf32>, tensor<12x20xbf16>) -> tensor<20x12xf32>
    %2 = llm.linear_input_gradient %dy, %v : (tensor<20x12xf32>, tensor<12x20xbf16>) -> tensor<20x20xf32>
    return %0, %1, %2 : tensor<16x24xf32>, tensor<20x12xf32>, tensor<20x20xf32>
  }
}
