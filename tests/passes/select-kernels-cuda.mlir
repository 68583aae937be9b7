// SPDX-License-Identifier: Apache-2.0
// RUN: llmc-opt %s --llmc-select-kernels | %FileCheck %s

// On cuda a matrix that products read, and its gradient, lie by rows: no padding of panels in the
// grid. The gradient's kernel knows that the step computes in bf16, and may round its factors.
module attributes {llm.options = {mode = "train", target = "cuda:ptx", dtype = "bf16"}} {
  llm.param @w : tensor<40x18xbf16>
  llm.state @w.gradient : tensor<40x18xf32> role gradient of @w
  // CHECK-LABEL: func.func @backward
  // CHECK: plan.launch @linear({{.*}}layout = 0 : i64
  // CHECK: plan.launch @linear_weight_gradient({{.*}}rows = #plan.word<integer, value = 40>, scalars = {K = 18 : i64, N = 40 : i64, accumulate = 1 : i64, dtype = 1 : i64, layout = 0 : i64,
  func.func @backward(%dy: tensor<6x40xf32>, %x: tensor<6x18xf32>) -> tensor<6x40xf32> attributes {llm.entry = "backward"} {
    %w = llm.get_param @w : tensor<40x18xbf16>
    %y = llm.linear %x, %w : (tensor<6x18xf32>, tensor<40x18xbf16>) -> tensor<6x40xf32>
    %0 = llm.linear_weight_gradient %dy, %x : (tensor<6x40xf32>, tensor<6x18xf32>) -> tensor<40x18xf32>
    llm.accumulate %0 into @w.gradient : tensor<40x18xf32>
    return %y : tensor<6x40xf32>
  }
}
