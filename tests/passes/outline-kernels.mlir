// SPDX-License-Identifier: Apache-2.0
// RUN: llmc-opt %s --llmc-outline-kernels | %FileCheck %s

// Equal bodies are one kernel, whatever the number of rows; a body that differs in one
// attribute is another. Rows of prefill are the entry's rows, those of its head its
// sequences.
// CHECK-LABEL: func.func @prefill
// CHECK: plan.launch @[[A:.*]](%{{.*}}) inout() {columns = 18 : i64, {{.*}}rows = #plan.word<rows, value = 1>
// CHECK: plan.launch @[[A]](%{{.*}}) {{.*}}rows = #plan.word<sequences, value = 1>
// CHECK: plan.launch @[[B:.*]](%{{.*}}) {{.*}}rows = #plan.word<rows, value = 1>
// Two of six rows: this rank's part.
// CHECK: plan.launch @[[A]](%{{.*}}) {{.*}}rows = #plan.word<rows_shard, value = 1, axis = "tp">
// CHECK: plan.launch @[[N:.*]](%{{.*}}, %{{.*}}) {{.*}}rows = #plan.word<rows, value = 1>

// Elementwise kernels may compute any columns alone; a norm needs whole rows.
// CHECK: plan.kernel @[[A]] elementwise {
// CHECK-NEXT: ^bb0(%[[X:.*]]: tensor<?x18xf32>):
// CHECK-NEXT: %[[Y:.*]] = llm.scale %[[X]] {factor = 2.000000e+00 : f64} : tensor<?x18xf32>
// CHECK-NEXT: plan.yield %[[Y]]
// CHECK: plan.kernel @[[B]] elementwise {
// CHECK: llm.scale {{.*}}3.000000e+00
// CHECK: plan.kernel @[[N]] {
// CHECK-NEXT: ^bb0(%{{.*}}: tensor<?x18xf32>, %{{.*}}: tensor<18xf32>):
// CHECK-NOT: plan.kernel
module {
  dist.mesh @mesh ["dp", "pp", "tp"] [1, 1, 3]
  func.func @prefill(%ids: tensor<1x6xi32>, %x: tensor<6x18xf32>, %y: tensor<1x18xf32>, %z: tensor<2x18xf32>, %w: tensor<18xf32>) -> (tensor<6x18xf32>, tensor<1x18xf32>, tensor<2x18xf32>) attributes {llm.entry = "prefill"} {
    %0 = plan.fused (%x) : (tensor<6x18xf32>) -> tensor<6x18xf32> {
    ^bb0(%a: tensor<6x18xf32>):
      %b = llm.scale %a {factor = 2.0 : f64} : tensor<6x18xf32>
      plan.yield %b : tensor<6x18xf32>
    }
    %1 = plan.fused (%y) : (tensor<1x18xf32>) -> tensor<1x18xf32> {
    ^bb0(%a: tensor<1x18xf32>):
      %b = llm.scale %a {factor = 2.0 : f64} : tensor<1x18xf32>
      plan.yield %b : tensor<1x18xf32>
    }
    %2 = plan.fused (%0) : (tensor<6x18xf32>) -> tensor<6x18xf32> {
    ^bb0(%a: tensor<6x18xf32>):
      %b = llm.scale %a {factor = 3.0 : f64} : tensor<6x18xf32>
      plan.yield %b : tensor<6x18xf32>
    }
    %3 = plan.fused (%z) : (tensor<2x18xf32>) -> tensor<2x18xf32> {
    ^bb0(%a: tensor<2x18xf32>):
      %b = llm.scale %a {factor = 2.0 : f64} : tensor<2x18xf32>
      plan.yield %b : tensor<2x18xf32>
    }
    %4 = plan.fused (%2, %w) : (tensor<6x18xf32>, tensor<18xf32>) -> tensor<6x18xf32> {
    ^bb0(%a: tensor<6x18xf32>, %v: tensor<18xf32>):
      %b = llm.rms_norm %a, %v {eps = 1.0e-5 : f64} : tensor<6x18xf32>, tensor<18xf32>
      plan.yield %b : tensor<6x18xf32>
    }
    return %4, %1, %3 : tensor<6x18xf32>, tensor<1x18xf32>, tensor<2x18xf32>
  }
}
