// SPDX-License-Identifier: Apache-2.0
// RUN: llmc-opt %s --llmc-select-kernels -verify-diagnostics

// Two gradients of one matrix inside a block would be added in a layout that no op of rows knows.
module attributes {llm.options = {mode = "train"}} {
  llm.param @w : tensor<8x4xf32>
  llm.state @w.gradient : tensor<8x4xf32> role gradient of @w
  func.func @backward(%dy: tensor<6x8xf32>, %x: tensor<6x4xf32>) attributes {llm.entry = "backward"} {
    %0 = llm.linear_weight_gradient %dy, %x : (tensor<6x8xf32>, tensor<6x4xf32>) -> tensor<8x4xf32>
    %1 = llm.linear_weight_gradient %dy, %x : (tensor<6x8xf32>, tensor<6x4xf32>) -> tensor<8x4xf32>
    %2 = llm.add %0, %1 : tensor<8x4xf32>
    // expected-error@+1 {{LLMC-E1003: @w is used twice inside one block}}
    llm.accumulate %2 into @w.gradient : tensor<8x4xf32>
    return
  }
}
